"""Devices and meshes: the only module that knows about topology."""

import functools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from asdjax.errors import InputError
from asdjax.runtime import processes

DATA_AXIS = "data"

#: Sharding of crops (steps, m, v, 2, b, s): the batch is split.
CROPS_SPLIT = PartitionSpec(None, None, None, None, DATA_AXIS)


class _CompiledFor(NamedTuple):
    """Platform, and the memory of each device, None if unknown."""

    platform: str
    memory_bytes: float | None


_compiled_for: _CompiledFor | None = None  # set within `compiling_for`


@contextmanager
def explaining_full_memory(what: str, remedy: str) -> Iterator[None]:
    """Raise InputError, with a remedy, if the device's memory is too small for `what` in the block."""
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        message = str(error)
        if "RESOURCE_EXHAUSTED" not in message:
            raise
        raise InputError(
            f"{what}: expected a device with enough memory, got {message.splitlines()[0][:200]}; {remedy}"
        ) from error


@contextmanager
def compiling_for(platform: str, memory_bytes: float | None = None) -> Iterator[None]:
    """Choose operations and precision for another platform than the default one, for a plan or an export.

    `memory_bytes` is the memory of each device, None if unknown.
    """
    global _compiled_for
    before, _compiled_for = _compiled_for, _CompiledFor(platform, memory_bytes)
    try:
        yield
    finally:
        _compiled_for = before


def memory_limit() -> float | None:
    """Return the bytes that JAX may take on a device that is computed on, or compiled for; None if unknown (CPU)."""
    if _compiled_for:
        return _compiled_for.memory_bytes
    return (jax.local_devices()[0].memory_stats() or {}).get("bytes_limit")


def make_meshes(groups: int = 1, devices: Sequence[Any] | None = None) -> list[Mesh]:
    """Split devices (default: all) into equal groups, and return a mesh of each, over which a batch is split.

    Raises InputError that names the possible numbers of groups if the devices do not divide evenly, or if several
    processes train one program.
    """
    devices = list(devices or jax.devices())
    if groups > 1 and processes.count() > 1:
        raise InputError(
            f"config.parallel.device_groups: expected 1 in a program of several processes, got {groups}; train parts "
            "(--part I/N) in processes of their own instead"
        )
    if len(devices) % groups:
        divisors = [str(n) for n in range(1, len(devices) + 1) if len(devices) % n == 0]
        raise InputError(
            f"config.parallel.device_groups: expected a divisor of the number of devices ({', '.join(divisors)}), "
            f"got {groups}"
        )
    size = len(devices) // groups
    members = [devices[i : i + size] for i in range(0, len(devices), size)]
    return [jax.make_mesh((size,), (DATA_AXIS,), axis_types=(AxisType.Auto,), devices=group) for group in members]


def require_divisible(batch_size: int, mesh: Mesh) -> None:
    """Raise InputError that names the nearest batch sizes if the global batch does not divide over the mesh."""
    n = mesh.size
    if batch_size % n:
        below, above = batch_size // n * n, (batch_size // n + 1) * n
        nearest = f"{below} or {above}" if below else f"{above}"
        raise InputError(
            f"config.train.batch_size: expected a multiple of the {n} devices, got {batch_size}; the nearest: {nearest}"
        )


def replicate[Tree](tree: Tree, mesh: Mesh) -> Tree:
    """Return the same arrays on every device of the mesh; all processes give the same."""
    sharding = NamedSharding(mesh, PartitionSpec())
    if processes.count() == 1:
        return jax.device_put(tree, sharding)
    return jax.tree.map(functools.partial(_put_share, sharding), tree)


def _put_share(sharding: NamedSharding, array: Any) -> jax.Array:
    """Put this process's part of an array on its devices."""
    if jnp.issubdtype(array.dtype, jax.dtypes.prng_key):
        data = _put_share(sharding, jax.random.key_data(array))
        return jax.random.wrap_key_data(data, impl=jax.random.key_impl(array))
    host = np.asarray(array)
    return jax.make_array_from_callback(host.shape, sharding, lambda index: host[index])


def split_batch[Tree](tree: Tree, mesh: Mesh) -> Tree:
    """Split the batch of arrays (v, b, ...) over the mesh; for use under jit."""
    return jax.lax.with_sharding_constraint(tree, NamedSharding(mesh, PartitionSpec(None, DATA_AXIS)))


def split_crops(crops: Any, mesh: Mesh) -> jax.Array:
    """Put crops (steps, m, v, 2, b, s) from the host on the devices, with the batch split over the mesh.

    Only the rows of the batch that `own_rows` names need to be right.
    """
    sharding = NamedSharding(mesh, CROPS_SPLIT)
    return jax.device_put(crops, sharding) if processes.count() == 1 else _put_share(sharding, crops)


def get_own_device(mesh: Mesh) -> Any:
    """Return a device of the mesh that belongs to this process."""
    return mesh.local_devices[0]


def own_rows(batch_size: int, mesh: Mesh) -> list[int]:
    """Return the rows of a batch that are on devices of this process."""
    split = NamedSharding(mesh, PartitionSpec(DATA_AXIS)).addressable_devices_indices_map((batch_size,))
    return sorted(row for index in split.values() if index for row in range(batch_size)[index[0]])


def get_cpu() -> Any:
    """Return this machine's CPU as a device, whatever the default device is.

    Raises InputError if JAX_PLATFORMS leaves the CPU out.
    """
    try:
        return jax.local_devices(backend="cpu")[0]
    except RuntimeError as error:
        raise InputError(
            "JAX_PLATFORMS: expected cpu among them, as some of the work needs it, got none; set "
            "JAX_PLATFORMS=cuda,cpu (or unset it)"
        ) from error


def platform() -> str:
    """Return the platform that is compiled for: cpu, gpu or tpu."""
    return _compiled_for.platform if _compiled_for else jax.default_backend()


def on_accelerator() -> bool:
    """Return True if the platform that is compiled for is a GPU or TPU."""
    return platform() != "cpu"
