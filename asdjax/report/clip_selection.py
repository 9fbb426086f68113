"""Which clips a report explains."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from asdjax.evaluation.clip_table import ClipRow

MOST_ANOMALOUS, HIGHEST_NORMAL, LOWEST_ANOMALY = (
    "The most anomalous clips",
    "Other normal clips with the highest scores",
    "Anomalies with the lowest scores",
)
WHY = {
    MOST_ANOMALOUS: "What the models find strangest, whatever it is.",
    HIGHEST_NORMAL: "False alarms, or the closest to one: nothing was wrong with the machine.",
    LOWEST_ANOMALY: "Missed faults, or the closest to one: something was wrong with the machine.",
}


class Chosen(NamedTuple):
    """A clip to explain, why it was chosen, and how far it lies above its threshold, in standard deviations of the
    scores of its machine type's training clips."""

    group: str
    row: ClipRow
    margin: float


def choose(rows: Sequence[ClipRow], number: int) -> list[Chosen]:
    """So many clips of each group, the most extreme first, each clip once.

    Scores of different machine types are compared by their margin. Groups that need a label are empty without.
    """
    deviation = _deviations(rows)
    test = [row for row in rows if row.split == "test"]
    by_margin = sorted(test, key=lambda row: (-_margin(row, deviation), repr(row.clip)))
    candidates = {
        MOST_ANOMALOUS: by_margin,
        HIGHEST_NORMAL: [row for row in by_margin if row.clip.label == "normal"],
        LOWEST_ANOMALY: [row for row in reversed(by_margin) if row.clip.label == "anomaly"],
    }
    chosen: list[Chosen] = []
    for group, of_group in candidates.items():
        taken = {one.row for one in chosen}
        left = [row for row in of_group if row not in taken]
        chosen += [Chosen(group, row, _margin(row, deviation)) for row in left[:number]]
    return chosen


def _margin(row: ClipRow, deviation: Mapping[str, float]) -> float:
    return (row.clip.score - row.threshold) / deviation[row.clip.machine]


def _deviations(rows: Sequence[ClipRow]) -> dict[str, float]:
    training: dict[str, list[float]] = {}
    for row in rows:
        if row.split == "train":
            training.setdefault(row.clip.machine, []).append(row.clip.score)
    return {machine: float(np.std(scores)) or 1.0 for machine, scores in training.items()}
