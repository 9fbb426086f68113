"""Histograms of a machine type's scores, for each section and domain."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure

from asdjax.evaluation.clip_table import Row
from asdjax.evaluation.report.figures import (
    ANOMALY,
    NORMAL,
    PURPLE,
    THRESHOLD,
    TRAINING,
    Picture,
    label,
    legend_below,
    picture,
)

_BINS = 24


class Kind(NamedTuple):
    """A class of clips in a histogram: what it is called, its split and label, how its bars look."""

    name: str
    split: str
    label: str | None
    colour: str
    hatch: str


KINDS = (
    Kind("normal", "test", "normal", NORMAL, ""),
    Kind("anomaly", "test", "anomaly", ANOMALY, "////"),
    Kind("test clip, label not known", "test", None, PURPLE, ""),
)


def histograms(machine: str, rows: Sequence[Row]) -> Picture:
    """The figure of a machine type's clips, test and training."""
    shown = [row for row in rows if row.split == "test"] or rows
    sections = list(dict.fromkeys(row.clip.section for row in shown))
    domains = _in_order(row.clip.domain for row in shown)
    edges = np.histogram_bin_edges([row.clip.score for row in rows], _BINS).tolist()

    def draw(figure: Figure) -> None:
        grid = figure.subplots(len(sections), len(domains), sharex=True, sharey=True, squeeze=False)
        for i, section in enumerate(sections):
            for j, domain in enumerate(domains):
                cell = [row for row in rows if (row.clip.section, row.clip.domain) == (section, domain)]
                others = [row for row in rows if row.clip.section == section]
                _draw_cell(grid[i, j], cell, others, edges)
                grid[i, j].set_title(label(" ".join(filter(None, (section, domain)))))
        for axes in grid[-1]:
            axes.set_xlabel("score (higher: stranger)")
            axes.locator_params(axis="x", nbins=4)
        for axes in grid[:, 0]:
            axes.set_ylabel("clips")
        legend_below(figure, 2)

    return picture(
        draw,
        1.2 + 1.5 * len(sections),
        alt=f"Histograms of the scores of {machine}: {len(sections)} sections by {len(domains)} domains, normal and "
        "anomalous test clips, training clips as an outline, and the threshold as a vertical line",
        caption="Where normal clips and anomalies lie apart, the models tell them apart. Right of the dashed line a "
        "clip is called anomalous. Grey: normal training clips, each scored without itself, at the same height as the "
        "test clips.",
    )


def _draw_cell(axes: Axes, cell: Sequence[Row], section: Sequence[Row], edges: Sequence[float]) -> None:
    number = 0
    for kind in KINDS:
        scores = [row.clip.score for row in cell if (row.split, row.clip.label) == (kind.split, kind.label)]
        if scores:
            face = "none" if kind.hatch else to_rgba(kind.colour, 0.45)
            look = {"facecolor": face, "edgecolor": kind.colour, "hatch": kind.hatch, "lw": 1.2}
            axes.hist(scores, edges, histtype="stepfilled", label=kind.name, **look)
            number = max(number, len(scores))
    training = [row.clip.score for row in cell if row.split == "train"]
    if training and (number or not any(row.split == "test" for row in section)):
        weights = np.full(len(training), (number or len(training)) / len(training))
        axes.hist(training, edges, weights=weights, histtype="step", color=TRAINING, lw=1.3, label="training (scaled)")
    for threshold in {row.threshold for row in cell or section}:
        axes.axvline(threshold, color=THRESHOLD, ls="--", lw=1.3, label="threshold")


def _in_order(domains: Iterable[str | None]) -> list[str | None]:
    return sorted(set(domains), key=lambda domain: domain or "")
