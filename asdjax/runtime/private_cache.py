"""Cache of compiled programs and traces in a folder that no other user can write to, as its content is executed."""

import functools
import hashlib
import json
import os
import stat
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax

from asdjax.errors import InputError
from asdjax.runtime.progress import log

_REMEDY = "set XDG_CACHE_HOME to a folder of your own that can be written"


def make_folder(name: str) -> Path | None:
    """Return the cache's folder `name`, made if missing, under XDG_CACHE_HOME (default ~/.cache) in asdjax/.

    Returns None, and logs the reason once, if the folder cannot be made, made private or written. Raises InputError if
    there was one before that another user owns or can write to.
    """
    try:
        home = Path(os.environ.get("XDG_CACHE_HOME", ""))
        home = (home if home.is_absolute() else Path.home() / ".cache") / "asdjax"
    except RuntimeError as error:  # this user has no home
        return _log_no_cache(str(error))
    try:
        home.parent.mkdir(parents=True, exist_ok=True)
        for folder in (home, home / name):
            is_new = not folder.exists()
            folder.mkdir(exist_ok=True, mode=0o700)
            try:
                _require_private(folder)
            except InputError as error:
                if not is_new:
                    raise
                folder.rmdir()  # this disk sets owners or modes of its own
                return _log_no_cache(str(error).partition(";")[0])
    except OSError as error:
        return _log_no_cache(f"{home}: {error.strerror}")
    return home / name if os.access(home / name, os.W_OK) else _log_no_cache(f"{home}: cannot be written")


def _require_private(folder: Path) -> None:
    """Raise InputError if another user could have put files into a folder, or a link in its place."""
    entry, target = folder.lstat(), folder.stat()
    user = os.geteuid()
    owners_of_entry = (user, 0) if folder.is_symlink() else (user,)
    for owner, allowed in ((entry.st_uid, owners_of_entry), (target.st_uid, (user,))):
        if owner not in allowed:
            raise InputError(f"{folder}: expected a folder of user {user}, got one of user {owner}; {_REMEDY}")
    if target.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise InputError(
            f"{folder}: expected a folder that only you can write to, got mode {stat.S_IMODE(target.st_mode):o}; "
            f"remove it, or chmod go-w it if you trust its content, or {_REMEDY}"
        )


def write(file: Path, content: bytes) -> None:
    """Write a file of the cache, even while other processes write the same one; log the reason if it fails.

    A reader must check the content by a digest in it.
    """
    try:
        handle, partial = tempfile.mkstemp(dir=file.parent)
        try:
            with open(handle, "wb") as stream:
                stream.write(content)
            os.replace(partial, file)
        except OSError:
            os.unlink(partial)
            raise
    except OSError as error:
        _log_no_cache(f"{file.parent.parent}: {error.strerror}")


@functools.cache
def _log_no_cache(reason: str) -> None:
    log(f"compiled programs are not kept ({reason}); {_REMEDY}")


def digest_program(*about: Any) -> str:
    """Return a SHA-256 of JSON values, JAX's settings, library versions and this package's source."""
    settings = {setting: repr(value) for setting, value in jax.config.values.items()}
    versions = [version(package) for package in ("jax", "jaxlib", "flax", "numpy")]
    return hashlib.sha256(json.dumps([about, settings, versions, _digest_source()]).encode()).hexdigest()


@functools.cache
def _digest_source() -> str:
    files = sorted(Path(__file__).parents[1].rglob("*.py"))
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()
