"""ClipReader: samples of new clips, from recordings or arrays, as a detector takes them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np

from asdjax.config.fields import Config
from asdjax.data.access import make_decoding
from asdjax.data.audio import Decoding, convert_samples, decode, is_silent, read_header
from asdjax.errors import InputError
from asdjax.inference.detector import SectionDetector
from asdjax.runtime.progress import log


@dataclass(frozen=True, kw_only=True)
class ClipReader:
    """The conversion of clips to int16 (s,) at the models' rate, and their shortest length in samples."""

    decoding: Decoding
    least_samples: int

    @classmethod
    def for_detector(cls, config: Config, detector: SectionDetector) -> Self:
        """Return the reader for a detector's clips."""
        return cls(decoding=make_decoding(config), least_samples=detector.spectrogram.least_samples)

    def read(self, path: Path) -> np.ndarray:
        """Return the samples of a recording, int16 (s,), and log what is unusual about the file.

        Raises InputError for a file that cannot be read or is shorter than a piece.
        """
        header = read_header(path)
        samples = decode(path, self.decoding, header)
        for caution in header.cautions:
            log(f"{path}: warning: {caution}")
        if is_silent(samples):
            log(f"{path}: warning: silent; check the microphone")
        return self._require_long(samples, f"{path}: ")

    def convert(self, samples: np.ndarray, sample_rate_hz: int | None) -> np.ndarray:
        """Return samples (s,) or (s, channels), int16 or float with full scale 1, as int16 (s,) at the models' rate.

        `sample_rate_hz` None is the models' rate. Raises InputError for other shapes or dtypes, values that are not
        finite, or a clip shorter than a piece.
        """
        rate = self.decoding.sample_rate_hz if sample_rate_hz is None else sample_rate_hz
        return self._require_long(convert_samples(samples, rate, self.decoding), "")

    def _require_long(self, samples: np.ndarray, prefix: str) -> np.ndarray:
        if len(samples) < self.least_samples:
            rate = self.decoding.sample_rate_hz
            raise InputError(
                f"{prefix}expected {self.least_samples / rate:.2f} s or more, the length of a piece, got "
                f"{len(samples) / rate:.2f} s; use a longer recording"
            )
        return samples
