"""Thresholds for a wanted number of false alarms a day, from the scores of training clips.

The threshold is that of the evaluation's rule at another percentile. A rate of one in n clips needs n - 1 training
clips: a further clip exceeds the highest of their scores with a chance of one in n. A rarer rate is refused.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from asdjax.data.clips import Clip
from asdjax.errors import InputError
from asdjax.inference.thresholds import Threshold, ThresholdRule, find_threshold, fit_all

SECONDS_A_DAY = 86_400

# Of a ratio of two numbers as a user writes them, as a share of a clip.
_ROUNDING = 1e-9


class AlarmRate(NamedTuple):
    """A wanted number of false alarms a day, and the clips that are scored a day (None: recorded without a gap)."""

    alarms_per_day: float
    clips_per_day: float | None = None

    def count_clips(self, clip_seconds: float) -> float:
        """Return the clips a day. Raises InputError unless the alarms a day are above 0 and below them."""
        clips = self.clips_per_day if self.clips_per_day is not None else SECONDS_A_DAY / clip_seconds
        if not (math.isfinite(clips) and clips > 0):
            raise InputError(f"clips a day: expected a number above 0, got {clips:g}; correct it")
        if not 0 < self.alarms_per_day < clips:
            raise InputError(
                f"false alarms a day: expected a number above 0 and below {clips:.6g}, the clips a day, got "
                f"{self.alarms_per_day:g}; correct it"
            )
        return clips


def make_rate(false_alarms_per_day: float | None, clips_per_day: float | None) -> AlarmRate | None:
    """Return the rate that was asked for, if any; raise InputError for no numbers, and for clips a day alone."""
    for name, value in (("false alarms a day", false_alarms_per_day), ("clips a day", clips_per_day)):
        if value is not None and not isinstance(value, int | float | np.number):
            raise InputError(f"{name}: expected a number, got {value!r}; correct it")
    if false_alarms_per_day is not None:
        return AlarmRate(false_alarms_per_day, clips_per_day)
    if clips_per_day is not None:
        raise InputError(
            f"clips a day: expected together with false alarms a day, got {clips_per_day:g} alone; give both, or none"
        )
    return None


def fit_rate(
    training: Mapping[Clip, float], clip: Clip, rate: AlarmRate, clip_seconds: float, rule: ThresholdRule
) -> Threshold:
    """Return the threshold for a clip that normal clips exceed at a rate.

    `training` are scores of training clips, `clip_seconds` is their usual length, and `rule` the rule of the
    evaluation, but for its percentile. Raises InputError if the training clips are too few for so rare an alarm.
    """
    clips = rate.count_clips(clip_seconds)
    percentile = 100 * (1 - rate.alarms_per_day / clips)
    threshold = find_threshold(clip, fit_all(training, replace(rule, percentile=percentile)), rule.per)
    needed = np.ceil(clips / rate.alarms_per_day - _ROUNDING) - 1
    if threshold.clips < needed:
        least = math.ceil(1000 * clips / (threshold.clips + 1)) / 1000
        place = " ".join(filter(None, (clip.machine, clip.section, clip.domain)))
        raise InputError(
            f"false alarms a day: expected {least:.10g} or more, as {place} has {threshold.clips} training clips, got "
            f"{rate.alarms_per_day:g} of {clips:.6g} clips a day, which need {needed:.6g} training clips; allow more, "
            "or record more normal clips"
        )
    return threshold


def describe(threshold: Threshold, evaluated: Threshold, mixed: Sequence[float]) -> str:
    """Return a sentence on a threshold and that of the evaluation: how many faults are found by each.

    `mixed` are scores of normal clips that faults were mixed into, if any are known for this system.
    """
    if mixed:
        found, before = (100 * np.mean(np.array(mixed) > one.value) for one in (threshold, evaluated))
        cost = f"finds {found:.0f} % of the faults mixed into normal clips, instead of {before:.0f} %"
    else:
        cost = "asdjax evaluate --sensitivity measures what that costs the default system in faults found"
    return f"threshold {threshold.value:.6g} instead of {evaluated.value:.6g}: {cost}"
