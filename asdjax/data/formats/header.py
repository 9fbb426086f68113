"""Headers of recordings: one description for every container, checked against the file's size."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal

from asdjax.errors import InputError

Encoding = Literal["pcm16", "pcm24", "pcm32", "float32", "float64", "mp3", "vorbis", "opus"]

#: Bytes per sample. Encodings that are missing here are lossy.
BYTES: dict[Encoding, int] = {"pcm16": 2, "pcm24": 3, "pcm32": 4, "float32": 4, "float64": 8}

#: Encodings of samples without a header, by the names that ffmpeg has for them.
RAW_ENCODINGS: dict[str, Encoding] = {
    "s16le": "pcm16",
    "s24le": "pcm24",
    "s32le": "pcm32",
    "f32le": "float32",
    "f64le": "float64",
}

TO_WAV = "make a WAV of it: ffmpeg -i FILE -c:a pcm_s16le NEW.wav"
COPY = "copy or record it again"
TRUE_LENGTH = "copy it again, or if the rest is lost, write its true length: ffmpeg -i FILE NEW.wav"

#: Range of sample rates. Others are taken for damage, because resampling from them could need any amount of memory.
PLAUSIBLE_RATES_HZ = (1_000, 768_000)


@dataclass(frozen=True, slots=True)
class Caution:
    """A defect of a recording that does not prevent reading it, and its remedy."""

    what: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.what}; {self.remedy}"


@dataclass(frozen=True, slots=True, kw_only=True)
class AudioHeader:
    """Form and length of a recording.

    `samples` counts per channel. `data_start` is the byte at which the samples or the compressed stream begin. The
    encoding of an extensible WAV header is the one that it names.
    """

    format: str
    sample_rate_hz: int
    channels: int
    samples: int
    encoding: Encoding
    data_start: int
    big_endian: bool = False
    cautions: tuple[Caution, ...] = ()

    @property
    def lossy(self) -> bool:
        """Return True if the encoding discards a part of the recorded sound."""
        return self.encoding not in BYTES


@dataclass(frozen=True, slots=True)
class Source:
    """Open file, with the byte at which its audio begins (after tags) and its size in bytes."""

    path: Path
    stream: BinaryIO
    begin: int
    size: int

    def read(self, at: int, count: int) -> bytes:
        """Return up to `count` bytes from byte `at` on."""
        self.stream.seek(at)
        return self.stream.read(count)

    def read_audio(self) -> bytes:
        """Return all bytes from `begin` up to the tags at the end."""
        return self.read(self.begin, self.untagged_end() - self.begin)

    def untagged_end(self) -> int:
        """Return the byte at which tags at the end (ID3v1, APE) begin, or the size if there are none."""
        end = self.size
        if self.read(max(end - 128, 0), 3) == b"TAG":
            end -= 128
        footer = self.read(max(end - 32, 0), 32)
        if footer[:8] == b"APETAGEX":
            has_header = footer[23] & 0x80
            end -= int.from_bytes(footer[12:16], "little") + (32 if has_header else 0)
        return end if end >= self.begin else self.size

    def error(self, what: str, remedy: str) -> InputError:
        """Return an error that names the file, the problem and the remedy."""
        return InputError(f"{self.path}: {what}; {remedy}")

    def truncated_error(self, expected: int, got: int) -> InputError:
        """Return the error for a file with fewer bytes of samples than its header promises."""
        return self.error(f"truncated: its header says {expected} bytes of samples, got {got}", TRUE_LENGTH)


@dataclass(frozen=True, slots=True)
class SampleFormat:
    """Form of uncompressed samples in a file."""

    name: str
    sample_rate_hz: int
    channels: int
    encoding: Encoding
    big_endian: bool = False

    @property
    def frame_bytes(self) -> int:
        """Return the number of bytes for one sample of every channel."""
        return self.channels * BYTES[self.encoding]


def make_header(
    source: Source, form: SampleFormat, start: int, length: int, cautions: Sequence[Caution] = ()
) -> AudioHeader:
    """Return the header for `length` bytes of uncompressed samples from byte `start` on.

    A partial frame at the end is left out. Raises InputError if there is no whole frame or the format is implausible.
    """
    require_plausible(source, form.channels, form.sample_rate_hz)
    samples, rest = divmod(length, form.frame_bytes)
    if not samples:
        raise source.error("holds a header and no samples", COPY)
    if rest:
        cautions = [*cautions, Caution("ends with a partial frame, which is left out", "nothing to do")]
    return AudioHeader(
        format=form.name,
        sample_rate_hz=form.sample_rate_hz,
        channels=form.channels,
        samples=samples,
        encoding=form.encoding,
        data_start=start,
        big_endian=form.big_endian,
        cautions=tuple(cautions),
    )


def require_plausible(source: Source, channels: int, rate_hz: int) -> None:
    """Raise InputError for zero channels or a sample rate outside PLAUSIBLE_RATES_HZ."""
    low, high = PLAUSIBLE_RATES_HZ
    if channels == 0 or not low <= rate_hz <= high:
        raise source.error(
            f"damaged header: expected channels at {low} to {high} Hz, got {channels} at {rate_hz} Hz", COPY
        )
