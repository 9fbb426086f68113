"""Sound that arrives as a stream of bytes, WAV or raw samples, as blocks of int16, mono, at one rate.

A thread reads ahead by at most a minute; then whoever writes the stream has to wait.
"""

import queue
import threading
from collections.abc import Iterator
from time import monotonic
from typing import BinaryIO, Literal, NamedTuple

import numpy as np
import soxr

from asdjax.data.audio import Decoding, convert_remedy, mismatches, mix_down, parse_samples, require_channel, to_int16
from asdjax.data.formats import riff
from asdjax.data.formats.header import RAW_ENCODINGS, SampleFormat
from asdjax.errors import InputError

#: Seconds without a sample that are said.
GAP_S = 2.0
#: Seconds that a stream may be behind the clock, or ahead of it, until that is said, or until it is no live sound.
_BEHIND_S = 5.0
_CHUNK_BYTES, _CHUNKS_AHEAD = 65_536, 64
#: Bytes of a block at most, where more have arrived already.
_BLOCK_BYTES = 4 * _CHUNK_BYTES
_MOST_HEAD_BYTES = 1 << 20
_RIFF_NAMES = (b"RIFF", b"RF64", b"BW64")


class Gap(NamedTuple):
    """A remark on a live stream. `seconds` by kind:

    - waiting: no samples have arrived for so long, and none yet;
    - gap: samples arrive again after so long, and those between are missing;
    - behind: the stream has fallen so far behind the clock: samples were lost before they came here.
    """

    kind: Literal["waiting", "gap", "behind"]
    seconds: float


class _Chunk(NamedTuple):
    """Bytes, empty at the end of the stream, the seconds that reading them took, and when they came."""

    content: bytes
    waited_s: float
    at: float


class StreamConverter:
    """A converter of a stream's bytes to int16 (s,) at one rate, block after block."""

    def __init__(self, form: SampleFormat, decoding: Decoding, name: str) -> None:
        different = mismatches(form, decoding.sample_rate_hz)
        if different and decoding.on_mismatch == "error":
            raise InputError(
                f"{name}: expected mono 16-bit PCM at {decoding.sample_rate_hz} Hz, got {', '.join(different)}; "
                f"{convert_remedy(form)}"
            )
        require_channel(name, form.channels, decoding.channel)
        self._form, self._channel, self._name, self._rest = form, decoding.channel, name, b""
        self._is_plain = not different
        self._resampler = (
            soxr.ResampleStream(form.sample_rate_hz, decoding.sample_rate_hz, 1, dtype="float64", quality="HQ")
            if form.sample_rate_hz != decoding.sample_rate_hz
            else None
        )

    def convert(self, content: bytes, *, last: bool = False) -> np.ndarray:
        """Return the samples (s,) of some bytes; those of a frame that is not complete yet are kept."""
        content = self._rest + content
        whole = len(content) - len(content) % self._form.frame_bytes
        content, self._rest = content[:whole], content[whole:]
        samples = parse_samples(content, self._form)
        if self._is_plain:
            return samples[:, 0]
        if not np.isfinite(samples).all():
            raise InputError(f"{self._name}: expected finite samples, got NaN or infinite ones; check what writes them")
        mono = mix_down(samples, self._channel)
        return to_int16(self._resampler.resample_chunk(mono, last=last) if self._resampler else mono)


class SoundStream:
    """The blocks of a stream of bytes: int16 (s,) as they arrive, and a Gap where none arrive for a while.

    `raw` is the form of samples without a header. `name` is for error messages. It is read from the moment that the
    object is made. Raises InputError for a stream that is neither WAV nor of a known raw form.
    """

    def __init__(self, stream: BinaryIO, decoding: Decoding, raw: SampleFormat | None, name: str) -> None:
        self._decoding, self._raw, self._name = decoding, raw, name
        self._chunks: queue.Queue[_Chunk | OSError] = queue.Queue(_CHUNKS_AHEAD)
        self._unused: _Chunk | OSError | None = None
        threading.Thread(target=self._read, args=(stream,), daemon=True).start()

    def __iter__(self) -> Iterator[np.ndarray | Gap]:
        """Yield blocks and gaps until the stream ends."""
        head, converter, left, pace = b"", None, None, None
        for item in self._receive():
            if isinstance(item, Gap):
                yield item
                continue
            head += item.content
            if converter is None:
                if (found := self._read_head(head)) is None:
                    continue
                form, start, left = found
                converter, head = StreamConverter(form, self._decoding, self._name), head[start:]
                pace = Pace(form, item.at)
            if left is not None:
                head, left = head[:left], left - len(head[:left])
            if pace and (lost := pace.check(len(head), item)):
                yield Gap("behind", lost)
            yield converter.convert(head)
            head = b""
            if left == 0:
                break
        if converter is None:
            raise InputError(f"{self._name}: expected sound, got {len(head)} bytes; check what writes them")
        yield converter.convert(b"", last=True)

    def _read(self, stream: BinaryIO) -> None:
        """Read the stream to its end, in a thread of its own."""
        read = getattr(stream, "read1", stream.read)
        try:
            while True:
                begun = monotonic()
                content = read(_CHUNK_BYTES)
                self._chunks.put(_Chunk(content, monotonic() - begun, monotonic()))
                if not content:
                    return
        except OSError as error:
            self._chunks.put(error)

    def _receive(self) -> Iterator[_Chunk | Gap]:
        """Yield what is read. The time that a read took is a gap if it is long; the first read waits for the start."""
        is_first = True
        while True:
            chunk = self._wait(GAP_S if not is_first else None)
            if chunk is None:
                yield Gap("waiting", GAP_S)
                chunk = self._wait(None)
            if isinstance(chunk, OSError):
                raise InputError(f"{self._name}: expected a readable stream, got {chunk.strerror}; start it again")
            if not chunk or not chunk.content:
                return
            if chunk.waited_s > GAP_S and not is_first:
                yield Gap("gap", chunk.waited_s)
            is_first = False
            yield self._add_waiting(chunk)

    def _wait(self, patience_s: float | None) -> _Chunk | OSError | None:
        """Return the next chunk, None if there is none for some seconds."""
        chunk, self._unused = self._unused, None
        try:
            return chunk or self._chunks.get(timeout=patience_s)
        except queue.Empty:
            return None

    def _add_waiting(self, chunk: _Chunk) -> _Chunk:
        """Return the chunk with those that have arrived already, up to a block: a recording is ahead of its scores."""
        while len(chunk.content) < _BLOCK_BYTES and not self._chunks.empty():
            new = self._chunks.get()
            if isinstance(new, OSError) or not new.content or new.waited_s > GAP_S:
                self._unused = new
                break
            chunk = _Chunk(chunk.content + new.content, chunk.waited_s, new.at)
        return chunk

    def _read_head(self, head: bytes) -> tuple[SampleFormat, int, int | None] | None:
        """Return the form of the samples, where they begin and their bytes; None if more bytes are needed."""
        if self._raw:
            return self._raw, 0, None
        if len(head) < 12:
            return None
        if head[:4] in _RIFF_NAMES and head[8:12] == b"WAVE":
            found = riff.read_stream_head(head, self._name)
            if found or len(head) < _MOST_HEAD_BYTES:
                return found
        raise InputError(
            f"{self._name}: expected WAV, or raw samples of a given rate, got other bytes; give --rate for raw "
            "samples, or pipe the sound through ffmpeg -i - -f wav -"
        )


class Pace:
    """The pace of a stream against the clock: a live one that falls behind it has lost samples.

    A stream that is ahead of the clock by some seconds is a recording, which has no pace. Bytes arrive from `at` on.
    """

    def __init__(self, form: SampleFormat, at: float) -> None:
        self._bytes_per_s = form.frame_bytes * form.sample_rate_hz
        self._first = self._least = at
        self._bytes, self._waited_s = 0, 0.0

    def check(self, new_bytes: int, chunk: _Chunk) -> float | None:
        """Return by how many seconds the stream has newly fallen behind, None if it has not. Gaps do not count."""
        self._bytes += new_bytes
        self._waited_s += chunk.waited_s if chunk.waited_s > GAP_S else 0.0
        behind = chunk.at - self._waited_s - self._bytes / self._bytes_per_s
        self._least = min(self._least, behind)
        lost = behind - self._least
        if self._first - self._least > _BEHIND_S or lost <= _BEHIND_S:
            return None
        self._first += lost
        self._least = behind
        return lost


def make_raw_form(encoding: str, rate_hz: int, channels: int) -> SampleFormat:
    """Return the form of raw samples; `encoding` is a key of RAW_ENCODINGS, else an InputError is raised."""
    if encoding not in RAW_ENCODINGS:
        raise InputError(f"format: expected one of {', '.join(RAW_ENCODINGS)}, got {encoding}; ffmpeg writes each")
    return SampleFormat("raw", rate_hz, channels, RAW_ENCODINGS[encoding])
