"""The rule by which a machine is off: quieter than it ever was in its training clips, and in no band louder.

Letters: n clips, m mel bands, s samples.
"""

from typing import NamedTuple

import numpy as np

from asdjax.inference.log_mel import BANDS, compute_log_mel

#: A second of a training clip is hardly ever this number of deviations quieter or louder than the clip's mean.
_QUIET_DEVIATIONS, _LOUD_DEVIATIONS = 2, 3
#: Share of training clips, the quietest ones, that do not count: one silent clip would make no machine ever off.
_LEFT_OUT = 0.02


class OffRule(NamedTuple):
    """A sound is of a machine that is off if its level is below `least_db` and no band is above `most_db` (m,).

    The level is the mean over mel bands of the power in dB, a number for comparison and no sound pressure.
    """

    least_db: float
    most_db: np.ndarray

    @classmethod
    def fit(cls, statistics: np.ndarray) -> "OffRule":
        """Fit the rule to the mean and standard deviation of the log-mel frames of training clips, (n, 2, m) in dB."""
        mean, deviation = statistics[:, 0].astype(np.float64), statistics[:, 1].astype(np.float64)
        quiet = mean.mean(axis=1) - _QUIET_DEVIATIONS * deviation.mean(axis=1)
        return cls(float(np.quantile(quiet, _LEFT_OUT)), (mean + _LOUD_DEVIATIONS * deviation).max(axis=0))

    @classmethod
    def below(cls, least_db: float) -> "OffRule":
        """Return the rule that goes by a given level alone."""
        return cls(least_db, np.full(BANDS, np.inf))

    def examine(self, samples: np.ndarray, sample_rate_hz: int) -> tuple[bool, float]:
        """Return whether samples int16 (s,) are of a machine that is off, and their level in dB."""
        bands = compute_log_mel(samples, sample_rate_hz).mean(axis=0)
        level = float(bands.mean())
        return bool(level < self.least_db and (bands <= self.most_db).all()), level
