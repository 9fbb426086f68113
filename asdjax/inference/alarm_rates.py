"""Thresholds for a wanted number of false alarms a day, from the scores of training clips.

A threshold that n normal clips are to exceed once in m clips can be told from about m of them: the highest of m scores
is exceeded by a further one with a chance of 1 / (m + 1). Where there are fewer, the number is refused.
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


class AlarmRate(NamedTuple):
    """A wanted number of false alarms a day, and the clips that are scored a day (None: recorded without a gap)."""

    alarms_per_day: float
    clips_per_day: float | None = None

    def count_clips(self, clip_seconds: float) -> float:
        """Return the clips a day. Raises InputError for a number that is not above that of the alarms, or above 0."""
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
    """Return the rate that was asked for, if any; raise InputError for clips a day without false alarms a day."""
    if false_alarms_per_day is not None:
        return AlarmRate(false_alarms_per_day, clips_per_day)
    if clips_per_day is not None:
        raise InputError("clips a day: expected with false alarms a day only; give these too, or leave it out")
    return None


def fit_rate(
    training: Mapping[Clip, float], clip: Clip, rate: AlarmRate, clip_seconds: float, rule: ThresholdRule
) -> Threshold:
    """Return the threshold for a clip that normal clips exceed at a rate.

    `training` are scores of training clips, `clip_seconds` is their usual length, and `rule` the rule of the
    evaluation, but for its percentile. Raises InputError if the training clips are too few for so rare an alarm.
    """
    clips = rate.count_clips(clip_seconds)
    place = ("machine",) if rule.per == "machine" else ("machine", "section")
    known = sum(all(getattr(one, name) == getattr(clip, name) for name in place) for one in training)
    needed = math.ceil(clips / rate.alarms_per_day) - 1
    if known < needed:
        raise InputError(
            f"false alarms a day: expected {clips / (known + 1):.3g} or more, which {known} training clips can tell, "
            f"got {rate.alarms_per_day:g} of {clips:.6g} clips a day; record {needed} training clips, or allow more"
        )
    percentile = 100 * (1 - rate.alarms_per_day / clips)
    return find_threshold(clip, fit_all(training, replace(rule, percentile=percentile)), rule.per)


def describe(threshold: Threshold, evaluated: Threshold, mixed: Sequence[float]) -> str:
    """Return a sentence on a threshold, beside that of the evaluation, and on what it costs.

    `mixed` are scores of normal clips that faults were mixed into; there are none without `evaluate --sensitivity`.
    """
    if mixed:
        found, before = (100 * np.mean(np.array(mixed) > one.value) for one in (threshold, evaluated))
        cost = f"finds {found:.0f} % of the faults mixed into normal clips, instead of {before:.0f} %"
    else:
        cost = "asdjax evaluate --sensitivity measures what that costs"
    return f"threshold {threshold.value:.6g} instead of {evaluated.value:.6g}: {cost}"
