"""Sums over all places of a map, by channel."""

import math
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp

Sums = Callable[..., tuple[jax.Array, ...]]
"""A way to sum arrays (..., c) of one shape over all axes but the last: -> (c,) each, in their own type."""

IN_A_THREAD = 16
"""Numbers that XLA lets one thread of a GPU add up, channel beside channel, where 32 and more are a block's, which
reads few in a thread and then exchanges them: on an H200 the first ran at some 4 TB/s, of 32 to 64 in a block at 0.6 to
1.2 (seven stacked fleets)."""


def sums(*arrays: jax.Array) -> tuple[jax.Array, ...]:
    """Each as a reduction of its own, which a compiler may join."""
    return tuple(jnp.sum(array, axis=tuple(range(array.ndim - 1))) for array in arrays)


def sums_in_stages(*arrays: jax.Array) -> tuple[jax.Array, ...]:
    """First of runs of places, all arrays in one reduction, which reads what they are made of once; then of what these
    leave.

    For a GPU: XLA divides a sum over 200,000 places among its processors, not one over 3,072, which left it to two
    processors in five, 127 microseconds for 44 MB; and it wrote products out to sum them, as it does still of three and
    more arrays, unless a thread sums each run.
    """
    if arrays[0].ndim == 2:
        return sums(*arrays)
    number = _runs(arrays[0].shape, len(arrays))
    runs = tuple(array.reshape(number, -1, array.shape[-1]) for array in arrays)
    zeros = tuple(jnp.zeros((), array.dtype) for array in arrays)
    of_runs = jax.lax.reduce(runs, zeros, lambda a, b: tuple(map(jax.lax.add, a, b)), [1])
    return tuple(side_by_side(jax.lax.optimization_barrier(of_runs)))


def side_by_side(arrays: Sequence[jax.Array]) -> jax.Array:
    """Of n arrays (rows, c) the sums over their rows, (n, c), as one reduction; what devices tell each other of it is
    one array too."""
    return jnp.sum(jnp.concatenate(arrays, axis=-1), axis=0).reshape(len(arrays), -1)


def _runs(shape: tuple[int, ...], arrays: int) -> int:
    """Into how many runs a map's places (b, f, t, c) are divided: of large maps eight a sample, of middling ones one;
    of small ones, and of three arrays and more, each is of `IN_A_THREAD` places, where these divide them. (In one run a
    sample of 256 places XLA writes a ReLU's derivative out before its sums.)"""
    b, *places, _ = shape
    within = math.prod(places)
    if within % IN_A_THREAD == 0 and (within <= 256 or arrays > 2):
        return b * within // IN_A_THREAD
    return b * math.gcd(within, 8) if within >= 512 else b
