"""Sound that arrives as a stream of bytes, WAV or raw samples, as blocks of int16, mono, at one rate.

A thread reads ahead by some minutes; then whoever writes the stream has to wait.
"""

import os
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from io import UnsupportedOperation
from time import monotonic, sleep
from typing import BinaryIO, Literal, NamedTuple

import numpy as np
import soxr

from asdjax.data.audio import Decoding, convert_remedy, mismatches, mix_down, parse_samples, require_channel, to_int16
from asdjax.data.formats import riff
from asdjax.data.formats.header import PLAUSIBLE_RATES_HZ, RAW_ENCODINGS, SampleFormat
from asdjax.data.stream_pace import Pace
from asdjax.errors import InputError
from asdjax.runtime.progress import log

#: Seconds without a sample that are reported.
GAP_S = 2.0
#: Seconds in which all arrives that a source has kept during a pause.
_CATCH_UP_S = 0.3
_CHUNK_BYTES, _AHEAD_BYTES = 1 << 16, 1 << 24
#: Bytes of a block at most, where more have arrived already.
_BLOCK_BYTES = 4 * _CHUNK_BYTES
_MOST_HEAD_BYTES = 1 << 20
_RIFF_NAMES = (b"RIFF", b"RF64", b"BW64")


class Gap(NamedTuple):
    """A remark on a live stream.

    waiting: no samples have arrived for `seconds`, and none yet. gap: `seconds` of sound are missing here, or were lost
    within the last minute.
    """

    kind: Literal["waiting", "gap"]
    seconds: float


class _Chunk(NamedTuple):
    """Bytes, empty at the end of the stream, the seconds that reading them took, and when they arrived."""

    content: bytes
    waited_s: float
    at: float


class _ReadAhead:
    """The chunks of a stream, read by a thread as they arrive."""

    def __init__(self, stream: BinaryIO) -> None:
        self._chunks: deque[_Chunk] = deque()
        self._bytes, self._changed = 0, threading.Condition()
        self.error: Exception | None = None
        threading.Thread(target=self._read, args=(stream,), daemon=True).start()

    def wait(self, patience_s: float | None) -> bool:
        """Wait until there is a chunk; return False if there is none for some seconds."""
        with self._changed:
            return bool(self._changed.wait_for(lambda: self._chunks, patience_s))

    def take(self) -> _Chunk:
        """Return all that has arrived, up to a block, as one chunk; its wait is that of the first.

        Behind a pause it is no block but all, by which one knows what is missing.
        """
        with self._changed:
            content, waited_s, at = self._chunks.popleft()
            most = _BLOCK_BYTES if waited_s <= GAP_S else _AHEAD_BYTES
            while content and len(content) < most and self._chunks:
                more = self._chunks[0]
                if not more.content or more.waited_s > GAP_S:
                    break
                content, at = content + self._chunks.popleft().content, more.at
            self._bytes -= len(content)
            self._changed.notify_all()
        return _Chunk(content, waited_s, at)

    def _read(self, stream: BinaryIO) -> None:
        read = getattr(stream, "read1", stream.read)
        content = b"-"
        while content:
            begun = monotonic()
            try:
                content = read(_CHUNK_BYTES) or b""
            except (OSError, ValueError) as error:  # ValueError: the stream was closed
                content, self.error = b"", error
            now = monotonic()
            with self._changed:
                self._changed.wait_for(lambda: self._bytes < _AHEAD_BYTES)
                self._chunks.append(_Chunk(content, now - begun, now))
                self._bytes += len(content)
                self._changed.notify_all()


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
    """A stream of bytes, which is read from the moment that the object is made.

    `raw` is the form of samples without a header. `name` is for error messages.
    """

    def __init__(self, stream: BinaryIO, raw: SampleFormat | None, name: str) -> None:
        self._raw, self._name = raw, name
        with suppress(AttributeError, UnsupportedOperation):  # streams in memory
            os.set_blocking(stream.fileno(), True)
        self._ahead = _ReadAhead(stream)

    def convert(self, decoding: Decoding) -> Iterator[np.ndarray | Gap]:
        """Yield blocks int16 (s,) as they arrive, and a Gap where some are missing, until the stream ends.

        Raises InputError for a stream that is neither WAV nor of a known raw form, or that ends before its header says.
        """
        head, converter, left, pace, seconds = b"", None, None, None, 0.0
        for item in self._receive():
            if isinstance(item, Gap):
                yield item
                continue
            head += item.content
            if converter is None or pace is None:
                if (found := self._read_head(head)) is None:
                    continue
                form, start, left = found
                converter, head = StreamConverter(form, decoding, self._name), head[start:]
                pace = Pace(form, item.at)
            if left is not None:
                head, left = head[:left], left - len(head[:left])
            if lost := pace.check(len(head), item.at, after_pause=item.waited_s > GAP_S):
                yield Gap("gap", lost)
            block, head = converter.convert(head), b""
            seconds += len(block) / decoding.sample_rate_hz
            yield block
            if left == 0:
                break
        if converter is None:
            raise InputError(f"{self._name}: expected sound, got {len(head)} bytes; check what writes them")
        yield converter.convert(b"", last=True)
        self._end(left, seconds)

    def _end(self, left: int | None, seconds: float) -> None:
        """Log that the stream has ended; raise InputError if it was cut off or could not be read."""
        if self._ahead.error:
            raise InputError(
                f"{self._name}: expected a readable stream, got {self._ahead.error} after {seconds:.1f} s; start it "
                "again"
            )
        if left:
            raise InputError(
                f"{self._name}: expected {left} more bytes of sound by its header, got the end after {seconds:.1f} s; "
                "send it again"
            )
        log(f"{self._name}: ended after {seconds:.1f} s of sound")

    def _receive(self) -> Iterator[_Chunk | Gap]:
        """Yield what is read, and a Gap while a pause lasts. The first read waits for the start."""
        patience_s = None
        while True:
            if not self._ahead.wait(patience_s):
                yield Gap("waiting", GAP_S)
                self._ahead.wait(None)
                sleep(_CATCH_UP_S)
            chunk = self._ahead.take()
            if not chunk.content:
                return
            yield chunk if patience_s else chunk._replace(waited_s=0.0)
            patience_s = GAP_S

    def _read_head(self, head: bytes) -> tuple[SampleFormat, int, int | None] | None:
        """Return the form of the samples, where they begin and their bytes; None if more bytes are needed."""
        if len(head) < 12:
            return None
        is_wav = head[:4] in _RIFF_NAMES and head[8:12] == b"WAVE"
        if is_wav and self._raw:
            raise InputError(f"{self._name}: expected raw samples, got WAV; leave out --rate")
        if self._raw:
            return self._raw, 0, None
        if is_wav:
            found = riff.read_stream_head(head, self._name)
            if found or len(head) < _MOST_HEAD_BYTES:
                return found
        raise InputError(
            f"{self._name}: expected WAV, or raw samples of a given rate, got other bytes; give --rate for raw "
            "samples, or pipe the sound through ffmpeg -i - -f wav -"
        )


def make_raw_form(encoding: str, rate_hz: int, channels: int) -> SampleFormat:
    """Return the form of raw samples. Raises InputError for an encoding or a rate that is not known."""
    if encoding not in RAW_ENCODINGS:
        raise InputError(f"--format: expected one of {', '.join(RAW_ENCODINGS)}, got {encoding}; choose one of them")
    low, high = PLAUSIBLE_RATES_HZ
    if not low <= rate_hz <= high:
        raise InputError(f"--rate: expected {low} to {high} Hz, got {rate_hz}; give the rate of the samples")
    return SampleFormat("raw", rate_hz, channels, RAW_ENCODINGS[encoding])
