"""Kinds of files by their first bytes: formats that are read, and others by name, with a remedy."""

import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from asdjax.data.formats.header import COPY, TO_WAV
from asdjax.data.formats.mpeg_frame import read_mpeg_frame
from asdjax.errors import InputError

Reader = Literal["WAV", "W64", "AIFF", "CAF", "FLAC", "OGG", "MP3"]

#: Endings of recordings. Formats that cannot be read are included, so that an error names them.
ENDINGS = (
    *(".wav", ".wave", ".bwf", ".rf64", ".w64", ".flac", ".aif", ".aiff", ".aifc", ".caf", ".mp3", ".ogg", ".oga"),
    *(".opus", ".m4a", ".m4b", ".mp4", ".aac", ".3gp", ".amr", ".webm", ".mka", ".mkv", ".mov", ".avi", ".wma", ".ac3"),
    *(".mp2", ".au", ".snd", ".wv", ".ape", ".alac"),
)

#: Bytes that suffice to recognize every kind, and for two frames of MPEG audio.
HEAD_BYTES = 8192
#: Blank bytes in front that are skipped at most, because a file of zeros would take long.
_MAX_BLANKS = 65_536

W64_RIFF = b"riff\x2e\x91\xcf\x11\xa5\xd6\x28\xdb\x04\xc1\x00\x00"


@dataclass(frozen=True, slots=True)
class FileKind:
    """Kind of a file: its name, the remedy if it cannot be read, and the reader if it can."""

    name: str
    remedy: str = TO_WAV
    reader: Reader | None = None


EMPTY = FileKind("an empty file", COPY)
UNKNOWN = FileKind("no known kind of audio", "check the path")  # an error shows no content: the file may be secret
_BLANK = FileKind("no known kind of audio: blank bytes only, as a power cut leaves them", COPY)
_MPEG = FileKind("MPEG video or programme stream")
_QUICKTIME = FileKind("QuickTime (MOV)")
_UNPACK = "unpack it, and give its contents"
_NO_SOUND = "give the recording itself"
_ANNEX = FileKind("a git-annex pointer, not the file that it represents", "fetch it with git annex get FILE")
_LFS = FileKind("a Git LFS pointer, not the file that it represents", "fetch it with git lfs pull")
DVC = FileKind("a DVC pointer, not the file that it represents", "fetch it with dvc pull")
_PAGE = "download it again (a server may have sent a message in place of the file)"

_STARTS: dict[bytes, FileKind] = {
    W64_RIFF: FileKind("Wave64 (W64)", reader="W64"),
    b"caff": FileKind("CAF", reader="CAF"),
    b"fLaC": FileKind("FLAC", reader="FLAC"),
    b"OggS": FileKind("Ogg", reader="OGG"),
    b"RIFX": FileKind("big-endian RIFF (RIFX)"),
    b"RIFF": FileKind("RIFF, but not WAV"),
    b".snd": FileKind("Sun audio (AU)"),
    b"dns.": FileKind("Sun audio (AU)"),
    b"FORM": FileKind("IFF, but not AIFF"),
    b"ADIF": FileKind("AAC"),
    b"#!AMR": FileKind("AMR"),
    bytes.fromhex("3026b2758e66cf11"): FileKind("Windows Media (WMA)"),
    b"FLV\x01": FileKind("Flash video"),
    b"\x0b\x77": FileKind("Dolby Digital (AC-3)"),
    b"\x7f\xfe\x80\x01": FileKind("DTS"),
    b"MAC ": FileKind("Monkey's Audio"),
    b"wvpk": FileKind("WavPack"),
    b"TTA1": FileKind("True Audio (TTA)"),
    b"MPCK": FileKind("Musepack"),
    b"MP+": FileKind("Musepack"),
    b"ajkg": FileKind("Shorten"),
    b".RMF": FileKind("RealMedia"),
    b".ra\xfd": FileKind("RealAudio"),
    b"DSD ": FileKind("DSD audio (DSF)"),
    b"FRM8": FileKind("DSD audio (DFF)"),
    b"Creative Voice File": FileKind("Creative Voice (VOC)"),
    b"NIST_1A": FileKind("NIST SPHERE"),
    b"MThd": FileKind("MIDI, notes without sound", _NO_SOUND),
    b"\x00\x00\x01\xba": _MPEG,
    b"\x00\x00\x01\xb3": _MPEG,
    b"7z\xbc\xaf\x27\x1c": FileKind("a 7z archive", _UNPACK),
    b"\x1f\x8b": FileKind("gzip", _UNPACK),
    b"PK\x03\x04": FileKind("a zip archive", _UNPACK),
    b"PK\x05\x06": FileKind("an empty zip archive", _UNPACK),
    b"\xfd7zXZ\x00": FileKind("xz", _UNPACK),
    b"BZh": FileKind("bzip2", _UNPACK),
    b"\x28\xb5\x2f\xfd": FileKind("zstd", _UNPACK),
    b"\x04\x22\x4d\x18": FileKind("LZ4", _UNPACK),
    b"Rar!": FileKind("a RAR archive", _UNPACK),
    b"\x93NUMPY": FileKind("a NumPy array (.npy)", "write it as a WAV: soundfile.write(NEW, numpy.load(FILE), RATE)"),
    b"\x89HDF": FileKind("HDF5 or NetCDF", "write its contents as WAV files"),
    b"MATLAB": FileKind("a MATLAB file", "write its contents as WAV files: audiowrite"),
    b"%PDF": FileKind("a PDF", _NO_SOUND),
    b"\x89PNG": FileKind("a PNG image", _NO_SOUND),
    b"\xff\xd8\xff": FileKind("a JPEG image", _NO_SOUND),
    b"bplist00": FileKind("a placeholder of iCloud or a property list", "download the file in Finder"),
    b"\x00\x05\x16\x07": FileKind("a Mac's companion file (AppleDouble)", "remove it, and give the file without ._"),
    b"L\x00\x00\x00\x01\x14\x02\x00": FileKind("a Windows shortcut", "copy the file that it points to"),
    b"version https://git-lfs": _LFS,
    b"version https://hawser": _LFS,
    b"outs:": DVC,
    b"md5:": DVC,
    b"wdir:": DVC,
    b"frozen:": DVC,
    b"<": FileKind("HTML or XML", _PAGE),
    b"{": FileKind("JSON", _PAGE),
    b"[{": FileKind("JSON", _PAGE),
}
_BRANDS = {
    b"M4A ": FileKind("M4A (AAC or ALAC)"),
    b"M4B ": FileKind("M4A (AAC or ALAC)"),
    b"qt  ": _QUICKTIME,
    b"3gp": FileKind("3GP"),
    b"3g2": FileKind("3GP"),
    b"hei": FileKind("an HEIF image", _NO_SOUND),
    b"mif1": FileKind("an HEIF image", _NO_SOUND),
    b"avif": FileKind("an AVIF image", _NO_SOUND),
}
_ANNEX_PATH = re.compile(rb"[\w./\\ -]{0,400}[/\\]annex[/\\]objects[/\\]")
_TEXT = (b"<", b"{", b"[{", b"outs:", b"md5:", b"wdir:", b"frozen:", b"version https:")


def detect_kind(head: bytes) -> FileKind:
    """Return the kind of a file, or of the part after a tag, by its first bytes."""
    if not head:
        return EMPTY
    for test in (_detect_container, _detect_iso_media, _detect_mpeg_audio, _detect_pointer):
        if kind := test(head):
            return kind
    begin = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    if begin.startswith(_TEXT):
        head = begin
    return next((kind for mark, kind in _STARTS.items() if head.startswith(mark)), UNKNOWN)


def _detect_container(head: bytes) -> FileKind | None:
    """Detect kinds by bytes that are not the first ones."""
    if len(head) < 12 and head[:4] in (b"RIFF", b"FORM"):
        return FileKind("a header that is cut off", COPY)
    if head[:4] in (b"RIFF", b"RF64", b"BW64") and head[8:12] == b"WAVE":
        return FileKind("WAV", reader="WAV")
    if head[:4] == b"RIFF" and head[8:12] == b"AVI ":
        return FileKind("AVI video")
    if head[:4] == b"FORM" and head[8:12] in (b"AIFF", b"AIFC"):
        return FileKind("AIFF", reader="AIFF")
    if head[:4] == b"\x1a\x45\xdf\xa3":
        return FileKind("WebM" if b"webm" in head[:80] else "Matroska")
    if head[257:262] == b"ustar":
        return FileKind("a tar archive", _UNPACK)
    if len(head) > 376 and head[0] == head[188] == head[376] == 0x47:
        return FileKind("MPEG transport stream")
    return None


def _detect_iso_media(head: bytes) -> FileKind | None:
    if head[4:8] == b"ftyp":
        return next((kind for brand, kind in _BRANDS.items() if head[8:].startswith(brand)), FileKind("MP4"))
    return _QUICKTIME if head[4:8] in (b"moov", b"mdat", b"wide") else None


def _detect_mpeg_audio(head: bytes) -> FileKind | None:
    """Detect MP3, MP2 and AAC by a frame, and by the next frame if there are enough bytes."""
    if len(head) >= 7 and head[0] == 0xFF and head[1] & 0xF6 == 0xF0:
        length = (head[3] & 3) << 11 | head[4] << 3 | head[5] >> 5
        following = head[length : length + 2]
        return FileKind("AAC") if length > 7 and (len(following) < 2 or following[0] == 0xFF) else None
    frame = read_mpeg_frame(head[:4])
    if frame is None:
        return None
    following = head[frame.length : frame.length + 4]
    if len(following) == 4 and read_mpeg_frame(following) is None:
        return None
    return FileKind("MP3", reader="MP3") if frame.layer == 3 else FileKind(f"MP{frame.layer} (MPEG audio)")


def _detect_pointer(head: bytes) -> FileKind | None:
    return _ANNEX if _ANNEX_PATH.match(head) else None


def absent_error(path: Path) -> InputError:
    """Return the error for a path without a regular file. It names pointers and broken links."""
    if path.is_symlink() and not os.path.exists(path):
        target = str(path.readlink()).replace("\\", "/")
        links: list[tuple[str, FileKind]] = [("annex/objects/", _ANNEX), (".dvc/", DVC), ("dvc/cache", DVC)]
        kind = next((kind for mark, kind in links if mark in target), None)
        if kind:
            return InputError(f"{path}: expected a recording, got {kind.name} (a broken link); {kind.remedy}")
        return InputError(f"{path}: expected a recording, got a broken link; restore its target, or remove the link")
    if os.path.isfile(f"{path}.dvc"):  # unlike Path.is_file, False for a name that is too long
        return InputError(f"{path}: expected a recording, got {DVC.name}; {DVC.remedy}")
    if os.path.isdir(path):
        return InputError(f"{path}: expected a recording, got a folder; give its files, such as {path}/*.wav")
    got = "a device, pipe or socket" if os.path.exists(path) else "nothing there"
    return InputError(f"{path}: expected a recording, got {got}; check the path")


def find_audio(read: Callable[[int, int], bytes]) -> tuple[int, FileKind]:
    """Return the byte at which a recording begins, and its kind. `read` takes an offset and a count.

    Tags (ID3v2, APE), a byte order mark and blank bytes in front are skipped. The byte is 0 if no known kind follows.
    """
    at = tags = blanks = 0
    first = kind = detect_kind(head := read(0, HEAD_BYTES))
    while kind in (UNKNOWN, EMPTY) and blanks <= _MAX_BLANKS:
        tag = _tag_length(head)
        blank = 0 if tag else len(head) - len(head.removeprefix(b"\xef\xbb\xbf").lstrip(b" \t\r\n\0"))
        if not tag + blank:
            break
        at, tags, blanks = at + tag + blank, tags + tag, blanks + blank
        kind = detect_kind(head := read(at, HEAD_BYTES))
    if kind not in (UNKNOWN, EMPTY):
        return at, kind
    if tags:
        return 0, FileKind("MP3 or another file with a tag, damaged", COPY)
    return 0, _BLANK if blanks and not head.strip(b" \t\r\n\0") else first


def _tag_length(head: bytes) -> int:
    """Return the length of an ID3v2 or APE tag at the beginning, 0 if there is none."""
    if head[:3] == b"ID3":
        parts = head[6:10] + bytes(10)
        size = sum((parts[i] & 0x7F) << 7 * (3 - i) for i in range(4))
        return 10 + size + (10 if head[5:6] and head[5] & 0x10 else 0)
    if head[:8] == b"APETAGEX" and len(head) >= 16:
        return 32 + int.from_bytes(head[12:16], "little")
    return 0
