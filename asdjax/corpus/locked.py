"""A folder that one process at a time works in, made where missing, with the system's errors put in words."""

import contextlib
import errno
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from asdjax.errors import InputError

_REMEDIES = {
    errno.ENOSPC: "free some space",
    errno.EDQUOT: "free some of your quota",
    errno.EACCES: "allow writing there",
    errno.EPERM: "allow writing there",
    errno.EROFS: "choose a disk that can be written",
    errno.ENOTDIR: "choose a folder",
    errno.EEXIST: "choose a folder",
    errno.ENOLCK: "choose a disk that can lock files",
}


@contextlib.contextmanager
def locked_folder(folder: Path) -> Iterator[None]:
    """Work in `folder` while no other process does; a second one waits.

    If an error leaves the body, the folders made for it go again as far as they are empty. Raises
    InputError, naming `folder`, where it or something in it cannot be written for a reason the user can
    mend: no space, no permission, a file in the way.
    """
    try:
        with _made(folder), _lock(folder):
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
def _lock(home: Path) -> Iterator[None]:
    """Let one process at a time look at and build the store; the system frees it when a process dies."""
    handle = os.open(home, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
