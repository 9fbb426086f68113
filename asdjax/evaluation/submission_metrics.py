"""Metrics of a submission folder by the challenge's rules, and their table."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from asdjax.data.official_files import find_rules
from asdjax.evaluation import bootstrap
from asdjax.evaluation.bootstrap import Interval
from asdjax.evaluation.metrics import (
    FIGURES,
    Cell,
    Figures,
    Means,
    Metrics,
    compute_machine_means,
    compute_metrics,
    compute_overall_means,
)
from asdjax.evaluation.results_table import as_range, percent
from asdjax.evaluation.submission import read
from asdjax.runtime import text_table

_TITLES = ("AUC", "pAUC", "precision", "recall", "F1")
_LEAST_LABEL = 17  # characters of the first column, which hold the names of the means


@dataclass(frozen=True, slots=True)
class FolderMetrics(Metrics):
    """A folder's metrics, and the 95 % interval of its official score over test clips, None where undefined."""

    interval: Interval | None


def score_folder(year: int, scores: Path, truth: Path | None = None) -> FolderMetrics:
    """Compute the metrics of a submission folder by the year's rules.

    Folders and errors as in `submission.read`, figures as in `metrics.compute_metrics`.
    """
    find_rules(year)  # a wrong year before a wrong folder
    clips = list(read(scores, year, truth))
    metrics = compute_metrics(year, clips)
    interval = bootstrap.compute_interval(year, [clips])
    return FolderMetrics(metrics.year, metrics.cells, metrics.official, metrics.undefined, interval)


def as_json(metrics: FolderMetrics) -> dict[str, Any]:
    """Return the content of `asdjax metrics --json`: year, official, interval and cells; None where undefined."""
    cells = [asdict(cell) for cell in metrics.cells]
    return {"year": metrics.year, "official": metrics.official, "interval": metrics.interval, "cells": cells}


def format_table(metrics: FolderMetrics, width: int = 80) -> str:
    """Return the metrics in percent with two decimals, as text for a terminal of `width` characters.

    Each machine type has a row for each section and domain, and its two means. The means over all machine types and
    the official score follow. `-` is undefined; the last line counts the cells with an undefined AUC or pAUC.
    """
    table = text_table.format_table(list(_rows(metrics)), width, label=_LEAST_LABEL)
    return f"{table}\n\n{text_table.format_notes(_notes(metrics), width)}\n"


def _rows(metrics: Metrics) -> Iterator[list[str]]:
    means = compute_machine_means(metrics)
    for machine, cells in groupby(metrics.cells, key=lambda cell: cell.machine):
        yield [machine, *_TITLES]
        yield from (_row(f"  {cell.section} {cell.domain or '-'}", cell) for cell in cells)
        yield from _mean_rows(means[machine])
        yield []
    yield ["all machine types", *_TITLES]
    yield from _mean_rows(compute_overall_means(metrics))


def _mean_rows(means: Means) -> Iterator[list[str]]:
    yield _row("  arithmetic mean", means.arithmetic)
    yield _row("  harmonic mean", means.harmonic)


def _row(label: str, figures: Cell | Figures) -> list[str]:
    return [label, *(percent(getattr(figures, figure)) for figure in FIGURES)]


def _notes(metrics: FolderMetrics) -> Iterator[str]:
    mean = "arithmetic" if metrics.year == 2020 else "harmonic"
    yield f"official score {metrics.year}: {percent(metrics.official)} ({mean} mean of all AUC and pAUC)"
    if metrics.interval:
        yield f"95 % interval over test clips: {as_range(metrics.interval)} ({bootstrap.RESAMPLES} bootstrap resamples)"
    if metrics.undefined:
        yield f"undefined (-), in no mean: {metrics.undefined} of {len(metrics.cells)} cells lack a class or labels"
