"""Where a score becomes a decision: the baselines' gamma rule."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

GAMMA, EMPIRICAL = "gamma", "empirical"

# standard deviation over mean, below which a gamma distribution's shape passes what float64 can solve for
_ALIKE = 1e-5


class Threshold(NamedTuple):
    """Decide anomalous where score > value; `rule` is how the value was found."""

    value: float
    rule: str


def fit(training_scores: Sequence[float], percentile: float) -> Threshold:
    """The percentile of a gamma distribution (loc 0) fitted to training scores, as the challenge's baselines do.

    Where no gamma distribution can be fitted (scores that hardly differ, or one that is not positive) the
    percentile of the scores themselves, and the rule says so. Raises ValueError for no scores.
    """
    scores = np.asarray(training_scores, np.float64)
    if len(scores) == 0:
        raise ValueError("no training scores to fit a threshold to")
    if scores.min() <= 0 or scores.std() <= _ALIKE * scores.mean():
        return Threshold(float(np.percentile(scores, percentile)), EMPIRICAL)
    shape, _, scale = stats.gamma.fit(scores, floc=0)
    return Threshold(float(stats.gamma.ppf(percentile / 100, shape, loc=0, scale=scale)), GAMMA)
