"""Peak rates of this machine's device, and the versions of the software that runs on it."""

import os
import platform
from importlib.metadata import version
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from asdjax.perf import datasheets
from asdjax.perf.measure import time_calls, time_in_turns
from asdjax.runtime import hardware
from asdjax.runtime.threads import count_cores

PACKAGES = ("asdjax", "jax", "jaxlib", "flax", "optax", "numpy")

# Rows and columns of the timed matrix product: large enough for full speed.
MATRIX_ON_CPU, MATRIX_ON_ACCELERATOR = 2048, 8192

# float32 values copied to measure bandwidth: 256 MiB and 4 GiB, more than any cache.
COPIED_ON_CPU, COPIED_ON_ACCELERATOR = 2**26, 2**30


class Peak(NamedTuple):
    """Peak FLOP/s and bytes/s, and their source: `data sheet` or `measured`."""

    flops_per_s: float
    bytes_per_s: float
    source: str


def find_peak(precision: str) -> Peak:
    """Return the data sheet's figures for bfloat16 on known accelerators, else measure a product and a copy."""
    sheet = datasheets.find_datasheet(jax.devices()[0].device_kind)
    if sheet and precision == "bfloat16":
        return Peak(sheet.flops_per_s, sheet.bytes_per_s, "data sheet")
    return Peak(_measure_flops(precision), _measure_bandwidth(), "measured")


def _measure_flops(precision: str) -> float:
    rows = MATRIX_ON_ACCELERATOR if hardware.on_accelerator() else MATRIX_ON_CPU
    x = jnp.ones((rows, rows), precision)
    product = jax.jit(jnp.matmul)
    timing = time_in_turns({"product": time_calls(lambda: product(x, x).block_until_ready())}, 5)["product"]
    return 2 * rows**3 / min(timing.seconds)


def _measure_bandwidth() -> float:
    # in place: the pages of a new array would first have to be requested from the operating system
    add_one = jax.jit(lambda x: x + 1, donate_argnums=0)
    held = [jnp.ones(COPIED_ON_ACCELERATOR if hardware.on_accelerator() else COPIED_ON_CPU, jnp.float32)]

    def copy() -> None:
        held.append(add_one(held.pop()))
        held[0].block_until_ready()

    timing = time_in_turns({"copy": time_calls(copy)}, 5)["copy"]
    return 2 * held[0].nbytes / min(timing.seconds)


def describe_device() -> dict[str, Any]:
    """Return the device's kind and platform, and the machine's cores and load, as JSON."""
    first = jax.devices()[0]
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    return {"kind": first.device_kind, "platform": first.platform, "cores": count_cores(), "load": load}


def read_memory_peak() -> int | None:
    """Return the most bytes of the device that this process has used; None if the device does not count them."""
    return (jax.devices()[0].memory_stats() or {}).get("peak_bytes_in_use")


def list_versions() -> dict[str, str]:
    """Return the versions of Python and of PACKAGES."""
    return {"python": platform.python_version(), **{package: version(package) for package in PACKAGES}}
