"""Sums over all places of a map, by channel."""

import math
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp

#: A function that sums arrays (..., c) of one shape over all axes but the last, to (c,) each, in their own dtype.
ChannelSum = Callable[..., tuple[jax.Array, ...]]

#: Numbers that XLA lets one GPU thread add up. From 32 on it gives a sum to a block of threads, which is slower.
THREAD_SUM_LENGTH = 16


def sum_by_channel(*arrays: jax.Array) -> tuple[jax.Array, ...]:
    """Sum each array in a reduction of its own, which a compiler may fuse."""
    return tuple(jnp.sum(array, axis=tuple(range(array.ndim - 1))) for array in arrays)


def sum_by_channel_in_stages(*arrays: jax.Array) -> tuple[jax.Array, ...]:
    """Sum runs of places first, then the sums of these runs.

    For a GPU. The first stage is one reduction of all arrays, so XLA reads their common operands once. It also gives
    work to every processor, where XLA leaves most of them idle in a sum over a few thousand places. Arrays (n, c) are
    summed by `sum_by_channel`.
    """
    if arrays[0].ndim == 2:
        return sum_by_channel(*arrays)
    count = _count_runs(arrays[0].shape, len(arrays))
    runs = tuple(array.reshape(count, -1, array.shape[-1]) for array in arrays)
    zeros = tuple(jnp.zeros((), array.dtype) for array in arrays)
    run_sums = jax.lax.reduce(runs, zeros, lambda a, b: tuple(map(jax.lax.add, a, b)), [1])
    return tuple(sum_rows_together(jax.lax.optimization_barrier(run_sums)))


def sum_rows_together(arrays: Sequence[jax.Array]) -> jax.Array:
    """Sum n arrays (rows, c) over their rows in one reduction, to (n, c).

    Devices then exchange one array instead of n.
    """
    return jnp.sum(jnp.concatenate(arrays, axis=-1), axis=0).reshape(len(arrays), -1)


def _count_runs(shape: tuple[int, ...], arrays: int) -> int:
    """Return the number of runs into which the places of a map (b, f, t, c) are divided.

    Large maps have eight runs a sample, medium ones one. Small maps, and maps in sums of three or more arrays, have
    runs of `THREAD_SUM_LENGTH` places where that divides a sample's places.
    """
    b, *places, _ = shape
    sample_places = math.prod(places)
    # in one run of a whole sample of 256 places, XLA writes a ReLU's derivative to memory before it sums
    if sample_places % THREAD_SUM_LENGTH == 0 and (sample_places <= 256 or arrays > 2):
        return b * sample_places // THREAD_SUM_LENGTH
    return b * math.gcd(sample_places, 8) if sample_places >= 512 else b
