"""Streams of sound: headers as recorders write them into pipes, raw samples, resampling, gaps and the pace."""

import io
import os
import struct
import threading
from collections.abc import Iterator
from pathlib import Path
from time import sleep

import librosa
import numpy as np
import pytest
import soundfile

from asdjax.data import sound_stream
from asdjax.data.audio import Decoding, decode
from asdjax.data.formats.header import SampleFormat
from asdjax.data.sound_stream import Gap, Pace, SoundStream, StreamConverter, _Chunk, make_raw_form
from asdjax.errors import InputError

RATE_HZ = 16_000
DECODING = Decoding(RATE_HZ)
CONVERT = Decoding(RATE_HZ, "convert")
SAMPLES = np.random.default_rng(0).integers(-20_000, 20_000, 40_000).astype(np.int16)


def wav(samples: np.ndarray, rate_hz: int = RATE_HZ, subtype: str = "PCM_16") -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples, rate_hz, subtype=subtype, format="WAV")
    return file.getvalue()


def heard(content: bytes, decoding: Decoding = DECODING, raw: SampleFormat | None = None) -> np.ndarray:
    stream = SoundStream(io.BytesIO(content), decoding, raw, "the stream")
    return np.concatenate([block for block in stream if isinstance(block, np.ndarray)])


def test_a_whole_wav_is_its_samples_without_the_chunks_behind_them():
    content = wav(SAMPLES) + b"LIST" + struct.pack("<I", 8) + b"INFOabcd"
    np.testing.assert_array_equal(heard(content), SAMPLES)


@pytest.mark.parametrize("size", [0, 0xFFFFFFFF, 0x7FFFF000, 0x80000000], ids=["none", "ffmpeg", "sox", "arecord"])
def test_a_header_that_leaves_the_length_open_lasts_to_the_end(size: int):
    content = bytearray(wav(SAMPLES))
    struct.pack_into("<I", content, 4, min(size + 36, 0xFFFFFFFF))
    struct.pack_into("<I", content, 40, size)
    np.testing.assert_array_equal(heard(bytes(content)), SAMPLES)


@pytest.mark.parametrize("step", [1, 5, 44, 1000])
def test_the_header_may_come_in_parts(step: int):
    content = wav(SAMPLES[:300])

    class Slow(io.BytesIO):
        def read1(self, size: int | None = -1, /) -> bytes:
            return super().read1(min(step, size or step))

    stream = SoundStream(Slow(content), DECODING, None, "the stream")
    np.testing.assert_array_equal(np.concatenate([b for b in stream if isinstance(b, np.ndarray)]), SAMPLES[:300])


@pytest.mark.parametrize(
    ("name", "dtype", "scale"), [("s16le", "<i2", 1), ("s32le", "<i4", 65536), ("f32le", "<f4", 1 / 32768)]
)
def test_raw_samples_have_the_given_form(name: str, dtype: str, scale: float):
    content = (SAMPLES.astype(np.float64) * scale).astype(dtype).tobytes() + b"x"  # a frame that never ends
    np.testing.assert_array_equal(heard(content, CONVERT, make_raw_form(name, RATE_HZ, 1)), SAMPLES)


def test_channels_are_averaged_or_one_is_taken():
    both = np.stack([SAMPLES, np.zeros_like(SAMPLES)], axis=1)
    raw = make_raw_form("s16le", RATE_HZ, 2)
    np.testing.assert_allclose(heard(both.tobytes(), CONVERT, raw), SAMPLES / 2, atol=0.5)
    np.testing.assert_array_equal(heard(both.tobytes(), Decoding(RATE_HZ, "convert", "1"), raw), SAMPLES)


@pytest.mark.parametrize("rate_hz", [8_000, 44_100, 48_000])
def test_resampling_a_stream_equals_resampling_the_whole(rate_hz: int, tmp_path: Path):
    seconds = np.arange(3 * rate_hz) / rate_hz
    sound = (9000 * np.sin(2 * np.pi * 440 * seconds) + 3000 * np.sin(2 * np.pi * 2100 * seconds)).astype(np.int16)
    expected = librosa.resample(sound / 32768, orig_sr=rate_hz, target_sr=RATE_HZ, res_type="soxr_hq")
    converter = StreamConverter(make_raw_form("s16le", rate_hz, 1), CONVERT, "the stream")
    content = sound.tobytes()
    parts = [converter.convert(content[at : at + 3001]) for at in range(0, len(content), 3001)]
    got = np.concatenate([*parts, converter.convert(b"", last=True)])
    np.testing.assert_allclose(got, np.rint(expected * 32768)[: len(got)], atol=1)
    soundfile.write(tmp_path / "whole.wav", sound, rate_hz, subtype="PCM_16")
    assert len(got) == pytest.approx(len(decode(tmp_path / "whole.wav", CONVERT)), abs=2)


@pytest.mark.parametrize(
    ("content", "decoding", "message"),
    [
        (b"", DECODING, "expected sound, got 0 bytes"),
        (b"hello world, no sound", DECODING, "expected WAV, or raw samples of a given rate, got other bytes"),
        (b"fLaC" + bytes(100), DECODING, "ffmpeg -i - -f wav -"),
        (wav(SAMPLES, 44_100), DECODING, "expected mono 16-bit PCM at 16000 Hz, got 44100 Hz"),
        (wav(np.stack([SAMPLES] * 2, axis=1)), DECODING, "got 2 channels"),
        (wav(SAMPLES, subtype="PCM_24"), DECODING, "got encoding pcm24"),
        (wav(np.full(99, np.nan, np.float32), subtype="FLOAT"), CONVERT, "expected finite samples"),
        (wav(SAMPLES)[:40], DECODING, "expected sound, got 40 bytes"),
        (wav(np.stack([SAMPLES] * 2, axis=1)), Decoding(RATE_HZ, "convert", "3"), "expected a channel 3, has 2"),
    ],
)
def test_other_streams_are_refused_in_one_line(content: bytes, decoding: Decoding, message: str):
    with pytest.raises(InputError, match=message) as raised:
        heard(content, decoding)
    assert str(raised.value).startswith("the stream: ")
    assert "\n" not in str(raised.value)


def test_a_form_of_another_name_is_refused():
    with pytest.raises(InputError, match=r"format: expected one of s16le, .* got u8"):
        make_raw_form("u8", RATE_HZ, 1)


def test_a_pause_of_the_source_is_said_while_it_lasts_and_when_it_ends(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sound_stream, "GAP_S", 0.3)
    read_end, write_end = os.pipe()

    def write() -> None:
        with os.fdopen(write_end, "wb", buffering=0) as file:
            file.write(wav(SAMPLES[:8000]))
            sleep(1.0)
            file.write(SAMPLES[8000:].tobytes())

    content = bytearray(wav(SAMPLES[:8000]))
    struct.pack_into("<I", content, 40, 0)
    threading.Thread(target=write).start()
    raw = make_raw_form("s16le", RATE_HZ, 1)
    with os.fdopen(read_end, "rb") as stream:
        got = list(SoundStream(stream, DECODING, raw, "the stream"))
    gaps = [item for item in got if isinstance(item, Gap)]
    assert [gap.kind for gap in gaps] == ["waiting", "gap"]
    assert 0.7 < gaps[1].seconds < 2.5
    blocks = [item for item in got if isinstance(item, np.ndarray)]
    np.testing.assert_array_equal(np.concatenate(blocks)[22:], SAMPLES)  # the header, read as samples


def chunks(times: list[tuple[float, float]]) -> Iterator[_Chunk]:
    """Yield chunks of a second of sound that come at some times, after a wait."""
    yield from (_Chunk(bytes(2 * RATE_HZ), waited_s, at) for at, waited_s in times)


@pytest.mark.parametrize(
    ("times", "expected"),
    [
        ([(float(i), 1.0) for i in range(30)], []),
        ([(1.2 * i, 1.0) for i in range(60)], [5.2, 5.2]),  # a sixth of the samples is lost
        ([(float(i + (i > 10) * 4), 1.0) for i in range(30)], []),  # 4 s late, once
        ([(float(i + (i > 10) * 9), 10.0 if i == 11 else 1.0) for i in range(30)], []),  # a gap, said already
        ([(0.01 * i + (i > 10) * 60, 0.0) for i in range(30)], []),  # a recording, which waits for its reader
    ],
)
def test_a_live_stream_that_falls_behind_the_clock_has_lost_samples(
    times: list[tuple[float, float]], expected: list[float]
):
    pace = Pace(make_raw_form("s16le", RATE_HZ, 1), 0.0)
    found = [lost for chunk in chunks(times) if (lost := pace.check(len(chunk.content), chunk)) is not None]
    assert found == pytest.approx(expected, abs=0.3)


def test_a_recording_is_not_read_far_ahead_of_its_scores():
    read: list[int] = []

    class Endless(io.RawIOBase):
        def readinto(self, _: object) -> int:
            raise NotImplementedError

        def read(self, size: int = -1, /) -> bytes:
            read.append(size)
            return bytes(size)

    stream = iter(SoundStream(Endless(), DECODING, make_raw_form("s16le", RATE_HZ, 1), "the stream"))  # pyright: ignore[reportArgumentType]
    for _ in range(3):
        assert len(next(stream)) <= 2 * 65_536
    sleep(0.2)
    assert sum(read) < 8_000_000
