"""WAV files as they come, decoded to the one form that everything else sees: int16, mono, one rate.

The RIFF header is read here and nowhere else, and the samples are taken from where it says they lie. One
parser means that no second one can disagree with it about a damaged file.
"""

import math
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal, NamedTuple

import numpy as np

from asdjax.errors import InputError

Encoding = Literal["pcm16", "pcm24", "pcm32", "float32", "float64"]
OnMismatch = Literal["error", "convert"]

MEAN = "mean"
"""All channels mixed down to one."""

PLAUSIBLE_RATES_HZ = (1_000, 768_000)
"""A rate outside comes from a damaged header, and resampling from it could need any amount of memory."""

_PCM, _FLOAT, _EXTENSIBLE = 0x0001, 0x0003, 0xFFFE
_SUBFORMAT_TAIL = bytes.fromhex("000000001000800000aa00389b71")
_ENCODINGS: dict[tuple[int, int], Encoding] = {
    (_PCM, 16): "pcm16",
    (_PCM, 24): "pcm24",
    (_PCM, 32): "pcm32",
    (_FLOAT, 32): "float32",
    (_FLOAT, 64): "float64",
}
_OTHER_CODECS = {
    _PCM: "PCM",
    0x0002: "Microsoft ADPCM",
    _FLOAT: "float",
    0x0006: "A-law",
    0x0007: "mu-law",
    0x0011: "IMA ADPCM",
    0x0031: "GSM 6.10",
    0x0050: "MPEG audio",
    0x0055: "MP3",
}
_EMPTY = "an empty file"
_HTML = "HTML or XML"
_LFS = "a Git LFS pointer, not the file it stands for"
_ZIP = "a zip archive"
_UNKNOWN = "no known kind of audio"
"""Not a byte of it is told: a manifest may name any file, secret ones too."""
_OTHER_FORMATS = {
    b"fLaC": "FLAC",
    b"OggS": "Ogg",
    b"ID3": "MP3",
    b"\xff\xfb": "MP3",
    b"FORM": "AIFF",
    b".snd": "Sun audio",
    b"RF64": "64-bit RIFF (RF64)",
    b"RIFX": "big-endian RIFF (RIFX)",
    b"PK\x03\x04": _ZIP,
    b"version https://git-lfs": _LFS,
    b"<": _HTML,
}
_REMEDIES = {
    _EMPTY: "copy or record it again",
    _HTML: "download it again",
    _LFS: "fetch it with git lfs pull",
    _ZIP: "unpack it",
    _UNKNOWN: "check the path",
}
"""Where `convert it to WAV` is not what helps."""


@dataclass(frozen=True, slots=True)
class WavHeader:
    """What a WAV file's header says, checked against the file's size.

    `samples` counts per channel; `data_start` is the byte at which they begin. An extensible header is
    resolved to the encoding it stands for.
    """

    sample_rate_hz: int
    channels: int
    samples: int
    encoding: Encoding
    data_start: int


def read_header(path: str | Path) -> WavHeader:
    """Header of the WAV file at `path`; takes PCM of 16, 24, 32 bits and float of 32, 64 bits.

    Raises InputError, naming the file, where it cannot be read, is no such WAV file (and then what it is),
    holds no samples, or is shorter than its header says.
    """
    path = Path(path)
    try:
        if not path.is_file():
            raise InputError(f"{path}: expected a WAV file, there is no regular file; check the path")
        with path.open("rb") as stream:
            return _parse(path, stream)
    except OSError as error:
        raise _unreadable(path, error) from error


def read_samples(path: str | Path, header: WavHeader) -> np.ndarray:
    """Samples as the file holds them.

    Returns shape (s, c): int16 for 16-bit PCM, int32 for 24 and 32 bits (the 24 in the upper bytes), else
    float32 or float64. Raises InputError where the file cannot be read or is shorter than `header` says.
    """
    path = Path(path)
    container = "u1" if header.encoding == "pcm24" else _DTYPES[header.encoding]
    per_sample = 3 if header.encoding == "pcm24" else 1
    values = header.samples * header.channels * per_sample
    try:
        flat = np.fromfile(path, dtype=container, count=values, offset=header.data_start)
    except OSError as error:
        raise _unreadable(path, error) from error
    if len(flat) != values:
        raise InputError(f"{path}: became shorter while it was read; copy it again")
    if header.encoding == "pcm24":
        flat = _widen_24_bit(flat)
    return flat.reshape(header.samples, header.channels)


def mismatches(header: WavHeader, sample_rate_hz: int) -> tuple[str, ...]:
    """What sets the file apart from 16-bit mono PCM at `sample_rate_hz`, in words; empty if nothing."""
    found = []
    if header.sample_rate_hz != sample_rate_hz:
        found.append(f"{header.sample_rate_hz} Hz")
    if header.channels != 1:
        found.append(f"{header.channels} channels")
    if header.encoding != "pcm16":
        found.append(f"encoding {header.encoding}")
    return tuple(found)


def convert_remedy(header: WavHeader) -> str:
    """What to do about a mismatch."""
    channel = " (and --config.data.channel=1 for one channel)" if header.channels > 1 else ""
    return f"pass --config.data.on_mismatch=convert to have it converted{channel}"


class Decoding(NamedTuple):
    """How samples are made of recordings: `sample_rate_hz`, `data.on_mismatch` and `data.channel` of a config."""

    sample_rate_hz: int
    on_mismatch: OnMismatch = "error"
    channel: str = MEAN


def decode(path: str | Path, how: Decoding) -> np.ndarray:
    """Clip at `path` as int16, shape (s,), at `how.sample_rate_hz`; full scale is 32768.

    With `on_mismatch="error"` the file has to be 16-bit mono PCM at that rate. With "convert" channels are averaged
    (`channel` "mean") or one of several is taken ("1" for the first), another rate is resampled (polyphase,
    s = ceil(samples * sample_rate_hz / rate)) and the values are rounded to 16 bits, those beyond full scale clipped.

    Raises InputError as `read_header` does, for a mismatch, for a channel that is not there, and for samples that are
    NaN or infinite.
    """
    header = read_header(path)
    different = mismatches(header, how.sample_rate_hz)
    if different and how.on_mismatch == "error":
        came = ", ".join(different)
        remedy = convert_remedy(header)
        raise InputError(f"{path}: expected mono 16-bit PCM at {how.sample_rate_hz} Hz, came {came}; {remedy}")
    samples = read_samples(path, header)
    if not different:
        return samples[:, 0].astype(np.int16, copy=False)
    if not np.isfinite(samples).all():
        raise InputError(f"{path}: holds samples that are NaN or infinite; record or export it again")
    require_channel(path, header, how.channel)
    return _to_int16(_resample(mono_of(samples, how.channel), header.sample_rate_hz, how.sample_rate_hz))


def require_channel(path: str | Path, header: WavHeader, channel: str) -> None:
    """Raise InputError where a file of several channels lacks the one asked for."""
    if header.channels > 1 and channel != MEAN and int(channel) > header.channels:
        raise InputError(f"{path}: expected a channel {channel}, has {header.channels}; choose another data.channel")


def converted_length(header: WavHeader, sample_rate_hz: int) -> int:
    """Samples that `decode` yields at `sample_rate_hz`."""
    return math.ceil(header.samples * sample_rate_hz / header.sample_rate_hz)


def to_unit(samples: np.ndarray) -> np.ndarray:
    """Samples from `read_samples` as float64 of the same shape, full scale = 1."""
    if samples.dtype.kind == "f":
        return samples.astype(np.float64)
    return samples / float(-np.iinfo(samples.dtype).min)


def mono_of(samples: np.ndarray, channel: str) -> np.ndarray:
    """What `decode` hears of samples (s, c): float64 (s,), full scale = 1."""
    unit = to_unit(samples)
    return unit.mean(axis=1) if unit.shape[1] == 1 or channel == MEAN else unit[:, int(channel) - 1]


_OPEN_LENGTH = 0xFFFFFFFF
_DTYPES = {"pcm16": "<i2", "pcm32": "<i4", "float32": "<f4", "float64": "<f8"}


def _widen_24_bit(flat: np.ndarray) -> np.ndarray:
    wide = np.zeros((len(flat) // 3, 4), dtype="u1")
    wide[:, 1:] = flat.reshape(-1, 3)
    return wide.view("<i4")


def _resample(mono: np.ndarray, rate_hz: int, wanted_hz: int) -> np.ndarray:
    if rate_hz == wanted_hz:
        return mono
    from scipy.signal import resample_poly  # late: most corpora never need it, and it takes a while to load

    common = math.gcd(rate_hz, wanted_hz)
    return resample_poly(mono, wanted_hz // common, rate_hz // common, window=("kaiser", 5.0), padtype="constant")


def _to_int16(unit: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(unit * 32768), -32768, 32767).astype(np.int16)


def _parse(path: Path, stream: BinaryIO) -> WavHeader:
    head = stream.read(32)
    if head[:4] != b"RIFF" or head[8:12] != b"WAVE":
        came = _name_format(head)
        raise InputError(f"{path}: expected a WAV file, came {came}; {_REMEDIES.get(came, 'convert it to WAV')}")
    size = stream.seek(0, 2)
    fmt, start, length = _find_chunks(path, stream, size)
    if length == _OPEN_LENGTH and start + length > size:
        raise InputError(
            f"{path}: its header leaves open how long it is, as streams do; write it anew with its length (ffmpeg -i)"
        )
    if start + length > size:
        raise InputError(
            f"{path}: truncated: its header says {length} bytes of samples, the file holds {size - start}; "
            "copy or record it again"
        )
    rate_hz, channels, bits, encoding = _read_format(path, fmt)
    frame = channels * bits // 8
    if length < frame:
        raise InputError(f"{path}: holds a header and no samples; copy or record it again")
    if length % frame:
        raise InputError(f"{path}: damaged: {length} bytes of samples in frames of {frame}; copy it again")
    return WavHeader(rate_hz, channels, length // frame, encoding, start)


def _find_chunks(path: Path, stream: BinaryIO, size: int) -> tuple[bytes, int, int]:
    """The body of `fmt `, then where the samples begin and how many bytes `data` claims."""
    fmt, position = b"", 12
    while position + 8 <= size:
        stream.seek(position)
        name, length = struct.unpack("<4sI", stream.read(8))
        if name == b"data" and fmt:
            return fmt, position + 8, length
        if name == b"fmt ":
            fmt = stream.read(min(length, 40))
        position += 8 + length + length % 2
    missing = "a data chunk after its fmt chunk" if fmt else "a fmt chunk"
    raise InputError(f"{path}: truncated or damaged: it lacks {missing}; copy or record it again")


def _read_format(path: Path, fmt: bytes) -> tuple[int, int, int, Encoding]:
    if len(fmt) < 16:
        raise InputError(f"{path}: damaged: its fmt chunk has {len(fmt)} of 16 bytes; copy it again")
    tag, channels, rate_hz, _, frame, bits = struct.unpack_from("<HHIIHH", fmt)
    if tag == _EXTENSIBLE and len(fmt) >= 40 and fmt[26:40] == _SUBFORMAT_TAIL:
        tag = struct.unpack_from("<H", fmt, 24)[0]
    encoding = _ENCODINGS.get((tag, bits))
    if encoding is None:
        codec = _OTHER_CODECS.get(tag, f"codec 0x{tag:04x}")
        raise InputError(
            f"{path}: expected PCM of 16, 24 or 32 bits or float of 32 or 64, came {bits}-bit {codec}; "
            "convert it to 16-bit PCM"
        )
    low, high = PLAUSIBLE_RATES_HZ
    if channels == 0 or frame != channels * bits // 8 or not low <= rate_hz <= high:
        raise InputError(
            f"{path}: damaged header: {channels} channels of {bits} bits in frames of {frame} bytes "
            f"at {rate_hz} Hz; copy or record it again"
        )
    return rate_hz, channels, bits, encoding


def _name_format(head: bytes) -> str:
    if not head:
        return _EMPTY
    begin = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    names = (name for magic, name in _OTHER_FORMATS.items() if begin.startswith(magic))
    return next(names, _UNKNOWN)


def _unreadable(path: Path, error: OSError) -> InputError:
    return InputError(f"{path}: cannot be read ({error.strerror}); check the disk and its permissions")
