"""Files that appear whole or not at all, and folders that one process at a time works in."""

import contextlib
import errno
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from asdjax.errors import InputError


def replace_text(path: Path, text: str) -> None:
    """Write a UTF-8 file anew: whoever reads it, even after a kill or a power cut, sees the old text or the new."""
    partial = path.with_name(f"{path.name}.partial")
    try:
        with partial.open("w", encoding="utf-8", newline="") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


_REMEDIES = {
    errno.ENOSPC: "free some space",
    errno.EDQUOT: "free some of your quota",
    errno.EACCES: "allow writing there",
    errno.EPERM: "allow writing there",
    errno.EROFS: "choose a disk that can be written",
    errno.ENOENT: "choose a place where folders can be made",
    errno.ENAMETOOLONG: "choose shorter names",
    errno.ENOTDIR: "choose a folder",
    errno.EEXIST: "choose a folder",
    errno.ENOLCK: "choose a disk that can lock files",
}


@contextlib.contextmanager
def locked_folder(folder: Path, *, wait: bool = True) -> Iterator[None]:
    """Work in `folder` while no other process does; a second one waits, or is refused where `wait` is False.

    If an error leaves the body, the folders made for it go again as far as they are empty. Raises
    InputError, naming `folder`, where it or something in it cannot be written for a reason the user can
    mend: no space, no permission, a file in the way.
    """
    try:
        with _made(folder), _lock(folder, wait):
            if not os.access(folder, os.W_OK):
                raise PermissionError(errno.EACCES, "Permission denied")
            yield
    except OSError as error:
        if error.errno not in _REMEDIES:
            raise
        what = f"{folder}: cannot be written ({error.strerror})"
        raise InputError(f"{what}; {_REMEDIES[error.errno]}, or choose another folder") from error


@contextlib.contextmanager
def _made(home: Path) -> Iterator[None]:
    """`home` made where missing; those of its folders that are new go again if an error leaves them empty."""
    new = [path for path in (home, *home.parents) if not path.exists()]
    home.mkdir(parents=True, exist_ok=True)
    try:
        yield
    except BaseException:
        with contextlib.suppress(OSError):
            for path in new:
                path.rmdir()
        raise


@contextlib.contextmanager
def _lock(home: Path, wait: bool) -> Iterator[None]:
    """The system frees it when a process dies."""
    handle = os.open(home, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(f"{home}: another asdjax process is at work in it; wait for it, or end it") from None
        yield
    finally:
        os.close(handle)
