"""What is set before JAX computes anything: a private cache of compiled programs, memory kept, and quiet."""

import ctypes
import errno
import os
import platform
import warnings
from pathlib import Path

import jax

from asdjax.progress import say


def prepare() -> None:
    """Keep compiled programs between processes, in a folder that only this user can read, and freed memory in this one.

    JAX_COMPILATION_CACHE_DIR, if set, says where instead.
    """
    _keep_memory()
    warnings.filterwarnings("ignore", message="Some donated buffers were not usable")
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 1.0)
    if jax.config.jax_compilation_cache_dir:
        return
    try:
        home = Path(os.environ.get("XDG_CACHE_HOME", ""))
        cache = (home if home.is_absolute() else Path.home() / ".cache") / "asdjax" / "xla"
        cache.mkdir(parents=True, exist_ok=True, mode=0o700)
        if not os.access(cache, os.W_OK):
            raise PermissionError(errno.EACCES, "cannot be written")
    except (OSError, RuntimeError) as error:  # RuntimeError: this user has no home
        say(f"compiled programs are not kept ({error}); set XDG_CACHE_HOME to a folder that can be written")
        return
    jax.config.update("jax_compilation_cache_dir", str(cache))


def _keep_memory() -> None:
    """Have glibc keep what is freed, in one heap, instead of giving it back; other C libraries are left alone.

    XLA takes the temporaries of a step, 0.6 GB for MobileFaceNet at batch 8, anew at each call. Given back in between,
    each page of them is a page fault again: 157,000 a step, 0.77 s a step instead of 0.50 on two x86 cores.
    """
    if platform.libc_ver()[0] == "glibc":
        mallopt = ctypes.CDLL(None).mallopt
        for option, value in _KEPT:
            mallopt(option, value)


_ONE_ARENA, _NO_MAPS, _NO_TRIM = (-8, 1), (-4, 0), (-1, -1)
_KEPT = (_ONE_ARENA, _NO_MAPS, _NO_TRIM)
"""M_ARENA_MAX, M_MMAP_MAX and M_TRIM_THRESHOLD of glibc's malloc.h: its first arena alone, a heap, is kept."""
