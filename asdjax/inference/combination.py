"""Combination of detectors of different kinds: the models' average and the detectors by log-mel statistics.

Every detector gets a scale of its own from the scores of training clips; no test clip is needed for it.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from asdjax.data.clips import Clip
from asdjax.errors import InputError
from asdjax.inference.clip_scores import ClipScores
from asdjax.inference.ensembles import Linear

#: Fewest training scores that give a scale, and the smallest unit of a scale as a share of the median: the scores of
#: very few or of equal clips differ by rounding only.
FEWEST_SCALED, LEAST_UNIT = 4, 0.01


class Combination(NamedTuple):
    """The mean of detectors of different kinds for the clips of one section, each on a scale of its own."""

    scales: tuple[Linear, ...]

    def __call__(self, scores: Sequence[Any]) -> Any:
        """Combine the scores of the detectors, in the order of `scales`: numbers, or arrays of numpy or JAX."""
        return sum(scale(score) for scale, score in zip(self.scales, scores, strict=True)) / len(self.scales)


def make_combination(detectors: Sequence[ClipScores], section: str) -> Combination:
    """Return the combination of detectors of one machine type for the clips of a section.

    A detector's scale is that of its training scores in the section: the distance from their median in units of the
    distance between their quartiles. The training clips were scored without their own pieces, so no test clip is needed
    for this, and a score does not depend on other test clips. A section with fewer than FEWEST_SCALED training scores
    has the scale of the machine type; InputError is raised if that has fewer, too.
    """
    return Combination(tuple(_find_scale(detector.train, section) for detector in detectors))


def combine(detectors: Sequence[ClipScores]) -> ClipScores:
    """Combine detectors of one machine type, clip by clip, over the clips that all of them scored.

    Raises InputError as `make_combination`.
    """
    every_clip = dict.fromkeys(clip for one in detectors for clip in (*one.train, *one.unscored, *one.test))
    combinations = {section: make_combination(detectors, section) for section in {clip.section for clip in every_clip}}

    def combine_each(scores: Sequence[Mapping[Clip, float]]) -> dict[Clip, float]:
        common = [clip for clip in scores[0] if all(clip in other for other in scores)]
        return {clip: float(combinations[clip.section]([one[clip] for one in scores])) for clip in common}

    train, test = combine_each([one.train for one in detectors]), combine_each([one.test for one in detectors])
    known = dict.fromkeys(clip for one in detectors for clip in (*one.train, *one.unscored))
    return ClipScores(train, test, tuple(clip for clip in known if clip not in train))


def _find_scale(training: Mapping[Clip, float], section: str) -> Linear:
    scores = [score for clip, score in training.items() if clip.section == section]
    if len(scores) < FEWEST_SCALED:
        scores = list(training.values())
    if len(scores) < FEWEST_SCALED:
        raise InputError(
            f"section {section}: expected {FEWEST_SCALED} or more training clips with a score in its machine type, got "
            f"{len(scores)}; add normal recordings"
        )
    low, median, high = np.percentile(scores, [25, 50, 75])
    return Linear(float(median), float(max(high - low, LEAST_UNIT * abs(median))) or 1.0)
