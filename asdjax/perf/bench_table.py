"""Benchmark results as text of at most 80 columns, without colours."""

from collections.abc import Sequence
from typing import Any

from asdjax.perf.bench_checkpoint import DURING
from asdjax.runtime.text_table import format_table

# Other programs' share of all cores above which figures are not reliable.
MAX_OTHERS_SHARE = 0.05

# Operations of a profile that are printed, and characters of their names.
MAX_OPERATIONS, MAX_NAME = 10, 28

RATIO_OF_TURNS = "ratio: the median over turns, which may differ from the ratio of the rates."
RATIO_OF_UNLIKE = "ratio: asdjax's pieces/s over the row's rate, which for librosa is whole clips."


def _format_rows(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return format_table([head, *rows])


def format_training(record: dict[str, Any]) -> str:
    """Format a result of `bench train`: tables of training, embedding, DataLoader and profiles."""
    named = {**record["variants"], **({"fleet": record["fleet"]} if record["fleet"] else {})}
    batches = [
        (name, batch, batch_figures)
        for name, figures in named.items()
        for batch, batch_figures in figures["batches"].items()
    ]
    several = [(name, batch, of["fleets_per_program"]) for name, batch, of in batches if "fleets_per_program" in of]
    loader_rows = [_loader_row(name, figures) for name, figures in named.items() if "torch_loader" in figures]
    head = ["variant", "b", "per s", "ms/step", "+-%", "FLOP%", "GB/s", "GiB", "build", "sig%", "ratio"]
    tables = [format_table([head, *[_training_row(*batch) for batch in batches]], gap=1)]
    if record["fleet"]:
        tables.append(_format_hours(record["fleet"]))
    if several:
        head = ["fleets in one program", "b", "fleets", "per s", "ms/step", "GiB", "build", "ratio to one"]
        tables.append(format_table([head, *[_several_fleets_row(*row) for row in several]], gap=1))
    head = ["embedding", "pieces/s", "clips/s", "torch pieces/s", "ratio"]
    tables.append(_format_rows(head, [_embed_row(name, figures["embed"]) for name, figures in named.items()]))
    if loader_rows:
        tables.append(_format_rows(["training", "b", "asdjax per s", "torch with a DataLoader per s"], loader_rows))
    if several or any("ratio" in figures for figures in named.values()):
        tables.append(RATIO_OF_TURNS)
    profiles = [
        _format_profile(f"{name}, batch {batch}", of["profile"]) for name, batch, of in batches if "profile" in of
    ]
    return _format_page(record, *tables, *profiles)


def format_signal(record: dict[str, Any]) -> str:
    """Format a result of `bench signal`: a row for each batch and rival."""
    tables = [
        _format_rows(
            [f"batch {batch}", "unit", "rate", "least", "most", "ratio"],
            [[name, figures["unit"], *_rate_cells(figures)] for name, figures in rates.items()],
        )
        for batch, rates in record["batches"].items()
    ]
    return _format_page(record, *tables, RATIO_OF_UNLIKE)


def format_knn(record: dict[str, Any]) -> str:
    """Format a result of `bench knn`: a row for each way to find neighbours."""
    title = "{queries} queries in {bank}".format(**record["size"])
    return _format_page(record, format_rates(title, "queries/s", record["ways"]))


def format_store(record: dict[str, Any]) -> str:
    """Format a result of `bench store`: a row for each way to read clips, and one for the crops."""
    clips = "{clips} clips of {seconds} s".format(**record["size"])
    crops = "{crops} crops".format(**record["size"])
    tables = format_rates(clips, "clips/s", record["clips"]), format_rates(crops, "crops/s", record["crops"])
    return _format_page(record, *tables)


def format_checkpoint(record: dict[str, Any]) -> str:
    """Format a result of `bench checkpoint`: a row for each kind of save, and the share of training that waits."""
    rows = []
    for name, of in record["figures"].items():
        calls = of.get("operations")
        size = f"{of['bytes'] / 1e6:.0f}" if "bytes" in of else "-"
        syncs = "-" if calls is None else f"{calls.get('fsync', 0) + calls.get('fdatasync', 0)}"
        number = "-" if calls is None else f"{sum(calls.values())}"
        rows.append([name, f"{of['seconds']:.2f}", size, f"{of.get('files', '-')}", number, syncs])
    wait, interval = record["wait_seconds"], record["interval_seconds"]
    blocked, saved = wait / (interval + wait), record["figures"][DURING]["seconds"] / interval
    return _format_page(
        record,
        _format_rows([f"six models, width {record['width']:g}", "s", "MB", "files", "operations", "fsync"], rows),
        f"Steps wait {wait:.2f} s for a save every {interval / 60:g} minutes, {100 * blocked:.2f} % of the time.\n"
        f"If they waited until it is written, it would be {100 * saved:.1f} %.",
    )


def format_rates(title: str, unit: str, rates: dict[str, dict[str, Any]]) -> str:
    """Format rates of `measure.compute_rate` by name, with the ratio of ours to each."""
    rows = [[name, *_rate_cells(figures)] for name, figures in rates.items()]
    return _format_rows([title, unit, "least", "most", "ratio"], rows)


def _format_hours(fleet: dict[str, Any]) -> str:
    hours = f"{fleet['run_h']:,.1f} h with one fleet per program"
    if several := fleet.get("fleets_per_program"):
        hours += f", {several['run_h']:,.1f} h with {several['fleets']}"
    return f"2021's seven machine types, 42 models, phase 1 and one strategy, batch {fleet['batch']}:\n{hours}"


def _format_profile(title: str, profile: dict[str, Any]) -> str:
    """Format tables of the time that operations took: by part, by kind, and the longest ones."""
    total_ms = sum(figures["ms"] for figures in profile["parts"].values())
    groups = [
        _format_rows(
            [head, "ms", "%", "GB/s"],
            [[name, *_share_cells(figures, total_ms)] for name, figures in profile[key].items()],
        )
        for head, key in (("part", "parts"), ("kind", "kinds"))
    ]
    longest = [
        [operation["name"].removeprefix("%")[:MAX_NAME], *_share_cells(operation, total_ms), operation["kind"]]
        for operation in profile["operations"][:MAX_OPERATIONS]
    ]
    head = (
        f"{title}: {profile['ms_per_step']:.4g} ms a traced step, {profile['idle_ms']:.3g} of them idle;\n"
        f"its operations, some of which overlap, {total_ms:.4g} ms"
    )
    return "\n\n".join([head, *groups, _format_rows(["operation", "ms", "%", "GB/s", "kind"], longest)])


def _training_row(name: str, batch: str, figures: dict[str, Any]) -> list[str]:
    least, most = figures["ms_per_step_spread"]
    return [
        name,
        batch,
        f"{figures['samples_per_s']:.4g}",
        f"{figures['ms_per_step']:.4g}",
        f"{100 * (most - least) / 2 / figures['ms_per_step']:.0f}",
        f"{100 * figures['flops_utilisation']:.0f}",
        f"{figures['bandwidth_bytes_per_s'] / 1e9:.1f}",
        _format_gib(figures),
        f"{figures['compile_s']:.0f}",
        f"{100 * figures['signal_share']:.1f}",
        _format_or_dash(figures.get("ratio"), ".2f"),
    ]


def _several_fleets_row(name: str, batch: str, figures: dict[str, Any]) -> list[str]:
    return [
        name,
        batch,
        str(figures["fleets"]),
        f"{figures['samples_per_s']:.4g}",
        f"{figures['ms_per_step']:.4g}",
        _format_gib(figures),
        f"{figures['compile_s']:.0f}",
        f"{figures['ratio']:.2f}",
    ]


def _embed_row(name: str, figures: dict[str, Any]) -> list[str]:
    return [
        name,
        f"{figures['pieces_per_s']:.4g}",
        f"{figures['clips_per_s']:.4g}",
        _format_or_dash(figures.get("torch_pieces_per_s"), ".4g"),
        _format_or_dash(figures.get("ratio"), ".2f"),
    ]


def _loader_row(name: str, figures: dict[str, Any]) -> list[str]:
    """Return our rate, and that of eager PyTorch reading and transforming whole clips, at the same batch."""
    theirs = figures["torch_loader"]
    ours = figures["batches"][str(theirs["batch"])]
    return [name, str(theirs["batch"]), f"{ours['samples_per_s']:.4g}", f"{theirs['samples_per_s']:.4g}"]


def _share_cells(figures: dict[str, Any], total_ms: float) -> list[str]:
    """Return milliseconds, percent of all operations, and GB/s."""
    rate = figures["bytes"] / (1e6 * figures["ms"]) if figures["ms"] else 0.0
    return [f"{figures['ms']:.4g}", f"{100 * figures['ms'] / total_ms:.1f}", f"{rate:.3g}"]


def _rate_cells(figures: dict[str, Any]) -> list[str]:
    """Return the rate, the least and the most, and the ratio of ours to it."""
    rates = [figures["per_s"], *figures["per_s_spread"]]
    return [*(f"{rate:,.0f}" for rate in rates), _format_or_dash(figures.get("ratio"), ".2f")]


def _format_gib(figures: dict[str, Any]) -> str:
    return f"{sum(figures['memory_bytes'].values()) / 2**30:.2f}"


def _format_or_dash(value: float | None, how: str) -> str:
    return "-" if value is None else format(value, how)


def _format_page(record: dict[str, Any], *tables: str) -> str:
    return "\n\n".join([_format_about(record), *tables, *_format_warning(record)])


def _format_about(record: dict[str, Any]) -> str:
    device, versions = record["device"], record["versions"]
    packages = ", ".join(f"{name} {versions[name]}" for name in ("jax", "torch") if name in versions)
    first = f"{device['kind']}, {device['cores']} cores, {packages}"
    if "flops_per_s" not in device:
        return first
    peak = f"{device['flops_per_s'] / 1e9:.4g} GFLOP/s and {device['bytes_per_s'] / 1e9:.4g} GB/s"
    return f"{first}\npeak {peak} ({device['source']})"


def _format_warning(record: dict[str, Any]) -> list[str]:
    share = record["device"]["others_share"]
    if share is None or share < MAX_OTHERS_SHARE:
        return []
    return [
        f"Other programs took {100 * share:.0f} % of the cores meanwhile, so these figures are not\n"
        "reliable, least of all PyTorch's, whose threads wait for each other. Repeat the\n"
        "measurement on a quiet machine."
    ]
