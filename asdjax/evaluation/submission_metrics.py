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

_TITLES = ("AUC", "pAUC", "precision", "recall", "F1")
_COLUMN = 10  # characters of a figure's column


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
    """The judgement in percent with two decimals, for a terminal of `width` characters (70 at least).

    Per machine type a row for each section and domain and the two means, then the means over all machine
    types and the official score. `-` is undefined; a last line counts the cells where AUC or pAUC is.
    """
    room = min(max(width, 70), 90) - _COLUMN * len(FIGURES)
    return "\n".join(_lines(judged, room)) + "\n"


def _lines(judged: FolderMetrics, room: int) -> Iterator[str]:
    """`room`: characters for what a row is called."""
    judgement = judged.judgement
    means = machine_means(judgement)
    for machine, cells in groupby(judgement.cells, key=lambda cell: cell.machine):
        yield _row(machine, _TITLES, room)
        yield from (_figures_row(f"  {cell.section} {cell.domain or '-'}", cell, room) for cell in cells)
        yield from _mean_rows(means[machine], room)
        yield ""
    yield _row("all machine types", _TITLES, room)
    yield from _mean_rows(overall_means(judgement), room)
    yield ""
    mean = "arithmetic" if judgement.year == 2020 else "harmonic"
    yield f"official score {judgement.year}: {percent(judgement.official)} ({mean} mean of all AUC and pAUC)"
    if judged.interval:
        yield f"95 % interval over test clips: {as_range(judged.interval)} ({bootstrap.RESAMPLES} bootstrap resamples)"
    if judgement.undefined:
        yield f"undefined (-), in no mean: {judgement.undefined} of {len(judgement.cells)} cells lack a class or labels"


def _mean_rows(means: Means, room: int) -> Iterator[str]:
    yield _figures_row("  arithmetic mean", means.arithmetic, room)
    yield _figures_row("  harmonic mean", means.harmonic, room)


def _figures_row(title: str, figures: Cell | Figures, room: int) -> str:
    return _row(title, [percent(getattr(figures, figure)) for figure in FIGURES], room)


def _row(title: str, texts: list[str] | tuple[str, ...], room: int) -> str:
    title = title if len(title) < room else f"{title[: room - 2]}…"
    return f"{title:<{room}}" + "".join(f"{text:>{_COLUMN}}" for text in texts)
