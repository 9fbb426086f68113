"""Files that are written completely or not at all, and folders that one process at a time works in."""

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import re
from collections.abc import Container, Iterable, Iterator, Mapping
from pathlib import Path
from time import sleep
from typing import Any

from asdjax.errors import InputError, InUse, NoSpace
from asdjax.runtime.progress import log

_CHECKSUM = "sha256"

_REMEDIES = {
    errno.ENOSPC: "free some space, or choose another folder",
    errno.EDQUOT: "free some of your quota, or choose another folder",
    errno.EACCES: "allow reading and writing there, or choose another folder",
    errno.EPERM: "allow reading and writing there, or choose another folder",
    errno.EROFS: "choose a folder on a disk that can be written",
    errno.ENOENT: "choose a folder where others can be made",
    errno.ENAMETOOLONG: "choose shorter names",
    errno.ENOTDIR: "choose another folder",
    errno.EEXIST: "choose another folder",
}

#: Errors that are reported as bad input wherever they occur, as the disk is their cause, not a defect of asdjax.
DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM)

#: The file that is locked in a folder that cannot be locked itself.
LOCK = ".lock"

# errors of a disk that cannot lock, or not through such a descriptor
_CANNOT_LOCK = (
    errno.EBADF,
    errno.EINVAL,
    errno.ENOLCK,
    errno.ENOSYS,
    errno.ENOTSUP,
    errno.EOPNOTSUPP,
    errno.ENOTTY,
    errno.EPROTONOSUPPORT,
)

_unlockable: set[int] = set()  # devices of disks that cannot lock, each of which was logged

# NumPy's message for a full disk
_SHORT_WRITE = re.compile(r"\d+ requested and \d+ written")


def replace_text(path: Path, text: str) -> None:
    """Replace a UTF-8 file: a reader sees the old text or the new one, even after a kill or a power cut."""
    partial = path.with_name(f"{path.name}.partial")
    try:
        write_to_disk(partial, text)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def write_to_disk(path: Path, text: str) -> None:
    """Write a UTF-8 file, and return when it is on the disk."""
    with path.open("w", encoding="utf-8", newline="") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def compute_sha256(path: Path) -> str:
    """Return the SHA-256 of a file's content, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def add_checksum(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return a JSON record with the SHA-256 of its other values."""
    return {**record, _CHECKSUM: _digest(record)}


def verify_checksum(text: str) -> dict[str, Any]:
    """Return the record in the text of a JSON file, without its checksum.

    Raises ValueError if the text is damaged, or of an earlier version of asdjax.
    """
    try:
        record = json.loads(text)
    except ValueError as error:
        raise ValueError(f"no JSON ({error}): damaged") from error
    if not isinstance(record, dict) or _CHECKSUM not in record:
        raise ValueError("without a SHA-256 of its content: damaged, or of an earlier version of asdjax")
    if record.pop(_CHECKSUM) != _digest(record):
        raise ValueError("not what was written")
    return record


def _digest(record: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(record).encode()).hexdigest()


def explain_refusal(error: OSError, where: Path | str, numbers: Container[int] = _REMEDIES) -> InputError | None:
    """Return the InputError for an error of the system that the user can correct, None for any other.

    `numbers` are the error numbers to consider. The message names `where` if the error names no file.
    """
    if _SHORT_WRITE.search(str(error)):
        return make_no_space_error(where)
    if error.errno is None or error.errno not in numbers:
        return None
    kind = NoSpace if error.errno in (errno.ENOSPC, errno.EDQUOT) else InputError
    return kind(f"{error.filename or where}: {error.strerror}; {_REMEDIES[error.errno]}")


def make_no_space_error(where: Path | str, number: int = errno.ENOSPC) -> NoSpace:
    """Return the error for a full disk, or with EDQUOT for a full quota."""
    return NoSpace(f"{where}: {os.strerror(number)}; {_REMEDIES[number]}")


def find_no_space(text: str, where: Path | str) -> InputError | None:
    """Return the InputError for a full disk or quota if a library's message `text` names one, else None."""
    named = [number for number in (errno.ENOSPC, errno.EDQUOT) if os.strerror(number) in text]
    return make_no_space_error(where, named[0]) if named else None


def is_writable(folder: Path) -> bool:
    """Return True if this user can make files in a folder."""
    return os.access(folder, os.W_OK | os.X_OK)


def require_writable(folder: Path) -> None:
    """Raise InputError if this user cannot make files in a folder."""
    if not is_writable(folder):
        number = errno.EROFS if os.statvfs(folder).f_flag & os.ST_RDONLY else errno.EACCES
        raise InputError(f"{folder}: {os.strerror(number)}; {_REMEDIES[number]}")


@contextlib.contextmanager
def locked_folder(folder: Path, *, wait: bool = True) -> Iterator[Path]:
    """Make `folder` if it is missing, and lock it while the block runs, so that no other process works in it.

    A second process waits, or raises InUse if `wait` is False. A warning is logged once for a disk that cannot
    lock. After an error, the folders that were made for it are removed if they are empty. Raises InputError for errors
    of the system that the user can correct: no space, no permission, a file in the way.
    """
    new = [path for path in (folder, *folder.parents) if not os.path.lexists(path)]
    try:
        with _removed_on_error(new):
            folder.mkdir(parents=True, exist_ok=True)
        handle = _lock(folder, wait)
        try:
            with _removed_on_error(new):  # under the lock: no other process works in it
                require_writable(folder)
                yield folder
        finally:
            _unlock(handle, folder)
    except OSError as error:
        advice = explain_refusal(error, folder)
        if advice is None:
            raise
        raise advice from error


@contextlib.contextmanager
def _removed_on_error(new: Iterable[Path]) -> Iterator[None]:
    """Remove folders, the innermost first, after an error in the block, as far as they are empty."""
    try:
        yield
    except BaseException:
        with contextlib.suppress(OSError):
            for path in new:
                if os.path.lexists(path):
                    if os.listdir(path) == [LOCK]:
                        (path / LOCK).unlink()
                    path.rmdir()
        raise


def is_locked(folder: Path) -> bool | None:
    """Return whether a process works in a folder within `locked_folder`; None on a disk that cannot lock."""
    held = [_is_held(path) for path in (folder, folder / LOCK)]
    return True if True in held else None if None in held else False


def _is_held(path: Path) -> bool | None:
    try:
        handle = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError as error:
        if error.errno not in _CANNOT_LOCK:
            raise
        return None
    finally:
        os.close(handle)
    return False


def _lock(folder: Path, wait: bool) -> int:
    """Lock a folder, made if missing, and return its open descriptor; the system frees the lock of a dead process.

    Over NFS a lock needs a descriptor that is open for writing, which a folder never has. There, and on other disks
    that cannot lock a folder, a file in it is locked. If that fails too, a warning is logged once.
    """
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        for path, flags in ((folder, os.O_RDONLY), (folder / LOCK, os.O_RDWR | os.O_CREAT)):
            handle = os.open(path, flags | os.O_CLOEXEC, 0o666)
            try:
                locked = _flock(handle, folder, wait)
                same = os.path.exists(path) and os.path.samestat(os.fstat(handle), os.stat(path))
            except BaseException:
                os.close(handle)
                raise
            if locked and same:
                return handle
            os.close(handle)
            if locked:  # the process that had the lock has removed the folder meanwhile
                break
        else:
            (folder / LOCK).unlink(missing_ok=True)
            _warn_unlockable(folder)
            return os.open(folder, os.O_RDONLY)


def _flock(handle: int, folder: Path, wait: bool) -> bool:
    """Lock a descriptor of a folder, or of the file in it; return False if the disk cannot lock it."""
    try:
        for pause_s in (0.1, 0.0):  # `is_locked` of another process holds the lock for an instant
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return True
            sleep(pause_s)
        if not wait:
            raise InUse(f"{folder}: another asdjax process is at work in it; wait for it, or end it")
        log(f"{folder}: another process is at work in it; waiting until it has ended")
        fcntl.flock(handle, fcntl.LOCK_EX)
    except OSError as error:
        if error.errno in _CANNOT_LOCK:
            return False
        raise
    return True


def _unlock(handle: int, folder: Path) -> None:
    """Release a lock; the file made for it is removed first, and a process that waits for it tries `_lock` again."""
    with contextlib.suppress(OSError):  # already removed, or on a disk that was unmounted: closing is enough
        if os.path.samestat(os.fstat(handle), os.stat(folder / LOCK)):
            (folder / LOCK).unlink()
    os.close(handle)


def _warn_unlockable(folder: Path) -> None:
    disk = folder.stat().st_dev
    if disk not in _unlockable:
        _unlockable.add(disk)
        log(
            f"{folder}: this disk cannot lock; see to it that no two asdjax processes work in the same folder, which "
            "asdjax cannot notice here"
        )
