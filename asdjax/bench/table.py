"""What a bench found, as a table for people: at most 80 columns, no colours, the same when piped."""

from collections.abc import Sequence
from typing import Any

QUIET = 0.05
"""Of all cores, what other programs may take without spoiling the figures."""


def columns(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table: the first column flush left, the others flush right."""
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    lines = []
    for row in (head, *rows):
        first, *others = (cell.rjust(width) for cell, width in zip(row, widths, strict=True))
        lines.append("  ".join([row[0].ljust(len(first)), *others]).rstrip())
    return "\n".join(lines)


def of_training(result: dict[str, Any]) -> str:
    """One line a variant and batch."""
    named = {**result["variants"], **({"fleet": result["fleet"]} if result["fleet"] else {})}
    head = ["variant", "batch", "per s", "ms/step", "+-%", "FLOP%", "GB/s", "MiB", "build s", "STFT%", "ratio"]
    rows = [
        _training_row(name, batch, of_batch)
        for name, figures in named.items()
        for batch, of_batch in figures["batches"].items()
    ]
    embed_head = ["embedding", "pieces/s", "clips/s", "torch pieces/s", "ratio"]
    embed_rows = [_embed_row(name, figures["embed"]) for name, figures in named.items()]
    return "\n\n".join([_about(result), columns(head, rows), columns(embed_head, embed_rows), *_warning(result)])


def _warning(result: dict[str, Any]) -> list[str]:
    share = result["device"]["others_share"]
    if share is None or share < QUIET:
        return []
    return [
        f"Other programs took {100 * share:.0f} % of the cores meanwhile: no figure here counts, a ratio least\n"
        "of all, as PyTorch's threads wait for each other. Repeat it on a quiet machine."
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
        f"{sum(figures['memory_bytes'].values()) / 2**20:.0f}",
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


def _or_dash(value: float | None, how: str) -> str:
    return "-" if value is None else format(value, how)


def _about(result: dict[str, Any]) -> str:
    device, versions = result["device"], result["versions"]
    at_most = f"{device['flops_per_s'] / 1e9:.4g} GFLOP/s and {device['bytes_per_s'] / 1e9:.4g} GB/s"
    packages = ", ".join(f"{name} {versions[name]}" for name in ("jax", "torch") if name in versions)
    return f"{device['kind']}, {device['cores']} cores, {packages}\n{at_most} at most ({device['source']})"
