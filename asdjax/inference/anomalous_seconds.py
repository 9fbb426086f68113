"""Times of a clip's pieces, and the time spans in which a clip is anomalous.

Letters: p pieces, s samples.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from asdjax.features import Spectrogram
from asdjax.fleet import embed

#: (begin, end) of each span, usually in seconds.
Spans = list[tuple[float, float]]


@dataclass(frozen=True)
class TimedPieces:
    """The pieces of a clip: begin and end in seconds, and score; (p,) each."""

    begin: np.ndarray
    end: np.ndarray
    score: np.ndarray

    def __len__(self) -> int:
        """Return the number of pieces."""
        return len(self.score)

    def above(self, threshold: float) -> Spans:
        """Return the time spans, in seconds, of the pieces with a score above a threshold."""
        above = self.score > threshold
        return join_spans(zip(self.begin[above].tolist(), self.end[above].tolist(), strict=True))


def join_spans(spans: Iterable[tuple[float, float]]) -> Spans:
    """Join spans that touch or overlap. The spans must be sorted by their begin."""
    joined: Spans = []
    for begin, end in spans:
        if joined and begin <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(end, joined[-1][1]))
        else:
            joined.append((begin, end))
    return joined


def time_pieces(samples: int, score: np.ndarray, spectrogram: Spectrogram, stride_frames: int) -> TimedPieces:
    """Add begin and end times to the piece scores (p,) of a clip of `samples` samples.

    Piece k begins at frame k * stride_frames and lasts `spectrogram.piece_frames` frames, or until the clip ends.
    """
    frame_seconds = spectrogram.hop_samples / spectrogram.sample_rate_hz
    begin = np.array(embed.list_piece_starts(samples, spectrogram, stride_frames)) * frame_seconds
    end = np.minimum(begin + spectrogram.piece_frames * frame_seconds, samples / spectrogram.sample_rate_hz)
    return TimedPieces(begin, end, score)


def time_whole_clip(samples: int, score: np.ndarray, spectrogram: Spectrogram) -> TimedPieces:
    """Return a clip of `samples` samples as one piece with its score (1,)."""
    return TimedPieces(np.zeros(1), np.array([samples / spectrogram.sample_rate_hz]), score)
