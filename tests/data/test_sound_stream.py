"""Streams of sound: headers as recorders write them into pipes, raw samples, resampling, gaps and the pace."""

import io
import os
import struct
import threading
from pathlib import Path
from time import monotonic, sleep

import librosa
import numpy as np
import pytest
import soundfile

from asdjax.data import sound_stream, stream_pace
from asdjax.data.audio import Decoding, decode
from asdjax.data.formats.header import SampleFormat
from asdjax.data.sound_stream import Gap, SoundStream, StreamConverter, make_raw_form
from asdjax.data.stream_pace import Pace
from asdjax.errors import InputError

RATE_HZ = 16_000
DECODING = Decoding(RATE_HZ)
CONVERT = Decoding(RATE_HZ, "convert")
RAW = SampleFormat("raw", RATE_HZ, 1, "pcm16")
SAMPLES = np.random.default_rng(0).integers(-20_000, 20_000, 40_000).astype(np.int16)


def wav(samples: np.ndarray, rate_hz: int = RATE_HZ, subtype: str = "PCM_16") -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples, rate_hz, subtype=subtype, format="WAV")
    return file.getvalue()


def heard(content: bytes, decoding: Decoding = DECODING, raw: SampleFormat | None = None) -> np.ndarray:
    stream = SoundStream(io.BytesIO(content), raw, "the stream")
    return np.concatenate([block for block in stream.convert(decoding) if isinstance(block, np.ndarray)])


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

    stream = SoundStream(Slow(content), None, "the stream").convert(DECODING)
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
        (wav(SAMPLES)[:9044], DECODING, "expected 71000 more bytes of sound by its header, got the end after 0.3 s"),
        (wav(np.stack([SAMPLES] * 2, axis=1)), Decoding(RATE_HZ, "convert", "3"), "expected a channel 3, has 2"),
    ],
)
def test_other_streams_are_refused_in_one_line(content: bytes, decoding: Decoding, message: str):
    with pytest.raises(InputError, match=message) as raised:
        heard(content, decoding)
    assert str(raised.value).startswith("the stream: ")
    assert "\n" not in str(raised.value)


def test_a_form_of_another_name_is_refused():
    with pytest.raises(InputError, match=r"--format: expected one of s16le, .* got u8"):
        make_raw_form("u8", RATE_HZ, 1)
    for rate_hz in (1, 10**9):
        with pytest.raises(InputError, match="--rate: expected 1000 to 768000 Hz"):
            make_raw_form("s16le", rate_hz, 1)


def test_a_wav_is_no_raw_sound():
    with pytest.raises(InputError, match="expected raw samples, got WAV; leave out --rate"):
        heard(wav(SAMPLES), DECODING, RAW)


def test_rf64_has_its_length_in_a_chunk_of_its_own():
    header = b"RF64" + b"\xff" * 4 + b"WAVEds64" + struct.pack("<IQQQI", 28, 0, 2 * len(SAMPLES), len(SAMPLES), 0)
    fmt = b"fmt " + struct.pack("<IHHIIHH", 16, 1, 1, RATE_HZ, 2 * RATE_HZ, 2, 16)
    content = header + fmt + b"data" + b"\xff" * 4 + SAMPLES.tobytes() + b"LIST" + struct.pack("<I", 4) + b"INFO"
    np.testing.assert_array_equal(heard(content), SAMPLES)


def test_a_stream_that_breaks_is_an_error_and_does_not_wait_for_ever():
    class Breaks(io.BytesIO):
        def read1(self, size: int | None = -1, /) -> bytes:
            raise (OSError(5, "Input/output error") if self.tell() else ValueError("closed"))

    for position in (0, 1):
        broken = Breaks(b"abc")
        broken.seek(position)
        with pytest.raises(InputError, match="expected sound, got 0 bytes"):
            list(SoundStream(broken, None, "the stream").convert(DECODING))


def test_a_pipe_that_does_not_block_is_read_to_its_end():
    read_end, write_end = os.pipe()
    os.set_blocking(read_end, False)

    def write() -> None:
        with os.fdopen(write_end, "wb", buffering=0) as file:
            for part in np.split(SAMPLES, 4):
                sleep(0.1)
                file.write(part.tobytes())

    threading.Thread(target=write).start()
    with os.fdopen(read_end, "rb") as stream:
        blocks = [b for b in SoundStream(stream, RAW, "the stream").convert(DECODING) if isinstance(b, np.ndarray)]
    np.testing.assert_array_equal(np.concatenate(blocks), SAMPLES)


@pytest.mark.parametrize("is_lost", [True, False], ids=["lost", "late"])
def test_a_pause_is_reported_while_it_lasts_and_what_is_missing_behind_it(
    is_lost: bool, monkeypatch: pytest.MonkeyPatch
):
    """On a clock ten times as fast as usual, so that the pause is one of seconds."""
    monkeypatch.setattr(sound_stream, "GAP_S", 0.3)
    monkeypatch.setattr(sound_stream, "monotonic", lambda: 10 * monotonic())
    monkeypatch.setattr(stream_pace, "_PERIOD_S", 0.1)
    read_end, write_end = os.pipe()
    second = SAMPLES[:16_000].tobytes()

    def write() -> None:
        with os.fdopen(write_end, "wb", buffering=0) as file:
            for _ in range(12):
                file.write(second)
                sleep(0.1)
            sleep(1.0)
            for _ in range(3 if is_lost else 13):
                file.write(second)

    threading.Thread(target=write).start()
    with os.fdopen(read_end, "rb") as stream:
        got = list(SoundStream(stream, RAW, "the stream").convert(DECODING))
    gaps = [item for item in got if isinstance(item, Gap)]
    assert [gap.kind for gap in gaps] == (["waiting", "gap"] if is_lost else ["waiting"])
    if is_lost:
        assert 5 < gaps[1].seconds < 15


def paced(delays: list[float], *, pauses: tuple[int, ...] = (), seconds: float = 1.0) -> list[float]:
    """Return what Pace finds lost when every second of sound arrives with a delay against the clock."""
    pace, at = Pace(RAW, 0.0), [seconds * (i + 1) + delay for i, delay in enumerate(delays)]
    found = [pace.check(round(2 * RATE_HZ * seconds), one, after_pause=i in pauses) for i, one in enumerate(at)]
    return [lost for lost in found if lost]


def test_a_live_stream_that_falls_behind_the_clock_has_lost_samples():
    steady = [0.0] * 100
    assert paced(steady) == []
    assert paced([0.2 * i for i in range(100)]) == pytest.approx([4.0] * 4, abs=1.5)  # a sixth is lost
    assert paced([*steady, *[9.0] * 60]) == [9.0]
    assert paced([*steady, 9.0, *steady]) == []  # late, and whole
    assert paced([*steady, *[60.0] * 60], pauses=(100,)) == [60.0]  # once, at once
    assert paced([*steady, 60.0, *steady], pauses=(100,)) == [60.0]


def test_clocks_may_drift_apart_over_days():
    for drift in (-1e-4, 1e-4):
        of_days = [drift * i for i in range(3 * 86_400)]
        assert paced(of_days) == []
        assert paced([*of_days, *[of_days[-1] + 9.0] * 60]) == pytest.approx([9.0], abs=0.1)


def test_a_recording_has_no_pace_and_a_live_stream_may_begin_with_what_waited():
    gaining = [-0.9 * i for i in range(600)]
    assert paced([*gaining, *[0.0] * 30]) == []
    assert paced([*gaining, *[0.0] * 30], pauses=(600,)) == []
    assert paced([*[-2.0] * 100, *[7.0] * 60]) == [9.0]


def test_a_recording_is_not_read_far_ahead_of_its_scores():
    read: list[int] = []

    class Endless(io.BytesIO):
        def read1(self, size: int | None = -1, /) -> bytes:
            read.append(size or 0)
            return bytes(size or 0)

    stream = SoundStream(Endless(), RAW, "the stream").convert(DECODING)
    for _ in range(3):
        assert len(next(stream)) <= 4 * 65_536 // 2
    sleep(0.5)
    assert sum(read) < 20_000_000
