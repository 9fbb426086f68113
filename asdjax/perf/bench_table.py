"""What a bench found, as a table for people: at most 80 columns, no colours, the same when piped."""

from typing import Any

from asdjax.runtime.text_table import format_table

QUIET = 0.05
"""Of all cores, what other programs may take without spoiling the figures."""

LONGEST_SHOWN, LONGEST_NAME = 10, 28
"""Operations of a profile that are printed, and characters of their names."""

RATIO_OF_TURNS = "ratio: the median over turns, not always that of the rates."
RATIO_OF_UNLIKE = "ratio: asdjax's pieces/s over the row's rate, at librosa's over whole clips."


def of_training(record: dict[str, Any]) -> str:
    """A line a variant and batch."""
    named = {**record["variants"], **({"fleet": record["fleet"]} if record["fleet"] else {})}
    head = ["variant", "b", "per s", "ms/step", "+-%", "FLOP%", "GB/s", "GiB", "build", "sig%", "ratio"]
    rows = [
        _training_row(name, batch, of_batch)
        for name, figures in named.items()
        for batch, of_batch in figures["batches"].items()
    ]
    embed_head = ["embedding", "pieces/s", "clips/s", "torch pieces/s", "ratio"]
    embed_rows = [_embed_row(name, figures["embed"]) for name, figures in named.items()]
    loader_head = ["training", "b", "asdjax per s", "torch with a DataLoader per s"]
    loader_rows = [_loader_row(name, figures) for name, figures in named.items() if "torch_loader" in figures]
    stacked_head = ["stacked", "b", "types", "per s", "ms/step", "GiB", "build", "ratio to one"]
    stacked_rows = [
        _stacked_row(name, batch, of_batch["stacked"])
        for name, figures in named.items()
        for batch, of_batch in figures["batches"].items()
        if "stacked" in of_batch
    ]
    tables = [format_table([head, *rows], gap=1)]
    if record["fleet"]:
        tables.append(_hours(record["fleet"]))
    if stacked_rows:
        tables.append(format_table([stacked_head, *stacked_rows]))
    tables.append(format_table([embed_head, *embed_rows]))
    if loader_rows:
        tables.append(format_table([loader_head, *loader_rows]))
    if stacked_rows or any("ratio" in figures for figures in named.values()):
        tables.append(RATIO_OF_TURNS)
    profiles = [
        _profile(f"{name}, batch {batch}", of_batch["profile"])
        for name, figures in named.items()
        for batch, of_batch in figures["batches"].items()
        if "profile" in of_batch
    ]
    return _page(record, *tables, *profiles)


def _hours(fleet: dict[str, Any]) -> str:
    """Of the whole method, at the largest batch."""
    stacked = f", {fleet['stacked']['run_h']:,.1f} h stacked" if "stacked" in fleet else ""
    return (
        f"2021's seven machine types, 42 models, phase 1 and one strategy, batch {fleet['batch']}:\n"
        f"{fleet['run_h']:,.1f} h{stacked}"
    )


def _stacked_row(name: str, batch: str, figures: dict[str, Any]) -> list[str]:
    return [
        name,
        batch,
        str(figures["machine_types"]),
        f"{figures['samples_per_s']:.4g}",
        f"{figures['ms_per_step']:.4g}",
        _gib(figures),
        f"{figures['compile_s']:.0f}",
        f"{figures['ratio']:.2f}",
    ]


def _profile(what: str, profile: dict[str, Any]) -> str:
    """A line a part, a kind, an operation, of the time that operations took."""
    in_all = sum(of["ms"] for of in profile["parts"].values())
    groups = [
        format_table([[head, "ms", "%", "GB/s"], *([name, *_share(of, in_all)] for name, of in profile[key].items())])
        for head, key in (("part", "parts"), ("kind", "kinds"))
    ]
    longest = [
        [of["name"].removeprefix("%")[:LONGEST_NAME], *_share(of, in_all), of["kind"]]
        for of in profile["operations"][:LONGEST_SHOWN]
    ]
    head = (
        f"{what}: {profile['ms_per_step']:.4g} ms a step traced, {profile['idle_ms']:.3g} of them idle;\n"
        f"its operations, some beside others, {in_all:.4g} ms"
    )
    return "\n\n".join([head, *groups, format_table([["operation", "ms", "%", "GB/s", "kind"], *longest])])


def _share(of: dict[str, Any], in_all: float) -> list[str]:
    """Milliseconds, per cent of all operations', bytes a second."""
    rate = of["bytes"] / (1e6 * of["ms"]) if of["ms"] else 0.0
    return [f"{of['ms']:.4g}", f"{100 * of['ms'] / in_all:.1f}", f"{rate:.3g}"]


def _gib(figures: dict[str, Any]) -> str:
    return f"{sum(figures['memory_bytes'].values()) / 2**30:.2f}"


def of_signal(record: dict[str, Any]) -> str:
    """A line a batch and rival, each in its unit: pieces, or librosa's whole clips."""
    tables = [
        format_table(
            [
                [f"batch {batch}", "unit", "rate", "least", "most", "ratio"],
                *([name, of["unit"], *_rate_cells(of)] for name, of in rates.items()),
            ]
        )
        for batch, rates in record["batches"].items()
    ]
    return _page(record, *tables, RATIO_OF_UNLIKE)


def of_knn(record: dict[str, Any]) -> str:
    """A line a way to find neighbours."""
    return _page(
        record, rates_table("{queries} queries in {bank}".format(**record["size"]), "queries/s", record["ways"])
    )


def of_store(record: dict[str, Any]) -> str:
    """A line a way to read clips, and one of the crops."""
    clips = "{clips} clips of {seconds} s".format(**record["size"])
    crops = "{crops} crops".format(**record["size"])
    return _page(record, rates_table(clips, "clips/s", record["clips"]), rates_table(crops, "crops/s", record["crops"]))


def rates_table(what: str, unit: str, rates: dict[str, dict[str, Any]]) -> str:
    """Rates by name, as measure.rate has them, with ours over each."""
    rows = [[name, *_rate_cells(of)] for name, of in rates.items()]
    return format_table([[what, unit, "least", "most", "ratio"], *rows])


def _rate_cells(of: dict[str, Any]) -> list[str]:
    """The rate, its least and most, and ours over it."""
    rates = [of["per_s"], *of["per_s_spread"]]
    return [*(f"{rate:,.0f}" for rate in rates), _or_dash(of.get("ratio"), ".2f")]


def _page(record: dict[str, Any], *tables: str) -> str:
    return "\n\n".join([_about(record), *tables, *_warning(record)])


def _warning(record: dict[str, Any]) -> list[str]:
    share = record["device"]["others_share"]
    if share is None or share < QUIET:
        return []
    return [
        f"Other programs took {100 * share:.0f} % of the cores meanwhile: no figure here counts, those\n"
        "of PyTorch least, whose threads wait for each other. Repeat it when quiet."
    ]


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
        _gib(figures),
        f"{figures['compile_s']:.0f}",
        f"{100 * figures['signal_share']:.1f}",
        _or_dash(figures.get("ratio"), ".2f"),
    ]


def _embed_row(name: str, figures: dict[str, Any]) -> list[str]:
    return [
        name,
        f"{figures['pieces_per_s']:.4g}",
        f"{figures['clips_per_s']:.4g}",
        _or_dash(figures.get("torch_pieces_per_s"), ".4g"),
        _or_dash(figures.get("ratio"), ".2f"),
    ]


def _loader_row(name: str, figures: dict[str, Any]) -> list[str]:
    """Eager PyTorch that reads and transforms whole clips, beside ours at the same batch."""
    theirs = figures["torch_loader"]
    ours = figures["batches"][str(theirs["batch"])]
    return [name, str(theirs["batch"]), f"{ours['samples_per_s']:.4g}", f"{theirs['samples_per_s']:.4g}"]


def _or_dash(value: float | None, how: str) -> str:
    return "-" if value is None else format(value, how)


def _about(record: dict[str, Any]) -> str:
    device, versions = record["device"], record["versions"]
    packages = ", ".join(f"{name} {versions[name]}" for name in ("jax", "torch") if name in versions)
    first = f"{device['kind']}, {device['cores']} cores, {packages}"
    if "flops_per_s" not in device:
        return first
    at_most = f"{device['flops_per_s'] / 1e9:.4g} GFLOP/s and {device['bytes_per_s'] / 1e9:.4g} GB/s"
    return f"{first}\n{at_most} at most ({device['source']})"
