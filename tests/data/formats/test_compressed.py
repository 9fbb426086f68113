"""FLAC, Ogg and MP3: exact samples, lossy ones only on request, and no truncated file is accepted."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

from asdjax.data.audio import Decoding, decode, read_header, read_samples
from asdjax.errors import InputError

RATE_HZ = 16_000
LOSSY = {"MP3": (".mp3", "MPEG_LAYER_III"), "Ogg Vorbis": (".ogg", "VORBIS"), "Ogg Opus": (".opus", "OPUS")}
STRICT, CONVERT = Decoding(RATE_HZ), Decoding(RATE_HZ, "convert")


def tone(seconds: float = 0.5, channels: int = 1, rate_hz: int = RATE_HZ) -> np.ndarray:
    t = np.arange(round(seconds * rate_hz)) / rate_hz
    rng = np.random.default_rng(0)
    return np.stack([0.4 * np.sin(2 * np.pi * 440 * t) + rng.normal(0, 0.01, len(t)) for _ in range(channels)], axis=1)


def flac(path: Path, subtype: str = "PCM_16", channels: int = 1, rate_hz: int = RATE_HZ) -> Path:
    soundfile.write(path, tone(channels=channels, rate_hz=rate_hz), rate_hz, format="FLAC", subtype=subtype)
    return path


def lossy(path: Path, name: str, seconds: float = 0.5) -> Path:
    ending, subtype = LOSSY[name]
    container = "MP3" if ending == ".mp3" else "OGG"
    soundfile.write(path, tone(seconds), RATE_HZ, format=container, subtype=subtype)
    return path


def test_flac_of_16_bits_comes_back_bit_for_bit(tmp_path: Path):
    written = np.random.default_rng(1).integers(-32768, 32768, 5001, dtype=np.int16)
    soundfile.write(tmp_path / "a.flac", written, RATE_HZ)
    samples = decode(tmp_path / "a.flac", STRICT)
    assert samples.dtype == np.int16
    np.testing.assert_array_equal(samples, written)
    assert read_header(tmp_path / "a.flac").cautions == ()


@pytest.mark.parametrize(("subtype", "encoding", "scale"), [("PCM_16", "pcm16", 2**15), ("PCM_24", "pcm24", 2**31)])
def test_flac_reads_as_a_wav_of_the_same_samples(tmp_path: Path, subtype: str, encoding: str, scale: int):
    path = flac(tmp_path / "a.flac", subtype, channels=3, rate_hz=44_100)
    soundfile.write(tmp_path / "a.wav", soundfile.read(path, dtype="int32")[0], 44_100, subtype=subtype)
    header = read_header(path)
    assert (header.format, header.sample_rate_hz, header.channels, header.samples) == ("FLAC", 44_100, 3, 22_050)
    assert (header.encoding, header.lossy) == (encoding, False)
    samples = read_samples(path, header)
    np.testing.assert_array_equal(samples, read_samples(tmp_path / "a.wav", read_header(tmp_path / "a.wav")))
    np.testing.assert_array_equal(samples / scale, soundfile.read(path, dtype="float64")[0])
    np.testing.assert_array_equal(decode(path, CONVERT), decode(tmp_path / "a.wav", CONVERT))


@pytest.mark.parametrize(
    ("changes", "named"),
    [({"subtype": "PCM_24"}, "encoding pcm24"), ({"channels": 2}, "2 channels"), ({"rate_hz": 8000}, "8000 Hz")],
)
def test_flac_follows_the_rules_of_wav(tmp_path: Path, changes: dict, named: str):
    with pytest.raises(InputError, match=rf"got {named}; pass --config.data.on_mismatch=convert"):
        decode(flac(tmp_path / "a.flac", **changes), STRICT)


def test_flac_of_8_bits_is_refused_as_wav_is(tmp_path: Path):
    with pytest.raises(InputError, match=r"expected FLAC of 16 or 24 bits, got 8; .*ffmpeg"):
        decode(flac(tmp_path / "a.flac", "PCM_S8"), CONVERT)


def test_every_cut_of_flac_is_refused(tmp_path: Path):
    whole = flac(tmp_path / "whole.flac").read_bytes()
    path = tmp_path / "cut.flac"
    for length in [*range(0, 200, 3), *range(200, len(whole), 211), len(whole) - 1]:
        path.write_bytes(whole[:length])
        with pytest.raises(InputError):
            decode(path, STRICT)


def without_length(content: bytes, *, checksum: bool) -> bytes:
    changed = bytearray(content)
    changed[21] &= 0xF0
    changed[22:26] = bytes(4)
    if not checksum:
        changed[26:42] = bytes(16)
    return bytes(changed)


@pytest.mark.parametrize("checksum", [True, False])
def test_flac_may_leave_its_length_open_but_not_end_within_a_frame(tmp_path: Path, checksum: bool):
    content = flac(tmp_path / "a.flac").read_bytes()
    expected, _ = soundfile.read(tmp_path / "a.flac", dtype="int16")
    path = tmp_path / "open.flac"
    path.write_bytes(without_length(content, checksum=checksum))
    np.testing.assert_array_equal(decode(path, STRICT), expected)
    assert "leaves open how long it is" in str(read_header(path).cautions[0])
    for missing in (1, 10, 1000):
        path.write_bytes(without_length(content, checksum=checksum)[:-missing])
        with pytest.raises(InputError, match="truncated"):
            read_header(path)


def test_flac_that_contradicts_its_checksum_is_refused(tmp_path: Path):
    path = flac(tmp_path / "a.flac")
    content = bytearray(path.read_bytes())
    content[30] ^= 1
    path.write_bytes(content)
    assert read_header(path).samples == 8000
    with pytest.raises(InputError, match="do not match its checksum; copy"):
        decode(path, STRICT)


def test_flac_behind_a_tag_and_with_one_at_its_end(tmp_path: Path):
    path = flac(tmp_path / "a.flac")
    expected, _ = soundfile.read(path, dtype="int16")
    path.write_bytes(b"ID3\3\0\0\0\0\0\x0a" + bytes(10) + path.read_bytes() + b"TAG" + bytes(125))
    np.testing.assert_array_equal(decode(path, STRICT), expected)


def test_a_wav_that_is_flac_inside_is_read_with_a_caution(tmp_path: Path):
    path = flac(tmp_path / "a.wav")
    np.testing.assert_array_equal(decode(path, STRICT), soundfile.read(path, dtype="int16")[0])
    assert str(read_header(path).cautions[0]) == "named .wav, but FLAC by its content; rename it"


@pytest.mark.parametrize("name", LOSSY)
@pytest.mark.parametrize("ending", ["", ".wav"])
def test_lossy_sound_is_read_only_where_conversion_is_asked_for(tmp_path: Path, name: str, ending: str):
    path = lossy(tmp_path / f"a{ending or LOSSY[name][0]}", name)
    with pytest.raises(InputError, match=rf"got {name}, lossy; pass --config.data.on_mismatch=convert"):
        decode(path, STRICT)
    samples = decode(path, CONVERT)
    assert len(samples) == 8000
    assert np.corrcoef(samples, tone()[:, 0])[0, 1] > 0.99
    reference, _ = soundfile.read(path, dtype="float32")
    assert np.abs(samples / 32768 - reference).max() < 2e-5
    text = " / ".join(map(str, read_header(path).cautions))
    assert f"{name} is lossy: it removes quiet and high sounds, which may show faults" in text
    assert ("named .wav" in text) == (ending == ".wav")


@pytest.mark.parametrize("name", LOSSY)
def test_every_cut_of_a_lossy_file_is_refused(tmp_path: Path, name: str):
    whole = lossy(tmp_path / "whole", name, seconds=2).read_bytes()
    path = tmp_path / "cut"
    for length in [*range(0, len(whole), len(whole) // 60), *range(len(whole) - 30, len(whole))]:
        path.write_bytes(whole[:length])
        with pytest.raises(InputError):
            read_header(path)


def test_an_mp3_with_tags_in_front_and_behind(tmp_path: Path):
    path = lossy(tmp_path / "a.mp3", "MP3")
    expected = decode(path, CONVERT)
    ape = b"APETAGEX" + bytes.fromhex("d0070000 20000000 00000000 00000000") + bytes(8)
    path.write_bytes(b"ID3\3\0\0\0\0\0\x0a" + bytes(10) + path.read_bytes() + ape + b"TAG" + bytes(125))
    np.testing.assert_array_equal(decode(path, CONVERT), expected)


def test_an_mp3_without_a_first_frame_that_counts_the_others_is_read_whole(tmp_path: Path):
    """Such a file is a trap: libsndfile estimates its length, here as two thirds, and stops there."""
    tagged = lossy(tmp_path / "a.mp3", "MP3")
    whole = tagged.read_bytes()
    first = 288  # bytes of a frame of 64 kbit/s
    assert whole[first : first + 2] == b"\xff\xf3"
    path = tmp_path / "b.mp3"
    path.write_bytes(whole[first:])
    header = read_header(path)
    samples = read_samples(path, header)
    assert len(samples) == header.samples > 8000
    expected = read_samples(tagged, read_header(tagged))
    np.testing.assert_allclose(samples[576:8576], expected, atol=1e-4)  # without the encoder's delay
    path.write_bytes(whole[first:-5])
    with pytest.raises(InputError, match="truncated: its frame"):
        read_header(path)


def test_an_mp3_of_two_files_one_behind_the_other_is_read_whole(tmp_path: Path):
    path = lossy(tmp_path / "a.mp3", "MP3")
    path.write_bytes(2 * path.read_bytes())
    header = read_header(path)
    assert len(read_samples(path, header)) == header.samples > 16_000


def test_damage_within_an_ogg_page_is_refused(tmp_path: Path):
    whole = bytearray(lossy(tmp_path / "a.ogg", "Ogg Vorbis").read_bytes())
    whole[-50] ^= 1
    (tmp_path / "a.ogg").write_bytes(whole)
    with pytest.raises(InputError, match="does not match its checksum"):
        read_header(tmp_path / "a.ogg")


def test_other_codecs_in_ogg_are_named(tmp_path: Path):
    whole = bytearray(lossy(tmp_path / "a.ogg", "Ogg Vorbis").read_bytes())
    head = whole[:58].replace(b"\x01vorbis", b"\x7fFLAC\1\0")
    head[22:26] = bytes(4)
    head[22:26] = crc(bytes(head)).to_bytes(4, "little")
    (tmp_path / "a.ogg").write_bytes(head + whole[58:])
    with pytest.raises(InputError, match=r"expected Vorbis or Opus in Ogg, got Ogg FLAC; .*ffmpeg"):
        read_header(tmp_path / "a.ogg")


def crc(page: bytes) -> int:
    """Compute Ogg's checksum bit by bit, as in its specification."""
    value = 0
    for byte in page:
        value ^= byte << 24
        for _ in range(8):
            value = (value << 1 ^ (0x04C11DB7 if value & 0x80000000 else 0)) & 0xFFFFFFFF
    return value
