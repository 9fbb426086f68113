"""The rule by which scores that follow one another raise an alarm and end it: n of m, with hysteresis."""

import re
from collections import deque
from typing import NamedTuple, Self

from asdjax.errors import InputError

_FORM = re.compile(r"([0-9]+)/([0-9]+)")
#: Most scores of a rule: a quarter of an hour.
_MOST = 1000


class AlarmRule(NamedTuple):
    """An alarm begins when `begin` of the last `of` scores are above the threshold, and ends when none is.

    Each score is first averaged with those before it, `smooth` in all.
    """

    begin: int = 3
    of: int = 5
    smooth: int = 3

    @classmethod
    def parse(cls, alarm: str, smooth: int) -> Self:
        """Return the rule of an alarm such as "3/5". Raises InputError for another form."""
        found = _FORM.fullmatch(str(alarm))
        if not found or not 1 <= int(found[1]) <= int(found[2]) <= _MOST:
            raise InputError(f"alarm: expected N/M, 1 <= N <= M <= {_MOST}, got {alarm!r}; 3/5 is usual")
        if not isinstance(smooth, int) or not 1 <= smooth <= _MOST:
            raise InputError(f"smooth: expected a number of scores from 1 to {_MOST}, got {smooth}; 1 averages none")
        return cls(int(found[1]), int(found[2]), smooth)


class AlarmState:
    """The state of an alarm, which each score may change."""

    def __init__(self, rule: AlarmRule, threshold: float) -> None:
        self._rule, self._threshold = rule, threshold
        self.restart()

    @property
    def is_on(self) -> bool:
        """Return whether there is an alarm."""
        return self._on

    def restart(self) -> None:
        """Forget all scores, and end the alarm."""
        self._scores: deque[float] = deque(maxlen=self._rule.smooth)
        self._above: deque[bool] = deque(maxlen=self._rule.of)
        self._on = False

    def update(self, score: float) -> tuple[bool, float]:
        """Take the next score; return whether there is an alarm, and the smoothed score."""
        self._scores.append(score)
        smoothed = sum(self._scores) / len(self._scores)
        self._above.append(smoothed > self._threshold)
        self._on = any(self._above) if self._on else sum(self._above) >= self._rule.begin
        return self._on, smoothed
