"""When a clip was anomalous: its pieces in time, and the spans that they cover.

Letters: p pieces, s samples.
"""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from asdjax.features import Spectrogram
from asdjax.fleet import embed

Spans = list[tuple[float, float]]
"""Begin and end, in seconds or whatever is being covered."""


class TimedPieces(NamedTuple):
    """A clip's pieces: when each begins and ends, in seconds, and its score, (p,) each."""

    begin: np.ndarray
    end: np.ndarray
    score: np.ndarray

    def above(self, threshold: float) -> Spans:
        """The seconds of the pieces whose score lies above a threshold, joined where they touch."""
        above = self.score > threshold
        return join_spans(zip(self.begin[above].tolist(), self.end[above].tolist(), strict=True))


def join_spans(spans: Iterable[tuple[float, float]]) -> Spans:
    """Spans in order, (begin, end) each, as few as cover the same."""
    out: Spans = []
    for begin, end in spans:
        if out and begin <= out[-1][1]:
            out[-1] = (out[-1][0], max(end, out[-1][1]))
        else:
            out.append((begin, end))
    return out


def time_pieces(samples: int, score: np.ndarray, spectrogram: Spectrogram, stride_frames: int) -> TimedPieces:
    """The pieces of a clip of so many samples with their scores (p,): piece k begins at frame k * stride and lasts
    `piece_frames`, or to the end of the clip."""
    frame_seconds = spectrogram.hop_samples / spectrogram.sample_rate_hz
    begin = np.array(embed.piece_starts(samples, spectrogram, stride_frames)) * frame_seconds
    end = np.minimum(begin + spectrogram.piece_frames * frame_seconds, samples / spectrogram.sample_rate_hz)
    return TimedPieces(begin, end, score)
