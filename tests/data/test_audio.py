"""Decoding of recordings, and the errors for other files. The oracles are soundfile and scipy."""

import math
import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile
from scipy.signal import resample_poly

from asdjax.data.audio import Decoding, converted_length, decode, read_header, read_samples
from asdjax.errors import InputError

RATE_HZ = 16_000


def noise(samples: int = 4000, channels: int = 1) -> np.ndarray:
    return np.random.default_rng(0).uniform(-0.9, 0.9, (samples, channels))


def write(path: Path, values: np.ndarray, *, rate_hz: int = RATE_HZ, **options: str) -> Path:
    soundfile.write(path, values, rate_hz, **options)
    return path


def wav_bytes(fmt: bytes, data: bytes, *, claimed: int | None = None, before: bytes = b"") -> bytes:
    chunks = before + b"fmt " + struct.pack("<I", len(fmt)) + fmt
    chunks += b"data" + struct.pack("<I", len(data) if claimed is None else claimed) + data
    return b"RIFF" + struct.pack("<I", 4 + len(chunks)) + b"WAVE" + chunks


def fmt_body(tag: int = 1, channels: int = 1, rate_hz: int = RATE_HZ, bits: int = 16) -> bytes:
    frame = channels * bits // 8
    return struct.pack("<HHIIHH", tag, channels, rate_hz, 0, frame, bits)


def strict(path: Path) -> np.ndarray:
    return decode(path, Decoding(RATE_HZ))


def converted(path: Path) -> np.ndarray:
    return decode(path, Decoding(RATE_HZ, "convert"))


def test_sixteen_bit_mono_comes_back_bit_for_bit(tmp_path: Path):
    written = np.random.default_rng(1).integers(-32768, 32768, 5001, dtype=np.int16)
    samples = strict(write(tmp_path / "a.wav", written))
    assert samples.dtype == np.int16
    np.testing.assert_array_equal(samples, written)


@pytest.mark.parametrize(
    ("subtype", "encoding"),
    [
        ("PCM_16", "pcm16"),
        ("PCM_24", "pcm24"),
        ("PCM_32", "pcm32"),
        ("FLOAT", "float32"),
        ("DOUBLE", "float64"),
    ],
)
@pytest.mark.parametrize("container", ["WAV", "WAVEX"])
def test_every_encoding_reads_as_soundfile_reads_it(tmp_path: Path, container: str, subtype: str, encoding: str):
    path = write(tmp_path / "a.wav", noise(channels=3), format=container, subtype=subtype)
    header = read_header(path)
    assert (header.sample_rate_hz, header.channels, header.samples) == (RATE_HZ, 3, 4000)
    assert header.encoding == encoding
    expected, _ = soundfile.read(path, dtype="float64")
    samples = read_samples(path, header)
    full_scale = 1 if samples.dtype.kind == "f" else 2.0 ** (8 * samples.dtype.itemsize - 1)
    np.testing.assert_array_equal(samples / full_scale, expected)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("mimii_8_channels_wave_extensible.wav", (16_000, 8, 160_000, "pcm16")),
        ("motor_44100_hz.wav", (44_100, 1, 264_601, "pcm16")),
        ("bldc_stereo.wav", (16_000, 2, 165_200, "pcm16")),
        ("ferry_32_bit_32000_hz.wav", (32_000, 1, 32_000, "pcm32")),
    ],
)
def test_real_odd_files_are_refused_and_converted(shared_data: Path, name: str, expected: tuple[int, int, int, str]):
    path = shared_data / "sounds" / "odd" / name
    header = read_header(path)
    assert (header.sample_rate_hz, header.channels, header.samples, header.encoding) == expected
    with pytest.raises(InputError, match="on_mismatch=convert") as refused:
        strict(path)
    assert str(path) in str(refused.value)

    samples = converted(path)
    assert len(samples) == converted_length(header, RATE_HZ)
    mono = soundfile.read(path, dtype="float64", always_2d=True)[0].mean(axis=1)
    common = math.gcd(RATE_HZ, header.sample_rate_hz)
    reference = resample_poly(mono, RATE_HZ // common, header.sample_rate_hz // common)
    assert np.corrcoef(samples, reference)[0, 1] > 0.999
    assert np.std(samples / 32768) == pytest.approx(np.std(reference), rel=0.02)


def test_channels_are_averaged_and_rounded(tmp_path: Path):
    stereo = np.array([[100, 201], [-32768, -32768], [32767, 32767], [5, -5]], np.int16)
    samples = converted(write(tmp_path / "a.wav", stereo))
    np.testing.assert_array_equal(samples, [150, -32768, 32767, 0])


def test_floats_are_scaled_rounded_and_clipped(tmp_path: Path):
    values = np.array([0.5, -1.0, 1.0, 3.0, -3.0, 0.9 / 32768])
    samples = converted(write(tmp_path / "a.wav", values, subtype="DOUBLE"))
    np.testing.assert_array_equal(samples, [16384, -32768, 32767, 32767, -32768, 1])


def test_a_tone_survives_resampling_and_one_above_the_new_band_does_not(tmp_path: Path):
    seconds = np.arange(48_000) / 48_000
    low = converted(write(tmp_path / "l.wav", 0.5 * np.sin(2 * np.pi * 1000 * seconds), rate_hz=48_000))
    high = converted(write(tmp_path / "h.wav", 0.5 * np.sin(2 * np.pi * 12_000 * seconds), rate_hz=48_000))
    assert len(low) == 16_000
    expected = 16384 * np.sin(2 * np.pi * 1000 * np.arange(16_000) / 16_000)
    assert np.abs(low - expected)[100:-100].max() < 2
    assert np.abs(high)[100:-100].max() < 2


def test_the_length_after_resampling_is_exact_where_a_ratio_of_floats_is_not(tmp_path: Path):
    path = write(tmp_path / "a.wav", noise(11), rate_hz=3520)  # 11 * (16000 / 3520) = 50.00000000000001
    assert len(converted(path)) == converted_length(read_header(path), RATE_HZ) == 50


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_samples_that_are_no_numbers_are_refused(tmp_path: Path, bad: float):
    values = noise()
    values[17] = bad
    path = write(tmp_path / "a.wav", values, subtype="FLOAT")
    with pytest.raises(InputError, match="NaN or infinite"):
        converted(path)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"rate_hz": 44_100}, "44100 Hz"),
        ({"channels": 2}, "2 channels"),
        ({"subtype": "PCM_24"}, "pcm24"),
        ({"subtype": "FLOAT"}, "float32"),
    ],
)
def test_a_mismatch_names_the_file_what_it_is_and_the_flag(tmp_path: Path, changes: dict, named: str):
    channels = changes.get("channels", 1)
    options = {key: value for key, value in changes.items() if key != "channels"}
    path = write(tmp_path / "a.wav", noise(channels=channels), **options)
    with pytest.raises(InputError) as refused:
        strict(path)
    message = str(refused.value)
    assert message.startswith(f"{path}: ")
    assert named in message
    assert "--config.data.on_mismatch=convert" in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (b"", "an empty file"),
        (b"fLaC\0\0\0\x22", "damaged FLAC"),
        (b"OggS\0\x02", "Ogg"),
        (b"ID3\x04", "MP3"),
        (b"FORM\0\0\0\0AIFF", "AIFF"),
        (b"\n<!DOCTYPE html><html>404</html>", "HTML or XML; download it again"),
        (b"version https://git-lfs.github.com/spec/v1\noid", "fetch it with git lfs pull"),
        (b"PK\x03\x04", "a zip archive; unpack it"),
        (b"\0" * 64, "blank bytes only, as a power cut leaves them; copy or record it again"),
        (b"RIFF\0\0\0\0AVI LIST", "AVI video"),
        (wav_bytes(fmt_body(tag=0x11, bits=4), b"\0" * 64), "IMA ADPCM"),
        (wav_bytes(fmt_body(tag=7, bits=8), b"\0" * 64), "mu-law"),
        (wav_bytes(fmt_body(bits=8), b"\0" * 64), "8-bit PCM"),
        (wav_bytes(fmt_body(tag=0x1234), b"\0" * 64), "0x1234"),
        (wav_bytes(fmt_body(), b""), "no samples"),
        (wav_bytes(fmt_body(), b"\0" * 64)[:-1], "truncated"),
        (wav_bytes(fmt_body(channels=0), b"\0" * 64), "damaged header"),
        (wav_bytes(fmt_body(rate_hz=0), b"\0" * 64), "damaged header"),
        (wav_bytes(fmt_body(rate_hz=4_000_000_000), b"\0" * 64), "damaged header"),
        (wav_bytes(fmt_body()[:12], b"\0" * 64), "fmt chunk has 12"),
        (wav_bytes(fmt_body(), b"")[:36], "lacks a data chunk"),
        (wav_bytes(fmt_body(), b"")[:12], "lacks a fmt chunk"),
    ],
)
def test_what_is_no_such_wav_is_named(tmp_path: Path, content: bytes, named: str):
    path = tmp_path / "a.wav"
    path.write_bytes(content)
    with pytest.raises(InputError) as refused:
        converted(path)
    assert str(refused.value).startswith(f"{path}: ")
    assert named in str(refused.value)


def test_nothing_of_a_file_that_is_no_audio_is_shown(tmp_path: Path):
    (tmp_path / "passwd").write_text("root:x:0:0:root:/root:/bin/bash\n")
    with pytest.raises(InputError) as refused:
        converted(tmp_path / "passwd")
    assert "root" not in str(refused.value).removeprefix(str(tmp_path))


def test_chunks_of_odd_length_before_the_samples_are_stepped_over(tmp_path: Path):
    path = tmp_path / "a.wav"
    listed = b"LIST" + struct.pack("<I", 5) + b"INFOx\0"
    path.write_bytes(wav_bytes(fmt_body(), struct.pack("<3h", 1, -2, 3), before=listed) + b"trailing")
    np.testing.assert_array_equal(strict(path), [1, -2, 3])


def test_every_cut_of_a_file_is_refused(tmp_path: Path):
    whole = write(tmp_path / "whole.wav", noise(20)).read_bytes()
    path = tmp_path / "cut.wav"
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(InputError):
            strict(path)


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path):
    for path in (tmp_path / "missing.wav", tmp_path):
        with pytest.raises(InputError, match="expected a recording, got"):
            read_header(path)


def test_one_channel_is_taken_where_it_is_asked_for(tmp_path: Path):
    values = noise(channels=2)
    path = write(tmp_path / "stereo.wav", values, subtype="PCM_16")
    oracle, _ = soundfile.read(path, dtype="int16")
    for channel in (1, 2):
        taken = decode(path, Decoding(RATE_HZ, "convert", str(channel)))
        np.testing.assert_array_equal(taken, oracle[:, channel - 1])
    mono = write(tmp_path / "mono.wav", values[:, :1], subtype="FLOAT")
    np.testing.assert_array_equal(decode(mono, Decoding(RATE_HZ, "convert", "2")), converted(mono))


def test_a_channel_that_is_not_there_is_refused(tmp_path: Path):
    path = write(tmp_path / "stereo.wav", noise(channels=2))
    with pytest.raises(InputError, match=r"stereo.wav: expected a channel 3, has 2; choose another data.channel"):
        decode(path, Decoding(RATE_HZ, "convert", "3"))


def test_stereo_is_refused_with_the_choice_there_is(tmp_path: Path):
    path = write(tmp_path / "stereo.wav", noise(channels=2))
    with pytest.raises(InputError, match=r"got 2 channels; pass .*convert .*data.channel=1 for one channel"):
        strict(path)
    mono = write(tmp_path / "mono.wav", noise(), subtype="FLOAT")
    with pytest.raises(InputError, match=r"encoding float32; pass .*=convert to have it converted$"):
        strict(mono)
