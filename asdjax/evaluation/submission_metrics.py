"""A submission folder judged like the challenge, and the judgement as a table for people."""

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
from asdjax.runtime import text_table

_TITLES = ("AUC", "pAUC", "precision", "recall", "F1")
_LEAST_LABEL = 17  # characters of the first column, which hold the names of the means


class FolderMetrics(NamedTuple):
    """A folder's figures, and the interval of its official score."""

    judgement: Metrics
    interval: Interval | None


def score_folder(year: int, scores: Path, truth: Path | None = None) -> FolderMetrics:
    """Judge anybody's submission files by the year's rules.

    Folders as in `submission.read`, figures as in `metrics.judge`. Raises InputError as these do.
    """
    clips = list(read(scores, year, truth))
    return FolderMetrics(compute_metrics(year, clips), bootstrap.interval(year, [clips]))


def as_json(judged: FolderMetrics) -> dict[str, Any]:
    """What `asdjax metrics --json` writes: year, official, interval and cells; undefined is None (JSON null)."""
    judgement = judged.judgement
    cells = [asdict(cell) for cell in judgement.cells]
    return {"year": judgement.year, "official": judgement.official, "interval": judged.interval, "cells": cells}


def format_table(judged: FolderMetrics, width: int = 80) -> str:
    """Return the metrics in percent with two decimals, as text for a terminal of `width` characters.

    Each machine type has a row for each section and domain, and its two means. The means over all machine types and
    the official score follow. `-` is undefined; the last line counts the cells with an undefined AUC or pAUC.
    """
    table = text_table.format_table(list(_rows(judged)), width, label=_LEAST_LABEL)
    return f"{table}\n\n{text_table.format_notes(_notes(judged), width)}\n"


def _rows(judged: FolderMetrics) -> Iterator[list[str]]:
    judgement = judged.judgement
    means = machine_means(judgement)
    for machine, cells in groupby(judgement.cells, key=lambda cell: cell.machine):
        yield [machine, *_TITLES]
        yield from (_row(f"  {cell.section} {cell.domain or '-'}", cell) for cell in cells)
        yield from _mean_rows(means[machine])
        yield []
    yield ["all machine types", *_TITLES]
    yield from _mean_rows(overall_means(judgement))


def _mean_rows(means: Means) -> Iterator[list[str]]:
    yield _row("  arithmetic mean", means.arithmetic)
    yield _row("  harmonic mean", means.harmonic)


def _row(label: str, figures: Cell | Figures) -> list[str]:
    return [label, *(percent(getattr(figures, figure)) for figure in FIGURES)]


def _notes(judged: FolderMetrics) -> Iterator[str]:
    judgement = judged.judgement
    mean = "arithmetic" if judgement.year == 2020 else "harmonic"
    yield f"official score {judgement.year}: {percent(judgement.official)} ({mean} mean of all AUC and pAUC)"
    if judged.interval:
        yield f"95 % interval over test clips: {as_range(judged.interval)} ({bootstrap.RESAMPLES} bootstrap resamples)"
    if judgement.undefined:
        yield f"undefined (-), in no mean: {judgement.undefined} of {len(judgement.cells)} cells lack a class or labels"
