"""ROC curves of a machine type, one for each section and domain, with the region of the pAUC."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure
from sklearn.metrics import roc_curve

from asdjax.evaluation.metrics import MAX_FALSE_POSITIVE_RATE, has_both_classes, split_cells
from asdjax.inference.scored_clip import ScoredClip
from asdjax.report.figures import COLOURS, ORANGE, TRAINING, Picture, add_legend, make_label, make_picture


@dataclass(frozen=True, kw_only=True, eq=False)
class RocCurve:
    """ROC curve of one section and domain: the shares of normal clips and of anomalies above each threshold."""

    section: str
    domain: str | None
    false_alarms: np.ndarray
    found: np.ndarray


def compute_curves(year: int, clips: Sequence[ScoredClip]) -> list[RocCurve]:
    """Return the curves whose areas are a machine type's AUCs by the year's rules.

    Sections and domains without both labels have no curve.
    """
    curves = []
    for part in split_cells(year, clips):
        if has_both_classes(part.ranked):
            truth = [clip.label == "anomaly" for clip in part.ranked]
            false_alarms, found, _ = roc_curve(truth, [clip.score for clip in part.ranked])
            section = part.ranked[0].section
            curves.append(RocCurve(section=section, domain=part.domain, false_alarms=false_alarms, found=found))
    return curves


def make_roc_picture(machine: str, curves: Sequence[RocCurve]) -> Picture:
    """Return the picture of a machine type's curves."""
    return make_picture(
        lambda figure: plot_roc(figure, curves),
        4.4,
        alt=f"ROC of {machine}: faults found against false alarms in percent, {len(curves)} curves, one for each "
        "section and domain; false alarms up to 10 % are shaded",
        caption="Each point of a curve is one possible threshold. Curves further up and to the left are better. "
        "The pAUC covers only the shaded region, where at most one normal clip in ten raises an alarm.",
    )


def plot_roc(figure: Figure, curves: Sequence[RocCurve]) -> None:
    """Plot curves in percent on an empty figure: a colour for each section, dashes for the target domain."""
    sections = list(dict.fromkeys(curve.section for curve in curves))
    axes = figure.add_subplot()
    axes.axvspan(0, 100 * MAX_FALSE_POSITIVE_RATE, color=ORANGE, alpha=0.18, lw=0, label="region of the pAUC")
    axes.plot([0, 100], [0, 100], color=TRAINING, lw=1, ls=":", label="guessing")
    for curve in curves:
        axes.plot(
            100 * curve.false_alarms,
            100 * curve.found,
            color=COLOURS[sections.index(curve.section) % len(COLOURS)],
            ls="--" if curve.domain == "target" else "-",
            lw=1.6,
            label=make_label(" ".join(filter(None, (curve.section, curve.domain)))),
        )
    axes.set(xlim=(-1, 101), ylim=(-1, 101), xlabel="false alarms: normal clips above the threshold (%)")
    axes.set(ylabel="faults found (%)", title="Faults found against false alarms (ROC)")
    add_legend(figure, 2)
