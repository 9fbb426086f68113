"""Training curves of a fleet: loss and accuracy of each variant, phase by phase."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from asdjax.report.figures import COLOURS, THRESHOLD, Picture, label, legend_below, picture

_MOST = 200
"""Points of a curve; of more, neighbours are averaged."""
_LEAST_WIDTH = 0.35
"""Of a phase's panel, over that of the longest."""
WHAT = {"loss": "training loss (no unit)", "accuracy": "right section (%)"}

Line = tuple[np.ndarray, np.ndarray]
"""Steps (r,), values (r,)."""


def phases_in(told: Sequence[Mapping[str, Any]]) -> list[str]:
    """The phases that have rows of losses, in the order of training."""
    return list(dict.fromkeys(row["phase"] for row in told if "loss" in row))


def curve(told: Sequence[Mapping[str, Any]], phase: str, what: str, variant: str) -> Line:
    """A field of a phase's rows over its steps: loss, accuracy, holdout_loss or holdout_accuracy, of one variant. What
    is null (not finite) is NaN."""
    rows = [row for row in told if row["phase"] == phase and variant in row.get(what, ())]
    values = [np.nan if (value := row[what][variant]) is None else float(value) for row in rows]
    return np.array([row["step"] for row in rows], float), np.array(values, float)


def thinned(line: Line, most: int) -> Line:
    """At most so many points, each the mean of as many neighbours."""
    steps, values = line
    group = -(-len(steps) // most) if len(steps) else 1
    edges = np.arange(0, len(steps), group)
    counts = np.diff(np.append(edges, len(steps)))
    if not len(edges):
        return line
    return np.add.reduceat(steps, edges) / counts, np.add.reduceat(values, edges) / counts


def curves(
    fleet: str, told: Sequence[Mapping[str, Any]], variants: Sequence[str], judged: Mapping[str, int]
) -> Picture:
    """The figure; `judged` has the step of each checkpoint line that was judged."""
    phases = phases_in(told)
    last = {phase: max(row["step"] for row in told if row["phase"] == phase) for phase in phases}
    widths = [max(last[phase] / max(last.values()), _LEAST_WIDTH) for phase in phases]
    held_out = any("holdout_loss" in row for row in told)

    def draw(figure: Figure) -> None:
        """A row for each thing told of a training, a column for each phase."""
        grid = figure.subplots(2, len(phases), sharex="col", sharey="row", squeeze=False, width_ratios=widths)
        for i, what in enumerate(WHAT):
            for j, phase in enumerate(phases):
                _draw_panel(grid[i, j], told, phase, what, variants)
                if phase in judged:
                    grid[i, j].axvline(judged[phase], color=THRESHOLD, ls=":", lw=1.2, label="judged here")
            grid[i, 0].set_ylabel(WHAT[what])
        for j, phase in enumerate(phases):
            grid[0, j].set_title(label(phase.replace("_", ", ", 1)))
        grid[0, 0].set_ylim(bottom=0)
        grid[1, 0].set_ylim(-3, 103)
        for axes in grid[1]:
            axes.set_xlabel("training step")
        legend_below(figure, 2)

    extra = " Points: normal clips that were never trained on." if held_out else ""
    return picture(
        draw,
        5.0,
        alt=f"Training curves of {fleet}: loss and accuracy of {len(variants)} variants over the steps of "
        f"{', '.join(phases)}",
        caption="How well each model tells the sections apart, from mixed normal recordings; no fault was heard in "
        f"training. Loss should fall, accuracy rise.{extra}",
    )


def _draw_panel(axes: Axes, told: Sequence[Mapping[str, Any]], phase: str, what: str, variants: Sequence[str]) -> None:
    backbones = list(dict.fromkeys(variant.rsplit("_", 1)[0] for variant in variants))
    factor = 100 if what == "accuracy" else 1
    for variant in variants:
        backbone, height = variant.rsplit("_", 1)
        colour = COLOURS[backbones.index(backbone) % len(COLOURS)]
        steps, values = thinned(curve(told, phase, what, variant), _MOST)
        axes.plot(steps, factor * values, color=colour, ls="-" if height == "1024" else "--", lw=1.3, label=variant)
        steps, values = curve(told, phase, f"holdout_{what}", variant)
        filled = colour if height == "1024" else "white"
        axes.plot(steps, factor * values, ls="", marker="o", ms=3.5, color=colour, markerfacecolor=filled)
