"""Decoder of compressed recordings by libsndfile, with errors that name the file.

libsndfile returns what it can of a truncated file. The modules for FLAC, Ogg and MP3 therefore first check a file's own
frames or pages, and then compare the number of decoded samples with the header.
"""

import io
from typing import Any, Literal

import numpy as np

from asdjax.data.formats.header import COPY, AudioHeader, Caution, Encoding, Source, require_plausible
from asdjax.errors import InputError

CUT_OFF = "copy it again, or if the rest is lost, write a new file of it: ffmpeg -i FILE NEW.wav"
REWRITE = "copy it again, or write it as a new file: ffmpeg -i FILE NEW.wav"
_BLOCK = 2**20  # frames decoded at once: a damaged header may promise any number of them


def read_lossy_header(source: Source, content: bytes, encoding: Encoding, name: str) -> AudioHeader:
    """Return the header of a lossy recording, with a caution. Raises InputError if it is damaged or has no samples."""
    with _open(source, content) as sound:
        rate_hz, channels, samples = sound.samplerate, sound.channels, sound.frames
    require_plausible(source, channels, rate_hz)
    if not 0 < samples < 2**40:
        raise source.error("holds a header and no samples", COPY)
    what = f"{name} is lossy: it removes quiet and high sounds, which may show faults, and adds sounds of its own"
    return AudioHeader(
        format=name,
        sample_rate_hz=rate_hz,
        channels=channels,
        samples=samples,
        encoding=encoding,
        data_start=source.begin,
        cautions=(Caution(what, "record as WAV or FLAC if you can"),),
    )


def decode_content(
    source: Source, content: bytes, dtype: Literal["int16", "int32", "float32"], samples: int
) -> np.ndarray:
    """Decode a file's content to shape (samples, c). Raises InputError if that fails or gives another length."""
    import soundfile

    blocks = []
    with _open(source, content) as sound:
        try:
            while len(block := sound.read(_BLOCK, dtype=dtype, always_2d=True)):
                blocks.append(block)
        except (soundfile.SoundFileError, ValueError, RuntimeError) as error:
            raise _decoding_error(source, error) from error
    got = sum(map(len, blocks))
    if got != samples:
        raise source.error(
            f"truncated or damaged: its header says {samples} samples, got {got} from the decoder", CUT_OFF
        )
    return np.concatenate(blocks)


def _open(source: Source, content: bytes) -> Any:
    import soundfile  # late: most corpora have no compressed files, and the import is slow

    try:
        return soundfile.SoundFile(io.BytesIO(content))
    except (soundfile.SoundFileError, ValueError, RuntimeError) as error:
        raise _decoding_error(source, error) from error


def _decoding_error(source: Source, error: Exception) -> InputError:
    reason = str(error).rpartition(": ")[2].rstrip(".") or type(error).__name__
    return source.error(f"truncated or damaged: cannot be decoded ({reason})", CUT_OFF)
