"""Histograms of a machine type's scores, for each section and domain."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure

from asdjax.evaluation.clip_table import ClipRow
from asdjax.report.figures import ANOMALY, NORMAL, PURPLE, THRESHOLD, TRAINING, Picture, label, legend_below, picture

_BINS = 24


class ClipKind(NamedTuple):
    """A class of clips in a histogram: what it is called, its split and label, how its bars look."""

    name: str
    split: str
    label: str | None
    colour: str
    hatch: str


KINDS = (
    ClipKind("normal", "test", "normal", NORMAL, ""),
    ClipKind("anomaly", "test", "anomaly", ANOMALY, "////"),
    ClipKind("test clip, label not known", "test", None, PURPLE, ""),
)


def histograms(machine: str, rows: Sequence[ClipRow]) -> Picture:
    """The figure of a machine type's clips, test and training."""
    sections, domains = _places(rows)
    return picture(
        lambda figure: draw(figure, rows),
        1.2 + 1.5 * len(sections),
        alt=f"Histograms of the scores of {machine}: {len(sections)} sections by {len(domains)} domains, normal and "
        "anomalous test clips, training clips as an outline, and the threshold as a vertical line",
        caption="Where normal clips and anomalies lie apart, the models tell them apart. Right of the dashed line a "
        "clip is called anomalous. Grey: normal training clips, each scored without itself, at the same height as the "
        "test clips.",
    )


def _places(rows: Sequence[ClipRow]) -> tuple[list[str], list[str | None]]:
    """The sections and domains of test clips; of training clips where there are no others."""
    shown = [row for row in rows if row.split == "test"] or rows
    domains = sorted({row.clip.domain for row in shown}, key=lambda domain: domain or "")
    return list(dict.fromkeys(row.clip.section for row in shown)), domains


def draw(figure: Figure, rows: Sequence[ClipRow]) -> None:
    """A machine type's clips on an empty figure, sections below one another, domains side by side."""
    sections, domains = _places(rows)
    grid = figure.subplots(len(sections), len(domains), sharex=True, sharey=True, squeeze=False)
    edges = np.histogram_bin_edges([row.clip.score for row in rows], _BINS).tolist()
    for i, section in enumerate(sections):
        of_section = [row for row in rows if row.clip.section == section]
        for j, domain in enumerate(domains):
            _draw_cell(grid[i, j], of_section, domain, edges)
            grid[i, j].set_title(label(" ".join(filter(None, (section, domain)))))
    for axes in grid[-1]:
        axes.set_xlabel("score (higher: stranger)")
        axes.locator_params(axis="x", nbins=4)
    for axes in grid[:, 0]:
        axes.set_ylabel("clips")
    legend_below(figure, 2)


def _draw_cell(axes: Axes, section: Sequence[ClipRow], domain: str | None, edges: Sequence[float]) -> None:
    """A section's test clips of a domain beside its training clips of that domain, or of all where the test clips' is
    not known, as in the evaluation sets from 2022 on."""
    cell = [row for row in section if row.clip.domain == domain]
    number = 0
    for kind in KINDS:
        scores = [row.clip.score for row in cell if (row.split, row.clip.label) == (kind.split, kind.label)]
        if scores:
            face = "none" if kind.hatch else to_rgba(kind.colour, 0.45)
            look = {"facecolor": face, "edgecolor": kind.colour, "hatch": kind.hatch, "lw": 1.2}
            axes.hist(scores, edges, histtype="stepfilled", label=kind.name, **look)
            number = max(number, len(scores))
    beside = section if domain is None else cell
    training = [row.clip.score for row in beside if row.split == "train"]
    if training and (number or not any(row.split == "test" for row in section)):
        weights = np.full(len(training), (number or len(training)) / len(training))
        axes.hist(training, edges, weights=weights, histtype="step", color=TRAINING, lw=1.3, label="training (scaled)")
    for threshold in {row.threshold for row in cell or section}:
        axes.axvline(threshold, color=THRESHOLD, ls="--", lw=1.3, label="threshold")
