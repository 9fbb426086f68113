"""What the device could do at most, and which versions of what run on it."""

import os
import platform
from importlib.metadata import version
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from asdjax.perf import datasheets
from asdjax.perf.measure import clocked, in_turn
from asdjax.runtime import hardware
from asdjax.runtime.threads import cores

PACKAGES = ("asdjax", "jax", "jaxlib", "flax", "optax", "numpy")
MATRIX_ON_CPU, MATRIX_ON_ACCELERATOR = 2048, 8192
"""Rows and columns of the product whose rate is measured: large enough for full speed."""
COPIED_ON_CPU, COPIED_ON_ACCELERATOR = 2**26, 2**30
"""float32 values copied to measure bandwidth: 256 MiB and 4 GiB, more than any cache."""


class Peak(NamedTuple):
    """FLOP/s and bytes/s at most, and where the figures are from."""

    flops_per_s: float
    bytes_per_s: float
    source: str


def peak(precision: str) -> Peak:
    """The data sheet's figures for bfloat16 on known accelerators, else what a product and a copy reach here."""
    sheet = datasheets.find_datasheet(jax.devices()[0].device_kind)
    if sheet and precision == "bfloat16":
        return Peak(sheet.flops_per_s, sheet.bytes_per_s, "data sheet")
    return Peak(_product_rate(precision), _copy_rate(), "measured")


def _product_rate(precision: str) -> float:
    rows = MATRIX_ON_ACCELERATOR if hardware.on_accelerator() else MATRIX_ON_CPU
    x = jnp.ones((rows, rows), precision)
    product = jax.jit(jnp.matmul)
    timing = in_turn({"product": clocked(lambda: product(x, x).block_until_ready())}, 5)["product"]
    return 2 * rows**3 / min(timing.seconds)


def _copy_rate() -> float:
    """Read and written in place: a fresh array's pages would be asked of the system first."""
    add_one = jax.jit(lambda x: x + 1, donate_argnums=0)
    held = [jnp.ones(COPIED_ON_ACCELERATOR if hardware.on_accelerator() else COPIED_ON_CPU, jnp.float32)]

    def copy() -> None:
        held.append(add_one(held.pop()))
        held[0].block_until_ready()

    timing = in_turn({"copy": clocked(copy)}, 5)["copy"]
    return 2 * held[0].nbytes / min(timing.seconds)


def describe() -> dict[str, Any]:
    """The device and the machine it is in, as JSON."""
    first = jax.devices()[0]
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    return {"kind": first.device_kind, "platform": first.platform, "cores": cores(), "load": load}


def memory_peak() -> int | None:
    """Bytes of the device that this process has had in use at most, where the device counts them."""
    return (jax.devices()[0].memory_stats() or {}).get("peak_bytes_in_use")


def versions() -> dict[str, str]:
    """Of Python and the packages that matter here."""
    return {"python": platform.python_version(), **{package: version(package) for package in PACKAGES}}
