"""What is set before JAX computes anything, and what is kept between processes in a private cache."""

import functools
import hashlib
import json
import logging
import os
import stat
import tempfile
import warnings
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax

from asdjax.errors import InputError, reason_of
from asdjax.runtime.progress import log

_OF_A_GPU = {
    "xla_gpu_enable_triton_gemm": False,
    "xla_gpu_blas_max_algorithms": 16,
    "xla_gpu_command_buffer_scheduling_mode": "CONCURRENT",
}
"""Matrix products are cuBLAS's, of which it tries sixteen ways. With Triton's beside them seven stacked MobileFaceNets
(512) had not compiled after 85 s on an H200, instead of after 30. Operations that do not need each other run beside
each other, for half as many temporaries again: a step of six variants takes 26.3 ms there instead of 28.2."""


#: What makes JAX find devices of a platform.
_PACKAGES = {"cuda": "asdjax[cuda]", "gpu": "asdjax[cuda]", "rocm": "JAX for ROCm", "tpu": "asdjax[tpu]"}

_OF_NVIDIA = ("nvidia*", "dxg")
"""In /dev where there is a GPU of theirs."""


def _shortened(told: logging.LogRecord) -> bool:
    """Of what JAX logs, a line in the place of a traceback where its plugin for CUDA finds no GPU as there is none."""
    if told.exc_info and "cuda" in told.getMessage() and not any(any(Path("/dev").glob(name)) for name in _OF_NVIDIA):
        told.msg, told.args, told.exc_info = "JAX's plugin for CUDA found no GPU here", (), None
    return True


logging.getLogger("jax._src.xla_bridge").addFilter(_shortened)


# what JAX takes from the environment that would change random draws, types or the order of operations; a run must go on
# with the numbers that it began with
_PINNED = {
    "jax_accurate_erf_inv": False,
    "jax_allow_f16_reductions": True,
    "jax_debug_infs": False,
    "jax_debug_key_reuse": False,
    "jax_debug_nans": False,
    "jax_default_dtype_bits": "64",
    "jax_default_matmul_precision": None,
    "jax_default_prng_impl": "threefry2x32",
    "jax_disable_jit": False,
    "jax_enable_custom_prng": False,
    "jax_enable_x64": False,
    "jax_explicit_x64_dtypes": "warn",
    "jax_high_dynamic_range_gumbel": False,
    "jax_legacy_prng_key": "allow",
    "jax_numpy_dtype_promotion": "standard",
    "jax_random_seed_offset": 0,
    "jax_softmax_custom_jvp": False,
    "jax_threefry_gpu_kernel_lowering": False,
    "jax_threefry_partitionable": True,
    "jax_use_hlo_logistic_lowering": None,
}


def prepare() -> None:
    """Set up JAX for a command: draws and types as asdjax's own, a device to compute on, a cache of compiled programs.

    The cache is a folder that only this user can read; JAX_COMPILATION_CACHE_DIR, if set, says where instead. Raises
    InputError where JAX has no device of the platforms that JAX_PLATFORMS names.
    """
    pin_numbers()
    require_device()
    warnings.filterwarnings("ignore", message="Some donated buffers were not usable")
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 1.0)
    if jax.config.jax_compilation_cache_dir:
        return
    cache = private_cache("xla")
    if cache:
        jax.config.update("jax_compilation_cache_dir", str(cache))


def pin_numbers() -> None:
    """Give JAX's switches of random numbers and types the values that asdjax computes with, whatever the environment
    says; those that it says otherwise are named."""
    ignored = []
    for name, value in _PINNED.items():
        if name not in jax.config.values:  # of another version of JAX
            continue
        before = jax.config.values[name]
        jax.config.update(name, value)
        if jax.config.values[name] != before and name.upper() in os.environ:
            ignored.append(f"{name.upper()}={os.environ[name.upper()]}")
    if ignored:
        log(f"{', '.join(ignored)}: ignored, as a run's random draws and types are settled by its configuration")


def require_device() -> None:
    """Raise InputError where JAX has no device to compute on, saying what to install or set."""
    try:
        jax.devices()
    except (RuntimeError, AssertionError) as error:
        asked = jax.config.jax_platforms
        if not asked:
            raise
        unknown = [name for name in asked.split(",") if name != "cpu"]
        package = next((_PACKAGES[name] for name in unknown if name in _PACKAGES), None)
        install = f"install {package} where there is such a device, or " if package else ""
        why = reason_of(error).rpartition(" (set JAX_PLATFORMS")[0] or "JAX has no plugin for it"
        raise InputError(
            f"JAX_PLATFORMS={asked}: expected a platform that JAX finds here, got none ({why}); {install}unset it, or "
            "set it to cpu"
        ) from error


def compiler_options(platform: str) -> dict[str, bool | int | str] | None:
    """What XLA is told of large programs for a platform."""
    return _OF_A_GPU if platform == "gpu" else None


def private_cache(name: str) -> Path | None:
    """A folder for what is kept between processes, which no other user can write to, as what it holds is run.

    None, with a line in the log, where there can be none, or where another user owns it or can write to it.
    """
    try:
        home = Path(os.environ.get("XDG_CACHE_HOME", ""))
        home = (home if home.is_absolute() else Path.home() / ".cache") / "asdjax"
    except RuntimeError as error:  # this user has no home
        return _not_kept(str(error))
    try:
        home.parent.mkdir(parents=True, exist_ok=True)
        for folder in (home, home / name):
            folder.mkdir(exist_ok=True, mode=0o700)
            if reason := _why_not_private(folder):
                return _not_kept(reason)
    except OSError as error:
        return _not_kept(f"{home}: {error.strerror}")
    return home / name if os.access(home / name, os.W_OK) else _not_kept(f"{home}: cannot be written")


def _why_not_private(folder: Path) -> str | None:
    """Return why others could have put files into a folder, or a link in its place; None where they could not."""
    entry, target = folder.lstat(), folder.stat()
    ours = (os.geteuid(), 0) if folder.is_symlink() else (os.geteuid(),)
    for owner, allowed in ((entry.st_uid, ours), (target.st_uid, (os.geteuid(),))):
        if owner not in allowed:
            return f"{folder}: expected a folder of user {os.geteuid()}, got one of user {owner}"
    if target.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        mode = stat.S_IMODE(target.st_mode)
        return (
            f"{folder}: expected a folder that only you can write to, got mode {mode:o}; remove it, or chmod go-w it "
            "if you trust what it holds"
        )
    return None


def write_private(file: Path, content: bytes) -> None:
    """Write a file of a private cache, where other processes may be writing the same one; what cannot be is said.

    Whoever reads it must see whether it is whole.
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
        _not_kept(f"{file.parent.parent}: {error.strerror}")


@functools.cache
def _not_kept(reason: str) -> None:
    log(f"compiled programs are not kept ({reason}); set XDG_CACHE_HOME to a folder of your own that can be written")


def digest_program(*about: Any) -> str:
    """SHA-256 of JSON values and of what else decides on a program: JAX's settings, versions, this package's source."""
    settings = {setting: repr(value) for setting, value in jax.config.values.items()}
    versions = [version(package) for package in ("jax", "jaxlib", "flax", "numpy")]
    return hashlib.sha256(json.dumps([about, settings, versions, _source()]).encode()).hexdigest()


@functools.cache
def _source() -> str:
    """The digest of this package's source."""
    files = sorted(Path(__file__).parents[1].rglob("*.py"))
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()
