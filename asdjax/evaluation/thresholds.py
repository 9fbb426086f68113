"""Where a score becomes a decision: the baselines' gamma rule."""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from asdjax.corpus.clips import Clip
from asdjax.errors import InputError
from asdjax.evaluation.metrics import ScoredClip

GAMMA, EMPIRICAL = "gamma", "empirical"

# standard deviation over mean, below which a gamma distribution's shape passes what float64 can solve for
_ALIKE = 1e-5

_OR_WIDER = ", or set config.evaluate.threshold_per=machine"

Group = tuple[str, str | None, str | None]
"""Machine type, section, domain; None where a threshold is for all of them."""

GROUPS: dict[str, Callable[[Clip | ScoredClip], Group]] = {
    "machine": lambda clip: (clip.machine, None, None),
    "section": lambda clip: (clip.machine, clip.section, None),
    "section_domain": lambda clip: (clip.machine, clip.section, clip.domain),
}
"""Which clips share a threshold, by the values of `config.evaluate.threshold_per`."""


class Threshold(NamedTuple):
    """Decide anomalous where score > value; `rule` is how the value was found, from so many training `clips`, of which
    the share `false_alarms` lies above it."""

    value: float
    rule: str
    clips: int
    false_alarms: float


Thresholds = Mapping[Group, Threshold]


def fit_all(training: Mapping[Clip, float], per: str, percentile: float) -> dict[Group, Threshold]:
    """A threshold for each group of training clips, from their scores."""
    groups: dict[Group, list[float]] = {}
    for clip, score in training.items():
        groups.setdefault(GROUPS[per](clip), []).append(score)
    return {group: fit(scores, percentile) for group, scores in groups.items()}


def threshold_of(clip: Clip | ScoredClip, limits: Thresholds, per: str) -> Threshold:
    """The threshold that decides a clip; raises InputError where no training clip of its group had a score."""
    group = GROUPS[per](clip)
    if group not in limits:
        raise InputError(
            f"{' '.join(filter(None, group))}: no training clip has a score, for which it needs others to be held "
            f"against, so no threshold can be fitted; add training clips{_OR_WIDER if per != 'machine' else ''}"
        )
    return limits[group]


def fit(training_scores: Sequence[float], percentile: float) -> Threshold:
    """The percentile of a gamma distribution fitted to training scores, as the challenge's baselines have it, but with
    its location held at 0: fitted along, it goes astray now and then.

    Where no gamma distribution can be fitted (scores that hardly differ, or one that is not positive) the
    percentile of the scores themselves, and the rule says so. Raises ValueError for no scores.
    """
    scores = np.asarray(training_scores, np.float64)
    if len(scores) == 0:
        raise ValueError("no training scores to fit a threshold to")
    value, rule = _fitted(scores, percentile)
    return Threshold(value, rule, len(scores), float(np.mean(scores > value)))


def _fitted(scores: np.ndarray, percentile: float) -> tuple[float, str]:
    if scores.min() <= 0 or scores.std() <= _ALIKE * scores.mean():
        return float(np.percentile(scores, percentile)), EMPIRICAL
    from scipy import stats  # late: `score` fits nothing, and it takes 1.2 s to import

    shape, _, scale = stats.gamma.fit(scores, floc=0)
    return float(stats.gamma.ppf(percentile / 100, shape, loc=0, scale=scale)), GAMMA
