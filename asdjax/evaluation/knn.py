"""Nearest neighbours by cosine: a matrix product and the k smallest on the device, in chunks.

Letters: q queries, n bank pieces, d embedding.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

QUERY_CHUNK = 1024
BANK_CHUNK = 65536
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
    query_clip: np.ndarray | None = None,
    bank_clips: np.ndarray | None = None,
    spacing: np.ndarray | None = None,
) -> np.ndarray:
    """1 - mean cosine of the k nearest bank pieces: (q, d), (n, d) of unit length -> (q,) float32.

    With `query_clip` (q,) and `bank_clips` (n, 2), clip numbers from 0, a query never meets a piece that was made of
    its own clip. With `spacing` (n,) the distance to each bank piece is divided by that piece's. Where fewer than k
    remain all of them count; where none remains the distance is NaN. Memory is bounded by the chunks whatever q and n
    are; `bank` may be mapped from a file.
    """
    k = min(k, len(bank))
    if k == 0:
        return np.full(len(queries), np.nan, np.float32)
    if query_clip is None or bank_clips is None:
        query_clip, bank_clips = np.full(len(queries), NOBODY), np.zeros((len(bank), 2), np.int64)
    if spacing is None:
        spacing = np.ones(len(bank), np.float32)
    chunks = [
        _of_chunk(queries[i : i + QUERY_CHUNK], query_clip[i : i + QUERY_CHUNK], bank, bank_clips, spacing, k)
        for i in range(0, len(queries), QUERY_CHUNK)
    ]
    return np.concatenate(chunks) if chunks else np.zeros(0, np.float32)


def _of_chunk(
    queries: np.ndarray, query_clip: np.ndarray, bank: np.ndarray, bank_clips: np.ndarray, spacing: np.ndarray, k: int
) -> np.ndarray:
    size = _chunk_size(len(queries), QUERY_CHUNK)
    padded, clip = _padded(queries, size, 0.0), _padded(query_clip, size, NOBODY)
    best = jnp.full((size, k), jnp.inf)
    step = _chunk_size(len(bank), BANK_CHUNK)
    for i in range(0, len(bank), step):
        rows = slice(i, i + step)
        part = (_padded(bank[rows], step, 0.0), _padded(bank_clips[rows], step, NEVER), _padded(spacing[rows], step, 1))
        best = _merge(best, padded, clip, *part, k=k)
    return np.asarray(_mean(best))[: len(queries)]


def _chunk_size(length: int, most: int) -> int:
    """A power of two, so that banks of many lengths share few compiled programs."""
    return min(most, 1 << max(length - 1, 0).bit_length())


def _padded(rows: np.ndarray, length: int, value: float) -> np.ndarray:
    padding = [(0, length - len(rows))] + [(0, 0)] * (rows.ndim - 1)
    return np.pad(rows, padding, constant_values=value)


@functools.partial(jax.jit, static_argnames="k")
def _merge(
    best: jax.Array,
    queries: jax.Array,
    query_clip: jax.Array,
    part: jax.Array,
    part_clips: jax.Array,
    spacing: jax.Array,
    *,
    k: int,
) -> jax.Array:
    """The k smallest distances so far (q, k) and those to another chunk of the bank."""
    cosines = jnp.matmul(queries, part.T, precision=jax.lax.Precision.HIGHEST)
    own = (query_clip[:, None] == part_clips[None, :, 0]) | (query_clip[:, None] == part_clips[None, :, 1])
    padding = part_clips[None, :, 0] == NEVER
    distances = jnp.where(own | padding, jnp.inf, (1 - cosines) / spacing[None])
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
