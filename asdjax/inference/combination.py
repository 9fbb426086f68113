"""Combination of detectors of different kinds: the models' average, if any, and the detectors by log-mel statistics.

Every detector gets a scale of its own from the scores of training clips; no test clip is needed for it.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from asdjax.data.clips import Clip
from asdjax.errors import InputError
from asdjax.inference.clip_scores import ClipScores

#: Fewest training scores that give a scale, and the smallest unit of a scale as a share of the median: the scores of
#: very few or of equal clips differ by rounding only.
FEWEST_SCALED, LEAST_UNIT = 4, 0.01

#: Units above the median up to which a scale is linear. Beyond, it is logarithmic: a detector that is far off for
#: reasons of its own, such as models of which a phase of training turned one domain round, would outvote the others.
#: Measured on real sound, in tests/perf/README.md.
LINEAR_UNITS = 10.0


class Scale(NamedTuple):
    """A detector's scale: the distance of a score from `origin` in `unit`, logarithmic beyond LINEAR_UNITS."""

    origin: float
    unit: float

    def __call__(self, scores: Any, numpy: Any = np) -> Any:
        """Scale scores of any shape, by numpy or by jax.numpy."""
        units = (scores - self.origin) / self.unit
        beyond = numpy.log(numpy.maximum(units / LINEAR_UNITS, 1.0))
        return numpy.minimum(units, LINEAR_UNITS) + LINEAR_UNITS * beyond


class Combination(NamedTuple):
    """The weighted mean of detectors for the clips of one section, each on a scale of its own."""

    scales: tuple[Scale, ...]
    weights: tuple[float, ...]

    def __call__(self, scores: Sequence[Any]) -> Any:
        """Combine the scores of the detectors, numbers or arrays, in the order of `scales`."""
        terms = zip(self.weights, self.scales, scores, strict=True)
        return sum(weight * scale(score) for weight, scale, score in terms if weight)


def make_combination(detectors: Sequence[ClipScores], section: str) -> Combination:
    """Return the combination of detectors of one machine type for the clips of a section.

    The models are the first detector, if there are models, and the simple detectors follow.

    A detector's scale is that of its training scores in the section: the distance from their median in units of the
    distance between their quartiles, see Scale. The training clips were scored without their own pieces, so no test
    clip is needed for this, and a score does not depend on other test clips.

    A section with fewer than FEWEST_SCALED training scores, which give no scale, has the first detector alone, on its
    scale in the machine type. InputError is raised if that has fewer, too.
    """
    in_section = [[score for clip, score in one.train.items() if clip.section == section] for one in detectors]
    if min(map(len, in_section)) >= FEWEST_SCALED:
        return Combination(tuple(map(_find_scale, in_section)), (1 / len(detectors),) * len(detectors))
    of_machine = list(detectors[0].train.values())
    if len(of_machine) < FEWEST_SCALED:
        raise InputError(
            f"section {section}: expected {FEWEST_SCALED} or more training clips with a score in its machine type, got "
            f"{len(of_machine)}; add normal recordings"
        )
    others = len(detectors) - 1
    return Combination((_find_scale(of_machine), *(Scale(0.0, 1.0),) * others), (1.0, *(0.0,) * others))


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


def _find_scale(scores: Sequence[float]) -> Scale:
    low, median, high = np.percentile(scores, [25, 50, 75])
    return Scale(float(median), float(max(high - low, LEAST_UNIT * abs(median))) or 1.0)
