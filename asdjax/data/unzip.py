"""Safe unpacking of zips with recordings: no zip can write outside its folder or fill the disk."""

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
#: Maximum ratio of unpacked to packed size. Recordings have about 2, zip bombs thousands.
MOST_TIMES = 100

# Exceptions of zipfile and the decompressors for an unreadable archive: damage, a folder, encryption, and an unknown
# compression method or version (RuntimeError and its subclasses).
_DAMAGE = (
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    RuntimeError,
    ValueError,
    IsADirectoryError,
)


def check_archive(archive: Path) -> None:
    """Raise InputError for an archive that `unpack` would refuse.

    It refuses files that are no zip, and zips with too many files or too large contents. It also refuses links, names
    that lead out of the folder, and names that occur twice.
    """
    with _open_zip(archive) as content:
        _check_members(archive, content)


def list_names(archive: Path) -> list[str]:
    """Return the names of the files in an archive. Raises InputError like `check_archive`."""
    with _open_zip(archive) as content:
        return [member.filename for member in _check_members(archive, content)]


def unpack(archive: Path, folder: Path) -> None:
    """Unpack the recordings and tables of a zip into a folder.

    A file gets its final name when it is complete. Existing files with the same contents are kept. Other kinds of
    files are left out, and their number is logged.

    Raises InputError like `check_archive` before anything is written, and for damaged contents.
    """
    with _open_zip(archive) as content:
        members = _check_members(archive, content)
        wanted = [member for member in members if member.filename.lower().endswith(KINDS)]
        if len(wanted) < len(members):
            other = next(member.filename for member in members if member not in wanted)
            left_out = len(members) - len(wanted)
            files = "1 file, no recording" if left_out == 1 else f"{left_out} files, no recordings"
            log(f"{archive.name}: left out {files} (such as {other!r})")
        for member in track(wanted, f"unpack {archive.name}", len(wanted), "file"):
            _unpack_one(content, member, folder / member.filename)


@contextmanager
def _open_zip(archive: Path) -> Iterator[zipfile.ZipFile]:
    try:
        with zipfile.ZipFile(archive) as content:
            yield content
    except _DAMAGE as error:
        raise InputError(
            f"{archive}: expected a zip archive, got a damaged or cut-off one ({error}); download it again"
        ) from error


def _check_members(archive: Path, content: zipfile.ZipFile) -> list[zipfile.ZipInfo]:
    """Return the files of an archive. Raise InputError if one must not be unpacked."""
    files = [member for member in content.infolist() if not member.is_dir()]
    for problem in _find_problems(archive, files):
        raise InputError(f"{archive}: {problem}; nothing was unpacked; get it from another source")
    return files


def _find_problems(archive: Path, files: list[zipfile.ZipInfo]) -> Iterator[str]:
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
