"""A listener: the state of a machine from a stream of its sound, second by second, with bounded memory.

Each new piece of the stream is embedded once. The score is that of a window of the last pieces, as many as a usual
training clip has, because thresholds are for such clips.

Letters: p pieces, s samples.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from typing import Literal, NamedTuple

import numpy as np

from asdjax.data.sound_stream import Gap
from asdjax.inference.alarm_rule import AlarmRule, AlarmState
from asdjax.inference.detector import SectionDetector
from asdjax.inference.loaded_evaluation import Member
from asdjax.inference.off_rule import OffRule
from asdjax.inference.sound_buffer import SoundBuffer

State = Literal["starting", "normal", "alarm", "off"]

#: Most pieces that are embedded at once when the stream is ahead. A stream in real time brings one at a time.
PIECES_AT_ONCE = 3


class Moment(NamedTuple):
    """The state of a machine when a piece of the stream is complete.

    `seconds` of the stream have passed. `score` is that of the window that ends there, and `smoothed` its mean with
    those before it; None while the window is not full. `level_db` is the mean over mel bands of the piece's power.
    """

    seconds: float
    state: State
    score: float | None
    smoothed: float | None
    threshold: float
    level_db: float


class Listener:
    """The states of one machine from its sound."""

    def __init__(self, detector: SectionDetector, rule: AlarmRule) -> None:
        self._detector, self._window = detector, detector.clip_pieces
        self._alarm = AlarmState(rule, detector.threshold.value)
        self._buffer = SoundBuffer(detector.spectrogram, detector.stride_frames, self._window)
        self._began, self._fed = 0.0, 0
        self._clear()

    def warm_up(self) -> None:
        """Compile what scores pieces, before the first sample comes."""
        for pieces in (1, PIECES_AT_ONCE):
            self._detector.measure_crops(np.zeros((pieces, self._detector.spectrogram.piece_samples), np.int16))

    def feed(self, samples: np.ndarray) -> Iterator[Moment]:
        """Take the stream's next samples int16 (s,); yield a moment for each piece that they complete.

        Raises InputError for a score that is not finite.
        """
        step = self._detector.stride_frames * self._detector.spectrogram.hop_samples * PIECES_AT_ONCE
        for begin in range(0, len(samples), step):
            block = samples[begin : begin + step]
            self._fed += len(block)
            new = self._buffer.add(block)
            for first in range(new.start, new.stop, PIECES_AT_ONCE):
                yield from self._take(range(first, min(first + PIECES_AT_ONCE, new.stop)))

    def restart(self, lost_seconds: float = 0.0) -> None:
        """Begin a new window, as samples are missing here, `lost_seconds` of them. An alarm goes on."""
        self._began += self._fed / self._detector.spectrogram.sample_rate_hz + lost_seconds
        self._fed = 0
        self._buffer.restart()
        self._clear()

    def _clear(self) -> None:
        self._on_since = 0
        self._distances: deque[list[tuple[Member, float]]] = deque(maxlen=self._window)

    def _take(self, pieces: range) -> Iterator[Moment]:
        """Yield a moment for each of some new pieces. Those of a machine that is off are not scored."""
        rate = self._detector.spectrogram.sample_rate_hz
        heard = [self._detector.off.examine(self._buffer.span(piece), rate) for piece in pieces]
        measured = self._measure([piece for piece, (is_off, _) in zip(pieces, heard, strict=True) if not is_off])
        for piece, (is_off, level) in zip(pieces, heard, strict=True):
            if is_off:
                self._on_since = piece + 1
                self._distances.clear()
                self._alarm.restart()
                yield self._describe(piece, "off", None, None, level)
            else:
                self._distances.append(next(measured))
                yield self._judge(piece, level)
            self._buffer.drop(piece)

    def _measure(self, pieces: list[int]) -> Iterator[list[tuple[Member, float]]]:
        """Yield for each piece the models with its distance."""
        size = PIECES_AT_ONCE if len(pieces) == PIECES_AT_ONCE else 1  # the two compiled programs
        for begin in range(0, len(pieces), size):
            crops = np.stack([self._buffer.crop(piece) for piece in pieces[begin : begin + size]])
            measured = self._detector.measure_crops(crops)
            for row in range(size):
                yield [(member, float(distances[row])) for member, distances in measured]

    def _judge(self, piece: int, level: float) -> Moment:
        """Return the moment of a piece of a machine that is on; its window may still be incomplete."""
        if piece - self._on_since + 1 < self._window:
            return self._describe(piece, "starting", None, None, level)
        of_models = [
            (column[0][0], np.array([distance for _, distance in column]))
            for column in zip(*self._distances, strict=True)
        ]
        score = self._detector.pool(of_models, self._detector.simple(self._buffer.span(piece, self._window)))
        is_alarm, smoothed = self._alarm.update(score)
        return self._describe(piece, "alarm" if is_alarm else "normal", score, smoothed, level)

    def _describe(self, piece: int, state: State, score: float | None, smoothed: float | None, level: float) -> Moment:
        seconds = self._began + self._buffer.end_seconds(piece)
        return Moment(seconds, state, score, smoothed, self._detector.threshold.value, level)


def listen(
    detector: SectionDetector, rule: AlarmRule, off_below_db: float | None, blocks: Iterable[np.ndarray | Gap]
) -> Iterator[Moment]:
    """Yield the moments of a stream of samples int16 (s,) with gaps; the first block is taken when all is compiled."""
    if off_below_db is not None:
        detector = detector._replace(off=OffRule.below(off_below_db))
    listener = Listener(detector, rule)
    listener.warm_up()
    for block in blocks:
        if isinstance(block, np.ndarray):
            yield from listener.feed(block)
        elif block.kind == "gap":
            listener.restart(block.seconds)
