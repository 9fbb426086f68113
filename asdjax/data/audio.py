"""Decoder of recordings to int16, mono, at one sample rate.

The content of a file decides its format, not its name. The modules of `data.formats` read headers and compressed
samples; uncompressed samples are read here.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from asdjax.data.formats import containers, flac, mp3, ogg, riff
from asdjax.data.formats.header import BYTES, AudioHeader, Caution, Encoding, SampleFormat, Source
from asdjax.data.formats.kinds import FileKind, Reader, absent_error, find_audio
from asdjax.errors import InputError

OnMismatch = Literal["error", "convert"]

#: Value of config.data.channel for the mean of all channels.
MEAN = "mean"

#: Peak of float samples above which they cannot have full scale 1: 18 dB above it, more than any overload.
_MOST_PEAK = 8.0

#: Share of a clip's samples at full scale from which it is overloaded.
OVERLOADED_SHARE = 0.001

#: Range of a clip's samples (full scale 1) up to which it is silent: the noise of a converter without a microphone.
SILENT_PEAK_TO_PEAK = 2 / 32768

_READERS: dict[Reader, Callable[[Source], AudioHeader]] = {
    "WAV": riff.read_riff,
    "W64": riff.read_wave64,
    "AIFF": containers.read_aiff,
    "CAF": containers.read_caf,
    "FLAC": flac.read_flac,
    "OGG": ogg.read_ogg,
    "MP3": mp3.read_mp3,
}
#: Decoders of compressed samples, by `AudioHeader.format`.
_DECODERS: dict[str, Callable[[Source, AudioHeader], np.ndarray]] = {
    "FLAC": flac.decode_flac,
    "Ogg Vorbis": ogg.decode_ogg,
    "Ogg Opus": ogg.decode_ogg,
    "MP3": mp3.decode_mp3,
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
_TAGGED: tuple[Reader, ...] = ("FLAC", "MP3")  # formats that usually have a tag in front


def read_header(path: str | Path) -> AudioHeader:
    """Read the header of a recording: WAV, Wave64, AIFF, CAF, FLAC, Ogg (Vorbis, Opus) or MP3.

    Uncompressed samples may be PCM of 16, 24 or 32 bits, or float of 32 or 64 bits. FLAC may have 16 or 24 bits.

    Raises InputError if the file cannot be read, has another format, holds no samples, or is truncated.
    """
    path = Path(path)
    with _open_source(path) as file:
        begin, kind = find_audio(file.read)
        source = replace(file, begin=begin)
        if kind.reader is None:
            raise source.error(f"expected a recording (WAV, FLAC, AIFF, CAF, W64), got {kind.name}", kind.remedy)
        header = _READERS[kind.reader](source)
        return replace(header, cautions=(*_file_cautions(path, source, kind, header), *header.cautions))


def read_samples(path: str | Path, header: AudioHeader) -> np.ndarray:
    """Read all samples of a recording without conversion.

    Returns shape (s, c): int16 for 16 bits, int32 for 24 and 32 bits (24 bits in the upper bytes), else float32 or
    float64.

    Raises InputError if the file cannot be read or is shorter than `header` promises.
    """
    path = Path(path)
    with _open_source(path, header.data_start) as source:
        if decoder := _DECODERS.get(header.format):
            return decoder(source, header)
        count = header.samples * header.channels * BYTES[header.encoding]
        content = source.read(header.data_start, count)
    if len(content) != count:
        raise InputError(f"{path}: expected {count} bytes of samples, got {len(content)}: it changed; copy it again")
    return parse_samples(content, header)


def mismatches(header: AudioHeader | SampleFormat, sample_rate_hz: int) -> tuple[str, ...]:
    """Return the differences between a recording and 16-bit mono PCM at `sample_rate_hz`, empty if there are none."""
    found = []
    if header.sample_rate_hz != sample_rate_hz:
        found.append(f"{header.sample_rate_hz} Hz")
    if header.channels != 1:
        found.append(f"{header.channels} channels")
    if isinstance(header, AudioHeader) and header.lossy:
        found.append(f"{header.format}, lossy")
    elif header.encoding != "pcm16":
        found.append(f"encoding {header.encoding}")
    return tuple(found)


def convert_remedy(header: AudioHeader | SampleFormat) -> str:
    """Return the remedy for a mismatch, for error messages."""
    channel = " (and --config.data.channel=1 for one channel)" if header.channels > 1 else ""
    return f"pass --config.data.on_mismatch=convert to have it converted{channel}"


class Decoding(NamedTuple):
    """Settings of the decoder: `signal.sample_rate_hz`, `data.on_mismatch` and `data.channel` of a config."""

    sample_rate_hz: int
    on_mismatch: OnMismatch = "error"
    channel: str = MEAN


def decode(path: str | Path, decoding: Decoding, header: AudioHeader | None = None) -> np.ndarray:
    """Decode a recording to int16, shape (s,), at `decoding.sample_rate_hz`. Full scale is 32768.

    With `on_mismatch="error"` the file must be lossless 16-bit mono PCM at that rate. With "convert" it is changed to
    that form. Channels are averaged (`channel="mean"`) or one is taken ("1" for the first). Another rate is converted
    by `librosa.resample` with soxr: s = ceil(samples * sample_rate_hz / rate). Values are rounded, and clipped at full
    scale. Pass a `header` that is already known to save time for MP3 and Ogg.

    Raises InputError like `read_header`, for a mismatch, for a missing channel, and for samples that are NaN or
    infinite.
    """
    header = header or read_header(path)
    different = mismatches(header, decoding.sample_rate_hz)
    if different and decoding.on_mismatch == "error":
        raise InputError(
            f"{path}: expected mono 16-bit PCM at {decoding.sample_rate_hz} Hz, got {', '.join(different)}; "
            f"{convert_remedy(header)}"
        )
    samples = read_samples(path, header)
    if not different:
        return samples[:, 0]
    if not np.isfinite(samples).all():
        raise InputError(f"{path}: expected finite samples, got NaN or infinite ones; record or export it again")
    require_channel(path, header.channels, decoding.channel)
    return to_int16(_resample(mix_down(samples, decoding.channel), header.sample_rate_hz, decoding.sample_rate_hz))


def convert_samples(samples: np.ndarray, sample_rate_hz: int, decoding: Decoding) -> np.ndarray:
    """Convert an array (s,) or (s, c), int16 or float with full scale 1, to int16 (s,) at `decoding.sample_rate_hz`.

    Channels are mixed, and the rate is converted, as `decode` does with `on_mismatch="convert"`. Raises InputError for
    another shape or dtype, for a rate that is not positive, and for values that are not finite or far above full scale.
    """
    if samples.ndim not in (1, 2):
        raise InputError(f"expected samples of shape (s,) or (s, channels), got {samples.shape}; reshape them")
    if samples.dtype != np.int16 and samples.dtype.kind != "f":
        raise InputError(f"expected int16 or float samples, got {samples.dtype}; convert them, with full scale 1")
    if sample_rate_hz <= 0:
        raise InputError(f"sample_rate_hz: expected a positive number, got {sample_rate_hz}; give the samples' rate")
    if not np.isfinite(samples).all():
        raise InputError("expected finite samples, got NaN or infinity; record or export them again")
    columns = samples[:, None] if samples.ndim == 1 else samples
    if not columns.size:
        raise InputError(f"expected samples, got an array of shape {samples.shape}; give at least one piece")
    if columns.shape[1] > columns.shape[0]:
        raise InputError(f"expected samples of shape (s,) or (s, channels), got {samples.shape}; transpose them")
    if samples.dtype.kind == "f" and (peak := np.abs(samples).max()) > _MOST_PEAK:
        raise InputError(
            f"expected float samples with full scale 1, got values up to {peak:.6g}; divide them by their full scale, "
            "which is 32768 for 16 bits"
        )
    require_channel("samples", columns.shape[1], decoding.channel)
    mono = mix_down(columns, decoding.channel)
    return to_int16(_resample(mono, sample_rate_hz, decoding.sample_rate_hz))


def require_channel(place: str | Path, channels: int, channel: str) -> None:
    """Raise InputError if a recording of several channels lacks the given one."""
    if channels > 1 and channel != MEAN and int(channel) > channels:
        raise InputError(f"{place}: expected a channel {channel}, has {channels}; choose another data.channel")


def converted_length(header: AudioHeader, sample_rate_hz: int) -> int:
    """Return the number of samples that `decode` returns at `sample_rate_hz`."""
    return math.ceil(header.samples * sample_rate_hz / header.sample_rate_hz)


def to_unit(samples: np.ndarray) -> np.ndarray:
    """Convert samples of `read_samples` to float64 of the same shape, with full scale 1."""
    if samples.dtype.kind == "f":
        return samples.astype(np.float64)
    return samples / float(-np.iinfo(samples.dtype).min)


def mix_down(samples: np.ndarray, channel: str) -> np.ndarray:
    """Mix samples (s, c) down to one channel as `decode` does: float64, shape (s,), with full scale 1."""
    unit = to_unit(samples)
    return unit.mean(axis=1) if unit.shape[1] == 1 or channel == MEAN else unit[:, int(channel) - 1]


def is_silent(samples: np.ndarray) -> bool:
    """Return whether samples of one channel hold no sound."""
    return bool(np.ptp(to_unit(samples)) <= SILENT_PEAK_TO_PEAK)


def compute_overload(samples: np.ndarray) -> float:
    """Return the share of samples of one channel at full scale or beyond."""
    return float(np.mean(np.abs(to_unit(samples)) >= 32767 / 32768))


@contextmanager
def _open_source(path: Path, begin: int = 0) -> Iterator[Source]:
    try:
        if not path.is_file():
            raise absent_error(path)
        with path.open("rb") as stream:
            yield Source(path, stream, begin, stream.seek(0, 2))
    except OSError as error:
        raise InputError(
            f"{path}: expected a readable file, got {error.strerror}; check the disk and its permissions"
        ) from error


def _file_cautions(path: Path, source: Source, kind: FileKind, header: AudioHeader) -> Iterator[Caution]:
    """Yield cautions about a tag in front of the audio and about an ending of another format."""
    if source.begin and kind.reader not in _TAGGED:
        yield Caution(f"a tag or blank bytes in front ({source.begin} B) are skipped", "nothing to do")
    ending = path.suffix.lower()
    if _READER_OF_ENDING.get(ending, kind.reader) != kind.reader:
        yield Caution(f"named {ending}, but {header.format} by its content", "rename it")


_DTYPES: dict[Encoding, str] = {"pcm16": "i2", "pcm32": "i4", "float32": "f4", "float64": "f8"}


def parse_samples(content: bytes, header: AudioHeader | SampleFormat) -> np.ndarray:
    """Return uncompressed samples (s, c) in the machine's own byte order."""
    order = ">" if header.big_endian else "<"
    if header.encoding == "pcm24":
        wide = np.zeros((len(content) // 3, 4), "u1")
        packed = np.frombuffer(content, "u1").reshape(-1, 3)
        wide[:, slice(0, 3) if header.big_endian else slice(1, 4)] = packed
        flat = wide.view(f"{order}i4")
    else:
        flat = np.frombuffer(content, f"{order}{_DTYPES[header.encoding]}")
    return flat.astype(flat.dtype.newbyteorder("="), copy=False).reshape(-1, header.channels)


def _resample(mono: np.ndarray, rate_hz: int, sample_rate_hz: int) -> np.ndarray:
    if rate_hz == sample_rate_hz:
        return mono
    import librosa  # late: most corpora need no conversion, and the import is slow

    resampled = librosa.resample(mono, orig_sr=rate_hz, target_sr=sample_rate_hz, res_type="soxr_hq")
    return resampled[: math.ceil(len(mono) * sample_rate_hz / rate_hz)]  # librosa computes the length in floats


def to_int16(unit: np.ndarray) -> np.ndarray:
    """Round samples with full scale 1 to int16, and clip them at full scale."""
    return np.clip(np.rint(unit * 32768), -32768, 32767).astype(np.int16)
