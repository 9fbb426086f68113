"""A listener: the state of a machine from a stream of its sound, second by second, with bounded memory.

Each new piece of the stream is embedded once. The score is that of a window of the last pieces, as many as a usual
training clip has, because thresholds are for such clips.

Letters: p pieces, s samples.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np

from asdjax.data.sound_stream import Gap
from asdjax.errors import InputError
from asdjax.inference.alarm_rule import AlarmRule, AlarmState
from asdjax.inference.detector import PIECES_PER_BATCH, SectionDetector
from asdjax.inference.loaded_evaluation import Member
from asdjax.inference.off_rule import OffRule
from asdjax.inference.sound_buffer import SoundBuffer
from asdjax.runtime.progress import log

State = Literal["starting", "normal", "alarm", "off"]

#: Quiet pieces, one after another, of a machine that is off. A single one may be lost sound.
_OFF_PIECES = 2


@dataclass(frozen=True, kw_only=True)
class Moment:
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

    @property
    def window_seconds(self) -> float:
        """Return the seconds of sound before the first score."""
        return self._buffer.end_seconds(self._window - 1)

    def warm_up(self) -> None:
        """Compile what scores pieces, before the first sample comes."""
        for pieces in (1, PIECES_PER_BATCH):
            self._detector.measure_crops(np.zeros((pieces, self._detector.spectrogram.piece_samples), np.int16))

    def feed(self, samples: np.ndarray) -> Iterator[Moment]:
        """Take the stream's next samples int16 (s,); yield a moment for each piece that they complete.

        Raises InputError for other arrays, and for a score that is not finite.
        """
        if samples.dtype != np.int16 or samples.ndim != 1:
            raise InputError(
                f"expected blocks of int16 samples of shape (s,), got {samples.dtype} of shape {samples.shape}; "
                "convert them (floats of full scale 1: numpy.int16(32767 * samples))"
            )
        step = self._detector.stride_frames * self._detector.spectrogram.hop_samples * PIECES_PER_BATCH
        for begin in range(0, len(samples), step):
            block = samples[begin : begin + step]
            self._fed += len(block)
            new = self._buffer.add(block)
            for first in range(new.start, new.stop, PIECES_PER_BATCH):
                yield from self._take(range(first, min(first + PIECES_PER_BATCH, new.stop)))

    def restart(self, lost_seconds: float = 0.0) -> None:
        """Begin a new window, as samples are missing here, `lost_seconds` of them. An alarm goes on."""
        self._began += self._fed / self._detector.spectrogram.sample_rate_hz + lost_seconds
        self._fed = 0
        self._buffer.restart()
        self._clear()

    def _clear(self) -> None:
        self._on_since, self._quiet = 0, 0
        self._distances: deque[list[tuple[Member, float]]] = deque(maxlen=self._window)

    def _take(self, pieces: range) -> Iterator[Moment]:
        """Yield a moment for each of some new pieces. Quiet ones are not scored, and end the window."""
        rate = self._detector.spectrogram.sample_rate_hz
        heard = [self._detector.off.examine(self._buffer.span(piece), rate) for piece in pieces]
        measured = self._measure([piece for piece, (is_quiet, _) in zip(pieces, heard, strict=True) if not is_quiet])
        for piece, (is_quiet, level) in zip(pieces, heard, strict=True):
            self._quiet = self._quiet + 1 if is_quiet else 0
            if is_quiet:
                self._on_since = piece + 1
                self._distances.clear()
            else:
                self._distances.append(next(measured))
            if self._quiet >= _OFF_PIECES:
                self._alarm.restart()
                yield self._describe(piece, "off", level)
            else:
                yield self._judge(piece, level)
            self._buffer.drop(piece)

    def _measure(self, pieces: list[int]) -> Iterator[list[tuple[Member, float]]]:
        """Yield for each piece the models with its distance."""
        size = PIECES_PER_BATCH if len(pieces) == PIECES_PER_BATCH else 1  # the two compiled programs
        for begin in range(0, len(pieces), size):
            crops = np.stack([self._buffer.crop(piece) for piece in pieces[begin : begin + size]])
            measured = self._detector.measure_crops(crops)
            for row in range(size):
                yield [(member, float(distances[row])) for member, distances in measured]

    def _judge(self, piece: int, level: float) -> Moment:
        """Return the moment of a piece of a machine that is on; its window may still be incomplete."""
        if piece - self._on_since + 1 < self._window:
            return self._describe(piece, "alarm" if self._alarm.is_on else "starting", level)
        by_model = zip(*self._distances, strict=True)
        of_models = [(pairs[0][0], np.array([distance for _, distance in pairs])) for pairs in by_model]
        score = self._detector.pool(of_models, self._detector.simple(self._buffer.span(piece, self._window)))
        is_alarm, smoothed = self._alarm.update(score)
        return self._describe(piece, "alarm" if is_alarm else "normal", level, score, smoothed)

    def _describe(
        self, piece: int, state: State, level: float, score: float | None = None, smoothed: float | None = None
    ) -> Moment:
        return Moment(
            seconds=self._began + self._buffer.end_seconds(piece),
            state=state,
            score=score,
            smoothed=smoothed,
            threshold=self._detector.threshold.value,
            level_db=level,
        )


def listen(
    detector: SectionDetector, rule: AlarmRule, off_below_db: float | None, blocks: Iterable[np.ndarray | Gap]
) -> Iterator[Moment]:
    """Yield the moments of a stream of samples int16 (s,) with gaps; the first block is taken when all is compiled.

    Raises InputError as `Listener.feed`, and for a stream that ends before a piece is complete.
    """
    if off_below_db is not None:
        detector = detector._replace(off=OffRule.below(off_below_db))
    listener = Listener(detector, rule)
    listener.warm_up()
    log(f"listening; the first score comes after {listener.window_seconds:.1f} s of sound")
    moment = None
    for block in blocks:
        if isinstance(block, Gap):
            if block.kind == "gap":
                listener.restart(block.seconds)
        elif isinstance(block, np.ndarray):
            for moment in listener.feed(block):
                yield moment
        else:
            raise InputError(
                f"expected blocks that are arrays of samples, got {type(block).__name__}; give a list of them"
            )
    if moment is None:
        spectrogram = detector.spectrogram
        least_s = spectrogram.piece_samples / spectrogram.sample_rate_hz
        raise InputError(f"expected {least_s:.1f} s of sound or more, the length of a piece, got less; send more")
