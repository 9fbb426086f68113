"""What is set before JAX computes anything: a private cache of compiled programs, and quiet."""

import errno
import os
import warnings
from pathlib import Path

import jax

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
        say(f"compiled programs are not kept ({error}); set XDG_CACHE_HOME to a folder that can be written")
        return None
    return cache
