"""ClipReader: samples of new clips, from recordings or arrays, as a detector takes them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np

from asdjax.config.fields import Config
from asdjax.data.access import make_decoding
from asdjax.data.audio import (
    OVERLOADED_SHARE,
    Decoding,
    compute_overload,
    convert_samples,
    decode,
    is_silent,
    read_header,
)
from asdjax.errors import InputError
from asdjax.inference.detector import SectionDetector
from asdjax.runtime.progress import log


@dataclass(frozen=True, kw_only=True)
class ClipReader:
    """The conversion of clips to int16 (s,) at the models' rate.

    `least_samples` is their shortest length, one piece; a piece begins every `stride_samples`.
    """

    decoding: Decoding
    least_samples: int
    stride_samples: int

    @classmethod
    def for_detector(cls, config: Config, detector: SectionDetector) -> Self:
        """Return the reader for a detector's clips."""
        spectrogram = detector.spectrogram
        return cls(
            decoding=make_decoding(config),
            least_samples=spectrogram.least_samples,
            stride_samples=detector.stride_frames * spectrogram.hop_samples,
        )

    def read(self, path: Path) -> np.ndarray:
        """Return the samples of a recording, int16 (s,), and log what is unusual about the file.

        Raises InputError for a file that cannot be read or is shorter than a piece.
        """
        header = read_header(path)
        samples = decode(path, self.decoding, header)
        for caution in header.cautions:
            log(f"{path}: warning: {caution}")
        return self._examine(samples, str(path))

    def convert(self, samples: np.ndarray, sample_rate_hz: int | None) -> np.ndarray:
        """Return samples (s,) or (s, channels), int16 or float with full scale 1, as int16 (s,) at the models' rate.

        `sample_rate_hz` None is the models' rate. Raises InputError for other shapes or dtypes, values that are not
        finite, or a clip shorter than a piece.
        """
        rate = self.decoding.sample_rate_hz if sample_rate_hz is None else sample_rate_hz
        return self._examine(convert_samples(samples, rate, self.decoding), "samples")

    def _examine(self, samples: np.ndarray, name: str) -> np.ndarray:
        """Return the samples; log what makes their score doubtful. Raise InputError if they are less than a piece."""
        seconds, piece_s = (number / self.decoding.sample_rate_hz for number in (len(samples), self.least_samples))
        if len(samples) < self.least_samples:
            raise InputError(
                f"{name}: expected {piece_s:.2f} s or more, the length of a piece, got {seconds:.2f} s; use a longer "
                "recording"
            )
        if is_silent(samples):
            log(f"{name}: warning: silent; check the microphone")
        if (overload := compute_overload(samples)) >= OVERLOADED_SHARE:
            log(f"{name}: warning: {100 * overload:.2f} % of its samples are at full scale; record at a lower level")
        rest = (len(samples) - self.least_samples) % self.stride_samples
        if rest > len(samples) / 3:
            scored_s = seconds - rest / self.decoding.sample_rate_hz
            log(f"{name}: warning: only {scored_s:.2f} of {seconds:.2f} s are scored, whole pieces of {piece_s:.2f} s")
        return samples
