"""Sound in the page: excerpts of clips as WAV files in data: URIs."""

import io
from typing import NamedTuple

import numpy as np
import soundfile

from asdjax.report.figures import encode_data_uri

# For all sound of a page, in base64. The page then stays below 20 MB.
BUDGET_BYTES = 12_000_000
LONGEST_SECONDS = 20.0

_BASE64_BYTES_PER_SAMPLE = 2 * 4 / 3


class Excerpt(NamedTuple):
    """A range of samples of a clip."""

    begin: int
    end: int


class Player(NamedTuple):
    """A WAV file as a data: URI, and its description."""

    uri: str
    description: str


def share_budget(players: int, sample_rate_hz: int) -> int:
    """Return the largest number of samples for each of a number of players."""
    share = BUDGET_BYTES / _BASE64_BYTES_PER_SAMPLE / max(players, 1)
    return int(min(LONGEST_SECONDS * sample_rate_hz, share))


def choose_excerpt(samples: int, most: int, centre: int) -> Excerpt:
    """Return at most `most` samples around sample `centre` of a clip of `samples` samples."""
    begin = min(max(centre - most // 2, 0), max(samples - most, 0))
    return Excerpt(begin, min(begin + most, samples))


def encode_wav(samples: np.ndarray, sample_rate_hz: int) -> str:
    """Return the data: URI of a WAV file with these samples, int16 (s,)."""
    content = io.BytesIO()
    soundfile.write(content, samples, sample_rate_hz, format="WAV", subtype="PCM_16")
    return encode_data_uri("audio/wav", content.getvalue())


def make_player(samples: np.ndarray, excerpt: Excerpt, sample_rate_hz: int, description: str) -> Player:
    """Return a player of an excerpt of samples, int16 (s,), whose description names the seconds unless it is whole."""
    if excerpt != (0, len(samples)):
        begin, end = (sample / sample_rate_hz for sample in excerpt)
        description = f"{description}, {begin:.1f}–{end:.1f} s"
    return Player(encode_wav(samples[excerpt.begin : excerpt.end], sample_rate_hz), description)
