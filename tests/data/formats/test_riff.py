"""WAV headers of recorders, pipes and power cuts: read to the end, or refused with the right reason."""

import struct
import wave
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import soundfile

from asdjax.data.audio import Decoding, decode, read_header, read_samples
from asdjax.errors import InputError

RATE_HZ = 16_000
VALUES = np.random.default_rng(0).integers(-32768, 32768, 1000, dtype=np.int16)
BODY = VALUES.astype("<i2").tobytes()
PCM_TAIL = bytes.fromhex("000000001000800000aa00389b71")


def fmt(*, channels: int = 1, bits: int = 16, align: int = 2, byte_rate: int = 2 * RATE_HZ, tag: int = 1) -> bytes:
    return chunk(b"fmt ", struct.pack("<HHIIHH", tag, channels, RATE_HZ, byte_rate, align, bits))


def chunk(name: bytes, content: bytes, *, claimed: int | None = None, padded: bool = True) -> bytes:
    length = len(content) if claimed is None else claimed
    return name + struct.pack("<I", length) + content + b"\0" * (len(content) % 2 * padded)


def riff(*chunks: bytes, size: int | None = None, name: bytes = b"RIFF") -> bytes:
    body = b"WAVE" + b"".join(chunks)
    return name + struct.pack("<I", len(body) if size is None else size) + body


def data(claimed: int | None = None, content: bytes = BODY) -> bytes:
    return chunk(b"data", content, claimed=claimed)


def written(folder: Path, content: bytes) -> Path:
    path = folder / "a.wav"
    path.write_bytes(content)
    return path


def cautions(path: Path) -> str:
    return " / ".join(map(str, read_header(path).cautions))


def reads_as(path: Path, expected: np.ndarray = VALUES) -> None:
    np.testing.assert_array_equal(decode(path, Decoding(RATE_HZ)), expected)


OPEN = {
    "arecord into a pipe": (0x80000000, 0x80000024),
    "sox into a pipe": (0x7FFFF000, 0x7FFFF024),
    "ffmpeg into a pipe": (0xFFFFFFFF, 0xFFFFFFFF),
    "just below all ones": (0xFFFFFFDB, 0xFFFFFFFF),
    "signed maximum": (0x7FFFFFFF, 0),
    "open data, placeholder RIFF": (0xFFFFFFFF, 36),
    "power cut": (0, 0),
    "power cut, RIFF of 8": (0, 8),
    "power cut, RIFF of an empty file": (0, 36),
    "RIFF brought up to date, data not": (0, len(riff(fmt(), data())) - 8),
    "data past the end, RIFF agrees with the file": (len(BODY) + 5000, len(riff(fmt(), data())) - 8),
}


@pytest.mark.parametrize("case", OPEN)
@pytest.mark.parametrize("before", [b"", chunk(b"LIST", b"INFOx")])
def test_a_size_that_is_left_open_means_to_the_end_of_the_file(tmp_path: Path, case: str, before: bytes):
    claimed, total = OPEN[case]
    total += len(before) if total == len(riff(fmt(), data())) - 8 else 0
    path = written(tmp_path, riff(fmt(), before, data(claimed), size=total))
    reads_as(path)
    assert "leaves open how long it is" in cautions(path)


@pytest.mark.parametrize("case", OPEN)
@pytest.mark.parametrize(
    "behind", [chunk(b"LIST", b"INFOISFT\4\0\0\0abc\0"), chunk(b"id3 ", b"abc") + chunk(b"cue ", bytes(4))]
)
def test_chunks_behind_samples_of_an_open_length_are_no_sound(tmp_path: Path, case: str, behind: bytes):
    claimed, total = OPEN[case]
    total += len(behind) if total == len(riff(fmt(), data())) - 8 else 0
    reads_as(written(tmp_path, riff(fmt(), data(claimed), behind, size=total)))
    within = (
        BODY[:500] + chunk(b"LIST", b"INFOISFT\4\0\0\0abc\0") + BODY[500:]
    )  # a chunk that is not followed by others
    path = written(tmp_path, riff(fmt(), data(0, within), size=0))
    reads_as(path, np.frombuffer(within, "<i2"))


def test_a_tag_that_claims_more_than_the_file_is_no_negative_length(tmp_path: Path):
    ape = b"APETAGEX" + struct.pack("<IIII", 2000, len(BODY) + 50, 1, 0) + bytes(8)
    path = written(tmp_path, riff(fmt(), data(0), size=0) + ape)
    with pytest.raises(InputError, match="holds a header and no samples"):
        read_header(path)


@pytest.mark.parametrize(
    ("claimed", "total"),
    [(None, None), (0xFFFFFFFF, 36 + len(BODY)), (0, 36 + len(BODY)), (len(BODY), 0), (len(BODY), 0xFFFFFFFF)],
)
@pytest.mark.parametrize("missing", [1, 8, 700])
def test_a_copy_that_was_cut_off_is_refused_with_how_to_keep_what_is_there(
    tmp_path: Path, claimed: int | None, total: int | None, missing: int
):
    path = written(tmp_path, riff(fmt(), data(claimed), size=total)[:-missing])
    with pytest.raises(InputError, match=r"truncated: .*; copy it again, or .*: ffmpeg -i FILE NEW.wav$"):
        read_header(path)


def test_what_players_append_is_no_sound(tmp_path: Path):
    id3 = b"TAG" + bytes(125)
    ape = b"APETAGEX" + struct.pack("<IIII", 2000, 32 + 10, 1, 0) + bytes(8)
    for tag in (id3, bytes(10) + ape, bytes(10) + ape + id3):
        path = written(tmp_path, riff(fmt(), data(0), size=0) + tag)
        reads_as(path)
        path = written(tmp_path, riff(fmt(), data()) + tag)
        reads_as(path)
        assert cautions(path) == ""


@pytest.mark.parametrize(
    "content",
    [
        riff(fmt(), data(content=b"")),
        riff(fmt(), data(content=b""), size=0),
        riff(fmt(), data(content=b""), chunk(b"LIST", b"INFOISFT\4\0\0\0abc\0")),
        riff(fmt(), data(content=b"\1")),
    ],
)
def test_a_header_without_samples_is_refused(tmp_path: Path, content: bytes):
    with pytest.raises(InputError, match="a header and no samples; copy or record it again"):
        read_header(written(tmp_path, content))


@pytest.mark.parametrize(
    "fields",
    [
        {"align": 1},
        {"align": 0},
        {"align": 4},
        {"align": 65535},
        {"align": 0, "byte_rate": 0},
        {"byte_rate": 0},
        {"byte_rate": 1},
        {"byte_rate": 8 * RATE_HZ},
    ],
)
def test_a_wrong_block_align_or_byte_rate_is_recomputed(tmp_path: Path, fields: dict[str, int]):
    path = written(tmp_path, riff(fmt(**fields), data()))
    reads_as(path)
    assert ("block align" in cautions(path)) == ("align" in fields)


def test_a_number_of_channels_against_two_other_fields_is_damage(tmp_path: Path):
    for fields in ({"channels": 2}, {"channels": 3}, {"bits": 32}):
        with pytest.raises(InputError, match="damaged header"):
            read_header(written(tmp_path, riff(fmt(**fields), data())))


def test_half_a_frame_at_the_end_is_left_out(tmp_path: Path):
    for content in (riff(fmt(), data(content=BODY + b"\1")), riff(fmt(), data(0, BODY + b"\1")[:-1], size=0)):
        path = written(tmp_path, content)
        reads_as(path)
        assert "ends with a partial frame" in cautions(path)


def id3v2(content: bytes, *, footer: bool = False) -> bytes:
    size = bytes(len(content) >> shift & 0x7F for shift in (21, 14, 7, 0))
    return b"ID3\4\0" + (b"\x10" if footer else b"\0") + size + content + (b"3DI\4\0\x10" + size) * footer


@pytest.mark.parametrize(
    "front",
    [
        id3v2(bytes(10)),
        id3v2(b"x" * 300, footer=True),
        id3v2(b"y" * 20_000) + id3v2(b"z" * 5),
        b"APETAGEX" + struct.pack("<IIII", 2000, 10, 1, 0xA0000000) + bytes(8) + bytes(10),
        b"\xef\xbb\xbf",
        b"\r\n  ",
        bytes(512),
    ],
)
def test_what_stands_in_front_is_stepped_over(tmp_path: Path, front: bytes):
    for content in (riff(fmt(), data()), riff(fmt(), data(0x80000000), size=0x80000024)):
        path = written(tmp_path, front + content)
        reads_as(path)
        assert f"in front ({len(front)} B)" in cautions(path)
    with pytest.raises(InputError, match="truncated"):
        read_header(written(tmp_path, front + riff(fmt(), data())[:-10]))


ODD = chunk(b"bext", b"odd", padded=False)


@pytest.mark.parametrize(
    "chunks",
    [
        [chunk(b"JUNK", bytes(28)), fmt(), chunk(b"fact", struct.pack("<I", 1000)), data()],
        [chunk(b"bext", bytes(603)), chunk(b"LIST", b"INFOx"), fmt(), chunk(b"xyz ", b"1"), data()],
        [ODD, fmt(), chunk(b"LIST", b"INFOx", padded=False), data()],
        [fmt(), fmt(), data()],
        [fmt(), data(), fmt(channels=2)],
        [data(), fmt()],
        [fmt(), data(), chunk(b"LIST", b"INFOx"), chunk(b"id3 ", id3v2(b"abc"))],
        [fmt(), data(content=BODY), chunk(b"cue ", b"odd", padded=False)],
    ],
)
def test_chunks_may_stand_in_any_order(tmp_path: Path, chunks: Sequence[bytes]):
    path = written(tmp_path, riff(*chunks))
    reads_as(path)
    assert cautions(path) == ""


def test_two_formats_that_differ_are_refused(tmp_path: Path):
    with pytest.raises(InputError, match="two fmt chunks that differ"):
        read_header(written(tmp_path, riff(fmt(), fmt(channels=2, align=4, byte_rate=4 * RATE_HZ), data())))


def test_a_smaller_size_than_is_there_is_taken_and_the_rest_named(tmp_path: Path):
    path = written(tmp_path, riff(fmt(), data(claimed=1000)))
    reads_as(path, VALUES[:500])
    assert "the 1000 B after its samples are no chunk and are left out" in cautions(path)


def ds64(total: int, claimed: int) -> bytes:
    return chunk(b"ds64", struct.pack("<QQQI", total, claimed, 0, 0))


@pytest.mark.parametrize("name", [b"RF64", b"BW64"])
@pytest.mark.parametrize(
    ("total", "claimed", "left_open"),
    [
        (72 + len(BODY), len(BODY), False),
        (2**64 - 1, 2**64 - 1, True),
        (0, 0, True),
        (2**64 - 1, 0, True),
    ],
)
def test_rf64_is_read_by_its_sizes_of_64_bits(tmp_path: Path, name: bytes, total: int, claimed: int, left_open: bool):
    content = riff(ds64(total, claimed), fmt(), data(0xFFFFFFFF), size=0xFFFFFFFF, name=name)
    path = written(tmp_path, content)
    reads_as(path)
    assert ("leaves open how long it is" in cautions(path)) == left_open
    if not left_open:
        with pytest.raises(InputError, match="truncated"):
            read_header(written(tmp_path, content[:-2]))


def extensible(container: int, valid: int, tag: int = 1) -> bytes:
    frame = container // 8
    return chunk(
        b"fmt ",
        struct.pack("<HHIIHHHHIH", 0xFFFE, 1, RATE_HZ, frame * RATE_HZ, frame, container, 22, valid, 4, tag) + PCM_TAIL,
    )


@pytest.mark.parametrize(
    ("head", "dtype", "scale"),
    [
        (extensible(16, 12), "<i2", 2**15),
        (extensible(32, 24), "<i4", 2**31),
        (extensible(32, 32, tag=3), "<f4", 1),
        (extensible(64, 64, tag=3), "<f8", 1),
        (fmt(bits=24, align=4, byte_rate=4 * RATE_HZ), "<i4", 2**31),
        (fmt(bits=12), "<i2", 2**15),
    ],
)
def test_samples_may_be_narrower_than_their_container(tmp_path: Path, head: bytes, dtype: str, scale: float):
    unit = np.random.default_rng(1).integers(-(2**11), 2**11, 500) / 2**11
    path = written(tmp_path, riff(head, data(content=(unit * scale).astype(dtype).tobytes())))
    samples = decode(path, Decoding(RATE_HZ, "convert"))
    np.testing.assert_array_equal(samples, np.rint(unit * 32768))
    assert cautions(path) == ""


@pytest.mark.parametrize(
    ("tag", "bits", "named"),
    [(1, 8, "PCM"), (6, 8, "A-law"), (7, 8, "mu-law"), (2, 4, "Microsoft ADPCM"), (0x11, 4, "IMA ADPCM")],
)
def test_other_codecs_are_named_with_the_command_that_converts_them(tmp_path: Path, tag: int, bits: int, named: str):
    path = written(tmp_path, riff(fmt(tag=tag, bits=bits, align=1, byte_rate=RATE_HZ), data()))
    with pytest.raises(
        InputError,
        match=rf"got {bits}-bit {named.removeprefix('8-bit ')}; make 16-bit PCM .*: ffmpeg -i FILE -c:a pcm_s16le",
    ):
        read_header(path)


def test_a_wave_file_of_the_standard_library_and_one_of_soundfile_have_no_cautions(tmp_path: Path):
    with wave.open(str(tmp_path / "a.wav"), "wb") as out:
        out.setparams((1, 2, RATE_HZ, 0, "NONE", ""))
        out.writeframes(BODY)
    reads_as(tmp_path / "a.wav")
    for form in ("WAV", "WAVEX", "RF64"):
        soundfile.write(tmp_path / f"{form}.wav", VALUES, RATE_HZ, format=form)
        reads_as(tmp_path / f"{form}.wav")
        assert cautions(tmp_path / f"{form}.wav") == ""


def test_the_shared_cases_are_read_or_named(tmp_path: Path, shared_data: Path):
    import runpy
    import sys
    from unittest import mock

    with mock.patch.object(sys, "argv", ["make_cases.py", str(tmp_path)]), mock.patch("builtins.print"):
        runpy.run_path(str(shared_data / "cases" / "make_cases.py"))
    named = {"webm_renamed": "WebM", "git_annex_pointer": "git-annex"}
    paths = sorted((tmp_path / "wavs").glob("*.wav"))
    for path in paths:
        if kind := named.pop(path.stem, None):
            with pytest.raises(InputError, match=kind):
                read_header(path)
        else:
            assert len(decode(path, Decoding(RATE_HZ))) == 32_000
            assert read_header(path).cautions
    assert not named
    assert len(paths) >= 7


def test_read_samples_of_a_file_that_shrinks_meanwhile_is_refused(tmp_path: Path):
    path = written(tmp_path, riff(fmt(), data()))
    header = read_header(path)
    path.write_bytes(path.read_bytes()[:-2])
    with pytest.raises(InputError, match="expected 2000 bytes of samples, got 1998: it changed"):
        read_samples(path, header)


def test_a_second_chunk_of_samples_is_left_out_with_a_caution(tmp_path: Path):
    path = tmp_path / "two.wav"
    soundfile.write(path, np.arange(100, dtype=np.int16), 16_000, subtype="PCM_16")
    content = bytearray(path.read_bytes()) + b"data" + struct.pack("<I", 200) + bytes(200)
    content[4:8] = struct.pack("<I", len(content) - 8)
    path.write_bytes(content)
    header = read_header(path)
    assert header.samples == 100
    assert "a second chunk of samples (200 B) is left out" in str(header.cautions[0])
