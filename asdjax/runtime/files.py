"""Files that appear whole or not at all, and folders that one process at a time works in."""

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

from asdjax.errors import InputError
from asdjax.runtime.progress import log

_SEAL = "sha256"


def replace_text(path: Path, text: str) -> None:
    """Write a UTF-8 file anew: whoever reads it, even after a kill or a power cut, sees the old text or the new."""
    partial = path.with_name(f"{path.name}.partial")
    try:
        write_to_disk(partial, text)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def write_to_disk(path: Path, text: str) -> None:
    """Write a UTF-8 file, and wait until it is there."""
    with path.open("w", encoding="utf-8", newline="") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def sha256_of(path: Path) -> str:
    """Of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def add_checksum(record: Mapping[str, Any]) -> dict[str, Any]:
    """A record for a file of JSON, with the SHA-256 of all else in it."""
    return {**record, _SEAL: _digest(record)}


def verify_checksum(text: str) -> dict[str, Any]:
    """The record that a file of JSON holds.

    Raises ValueError where it is not what was sealed: then it is damaged, or of an earlier version of asdjax.
    """
    try:
        record = json.loads(text)
    except ValueError as error:
        raise ValueError(f"no JSON ({error}): damaged") from error
    if not isinstance(record, dict) or _SEAL not in record:
        raise ValueError("without the SHA-256 of its own: damaged, or of an earlier version of asdjax")
    if record.pop(_SEAL) != _digest(record):
        raise ValueError("not what was written")
    return record


def _digest(record: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(record).encode()).hexdigest()


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


OF_THE_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM)
"""Of these the user is told wherever they come up: no defect of ours is behind them."""

LOCK = ".lock"
"""The file that is locked in a folder that cannot be."""

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
"""What a disk answers that cannot lock, or not through such a descriptor."""

_unlockable: set[int] = set()
"""Disks of which it was said."""

_SHORT_WRITE = re.compile(r"\d+ requested and \d+ written")
"""NumPy's words for a disk that is full."""


@contextlib.contextmanager
def locked_folder(folder: Path, *, wait: bool = True) -> Iterator[Path]:
    """`folder`, made where it is missing, to work in while no other process does; a second one waits, or is refused
    where `wait` is False. Of a disk that cannot lock a warning is printed once.

    After an error the folders made for it go again as far as they are empty. Raises InputError, naming the file or
    folder, for what the system refuses and the user can mend: no space, no permission, a file in the way.
    """
    new = [path for path in (folder, *folder.parents) if not os.path.lexists(path)]
    try:
        with _gone_again(new):
            folder.mkdir(parents=True, exist_ok=True)
        handle = _lock(folder, wait)
        try:
            with _gone_again(new):  # while it is locked: nobody else is at work in it
                require_writable(folder)
                yield folder
        finally:
            _unlock(handle, folder)
    except OSError as error:
        advice = refused(error, folder)
        if advice is None:
            raise
        raise advice from error


@contextlib.contextmanager
def _gone_again(new: Iterable[Path]) -> Iterator[None]:
    """Folders, the innermost first, are removed after an error, as far as they are empty."""
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


def refused(error: OSError, where: Path | str, numbers: Container[int] = _REMEDIES) -> InputError | None:
    """What to tell of a refusal of the system that the user can mend, of one of some error numbers; None of any other.
    `where` is told if the error names no file."""
    if _SHORT_WRITE.search(str(error)):
        return no_space(where)
    if error.errno is None or error.errno not in numbers:
        return None
    return InputError(f"{error.filename or where}: {error.strerror}; {_REMEDIES[error.errno]}")


def no_space(where: Path | str, number: int = errno.ENOSPC) -> InputError:
    """What to tell of a full disk, or of a full quota."""
    return InputError(f"{where}: {os.strerror(number)}; {_REMEDIES[number]}")


def no_space_told(text: str, where: Path | str) -> InputError | None:
    """The same, where a library's own words name it; None where they do not."""
    told = [number for number in (errno.ENOSPC, errno.EDQUOT) if os.strerror(number) in text]
    return no_space(where, told[0]) if told else None


def is_locked(folder: Path) -> bool:
    """Return whether a process is at work in a folder, as `locked_folder` has it; False on a disk that cannot lock."""
    return any(map(_is_held, (folder, folder / LOCK)))


def _is_held(path: Path) -> bool:
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
    finally:
        os.close(handle)
    return False


def may_write(folder: Path) -> bool:
    """Return whether this user can make files in a folder."""
    return os.access(folder, os.W_OK | os.X_OK)


def require_writable(folder: Path) -> None:
    """Raise InputError where no file can be made in a folder."""
    if not may_write(folder):
        number = errno.EROFS if os.statvfs(folder).f_flag & os.ST_RDONLY else errno.EACCES
        raise InputError(f"{folder}: {os.strerror(number)}; {_REMEDIES[number]}")


def _lock(folder: Path, wait: bool) -> int:
    """Return the folder, made where missing, open and locked: the system frees the lock when a process dies.

    Over NFS a lock needs a descriptor that is open for writing, which a folder never has: there, and on other disks
    that cannot lock a folder, the lock is a file in it. Where that cannot be locked either, a warning is printed once.
    """
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        for path, flags in ((folder, os.O_RDONLY), (folder / LOCK, os.O_RDWR | os.O_CREAT)):
            handle = os.open(path, flags | os.O_CLOEXEC, 0o666)
            try:
                locked = _take(handle, folder, wait)
                same = os.path.exists(path) and os.path.samestat(os.fstat(handle), os.stat(path))
            except BaseException:
                os.close(handle)
                raise
            if locked and same:
                return handle
            os.close(handle)
            if locked:  # whoever had it has removed the folder meanwhile
                break
        else:
            (folder / LOCK).unlink(missing_ok=True)
            _say_unlockable(folder, folder.stat().st_dev)
            return os.open(folder, os.O_RDONLY)


def _unlock(handle: int, folder: Path) -> None:
    """Let go of a lock. A file made for it goes first: who waits for it looks again, as `_lock` does."""
    with contextlib.suppress(OSError):  # gone, or of a disk that has been unmounted: closing is what counts
        if os.path.samestat(os.fstat(handle), os.stat(folder / LOCK)):
            (folder / LOCK).unlink()
    os.close(handle)


def _say_unlockable(folder: Path, disk: int) -> None:
    if disk not in _unlockable:
        _unlockable.add(disk)
        log(
            f"{folder}: this disk cannot lock; see to it that no two asdjax processes work in the same folder, which "
            "nothing here can notice"
        )


def _take(handle: int, folder: Path, wait: bool) -> bool:
    """Lock a descriptor of a folder, or of the file in it; returns False where the disk cannot lock it."""
    try:
        for wait_seconds in (0.1, 0.0):  # who looks whether it is free, see `is_locked`, has it for an instant
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return True
            sleep(wait_seconds)
        if not wait:
            raise InputError(f"{folder}: another asdjax process is at work in it; wait for it, or end it")
        log(f"{folder}: another process is at work in it; waiting until it has ended")
        fcntl.flock(handle, fcntl.LOCK_EX)
    except OSError as error:
        if error.errno in _CANNOT_LOCK:
            return False
        raise
    return True
