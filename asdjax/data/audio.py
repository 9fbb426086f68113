"""Recordings decoded to the one form that everything else takes: int16, mono, one rate.

What a file is comes from its content, not from its name. Uncompressed samples are read from where `riff` and
`containers` find them, compressed ones by `compressed`.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from asdjax.data.formats import compressed, containers, riff
from asdjax.data.formats.header import BYTES, AudioHeader, Caution, Encoding, Source
from asdjax.data.formats.kinds import FileKind, Reader, absent, audio_begin
from asdjax.errors import InputError

OnMismatch = Literal["error", "convert"]

#: All channels mixed down to one.
MEAN = "mean"

_READERS: dict[Reader, Callable[[Source], AudioHeader]] = {
    "WAV": riff.read_riff,
    "W64": riff.read_wave64,
    "AIFF": containers.read_aiff,
    "CAF": containers.read_caf,
    "FLAC": compressed.read_flac,
    "OGG": compressed.read_ogg,
    "MP3": compressed.read_mp3,
}
_READER_OF_ENDING: dict[str, Reader] = {
    **dict.fromkeys((".wav", ".wave", ".bwf", ".rf64"), "WAV"),
    **dict.fromkeys((".aif", ".aiff", ".aifc"), "AIFF"),
    **dict.fromkeys((".ogg", ".oga", ".opus"), "OGG"),
    ".w64": "W64",
    ".caf": "CAF",
    ".flac": "FLAC",
    ".mp3": "MP3",
}
_TAGGED: tuple[Reader, ...] = ("FLAC", "MP3")  # of which players expect a tag in front


def read_header(path: str | Path) -> AudioHeader:
    """Read the header of a recording: WAV, Wave64, AIFF, CAF, FLAC, Ogg (Vorbis, Opus) or MP3, by its content.

    Uncompressed samples are PCM of 16, 24, 32 bits or float of 32, 64 bits, FLAC has 16 or 24. Raises InputError,
    naming the file, where it cannot be read, is none of these (and then what it is), holds no samples, or is cut off.
    """
    path = Path(path)
    with _opened(path) as file:
        begin, kind = audio_begin(file.read)
        source = replace(file, begin=begin)
        if kind.reader is None:
            raise source.refusal(f"expected a recording (WAV, FLAC, AIFF, CAF, W64), got {kind.name}", kind.remedy)
        header = _READERS[kind.reader](source)
        return replace(header, cautions=(*_of_file(path, source, kind, header), *header.cautions))


def read_samples(path: str | Path, header: AudioHeader) -> np.ndarray:
    """Read the samples as the file holds them.

    Returns shape (s, c): int16 for 16 bits, int32 for 24 and 32 bits (the 24 in the upper bytes), else float32 or
    float64. Raises InputError where the file cannot be read or is shorter than `header` says.
    """
    path = Path(path)
    with _opened(path, header.data_start) as source:
        if header.lossy or header.format == "FLAC":
            return compressed.decoded(source, header)
        count = header.samples * header.channels * BYTES[header.encoding]
        content = source.read(header.data_start, count)
    if len(content) != count:
        raise InputError(f"{path}: became shorter while it was read; copy it again")
    return _of_bytes(content, header)


def mismatches(header: AudioHeader, sample_rate_hz: int) -> tuple[str, ...]:
    """Name what sets the file apart from 16-bit mono PCM at `sample_rate_hz`; empty if nothing."""
    found = []
    if header.sample_rate_hz != sample_rate_hz:
        found.append(f"{header.sample_rate_hz} Hz")
    if header.channels != 1:
        found.append(f"{header.channels} channels")
    if header.lossy:
        found.append(f"{header.format}, lossy")
    elif header.encoding != "pcm16":
        found.append(f"encoding {header.encoding}")
    return tuple(found)


def convert_remedy(header: AudioHeader) -> str:
    """Return what to do about a mismatch."""
    channel = " (and --config.data.channel=1 for one channel)" if header.channels > 1 else ""
    return f"pass --config.data.on_mismatch=convert to have it converted{channel}"


class Decoding(NamedTuple):
    """How samples are made of recordings: `sample_rate_hz`, `data.on_mismatch` and `data.channel` of a config."""

    sample_rate_hz: int
    on_mismatch: OnMismatch = "error"
    channel: str = MEAN


def decode(path: str | Path, how: Decoding, header: AudioHeader | None = None) -> np.ndarray:
    """Decode the clip at `path` to int16, shape (s,), at `how.sample_rate_hz`; full scale is 32768.

    Give `header`, from `read_header`, if it was read before: reading it takes time for MP3 and Ogg.

    With `on_mismatch="error"` the file has to be lossless and 16-bit mono at that rate. With "convert" channels are
    averaged (`channel` "mean") or one of several is taken ("1" for the first), another rate is resampled (polyphase,
    s = ceil(samples * sample_rate_hz / rate)) and the values are rounded to 16 bits, those beyond full scale clipped.

    Raises InputError as `read_header` does, for a mismatch, for a channel that is not there, and for samples that are
    NaN or infinite.
    """
    header = header or read_header(path)
    different = mismatches(header, how.sample_rate_hz)
    if different and how.on_mismatch == "error":
        got = ", ".join(different)
        remedy = convert_remedy(header)
        raise InputError(f"{path}: expected mono 16-bit PCM at {how.sample_rate_hz} Hz, got {got}; {remedy}")
    samples = read_samples(path, header)
    if not different:
        return samples[:, 0]
    if not np.isfinite(samples).all():
        raise InputError(f"{path}: holds samples that are NaN or infinite; record or export it again")
    require_channel(path, header, how.channel)
    return _to_int16(_resample(mix_down(samples, how.channel), header.sample_rate_hz, how.sample_rate_hz))


def require_channel(path: str | Path, header: AudioHeader, channel: str) -> None:
    """Raise InputError where a file of several channels lacks the one asked for."""
    if header.channels > 1 and channel != MEAN and int(channel) > header.channels:
        raise InputError(f"{path}: expected a channel {channel}, has {header.channels}; choose another data.channel")


def converted_length(header: AudioHeader, sample_rate_hz: int) -> int:
    """Return how many samples `decode` yields at `sample_rate_hz`."""
    return math.ceil(header.samples * sample_rate_hz / header.sample_rate_hz)


def to_unit(samples: np.ndarray) -> np.ndarray:
    """Convert samples from `read_samples` to float64 of the same shape, full scale = 1."""
    if samples.dtype.kind == "f":
        return samples.astype(np.float64)
    return samples / float(-np.iinfo(samples.dtype).min)


def mix_down(samples: np.ndarray, channel: str) -> np.ndarray:
    """Mix samples (s, c) as `decode` does: float64 (s,), full scale = 1."""
    unit = to_unit(samples)
    return unit.mean(axis=1) if unit.shape[1] == 1 or channel == MEAN else unit[:, int(channel) - 1]


@contextmanager
def _opened(path: Path, begin: int = 0) -> Iterator[Source]:
    try:
        if not path.is_file():
            raise absent(path)
        with path.open("rb") as stream:
            yield Source(path, stream, begin, stream.seek(0, 2))
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); check the disk and its permissions") from error


def _of_file(path: Path, source: Source, kind: FileKind, header: AudioHeader) -> Iterator[Caution]:
    """Yield cautions about what surrounds the audio: a tag in front, an ending that promises another format."""
    if source.begin and kind.reader not in _TAGGED:
        yield Caution(f"a tag or blanks in front ({source.begin} B) are left out", "nothing to do")
    ending = path.suffix.lower()
    if _READER_OF_ENDING.get(ending, kind.reader) != kind.reader:
        yield Caution(f"named {ending}, but {header.format} by its content, as which it is read", "rename it")


_DTYPES: dict[Encoding, str] = {"pcm16": "i2", "pcm32": "i4", "float32": "f4", "float64": "f8"}


def _of_bytes(content: bytes, header: AudioHeader) -> np.ndarray:
    """Return samples (s, c) of the machine's own byte order."""
    order = ">" if header.big_endian else "<"
    if header.encoding == "pcm24":
        wide = np.zeros((len(content) // 3, 4), "u1")
        own = np.frombuffer(content, "u1").reshape(-1, 3)
        wide[:, slice(0, 3) if header.big_endian else slice(1, 4)] = own
        flat = wide.view(f"{order}i4")
    else:
        flat = np.frombuffer(content, f"{order}{_DTYPES[header.encoding]}")
    return flat.astype(flat.dtype.newbyteorder("="), copy=False).reshape(header.samples, header.channels)


def _resample(mono: np.ndarray, rate_hz: int, wanted_hz: int) -> np.ndarray:
    if rate_hz == wanted_hz:
        return mono
    from scipy.signal import resample_poly  # late: most corpora never need it, and it takes a while to load

    common = math.gcd(rate_hz, wanted_hz)
    return resample_poly(mono, wanted_hz // common, rate_hz // common, window=("kaiser", 5.0), padtype="constant")


def _to_int16(unit: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(unit * 32768), -32768, 32767).astype(np.int16)
