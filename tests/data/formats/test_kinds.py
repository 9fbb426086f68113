"""Files that are no recording: an error names each kind and a remedy."""

import bz2
import gzip
import io
import lzma
import os
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest

from asdjax.data.audio import read_header
from asdjax.errors import InputError


def refused(path: Path) -> str:
    with pytest.raises(InputError) as error:
        read_header(path)
    message = str(error.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    return message


def packed(kind: type, mode: str) -> bytes:
    content = io.BytesIO()
    with kind(content, mode) if kind is zipfile.ZipFile else tarfile.open(fileobj=content, mode=mode) as archive:
        if isinstance(archive, zipfile.ZipFile):
            archive.writestr("a.wav", b"RIFF")
        else:
            archive.addfile(tarfile.TarInfo("a.wav"))
    return content.getvalue()


def array() -> bytes:
    content = io.BytesIO()
    np.save(content, np.zeros(10))
    return content.getvalue()


ADTS = bytes.fromhex("fff15080043ffc") + bytes(26)
MP2 = bytes.fromhex("fffd80c4") + bytes(413)
ANNEX = b"/annex/objects/SHA256E-s64044--0123456789abcdef.wav\n"

KINDS = {
    "WebM": (bytes.fromhex("1a45dfa39f4286810142f7810142f2810442f381084282847765626d") + bytes(200), "ffmpeg -i"),
    "Matroska": (bytes.fromhex("1a45dfa3a34286810142f7810142f2810442f381084282886d6174726f736b61"), "ffmpeg -i"),
    "M4A": (b"\0\0\0\x20ftypM4A \0\0\0\0", "ffmpeg -i"),
    "MP4": (b"\0\0\0\x18ftypmp42\0\0\0\0", "ffmpeg -i"),
    "3GP": (b"\0\0\0\x18ftyp3gp4\0\0\0\0", "ffmpeg -i"),
    "QuickTime": (b"\0\0\0\x14ftypqt  \0\0\0\0", "ffmpeg -i"),
    "AAC": (ADTS + ADTS, "ffmpeg -i"),
    "MP2": (MP2 + MP2, "ffmpeg -i"),
    "AMR": (b"#!AMR-WB\n" + bytes(60), "ffmpeg -i"),
    "MPEG video": (bytes.fromhex("000001ba44000400") + bytes(60), "ffmpeg -i"),
    "MPEG transport stream": ((b"\x47" + bytes(187)) * 4, "ffmpeg -i"),
    "Windows Media": (bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c"), "ffmpeg -i"),
    "Sun audio": (b".snd\0\0\0\x18" + bytes(20), "ffmpeg -i"),
    "WavPack": (b"wvpk" + bytes(30), "ffmpeg -i"),
    "AVI video": (b"RIFF\0\0\0\0AVI LIST", "ffmpeg -i"),
    "7z": (b"7z\xbc\xaf\x27\x1c" + bytes(30), "unpack it"),
    "gzip": (gzip.compress(b"RIFF"), "unpack it"),
    "zip archive": (packed(zipfile.ZipFile, "w"), "unpack it"),
    "xz": (lzma.compress(b"RIFF"), "unpack it"),
    "bzip2": (bz2.compress(b"RIFF"), "unpack it"),
    "zstd": (b"\x28\xb5\x2f\xfd" + bytes(10), "unpack it"),
    "RAR": (b"Rar!\x1a\x07\x00", "unpack it"),
    "tar": (packed(tarfile.TarFile, "w"), "unpack it"),
    "NumPy array": (array(), "soundfile.write"),
    "HTML": (b"\xef\xbb\xbf\n<!doctype html><title>404</title>", "download it again"),
    "XML": (b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>", "download it again"),
    "JSON": (b'{"message": "Not Found"}', "download it again"),
    "git-annex": (ANNEX, "git annex get"),
    "Git LFS": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", "git lfs pull"),
    "DVC": (b"outs:\n- md5: 0123\n  size: 1\n  path: a.wav\n", "dvc pull"),
    "a DVC pointer": (b"wdir: ..\nouts:\n- md5: 0123\n", "dvc pull"),
    "DVC pointer, not": (b"frozen: true\nouts:\n- md5: 0123\n", "dvc pull"),
    "an empty file": (b"", "copy or record it again"),
    "no known kind of audio": (b"\1\2\3\4" * 1000, "check the path"),
    "a header that is cut off": (b"RIFF\0\0\0\0WAV", "copy or record it again"),
    "blank bytes only": (bytes(10_000), "copy or record it again"),
    "blank bytes only, as": (bytes(200_000), "copy or record it again"),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("ending", [".wav", ".flac"])
def test_a_kind_that_is_not_read_is_named_with_what_to_do(tmp_path: Path, kind: str, ending: str):
    content, remedy = KINDS[kind]
    path = tmp_path / f"a{ending}"
    path.write_bytes(content)
    message, _, advice = refused(path).rpartition("; ")
    assert kind in message
    assert remedy in advice


@pytest.mark.parametrize("front", [b"ID3\3\0\0\0\0\0\x0a" + bytes(10), bytes(100)])
def test_a_kind_is_named_behind_a_tag_too(tmp_path: Path, front: bytes):
    (tmp_path / "a.wav").write_bytes(front + ADTS + ADTS)
    assert "got AAC; make a WAV of it" in refused(tmp_path / "a.wav")


@pytest.mark.parametrize(
    ("target", "named"),
    [
        ("../.git/annex/objects/0a/1b/SHA256E-s64--ab.wav/SHA256E-s64--ab.wav", "git-annex pointer.*git annex get"),
        ("../.dvc/cache/files/md5/0a/1b", "DVC pointer.*dvc pull"),
        ("../elsewhere/b.wav", "got a broken link; restore its target"),
    ],
)
def test_a_link_that_leads_nowhere_is_named_for_what_left_it(tmp_path: Path, target: str, named: str):
    os.symlink(target, tmp_path / "a.wav")
    with pytest.raises(InputError, match=named):
        read_header(tmp_path / "a.wav")


def test_a_file_of_which_only_its_dvc_pointer_is_there(tmp_path: Path):
    (tmp_path / "a.wav.dvc").write_text("outs:\n- md5: 0123\n  path: a.wav\n")
    assert "DVC pointer" in refused(tmp_path / "a.wav")


@pytest.mark.parametrize("name", [".", "/", "x" * 254, "gone.wav"])
def test_a_path_without_a_file_is_refused(tmp_path: Path, name: str):
    with pytest.raises(InputError):
        read_header(tmp_path / name if name != "." else Path())


def test_a_secret_is_not_shown(tmp_path: Path):
    (tmp_path / "key").write_text("-----BEGIN PRIVATE KEY-----\nabcdef\n")
    assert refused(tmp_path / "key").endswith("got no known kind of audio; check the path")
