"""Thresholds for clip scores: the gamma rule of the challenge's baselines, extended to domains of few clips."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Self

import numpy as np

from asdjax.config.fields import Config
from asdjax.data.clips import Clip
from asdjax.errors import InputError
from asdjax.inference.scored_clip import ScoredClip

GAMMA, EMPIRICAL, PREDICTED = "gamma", "empirical", "predicted"

# Smallest ratio of standard deviation to mean: below it float64 cannot solve for the shape of a gamma distribution.
_LEAST_DEVIATION = 1e-5

# Clips that the spread of a section's other domain counts for where a domain has few. Chosen by false
# alarms and faults found on real recordings, together; 1 to 10 are within a few points (tests/perf/README.md).
_BORROWED = 3

_WIDER_GROUPS = ", or set config.evaluate.threshold_per=machine"

#: Machine type, section and domain; None for a threshold that does not depend on it.
Group = tuple[str, str | None, str | None]

#: Group of a clip, by the values of `config.evaluate.threshold_per`. Clips of a group share a threshold.
GROUPS: dict[str, Callable[[Clip | ScoredClip], Group]] = {
    "machine": lambda clip: (clip.machine, None, None),
    "section": lambda clip: (clip.machine, clip.section, None),
    "section_domain": lambda clip: (clip.machine, clip.section, clip.domain),
}


@dataclass(frozen=True, kw_only=True)
class ThresholdRule:
    """Settings for fitting thresholds: the fields of `config.evaluate` with these names after `threshold_`."""

    per: str
    percentile: float
    few_clips: int
    few: str

    @classmethod
    def from_config(cls, config: Config) -> Self:
        """Return the rule of a configuration."""
        return cls(**{field: config.evaluate[f"threshold_{field}"] for field in cls.__dataclass_fields__})


class Threshold(NamedTuple):
    """A threshold: a clip with score > `value` is anomalous.

    `rule` names the way it was fitted. `clips` counts the training clips; the share `false_alarms` of them scores
    above it.
    """

    value: float
    rule: str
    clips: int
    false_alarms: float


Thresholds = Mapping[Group, Threshold]


def fit_all(training: Mapping[Clip, float], rule: ThresholdRule) -> dict[Group, Threshold]:
    """Fit a threshold to the scores of each group of training clips.

    With `per` "section_domain", each section also gets a threshold, for clips whose domain is unknown or has no scored
    training clip.
    """
    groups = _group_scores(training, rule.per)
    if rule.per != "section_domain":
        return {group: fit(scores, rule.percentile) for group, scores in groups.items()}
    sections = {group: fit(scores, rule.percentile) for group, scores in _group_scores(training, "section").items()}
    return {group: _fit_domain(group, groups, sections, rule) for group in groups} | sections


def _group_scores(training: Mapping[Clip, float], per: str) -> dict[Group, list[float]]:
    groups: dict[Group, list[float]] = {}
    for clip, score in training.items():
        groups.setdefault(GROUPS[per](clip), []).append(score)
    return groups


def _fit_domain(
    group: Group, groups: Mapping[Group, list[float]], sections: Mapping[Group, Threshold], rule: ThresholdRule
) -> Threshold:
    """Fit a domain's threshold. A domain of few clips uses the section's other domain, if that has enough clips."""
    machine, section, _ = group
    if len(groups[group]) >= rule.few_clips:
        return fit(groups[group], rule.percentile)
    others = [scores for other, scores in groups.items() if other[:2] == group[:2] and len(scores) >= rule.few_clips]
    if rule.few == "section" or not others:
        return sections[machine, section, None]
    return fit_few(groups[group], others[0], rule.percentile)


def find_threshold(clip: Clip | ScoredClip, thresholds: Thresholds, per: str) -> Threshold:
    """Return the threshold for a clip. `per` is `config.evaluate.threshold_per`.

    Raises InputError if no training clip of the clip's group has a score.
    """
    group = GROUPS[per](clip)
    if group not in thresholds and per == "section_domain":
        group = GROUPS["section"](clip)
    if group not in thresholds:
        raise InputError(
            f"{' '.join(filter(None, group))}: expected training clips with a score to fit a threshold to, got none "
            f"(a clip is scored against other clips); add training clips{_WIDER_GROUPS if per != 'machine' else ''}"
        )
    return thresholds[group]


def fit(training_scores: Sequence[float], percentile: float) -> Threshold:
    """Fit a gamma distribution to training scores and return its percentile, as the challenge's baselines do.

    Unlike theirs, the location is fixed at 0, because fitting it as well is unstable. No gamma distribution fits almost
    equal scores, or a score that is not positive. The rule EMPIRICAL is then used: the smallest of the n scores that a
    share of percentile / 100 of n + 1 scores does not exceed, so that a further score of the same kind exceeds it no
    more often than promised (Vovk et al., Algorithmic Learning in a Random World, 2.2); the highest of too few scores.
    Raises ValueError without scores.
    """
    scores = np.asarray(training_scores, np.float64)
    if len(scores) == 0:
        raise ValueError("expected training scores to fit a threshold to, got none")
    value, rule = _gamma_percentile(scores, percentile)
    return Threshold(value, rule, len(scores), float(np.mean(scores > value)))


def fit_few(few: Sequence[float], others: Sequence[float], percentile: float) -> Threshold:
    """Predict the percentile of a domain's next score from its few scores and the section's other domain.

    Scores are taken as normal, with a mean of their own and a variance for which the variance of `others` counts as
    much as _BORROWED clips. The next score then follows a t distribution about the mean of the n few scores with
    _BORROWED + n - 1 degrees of freedom (Gelman et al., Bayesian Data Analysis, 3.3), which accounts for the
    uncertainty of a mean and a variance from few clips.
    """
    from scipy import stats  # late, as in _gamma_percentile

    own, reference = np.asarray(few, np.float64), np.asarray(others, np.float64)
    freedom = _BORROWED + len(own) - 1
    variance = (_BORROWED * reference.var(ddof=1) + np.square(own - own.mean()).sum()) / freedom
    deviation = np.sqrt(variance * (1 + 1 / len(own)))
    value = float(own.mean() + deviation * stats.t.ppf(percentile / 100, freedom))
    return Threshold(value, PREDICTED, len(own), float(np.mean(own > value)))


def _has_gamma(scores: np.ndarray) -> bool:
    return bool(scores.min() > 0 and scores.std() > _LEAST_DEVIATION * scores.mean())


def _gamma_percentile(scores: np.ndarray, percentile: float) -> tuple[float, str]:
    if not _has_gamma(scores):
        rank = math.ceil((len(scores) + 1) * percentile / 100)
        return float(np.sort(scores)[min(max(rank, 1), len(scores)) - 1]), EMPIRICAL
    from scipy import stats  # late: slow to import, and `score` fits no threshold

    shape, _, scale = stats.gamma.fit(scores, floc=0)
    return float(stats.gamma.ppf(percentile / 100, shape, loc=0, scale=scale)), GAMMA
