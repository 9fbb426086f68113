"""AIFF, CAF and Wave64: every encoding as soundfile reads it, and errors for truncated files and other codecs."""

import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile

from asdjax.data.audio import Decoding, decode, read_header, read_samples
from asdjax.errors import InputError

RATE_HZ = 16_000
SUBTYPES = {"PCM_16": "pcm16", "PCM_24": "pcm24", "PCM_32": "pcm32", "FLOAT": "float32", "DOUBLE": "float64"}
FORMS = {"AIFF": ".aiff", "CAF": ".caf", "W64": ".w64", "RF64": ".wav"}


def noise(samples: int = 700, channels: int = 1) -> np.ndarray:
    return np.random.default_rng(0).uniform(-0.9, 0.9, (samples, channels))


def write(path: Path, form: str, subtype: str = "PCM_16", endian: str = "FILE", **changes: int) -> Path:
    soundfile.write(path, noise(**changes), RATE_HZ, format=form, subtype=subtype, endian=endian)
    return path


@pytest.mark.parametrize("subtype", SUBTYPES)
@pytest.mark.parametrize(
    ("form", "endian"),
    [("AIFF", "FILE"), ("AIFF", "LITTLE"), ("CAF", "BIG"), ("CAF", "LITTLE"), ("W64", "FILE"), ("RF64", "FILE")],
)
def test_every_encoding_reads_as_soundfile_reads_it(tmp_path: Path, form: str, endian: str, subtype: str):
    if (form, endian) == ("AIFF", "LITTLE") and subtype in ("FLOAT", "DOUBLE"):
        pytest.skip("AIFF has no little-endian float")
    path = write(tmp_path / f"a{FORMS[form]}", form, subtype, endian, channels=3)
    header = read_header(path)
    assert (header.sample_rate_hz, header.channels, header.samples) == (RATE_HZ, 3, 700)
    assert (header.encoding, header.lossy, header.cautions) == (SUBTYPES[subtype], False, ())
    samples = read_samples(path, header)
    assert samples.dtype.isnative
    full_scale = 1 if samples.dtype.kind == "f" else 2.0 ** (8 * samples.dtype.itemsize - 1)
    np.testing.assert_array_equal(samples / full_scale, soundfile.read(path, dtype="float64")[0])


@pytest.mark.parametrize("form", FORMS)
def test_sixteen_bits_mono_need_no_conversion(tmp_path: Path, form: str):
    path = write(tmp_path / f"a{FORMS[form]}", form)
    samples = decode(path, Decoding(RATE_HZ))
    assert samples.dtype == np.int16
    np.testing.assert_array_equal(samples, soundfile.read(path, dtype="int16")[0])
    with pytest.raises(InputError, match="expected mono 16-bit PCM at 8000 Hz, got 16000 Hz"):
        decode(path, Decoding(8000))


@pytest.mark.parametrize("form", FORMS)
def test_every_cut_is_refused(tmp_path: Path, form: str):
    whole = write(tmp_path / f"whole{FORMS[form]}", form, samples=30).read_bytes()
    path = tmp_path / f"cut{FORMS[form]}"
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(InputError):
            read_header(path)


@pytest.mark.parametrize("form", FORMS)
def test_a_file_without_samples_is_refused(tmp_path: Path, form: str):
    with pytest.raises(InputError, match="no samples"):
        read_header(write(tmp_path / f"a{FORMS[form]}", form, samples=0))


@pytest.mark.parametrize(("form", "ending"), [("AIFF", ".wav"), ("CAF", ".wav"), ("W64", ".wav"), ("WAV", ".aiff")])
def test_the_content_counts_not_the_ending(tmp_path: Path, form: str, ending: str):
    path = write(tmp_path / f"a{ending}", form)
    np.testing.assert_array_equal(decode(path, Decoding(RATE_HZ)), soundfile.read(path, dtype="int16")[0])
    (caution,) = read_header(path).cautions
    assert str(caution) == f"named {ending}, but {form} by its content; rename it"


@pytest.mark.parametrize(
    ("form", "subtype", "named"),
    [
        ("CAF", "ALAC_16", r"Apple Lossless \(ALAC\) in CAF"),
        ("CAF", "ULAW", "mu-law in CAF"),
        ("CAF", "PCM_S8", "8-bit PCM in CAF"),
        ("AIFF", "ALAW", "A-law in AIFF"),
        ("AIFF", "IMA_ADPCM", "IMA ADPCM in AIFF"),
        ("AIFF", "PCM_U8", "8-bit PCM in AIFF"),
        ("AIFF", "PCM_S8", "8-bit PCM in AIFF"),
        ("W64", "ALAW", "8-bit A-law"),
    ],
)
def test_other_codecs_are_named_with_the_command_that_converts_them(
    tmp_path: Path, form: str, subtype: str, named: str
):
    path = write(tmp_path / f"a{FORMS[form]}", form, subtype)
    with pytest.raises(InputError, match=rf"got {named}; .*ffmpeg -i FILE -c:a pcm_s16le NEW.wav"):
        read_header(path)


def test_caf_and_wave64_may_leave_their_length_open(tmp_path: Path):
    for form, mark in (("CAF", b"data"), ("W64", b"data\xf3\xac\xd3\x11")):
        path = write(tmp_path / f"a{FORMS[form]}", form)
        expected, _ = soundfile.read(path, dtype="int16")
        content = bytearray(path.read_bytes())
        at = content.index(mark) + (4 if form == "CAF" else 16)
        content[at : at + 8] = b"\xff" * 8
        if form == "W64":
            content[16:24] = b"\xff" * 8
        path.write_bytes(content)
        np.testing.assert_array_equal(decode(path, Decoding(RATE_HZ)), expected)
        assert "leaves open how long it is" in str(read_header(path).cautions[0])


def aiff(samples: np.ndarray, frames: int, claimed: int, total: int | None) -> bytes:
    rate = struct.pack(">HQ", 16_383 + 13, RATE_HZ << 50)  # 80 bits: the exponent of 2 ** 13, 1.95
    comm = b"COMM" + struct.pack(">IHIH", 18, 1, frames, 16) + rate
    body = b"AIFF" + comm + b"SSND" + struct.pack(">III", claimed, 0, 0) + samples.astype(">i2").tobytes()
    return b"FORM" + struct.pack(">I", len(body) if total is None else total) + body


@pytest.mark.parametrize(
    ("frames", "claimed", "total"),
    [(0, 0, 0), (0, 8, 46), (0x3F800000, 0x7F000008, 0x7F00002E), (5000, 10_008, None), (0, 0, None)],
    ids=[
        "ffmpeg into a pipe",
        "power cut",
        "sox into a pipe",
        "past the end, the whole agrees",
        "only the whole known",
    ],
)
def test_aiff_may_leave_its_length_open(tmp_path: Path, frames: int, claimed: int, total: int | None):
    expected = np.random.default_rng(0).integers(-32768, 32768, 1000, dtype=np.int16)
    path = tmp_path / "a.aiff"
    path.write_bytes(aiff(expected, frames, claimed, total))
    np.testing.assert_array_equal(decode(path, Decoding(RATE_HZ)), expected)
    assert "leaves open how long it is" in str(read_header(path).cautions[0])


def test_a_smaller_count_than_is_there_is_taken_and_the_rest_named(tmp_path: Path):
    path = write(tmp_path / "a.aiff", "AIFF")
    content = bytearray(path.read_bytes())
    at = content.index(b"COMM") + 10
    content[at : at + 4] = struct.pack(">I", 600)
    path.write_bytes(content)
    assert read_header(path).samples == 600
    assert "the 200 B after its samples are no chunk" in str(read_header(path).cautions[0])


@pytest.mark.parametrize("form", ["AIFF", "CAF"])
def test_a_tag_in_front_is_stepped_over(tmp_path: Path, form: str):
    path = write(tmp_path / f"a{FORMS[form]}", form)
    expected, _ = soundfile.read(path, dtype="int16")
    path.write_bytes(b"ID3\3\0\0\0\0\0\x0a" + bytes(10) + path.read_bytes())
    np.testing.assert_array_equal(decode(path, Decoding(RATE_HZ)), expected)
