"""Devices and meshes: the only file that knows about topology."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import jax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from asdjax.errors import InputError

DATA_AXIS = "data"
CROPS_SPLIT = PartitionSpec(None, None, None, None, DATA_AXIS)
"""Of crops (steps, m, v, 2, b, s): by the batch."""

_compiled_for: "_CompiledFor | None" = None
"""Within `compiling_for`."""


class _CompiledFor(NamedTuple):
    """A platform, and the memory of each device, None where it is not known."""

    platform: str
    memory_bytes: float | None


@contextmanager
def compiling_for(platform: str, memory_bytes: float | None = None) -> Iterator[None]:
    """Within it, forms of operations and precision are chosen for another platform than the default one, whose devices
    have so much memory, None where it is not known: for a plan, or an export."""
    global _compiled_for
    before, _compiled_for = _compiled_for, _CompiledFor(platform, memory_bytes)
    try:
        yield
    finally:
        _compiled_for = before


def memory_limit() -> float | None:
    """Bytes that JAX may take on a device that is computed on, or compiled for; None where it is not known, as of a
    CPU."""
    if _compiled_for:
        return _compiled_for.memory_bytes
    return (jax.local_devices()[0].memory_stats() or {}).get("bytes_limit")


def data_meshes(tasks_at_once: int = 1, devices: Sequence[Any] | None = None) -> list[Mesh]:
    """The devices (all that are here, or those given) in as many rows as tasks train at once; over its row each task's
    batch is split.

    Raises InputError where the devices do not divide, naming what would.
    """
    devices = list(devices or jax.devices())
    if len(devices) % tasks_at_once:
        fitting = [str(n) for n in range(1, len(devices) + 1) if len(devices) % n == 0]
        raise InputError(
            f"config.parallel.device_groups: expected a divisor of the number of devices ({', '.join(fitting)}), "
            f"got {tasks_at_once}"
        )
    size = len(devices) // tasks_at_once
    rows = [devices[i : i + size] for i in range(0, len(devices), size)]
    return [jax.make_mesh((size,), (DATA_AXIS,), axis_types=(AxisType.Auto,), devices=row) for row in rows]


def require_divisible(batch_size: int, mesh: Mesh) -> None:
    """Raise InputError where the global batch does not divide over the mesh, naming the nearest that do."""
    n = mesh.size
    if batch_size % n:
        below, above = batch_size // n * n, (batch_size // n + 1) * n
        nearest = f"{below} or {above}" if below else f"{above}"
        raise InputError(
            f"config.train.batch_size: expected a multiple of the {n} devices, got {batch_size}; the nearest: {nearest}"
        )


def replicated[Tree](tree: Tree, mesh: Mesh) -> Tree:
    """The same arrays on every device of the mesh."""
    return jax.device_put(tree, NamedSharding(mesh, PartitionSpec()))


def split_batch[Tree](tree: Tree, mesh: Mesh) -> Tree:
    """Under jit: arrays (v, b, ...) with the batch split over the mesh."""
    return jax.lax.with_sharding_constraint(tree, NamedSharding(mesh, PartitionSpec(None, DATA_AXIS)))


def split_crops(crops: Any, mesh: Mesh) -> jax.Array:
    """An array of the host (steps, m, v, 2, b, s) put on the devices, the batch split over the mesh."""
    return jax.device_put(crops, NamedSharding(mesh, CROPS_SPLIT))


def processor() -> Any:
    """This machine's processor as a device, whatever the default ones are.

    Raises InputError where JAX was told to do without.
    """
    try:
        return jax.devices("cpu")[0]
    except RuntimeError as error:
        raise InputError(
            "JAX_PLATFORMS: expected cpu among them, as some of the work is the processor's own, came none; set "
            "JAX_PLATFORMS=cuda,cpu (or unset it)"
        ) from error


def platform() -> str:
    """What is compiled for: cpu, gpu or tpu."""
    return _compiled_for.platform if _compiled_for else jax.default_backend()


def on_accelerator() -> bool:
    """Whether what is compiled for is a GPU or TPU."""
    return platform() != "cpu"
