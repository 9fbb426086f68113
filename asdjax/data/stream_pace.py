"""The pace of a live stream against the clock, by which samples that were lost before they arrived are noticed."""

from math import inf

from asdjax.data.formats.header import SampleFormat

#: Seconds of sound that are noticed if they are lost.
_LOST_S = 1.0
#: Seconds of sound by which a stream gains on the clock that is a recording.
_AHEAD_S = 5.0
#: Seconds after which the delay is compared with that before; over days, clocks drift apart.
_PERIOD_S = 20.0


class Pace:
    """The delay of a stream: the time since its first byte, less the seconds of sound that have arrived.

    Sound that arrives late but whole raises it for a while only, so the least delay of a period counts: if that is
    larger than the one before, samples were lost. A stream that gains on the clock is a recording, which has no pace.
    """

    def __init__(self, form: SampleFormat, start: float) -> None:
        self._bytes_per_s, self._start, self._bytes = form.frame_bytes * form.sample_rate_hz, start, 0
        self._before = self._least = self._first = inf
        self._period_end, self._ahead_at, self._is_first = start + _PERIOD_S, -inf, True

    def check(self, new_bytes: int, at: float, *, after_pause: bool) -> float:
        """Return the seconds of sound that were lost, 0 if none, when new bytes have arrived, the last of them `at`.

        They are counted after a pause, and at the end of a period.
        """
        self._bytes += new_bytes
        delay = at - self._start - self._bytes / self._bytes_per_s
        known = min(self._before, self._least)
        self._first = min(self._first, delay) if self._least == inf else self._first
        self._least = min(self._least, delay)
        if delay < self._first - _AHEAD_S:  # in the first seconds a live stream brings what its source had kept
            self._ahead_at = at if self._is_first else inf
        if after_pause:
            lost, self._before = delay - known, max(delay, known)
        elif at >= self._period_end:
            lost = self._least - self._before
            if lost < -_LOST_S and self._before < inf:
                self._ahead_at = inf
            self._before = self._least
        else:
            return 0.0
        self._least, self._first, self._period_end, self._is_first = inf, delay, at + _PERIOD_S, False
        return lost if lost > _LOST_S and at > self._ahead_at + 2 * _PERIOD_S else 0.0
