"""Training curves of a fleet: loss and accuracy of each variant, phase by phase.

Letters: r rows of a metric log.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from asdjax.report.figures import COLOURS, THRESHOLD, Picture, add_legend, make_label, make_picture

_MOST_POINTS = 200
_LEAST_WIDTH = 0.35  # of a phase's panel, relative to the longest phase
_METRICS = {"loss": "training loss (no unit)", "accuracy": "right section (%)"}

MetricRows = Sequence[Mapping[str, Any]]

#: Steps (r,) and values (r,).
Curve = tuple[np.ndarray, np.ndarray]


def list_phases(rows: MetricRows) -> list[str]:
    """Return the phases that have losses, in the order of training."""
    return list(dict.fromkeys(row["phase"] for row in rows if "loss" in row))


def read_curve(rows: MetricRows, phase: str, metric: str, variant: str) -> Curve:
    """Return a metric of one variant over the steps of a phase.

    The metric is loss, accuracy, holdout_loss or holdout_accuracy. Values that are null (not finite) become NaN.
    """
    rows = [row for row in rows if row["phase"] == phase and variant in row.get(metric, ())]
    values = [np.nan if (value := row[metric][variant]) is None else float(value) for row in rows]
    return np.array([row["step"] for row in rows], float), np.array(values, float)


def thin(curve: Curve, most: int) -> Curve:
    """Return at most `most` points, each the mean of as many neighbours."""
    steps, values = curve
    if not len(steps):
        return curve
    edges = np.arange(0, len(steps), -(-len(steps) // most))
    counts = np.diff(np.append(edges, len(steps)))
    return np.add.reduceat(steps, edges) / counts, np.add.reduceat(values, edges) / counts


def make_curves_picture(
    fleet: str, rows: MetricRows, variants: Sequence[str], evaluated_steps: Mapping[str, int]
) -> Picture:
    """Return the picture of a fleet's metric log. `evaluated_steps` has the evaluated step of each checkpoint line."""
    phases = list_phases(rows)
    held_out = any("holdout_loss" in row for row in rows)
    extra = " Points: normal clips held out of training." if held_out else ""
    return make_picture(
        lambda figure: _plot(figure, rows, variants, evaluated_steps),
        5.0,
        alt=f"Training curves of {fleet}: loss and accuracy of {len(variants)} variants over the steps of "
        f"{', '.join(phases)}",
        caption="Training asks each model to name the section of mixed normal recordings. No faulty recording is used. "
        f"Loss should fall and accuracy rise.{extra}",
    )


def _plot(figure: Figure, rows: MetricRows, variants: Sequence[str], evaluated_steps: Mapping[str, int]) -> None:
    """Plot a row of panels for each metric, and a column for each phase."""
    phases = list_phases(rows)
    last = {phase: max(row["step"] for row in rows if row["phase"] == phase) for phase in phases}
    widths = [max(last[phase] / max(last.values()), _LEAST_WIDTH) for phase in phases]
    grid = figure.subplots(2, len(phases), sharex="col", sharey="row", squeeze=False, width_ratios=widths)
    for i, (metric, label) in enumerate(_METRICS.items()):
        for j, phase in enumerate(phases):
            _plot_panel(grid[i, j], rows, phase, metric, variants)
            if phase in evaluated_steps:
                grid[i, j].axvline(evaluated_steps[phase], color=THRESHOLD, ls=":", lw=1.2, label="evaluated here")
        grid[i, 0].set_ylabel(label)
    for j, phase in enumerate(phases):
        grid[0, j].set_title(make_label(phase.replace("_", ", ", 1)))
    grid[0, 0].set_ylim(bottom=0)
    grid[1, 0].set_ylim(-3, 103)
    for axes in grid[1]:
        axes.set_xlabel("training step")
    add_legend(figure, 2)


def _plot_panel(axes: Axes, rows: MetricRows, phase: str, metric: str, variants: Sequence[str]) -> None:
    """Plot a curve for each variant: a colour for each backbone, dashes for the lower input height."""
    backbones = list(dict.fromkeys(variant.rsplit("_", 1)[0] for variant in variants))
    factor = 100 if metric == "accuracy" else 1
    for variant in variants:
        backbone, height = variant.rsplit("_", 1)
        colour = COLOURS[backbones.index(backbone) % len(COLOURS)]
        steps, values = thin(read_curve(rows, phase, metric, variant), _MOST_POINTS)
        axes.plot(steps, factor * values, color=colour, ls="-" if height == "1024" else "--", lw=1.3, label=variant)
        steps, values = read_curve(rows, phase, f"holdout_{metric}", variant)
        filled = colour if height == "1024" else "white"
        axes.plot(steps, factor * values, ls="", marker="o", ms=3.5, color=colour, markerfacecolor=filled)
