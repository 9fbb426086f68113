"""Histograms of a machine type's scores, one for each section and domain."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure

from asdjax.evaluation.clip_table import ClipRow
from asdjax.report.figures import (
    ANOMALY,
    NORMAL,
    PURPLE,
    THRESHOLD,
    TRAINING,
    Picture,
    add_legend,
    make_label,
    make_picture,
)

_BINS = 24


@dataclass(frozen=True, kw_only=True)
class LabelBars:
    """Bars of the test clips with one label: their name in the legend, colour and hatching."""

    label: str | None
    name: str
    colour: str
    hatch: str = ""


_BARS = (
    LabelBars(label="normal", name="normal", colour=NORMAL),
    LabelBars(label="anomaly", name="anomaly", colour=ANOMALY, hatch="////"),
    LabelBars(label=None, name="test clip, label unknown", colour=PURPLE),
)


def make_histograms_picture(machine: str, rows: Sequence[ClipRow]) -> Picture:
    """Return the picture of a machine type's test and training clips."""
    sections, domains = _list_cells(rows)
    return make_picture(
        lambda figure: plot_histograms(figure, rows),
        1.2 + 1.5 * len(sections),
        alt=f"Histograms of the scores of {machine}: {len(sections)} sections by {len(domains)} domains, normal and "
        "anomalous test clips, training clips as an outline, and the threshold as a vertical line",
        caption="The less the bars of normal clips and anomalies overlap, the better the system separates them. A clip "
        "to the right of the dashed line is called anomalous. Grey outline: normal training clips, each scored "
        "without itself, scaled to the number of test clips.",
    )


def _list_cells(rows: Sequence[ClipRow]) -> tuple[list[str], list[str | None]]:
    """Return the sections and domains of the test clips, or of the training clips if there are no test clips."""
    shown = [row for row in rows if row.split == "test"] or rows
    domains = sorted({row.clip.domain for row in shown}, key=lambda domain: domain or "")
    return list(dict.fromkeys(row.clip.section for row in shown)), domains


def plot_histograms(figure: Figure, rows: Sequence[ClipRow]) -> None:
    """Plot a machine type's clips on an empty figure: a row for each section, a column for each domain."""
    sections, domains = _list_cells(rows)
    grid = figure.subplots(len(sections), len(domains), sharex=True, sharey=True, squeeze=False)
    edges = np.histogram_bin_edges([row.clip.score for row in rows], _BINS).tolist()
    for i, section in enumerate(sections):
        section_rows = [row for row in rows if row.clip.section == section]
        for j, domain in enumerate(domains):
            _plot_cell(grid[i, j], section_rows, domain, edges)
            grid[i, j].set_title(make_label(" ".join(filter(None, (section, domain)))))
    for axes in grid[-1]:
        axes.set_xlabel("score (higher: stranger)")
        axes.locator_params(axis="x", nbins=4)
    for axes in grid[:, 0]:
        axes.set_ylabel("clips")
    add_legend(figure, 2)


def _plot_cell(axes: Axes, section: Sequence[ClipRow], domain: str | None, edges: Sequence[float]) -> None:
    """Plot a section's test clips of a domain, and the outline of its training clips of that domain.

    In evaluation sets from 2022 on, the domain of test clips is unknown; the outline then has all training clips.
    """
    cell = [row for row in section if row.clip.domain == domain]
    number = 0
    for bars in _BARS:
        scores = [row.clip.score for row in cell if (row.split, row.clip.label) == ("test", bars.label)]
        if scores:
            face = "none" if bars.hatch else to_rgba(bars.colour, 0.45)
            look = {"facecolor": face, "edgecolor": bars.colour, "hatch": bars.hatch, "lw": 1.2}
            axes.hist(scores, edges, histtype="stepfilled", label=bars.name, **look)
            number = max(number, len(scores))
    training = [row.clip.score for row in (section if domain is None else cell) if row.split == "train"]
    if training and (number or not any(row.split == "test" for row in section)):
        weights = np.full(len(training), (number or len(training)) / len(training))
        axes.hist(training, edges, weights=weights, histtype="step", color=TRAINING, lw=1.3, label="training (scaled)")
    for threshold in {row.threshold for row in cell or section}:
        axes.axvline(threshold, color=THRESHOLD, ls="--", lw=1.3, label="threshold")
