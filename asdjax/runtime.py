"""What is set before JAX computes anything: a private cache of compiled programs, and quiet."""

import errno
import functools
import os
import warnings
from pathlib import Path

import jax

from asdjax.errors import InputError
from asdjax.files import locked_folder, replace_bytes
from asdjax.progress import say


def prepare() -> None:
    """Keep compiled programs between processes, in a folder that only this user can read.

    JAX_COMPILATION_CACHE_DIR, if set, says where instead.
    """
    warnings.filterwarnings("ignore", message="Some donated buffers were not usable")
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 1.0)
    if jax.config.jax_compilation_cache_dir:
        return
    cache = private_cache("xla")
    if cache:
        jax.config.update("jax_compilation_cache_dir", str(cache))


def private_cache(name: str) -> Path | None:
    """A folder for what is kept between processes, which only this user can read; None, and that is said, where there
    can be none."""
    try:
        home = Path(os.environ.get("XDG_CACHE_HOME", ""))
        cache = (home if home.is_absolute() else Path.home() / ".cache") / "asdjax" / name
        cache.mkdir(parents=True, exist_ok=True, mode=0o700)
        if not os.access(cache, os.W_OK):
            raise PermissionError(errno.EACCES, "cannot be written")
    except (OSError, RuntimeError) as error:  # RuntimeError: this user has no home
        _say_not_kept(str(error))
        return None
    return cache


def keep(file: Path, content: bytes) -> None:
    """Write a file of a private cache, where other processes may be writing the same one; what cannot be is said."""
    try:
        with locked_folder(file.parent):
            replace_bytes(file, content)
    except InputError as error:
        _say_not_kept(str(error))


@functools.cache
def _say_not_kept(reason: str) -> None:
    say(f"compiled programs are not kept ({reason}); set XDG_CACHE_HOME to a folder that can be written")
