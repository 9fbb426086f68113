"""Archives of recordings unpacked so that no archive, however made, can harm what lies around its folder."""

import lzma
import os
import stat
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from shutil import copyfileobj

from asdjax.data.formats.kinds import ENDINGS
from asdjax.errors import InputError
from asdjax.runtime.progress import log, track

KINDS = (*ENDINGS, ".csv")
MOST_FILES = 100_000
MOST_BYTES = 64 * 2**30
MOST_TIMES = 100
"""How many times its archive's size the contents may have: recordings come to about twice, a bomb to thousands."""


# what zipfile and the decompressors raise for an archive that they cannot read: damage, and also encryption
# and a compression method or version that zipfile does not know (RuntimeError and its kinds), a folder
_DAMAGE = (
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    RuntimeError,
    ValueError,
    IsADirectoryError,
)


def look_into(archive: Path) -> None:
    """Raise InputError for an archive that `unpack` would refuse: one that is no zip, has names that lead out of the
    folder, links, the same name twice, too many or too large contents."""
    with _opened(archive) as content:
        _members(archive, content)


def names_in(archive: Path) -> list[str]:
    """Return the names of the files in an archive; raises InputError as `look_into`."""
    with _opened(archive) as content:
        return [member.filename for member in _members(archive, content)]


def unpack(archive: Path, folder: Path) -> None:
    """Unpack the recordings and tables of a zip into a folder.

    A file is under its final name only when it is whole; what is there already, with the same contents, is left.
    Files of other kinds are left out, and that is said. Raises InputError as `look_into`, before anything is written,
    and for damage that shows in reading.
    """
    with _opened(archive) as content:
        members = _members(archive, content)
        wanted = [member for member in members if member.filename.lower().endswith(KINDS)]
        if len(wanted) < len(members):
            other = next(member.filename for member in members if member not in wanted)
            left_out = len(members) - len(wanted)
            files = "1 file, no recording" if left_out == 1 else f"{left_out} files, no recordings"
            log(f"{archive.name}: left out {files} (such as {other!r})")
        for member in track(wanted, f"unpack {archive.name}", len(wanted), "file"):
            _unpack_one(content, member, folder / member.filename)


@contextmanager
def _opened(archive: Path) -> Iterator[zipfile.ZipFile]:
    try:
        with zipfile.ZipFile(archive) as content:
            yield content
    except _DAMAGE as error:
        raise InputError(f"{archive}: expected a zip archive, came {error}; download it again") from error


def _members(archive: Path, content: zipfile.ZipFile) -> list[zipfile.ZipInfo]:
    """The files of an archive, once everything about it has been looked at."""
    files = [member for member in content.infolist() if not member.is_dir()]
    for what in _objections(archive, files):
        raise InputError(f"{archive}: {what}; nothing was unpacked; get it from another place")
    return files


def _objections(archive: Path, files: list[zipfile.ZipInfo]) -> Iterator[str]:
    if len(files) > MOST_FILES:
        yield f"holds {len(files)} files, more than {MOST_FILES}"
    size = sum(member.file_size for member in files)
    if size > min(MOST_BYTES, MOST_TIMES * archive.stat().st_size):
        yield f"would unpack to {size} bytes from {archive.stat().st_size}"
    names: set[str] = set()
    for member in files:
        name = member.filename
        parts = PurePosixPath(name).parts
        if name.startswith("/") or "\\" in name or ":" in name or ".." in parts or not name.isprintable():
            yield f"holds the name {name!r}, which leads out of the folder or is none"
        if stat.S_IFMT(member.external_attr >> 16) not in (0, stat.S_IFREG):
            yield f"holds {name!r}, which is a link or a device"
        if name.lower() in names:
            yield f"holds {name!r} twice"
        names.add(name.lower())


def _unpack_one(content: zipfile.ZipFile, member: zipfile.ZipInfo, target: Path) -> None:
    if target.is_file() and target.stat().st_size == member.file_size and zlib.crc32(target.read_bytes()) == member.CRC:
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f"{target.name}.partial")
    try:
        with content.open(member) as packed, partial.open("wb") as out:
            copyfileobj(packed, out, 2**20)
        os.replace(partial, target)
    finally:
        partial.unlink(missing_ok=True)
