"""What is set before JAX computes anything: a private cache of compiled programs, and quiet."""

import os
import warnings
from pathlib import Path

import jax


def prepare() -> None:
    """Keep compiled programs between processes, in a folder that only this user can read."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    cache = Path(home) / "asdjax" / "xla"
    cache.mkdir(parents=True, exist_ok=True, mode=0o700)
    jax.config.update("jax_compilation_cache_dir", str(cache))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 1.0)
    warnings.filterwarnings("ignore", message="Some donated buffers were not usable")
