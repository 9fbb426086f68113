"""ROC curves of a machine type, a line for each section and domain, with the region that the pAUC looks at."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure
from sklearn.metrics import roc_curve

from asdjax.evaluation.metrics import MAX_FALSE_POSITIVE_RATE, has_both_classes, split_parts
from asdjax.inference.scored_clip import ScoredClip
from asdjax.report.figures import COLOURS, ORANGE, TRAINING, Picture, label, legend_below, picture


class Curve(NamedTuple):
    """Of one cell: the share of normals above each threshold, and of anomalies, from none to all."""

    section: str
    domain: str | None
    false_alarms: np.ndarray
    caught: np.ndarray


def curves(year: int, clips: Sequence[ScoredClip]) -> list[Curve]:
    """The curves whose areas are a machine type's AUCs, as the year joins clips to cells; none of cells without."""
    found = []
    for part in split_parts(year, clips):
        if has_both_classes(part.ranked):
            truth = [clip.label == "anomaly" for clip in part.ranked]
            false_alarms, caught, _ = roc_curve(truth, [clip.score for clip in part.ranked])
            found.append(Curve(part.ranked[0].section, part.domain, false_alarms, caught))
    return found


def roc(machine: str, shown: Sequence[Curve]) -> Picture:
    """The figure of a machine type's curves."""
    return picture(
        lambda figure: draw(figure, shown),
        4.4,
        alt=f"ROC of {machine}: faults found against false alarms in percent, {len(shown)} curves, one for each "
        "section and domain; false alarms up to 10 % are shaded",
        caption="Every threshold one could choose, as a point of a curve: the further up and to the left, the better. "
        "The pAUC looks only at the shaded region, where at most one normal clip in ten is an alarm.",
    )


def draw(figure: Figure, shown: Sequence[Curve]) -> None:
    """Curves in percent on an empty figure, a colour for each section, the target domain dashed."""
    sections = list(dict.fromkeys(curve.section for curve in shown))
    axes = figure.add_subplot()
    axes.axvspan(0, 100 * MAX_FALSE_POSITIVE_RATE, color=ORANGE, alpha=0.18, lw=0, label="region of the pAUC")
    axes.plot([0, 100], [0, 100], color=TRAINING, lw=1, ls=":", label="guessing")
    for curve in shown:
        axes.plot(
            100 * curve.false_alarms,
            100 * curve.caught,
            color=COLOURS[sections.index(curve.section) % len(COLOURS)],
            ls="--" if curve.domain == "target" else "-",
            lw=1.6,
            label=label(" ".join(filter(None, (curve.section, curve.domain)))),
        )
    axes.set(xlim=(-1, 101), ylim=(-1, 101), xlabel="false alarms: normal clips above the threshold (%)")
    axes.set(ylabel="faults found (%)", title="Faults found against false alarms (ROC)")
    legend_below(figure, 2)
