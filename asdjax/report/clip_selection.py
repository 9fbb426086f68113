"""Selection of the clips that a report explains."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from asdjax.evaluation.clip_table import ClipRow

MOST_ANOMALOUS, HIGHEST_NORMAL, LOWEST_ANOMALY = (
    "The most anomalous clips",
    "Other normal clips with the highest scores",
    "Anomalies with the lowest scores",
)
REASONS = {
    MOST_ANOMALOUS: "These clips have the highest scores, whatever their label.",
    HIGHEST_NORMAL: "Nothing was wrong with the machine. These clips are false alarms, or come closest to one.",
    LOWEST_ANOMALY: "Something was wrong with the machine. These clips are missed faults, or come closest to one.",
}


class ChosenClip(NamedTuple):
    """A clip to explain and its group. `margin` is its score minus its threshold, in standard deviations of the
    scores of its machine type's training clips."""

    group: str
    row: ClipRow
    margin: float


def choose_clips(rows: Sequence[ClipRow], number: int) -> list[ChosenClip]:
    """Return up to `number` clips of each group, the most extreme first and each clip once.

    Clips of different machine types are compared by their margin. Groups that need a label are empty without labels.
    """
    deviations = _compute_deviations(rows)
    test = [row for row in rows if row.split == "test"]
    by_margin = sorted(test, key=lambda row: (-_compute_margin(row, deviations), repr(row.clip)))
    candidates = {
        MOST_ANOMALOUS: by_margin,
        HIGHEST_NORMAL: [row for row in by_margin if row.clip.label == "normal"],
        LOWEST_ANOMALY: [row for row in reversed(by_margin) if row.clip.label == "anomaly"],
    }
    chosen: list[ChosenClip] = []
    for group, group_rows in candidates.items():
        taken = {one.row for one in chosen}
        left = [row for row in group_rows if row not in taken]
        chosen += [ChosenClip(group, row, _compute_margin(row, deviations)) for row in left[:number]]
    return chosen


def _compute_margin(row: ClipRow, deviations: Mapping[str, float]) -> float:
    return (row.clip.score - row.threshold) / deviations[row.clip.machine]


def _compute_deviations(rows: Sequence[ClipRow]) -> dict[str, float]:
    """Return the standard deviation of the training clips' scores by machine type, 1 where they are all equal."""
    training: dict[str, list[float]] = {}
    for row in rows:
        if row.split == "train":
            training.setdefault(row.clip.machine, []).append(row.clip.score)
    return {machine: float(np.std(scores)) or 1.0 for machine, scores in training.items()}
