"""Metrics of a submission folder by the challenge's rules, and their table."""

from collections.abc import Iterator
from dataclasses import asdict
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

from asdjax.evaluation import bootstrap
from asdjax.evaluation.bootstrap import Interval
from asdjax.evaluation.metrics import (
    FIGURES,
    Cell,
    Figures,
    Means,
    Metrics,
    compute_metrics,
    machine_means,
    overall_means,
)
from asdjax.evaluation.results_table import as_range, percent
from asdjax.evaluation.submission import read

_TITLES = ("AUC", "pAUC", "precision", "recall", "F1")
_COLUMN = 10  # characters per column of figures


class FolderMetrics(NamedTuple):
    """A folder's metrics, and the interval of its official score."""

    metrics: Metrics
    interval: Interval | None


def score_folder(year: int, scores: Path, truth: Path | None = None) -> FolderMetrics:
    """Compute the metrics of a submission folder by the year's rules.

    Folders and errors as in `submission.read`, figures as in `metrics.compute_metrics`.
    """
    clips = list(read(scores, year, truth))
    return FolderMetrics(compute_metrics(year, clips), bootstrap.compute_interval(year, [clips]))


def as_json(folder: FolderMetrics) -> dict[str, Any]:
    """Return the content of `asdjax metrics --json`: year, official, interval and cells; None where undefined."""
    metrics = folder.metrics
    cells = [asdict(cell) for cell in metrics.cells]
    return {"year": metrics.year, "official": metrics.official, "interval": folder.interval, "cells": cells}


def format_table(folder: FolderMetrics, width: int = 80) -> str:
    """Format the metrics in percent with two decimals, for a terminal of `width` characters (70 at least).

    Each machine type has a row for each section and domain and for the two means. Then follow the means over all
    machine types and the official score. `-` is undefined; a last line counts the cells without AUC or pAUC.
    """
    title_width = min(max(width, 70), 90) - _COLUMN * len(FIGURES)
    return "\n".join(_format_lines(folder, title_width)) + "\n"


def _format_lines(folder: FolderMetrics, title_width: int) -> Iterator[str]:
    metrics = folder.metrics
    means = machine_means(metrics)
    for machine, cells in groupby(metrics.cells, key=lambda cell: cell.machine):
        yield _format_row(machine, _TITLES, title_width)
        yield from (_format_figures(f"  {cell.section} {cell.domain or '-'}", cell, title_width) for cell in cells)
        yield from _format_means(means[machine], title_width)
        yield ""
    yield _format_row("all machine types", _TITLES, title_width)
    yield from _format_means(overall_means(metrics), title_width)
    yield ""
    mean = "arithmetic" if metrics.year == 2020 else "harmonic"
    yield f"official score {metrics.year}: {percent(metrics.official)} ({mean} mean of all AUC and pAUC)"
    if folder.interval:
        yield f"95 % interval over test clips: {as_range(folder.interval)} ({bootstrap.RESAMPLES} bootstrap resamples)"
    if metrics.undefined:
        yield f"undefined (-), in no mean: {metrics.undefined} of {len(metrics.cells)} cells lack a class or labels"


def _format_means(means: Means, title_width: int) -> Iterator[str]:
    yield _format_figures("  arithmetic mean", means.arithmetic, title_width)
    yield _format_figures("  harmonic mean", means.harmonic, title_width)


def _format_figures(title: str, figures: Cell | Figures, title_width: int) -> str:
    return _format_row(title, [percent(getattr(figures, figure)) for figure in FIGURES], title_width)


def _format_row(title: str, texts: list[str] | tuple[str, ...], title_width: int) -> str:
    title = title if len(title) < title_width else f"{title[: title_width - 2]}…"
    return f"{title:<{title_width}}" + "".join(f"{text:>{_COLUMN}}" for text in texts)
