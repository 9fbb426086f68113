"""Clips to listen to, in the page."""

import io
from typing import NamedTuple

import numpy as np
import soundfile

from asdjax.report.figures import data_uri

BUDGET_BYTES = 12_000_000
"""Of all sound in a page, as text; the whole page then stays below 20 MB."""
LONGEST_SECONDS = 20.0

_TEXT_PER_SAMPLE = 2 * 4 / 3


class Stretch(NamedTuple):
    """A part of a clip, in samples."""

    begin: int
    end: int


def longest(players: int, sample_rate_hz: int) -> int:
    """Samples that each of so many players may hold."""
    share = BUDGET_BYTES / _TEXT_PER_SAMPLE / max(players, 1)
    return int(min(LONGEST_SECONDS * sample_rate_hz, share))


def stretch(samples: int, most: int, centre: int) -> Stretch:
    """At most so many samples of a clip around one of them, within the clip."""
    begin = min(max(centre - most // 2, 0), max(samples - most, 0))
    return Stretch(begin, min(begin + most, samples))


def wav_uri(samples: np.ndarray, sample_rate_hz: int) -> str:
    """Samples int16 (s,) as they are, in a WAV file that a page holds."""
    content = io.BytesIO()
    soundfile.write(content, samples, sample_rate_hz, format="WAV", subtype="PCM_16")
    return data_uri("audio/wav", content.getvalue())
