"""Detector of the Python API: scores, embeddings and states of one machine's sound, and what a person corrects.

`asdjax.load` makes it. Letters: s samples, p pieces, d embedding.
"""

from collections.abc import Iterable, Iterator, Sequence
from os import PathLike, fspath
from typing import TYPE_CHECKING

import numpy as np

from asdjax.errors import InputError
from asdjax.runtime.paths import resolve_path

if TYPE_CHECKING:
    from asdjax.data.audio import Decoding
    from asdjax.data.sound_stream import Gap
    from asdjax.inference.acceptance import Acceptance
    from asdjax.inference.clip_reader import ClipReader
    from asdjax.inference.detector import ClipResult, SectionDetector
    from asdjax.inference.listener import Moment
    from asdjax.inference.loaded_system import DetectorSource


class Detector:
    """A detector for the clips of one machine type and section; see `load`."""

    def __init__(self, detector: "SectionDetector", reader: "ClipReader", source: "DetectorSource") -> None:
        self._detector, self._reader, self._source = detector, reader, source

    @property
    def decoding(self) -> "Decoding":
        """Return the form of samples that the models take, and what is done with others."""
        return self._reader.decoding

    @property
    def threshold(self) -> float:
        """Return the score above which a clip is anomalous."""
        return self._detector.threshold.value

    def score(self, clip: str | PathLike | np.ndarray, *, sample_rate_hz: int | None = None) -> "ClipResult":
        """Return a clip's score, decision, pieces and anomalous seconds.

        `clip` is a recording's path, or samples (s,) or (s, channels): int16, or float with full scale 1, at
        `sample_rate_hz` (None: the models' rate). A remainder at its end that is shorter than a piece is not scored.
        Raises InputError for a recording that cannot be read, or that is shorter than a piece.
        """
        return self._detector.score_clip(self._samples(clip, sample_rate_hz))

    def embed(self, clip: str | PathLike | np.ndarray, *, sample_rate_hz: int | None = None) -> dict[str, np.ndarray]:
        """Return the unit embeddings of a clip's pieces by variant, (p, d) float32 each; `clip` as in `score`.

        Without models there are none.
        """
        return self._detector.embed(self._samples(clip, sample_rate_hz))

    def listen(
        self,
        blocks: "Iterable[np.ndarray | Gap]",
        *,
        alarm: str = "3/5",
        smooth: int = 3,
        off_below_db: float | None = None,
    ) -> "Iterator[Moment]":
        """Yield the machine's state from a stream of its sound, about every second: normal, alarm, off or starting.

        Parameters
        ----------
        blocks : samples (s,) int16 at the models' rate in their order, as they come, and Gap where some are missing
        alarm : "N/M": an alarm begins when N of the last M scores are above the threshold, and ends when none is
        smooth : scores that are averaged first
        off_below_db : level below which the machine is off; None: quieter than training clips, and in no band louder

        Raises
        ------
        InputError : `alarm`, `smooth` or a block is wrong, a score is not finite, or the stream is shorter than a piece
        """
        from asdjax.inference.alarm_rule import AlarmRule
        from asdjax.inference.listener import listen

        return listen(self._detector, AlarmRule.parse(alarm, smooth), off_below_db, blocks)

    def accept(
        self, clips: Sequence[str | PathLike | np.ndarray], *, sample_rate_hz: int | None = None
    ) -> "Acceptance":
        """Add clips that a person found normal to the bank, fit the threshold again, and return what that has changed.

        `clips` are as in `score`. They are kept in W/feedback/; nothing is trained, and no other file changes. This
        detector and those that are loaded later use them, and the next evaluation. `undo_accept` undoes it. Raises
        InputError for a clip as in `score`, and for one that is in the bank already; then none is accepted.
        """
        from asdjax.data.feedback import name_files
        from asdjax.inference.acceptance import accept
        from asdjax.inference.loaded_system import open_detector

        if isinstance(clips, str | PathLike | np.ndarray):
            raise InputError("clips: expected a list of clips, got a single one; put it into a list")
        if not clips:
            raise InputError("clips: expected a clip or more, got none; give normal recordings")
        names = name_files(
            [f"clip_{i}" if isinstance(clip, np.ndarray) else fspath(clip) for i, clip in enumerate(clips)]
        )
        samples = [self._samples(clip, sample_rate_hz) for clip in clips]
        acceptance = accept(self._source, dict(zip(names, samples, strict=True)))
        self._detector = open_detector(self._source)
        return acceptance

    def _samples(self, clip: str | PathLike | np.ndarray, sample_rate_hz: int | None) -> np.ndarray:
        if isinstance(clip, np.ndarray):
            return self._reader.convert(clip, sample_rate_hz)
        if sample_rate_hz is not None:
            raise InputError("sample_rate_hz: expected with an array of samples only, got it with a file; leave it out")
        return self._reader.read(resolve_path(clip))
