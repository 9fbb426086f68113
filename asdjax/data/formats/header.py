"""AudioHeader: the description of a recording, whichever container holds it, checked against the file's size."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal

from asdjax.errors import InputError

Encoding = Literal["pcm16", "pcm24", "pcm32", "float32", "float64", "mp3", "vorbis", "opus"]

#: Of a sample; the encodings that are missing here are lossy.
BYTES: dict[Encoding, int] = {"pcm16": 2, "pcm24": 3, "pcm32": 4, "float32": 4, "float64": 8}

TO_WAV = "make a WAV of it: ffmpeg -i FILE -c:a pcm_s16le NEW.wav"
COPY = "copy or record it again"
TRUE_LENGTH = "copy it again, or where this is all there is, write its true length: ffmpeg -i FILE NEW.wav"

#: Rates outside are damage, and resampling from them could need any amount of memory.
PLAUSIBLE_RATES_HZ = (1_000, 768_000)


@dataclass(frozen=True, slots=True)
class Caution:
    """Something about a recording that is read all the same, and what to do about it."""

    what: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.what}; {self.remedy}"


@dataclass(frozen=True, slots=True, kw_only=True)
class AudioHeader:
    """A recording's form and length.

    `samples` counts per channel; `data_start` is the byte at which the samples, or the compressed stream, begin. An
    extensible WAV header is resolved to the encoding that it names.
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
        """Whether the file lacks a part of the sound that was recorded."""
        return self.encoding not in BYTES


@dataclass(frozen=True, slots=True)
class Source:
    """An open file, the byte at which its audio begins, behind tags, and its size in bytes."""

    path: Path
    stream: BinaryIO
    begin: int
    size: int

    def read(self, at: int, count: int) -> bytes:
        """Return up to `count` bytes from byte `at` on."""
        self.stream.seek(at)
        return self.stream.read(count)

    def content(self) -> bytes:
        """Return all bytes from `begin` up to tags at the end."""
        return self.read(self.begin, self.untagged_end() - self.begin)

    def untagged_end(self) -> int:
        """Return the byte at which tags that players append (ID3v1, APE) begin, else the size."""
        end = self.size
        if self.read(max(end - 128, 0), 3) == b"TAG":
            end -= 128
        footer = self.read(max(end - 32, 0), 32)
        if footer[:8] == b"APETAGEX":
            has_header = footer[23] & 0x80
            end -= int.from_bytes(footer[12:16], "little") + (32 if has_header else 0)
        return end if end >= self.begin else self.size

    def refusal(self, what: str, remedy: str) -> InputError:
        """Return the error that names the file, what is wrong with it and what to do."""
        return InputError(f"{self.path}: {what}; {remedy}")


@dataclass(frozen=True, slots=True)
class Format:
    """The form of samples that lie uncompressed in a file."""

    name: str
    sample_rate_hz: int
    channels: int
    encoding: Encoding
    big_endian: bool = False

    @property
    def frame(self) -> int:
        """Bytes of one sample of every channel."""
        return self.channels * BYTES[self.encoding]


def uncompressed(
    source: Source, form: Format, start: int, length: int, cautions: Sequence[Caution] = ()
) -> AudioHeader:
    """Return the header of `length` bytes of samples at byte `start`; a part of a frame at the end is left out.

    Raises InputError where there is no whole frame, or the format cannot be.
    """
    require_plausible(source, form.channels, form.sample_rate_hz)
    samples, rest = divmod(length, form.frame)
    if not samples:
        raise source.refusal("holds a header and no samples", COPY)
    if rest:
        cautions = [*cautions, Caution("ends with a part of a frame, which is left out", "nothing to do")]
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
    """Raise InputError for a number of channels or a rate that only damage can explain."""
    low, high = PLAUSIBLE_RATES_HZ
    if channels == 0 or not low <= rate_hz <= high:
        raise source.refusal(f"damaged header: {channels} channels at {rate_hz} Hz", COPY)


def truncated(source: Source, expected: int, got: int) -> InputError:
    """Return the error for a file with fewer bytes of samples than its header counts."""
    return source.refusal(f"truncated: its header says {expected} bytes of samples, the file holds {got}", TRUE_LENGTH)
