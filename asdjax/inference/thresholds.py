"""Where a score becomes a decision: the baselines' gamma rule, and what a domain of few clips borrows for it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Self

import numpy as np

from asdjax.config.fields import Config
from asdjax.data.clips import Clip
from asdjax.errors import InputError
from asdjax.evaluation.metrics import ScoredClip

GAMMA, EMPIRICAL, SCALED = "gamma", "empirical", "scaled gamma"

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


@dataclass(frozen=True, kw_only=True)
class ThresholdRule:
    """How thresholds are fitted: the fields of `config.evaluate` with these names after `threshold_`."""

    per: str = "machine"
    percentile: float = 90.0
    few_clips: int = 20
    few: str = "scaled"

    @classmethod
    def of(cls, config: Config) -> Self:
        """Return the rule of a configuration."""
        return cls(**{field: config.evaluate[f"threshold_{field}"] for field in cls.__dataclass_fields__})


class Threshold(NamedTuple):
    """Decide anomalous where score > value; `rule` is how the value was found, from so many training `clips`, of which
    the share `false_alarms` lies above it."""

    value: float
    rule: str
    clips: int
    false_alarms: float


Thresholds = Mapping[Group, Threshold]


def fit_all(training: Mapping[Clip, float], rule: ThresholdRule) -> dict[Group, Threshold]:
    """Fit a threshold for each group of training clips to their scores.

    With thresholds per domain there is one for each whole section too. It decides clips of a domain that is unknown or
    has no training clip with a score.
    """
    groups = _grouped(training, rule.per)
    if rule.per != "section_domain":
        return {group: fit(scores, rule.percentile) for group, scores in groups.items()}
    sections = {group: fit(scores, rule.percentile) for group, scores in _grouped(training, "section").items()}
    return {group: _of_domain(group, groups, sections, rule) for group in groups} | sections


def _grouped(training: Mapping[Clip, float], per: str) -> dict[Group, list[float]]:
    groups: dict[Group, list[float]] = {}
    for clip, score in training.items():
        groups.setdefault(GROUPS[per](clip), []).append(score)
    return groups


def _of_domain(
    group: Group, groups: Mapping[Group, list[float]], sections: Mapping[Group, Threshold], rule: ThresholdRule
) -> Threshold:
    """Fit a domain's threshold to its own clips; to few ones with the help of the section's other domain, if it can."""
    machine, section, _ = group
    if len(groups[group]) >= rule.few_clips:
        return fit(groups[group], rule.percentile)
    others = [scores for other, scores in groups.items() if other[:2] == group[:2] and len(scores) >= rule.few_clips]
    if rule.few == "section" or not others:
        return sections[machine, section, None]
    return fit_scaled(groups[group], others[0], rule.percentile)


def find_threshold(clip: Clip | ScoredClip, limits: Thresholds, per: str) -> Threshold:
    """The threshold that decides a clip; raises InputError where no training clip of its group had a score."""
    group = GROUPS[per](clip)
    if group not in limits and per == "section_domain":
        group = GROUPS["section"](clip)
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


def fit_scaled(few: Sequence[float], others: Sequence[float], percentile: float) -> Threshold:
    """Predict the percentile of a domain's next score from its few scores and the section's other domain.

    The domain has the shape of the gamma distribution of `others`, and a scale of its own: a gamma variable over the
    mean of n others of the same scale follows F(2 shape, 2 n shape), which counts in how little n clips say. Where no
    gamma distribution fits, the percentile of `others` is moved by the difference of the means.
    """
    reference, own = np.asarray(others, np.float64), np.asarray(few, np.float64)
    if _has_gamma(reference) and own.mean() > 0:
        from scipy import stats  # late, as below

        shape, _, _ = stats.gamma.fit(reference, floc=0)
        value = float(own.mean() * stats.f.ppf(percentile / 100, 2 * shape, 2 * len(own) * shape))
        rule = SCALED
    else:
        value, rule = float(np.percentile(reference, percentile) - reference.mean() + own.mean()), EMPIRICAL
    return Threshold(value, rule, len(own), float(np.mean(own > value)))


def _has_gamma(scores: np.ndarray) -> bool:
    return bool(scores.min() > 0 and scores.std() > _ALIKE * scores.mean())


def _fitted(scores: np.ndarray, percentile: float) -> tuple[float, str]:
    if not _has_gamma(scores):
        return float(np.percentile(scores, percentile)), EMPIRICAL
    from scipy import stats  # late: `score` fits nothing, and it takes 1.2 s to import

    shape, _, scale = stats.gamma.fit(scores, floc=0)
    return float(stats.gamma.ppf(percentile / 100, shape, loc=0, scale=scale)), GAMMA
