"""Setup of JAX before it computes: numbers, devices, compiler options, compilation cache."""

import logging
import os
import warnings
from pathlib import Path

import jax

from asdjax.errors import InputError, summarize
from asdjax.runtime import private_cache
from asdjax.runtime.progress import log

# Matrix products use cuBLAS, with sixteen algorithms tried, as Triton's autotuning makes compilation slow. Independent
# operations run concurrently: faster, for more memory of temporaries. Measurements: tests/perf/README.md.
_GPU_OPTIONS = {
    "xla_gpu_enable_triton_gemm": False,
    "xla_gpu_blas_max_algorithms": 16,
    "xla_gpu_command_buffer_scheduling_mode": "CONCURRENT",
}

# packages that let JAX find the devices of a platform
_PACKAGES = {"cuda": "asdjax[cuda]", "gpu": "asdjax[cuda]", "rocm": "JAX for ROCm", "tpu": "asdjax[tpu]"}

# names in /dev on a machine with an NVIDIA GPU
_NVIDIA_DEVICES = ("nvidia*", "dxg")

# JAX takes these from the environment, and they would change random draws, types or the order of operations; a resumed
# run must compute the same numbers
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


def _shorten_missing_gpu(record: logging.LogRecord) -> bool:
    """Replace the traceback of JAX's CUDA plugin by one line on a machine without a GPU; keep every record."""
    has_gpu = any(any(Path("/dev").glob(name)) for name in _NVIDIA_DEVICES)
    if record.exc_info and "cuda" in record.getMessage() and not has_gpu:
        record.msg, record.args, record.exc_info = "JAX's plugin for CUDA found no GPU here", (), None
    return True


logging.getLogger("jax._src.xla_bridge").addFilter(_shorten_missing_gpu)


def prepare() -> None:
    """Set up JAX for a command: pinned numbers and types, a device, a cache of compiled programs.

    The cache is a folder that only this user can write to; JAX_COMPILATION_CACHE_DIR names another one for compiled
    programs. Raises InputError if JAX has no device of the platforms in JAX_PLATFORMS, or if others can write to a
    folder of the cache.
    """
    pin_numbers()
    require_device()
    warnings.filterwarnings("ignore", message="Some donated buffers were not usable")
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 1.0)
    private_cache.make_folder("traced")  # refused now, not when the first step is traced
    if jax.config.jax_compilation_cache_dir:
        return
    cache = private_cache.make_folder("xla")
    if cache:
        jax.config.update("jax_compilation_cache_dir", str(cache))


def pin_numbers() -> None:
    """Pin JAX's settings of random numbers and types, and log those that the environment sets otherwise."""
    ignored = []
    for name, value in _PINNED.items():
        if name not in jax.config.values:  # not in this version of JAX
            continue
        before = jax.config.values[name]
        jax.config.update(name, value)
        if jax.config.values[name] != before and name.upper() in os.environ:
            ignored.append(f"{name.upper()}={os.environ[name.upper()]}")
    if ignored:
        log(f"{', '.join(ignored)}: ignored, as a run's random draws and types are settled by its configuration")


def require_device() -> None:
    """Raise InputError if JAX has no device to compute on; the message names what to install or set."""
    try:
        jax.devices()
    except (RuntimeError, AssertionError) as error:
        platforms = jax.config.jax_platforms
        if not platforms:
            raise
        unknown = [name for name in platforms.split(",") if name != "cpu"]
        package = next((_PACKAGES[name] for name in unknown if name in _PACKAGES), None)
        install = f"install {package} where there is such a device, or " if package else ""
        why = summarize(error).rpartition(" (set JAX_PLATFORMS")[0] or "JAX has no plugin for it"
        raise InputError(
            f"JAX_PLATFORMS={platforms}: expected a platform that JAX finds here, got none ({why}); {install}unset "
            "it, or set it to cpu"
        ) from error


def compiler_options(platform: str) -> dict[str, bool | int | str] | None:
    """Return XLA's options for large programs on a platform, None for its defaults."""
    return _GPU_OPTIONS if platform == "gpu" else None
