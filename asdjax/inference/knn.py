"""Nearest neighbours by cosine: a matrix product and the k smallest on the device, in chunks.

Letters: q queries, n bank pieces, d embedding.
"""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np

QUERY_CHUNK = 256
BANK_CHUNK = 16384
"""Distances of so many queries and bank pieces at once stay in a processor's cache: 2,000 x 54,000 take two x86 cores
0.7 s of their time, in chunks of 1,024 x 65,536 1.1 s."""
BLOCK = 128
"""Columns of which first only the smallest is looked at: the k nearest lie in the k blocks with the smallest ones. For
1,024 x 65,536 distances that takes two x86 cores 33 ms, a top-k over all of them 313."""

NOBODY, NEVER = -1, -2
"""The clip of a query, and of a row of padding, that belong to none."""


def mean_distance(
    queries: np.ndarray,
    bank: np.ndarray,
    k: int,
    *,
    query_clips: np.ndarray | None = None,
    bank_clips: np.ndarray | None = None,
    spacing: np.ndarray | None = None,
) -> np.ndarray:
    """1 - mean cosine of the k nearest bank pieces: (q, d), (n, d) of unit length -> (q,) float32.

    With `query_clips` (q, 2) and `bank_clips` (n, 2), the numbers from 0 of the clips that each piece was made of, a
    query never meets a piece that shares a clip with it. With `spacing` (n,) the distance to each bank piece is divided
    by that piece's. Where fewer than k remain all of them count; where none remains the distance is NaN. Memory is
    bounded by the chunks and by k numbers a query, however large the bank; it is read once, and may be mapped from a
    file.
    """
    k = min(k, len(bank))
    if k == 0 or len(queries) == 0:
        return np.full(len(queries), np.nan, np.float32)
    size, step = _chunk_size(len(queries), QUERY_CHUNK), _chunk_size(len(bank), BANK_CHUNK)
    begins = range(0, len(queries), size)
    best = [jnp.full((size, k), jnp.inf) for _ in begins]
    for i in range(0, len(bank), step):
        part = jax.device_put(
            (
                _padded(bank[i : i + step], step, 0.0),
                None if bank_clips is None else _padded(bank_clips[i : i + step], step, NEVER),
                None if spacing is None else _padded(spacing[i : i + step], step, 1.0),
            )
        )
        there = min(step, len(bank) - i)
        for j, begin in enumerate(begins):
            rows = slice(begin, begin + size)
            asked = _padded(queries[rows], size, 0.0)
            clips = None if query_clips is None else _padded(query_clips[rows], size, NOBODY)
            best[j] = _merge(best[j], asked, clips, *part, there, k=k)
        jax.block_until_ready(best)  # else the chunks of a large bank queue up in memory
    return np.concatenate([np.asarray(_mean(of_chunk)) for of_chunk in best])[: len(queries)]


def _chunk_size(length: int, most: int) -> int:
    """A power of two, so that banks of many lengths share few compiled programs."""
    return min(most, 1 << max(length - 1, 0).bit_length())


def _padded(rows: np.ndarray, length: int, value: float) -> np.ndarray:
    if len(rows) == length:
        return rows
    padding = [(0, length - len(rows))] + [(0, 0)] * (rows.ndim - 1)
    return np.pad(rows, padding, constant_values=value)


@functools.partial(jax.jit, static_argnames="k")
def _merge(
    best: jax.Array,
    queries: jax.Array,
    query_clips: jax.Array | None,
    part: jax.Array,
    part_clips: jax.Array | None,
    spacing: jax.Array | None,
    there: jax.Array,
    *,
    k: int,
) -> jax.Array:
    """The k smallest of the distances so far (q, k) and those to another chunk of the bank, its rows that are there."""
    distances = 1 - jnp.matmul(queries, part.T, precision=jax.lax.Precision.HIGHEST)
    if spacing is not None:
        distances = distances / spacing[None]
    out = (jnp.arange(len(part)) >= there)[None]
    if query_clips is not None and part_clips is not None:
        for own, other in itertools.product(query_clips.T, part_clips.T):
            out = out | (own[:, None] == other[None])
    distances = jnp.where(out, jnp.inf, distances)
    distances = jax.lax.optimization_barrier(distances)  # else a CPU computes them once more for each use
    return _smallest(jnp.concatenate([best, _smallest_of_blocks(distances, k)], axis=1), k)


def _smallest_of_blocks(distances: jax.Array, k: int) -> jax.Array:
    """(q, n) -> (q, min(k, n)): as `_smallest`, a block of columns at a time."""
    q, n = distances.shape
    number = n // BLOCK
    if number * BLOCK < n or number <= k:
        return _smallest(distances, min(k, n))
    blocks = distances.reshape(q, number, BLOCK)
    _, chosen = jax.lax.top_k(-jnp.min(blocks, axis=-1), k)
    return _smallest(jnp.take_along_axis(blocks, chosen[:, :, None], axis=1).reshape(q, k * BLOCK), k)


def _smallest(distances: jax.Array, k: int) -> jax.Array:
    return -jax.lax.top_k(-distances, k)[0]


@jax.jit
def _mean(best: jax.Array) -> jax.Array:
    """(q, k) -> (q,): the mean over those that are there."""
    there = jnp.isfinite(best)
    number = jnp.sum(there, axis=1)
    total = jnp.sum(jnp.where(there, best, 0.0), axis=1)
    return jnp.where(number > 0, total / jnp.maximum(number, 1), jnp.nan)
