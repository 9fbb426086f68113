"""The last seconds of a stream of samples, cut into pieces as the pieces of one long clip.

Letters: s samples.
"""

import numpy as np

from asdjax import features
from asdjax.features import Spectrogram


class SoundBuffer:
    """The last samples of a stream int16: as many as `pieces` pieces have, and those of pieces not yet complete.

    Piece i begins at frame i * stride_frames of the stream, as in a clip.
    """

    def __init__(self, spectrogram: Spectrogram, stride_frames: int, pieces: int) -> None:
        self._spectrogram, self._stride, self._pieces = spectrogram, stride_frames, pieces
        self.restart()

    def restart(self) -> None:
        """Forget everything: a new stream begins."""
        self._samples, self._first, self._next = np.zeros(0, np.int16), 0, 0

    def add(self, samples: np.ndarray) -> range:
        """Add samples (s,); return the numbers of the pieces that they complete."""
        self._samples = np.concatenate([self._samples, samples])
        begin, end = self._next, self._first + len(self._samples)
        while self._begin(self._next) + self._spectrogram.piece_samples <= end:
            self._next += 1
        return range(begin, self._next)

    def crop(self, piece: int) -> np.ndarray:
        """Return the samples under a piece, zeros before the stream's first."""
        return features.crop(self._samples, self._begin(piece) - self._first, self._spectrogram.piece_samples)

    def span(self, piece: int, pieces: int = 1) -> np.ndarray:
        """Return the samples of the last of `pieces` consecutive pieces, `piece`, and those before it."""
        hop = self._spectrogram.hop_samples
        begin = max(0, piece - pieces + 1) * self._stride * hop - self._first
        end = piece * self._stride * hop + self._spectrogram.least_samples - self._first
        return self._samples[max(begin, 0) : end]

    def end_seconds(self, piece: int) -> float:
        """Return the second of the stream at which a piece ends."""
        frames = piece * self._stride + self._spectrogram.piece_frames
        return frames * self._spectrogram.hop_samples / self._spectrogram.sample_rate_hz

    def drop(self, piece: int) -> None:
        """Forget the samples that no window needs that ends with a piece after `piece`."""
        keep = min(self._begin(max(0, piece + 2 - self._pieces)), self._first + len(self._samples))
        if keep > self._first:
            self._samples, self._first = self._samples[keep - self._first :].copy(), keep

    def _begin(self, piece: int) -> int:
        return features.first_sample(piece * self._stride, self._spectrogram)
