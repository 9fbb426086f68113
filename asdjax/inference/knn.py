"""Nearest neighbours by cosine: a matrix product and the k smallest distances on the device, in chunks.

Measurements: tests/perf/README.md.

Letters: q queries, n bank pieces, d embedding.
"""

import functools
import itertools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

# The distances between one chunk of queries and one of the bank fit a processor's cache.
QUERY_CHUNK = 256
BANK_CHUNK = 16384
#: Columns per block. The k nearest are among the k blocks with the smallest minima, so only these are searched.
BLOCK = 128

# Clip numbers that equal no clip: of a query without clips, and of a padding row.
_NO_CLIP, _PADDING_CLIP = -1, -2

# An array of numpy outside a jitted function and of JAX inside.
_Array = Any


class _BankChunk(NamedTuple):
    """A padded chunk of the bank: vectors (n, d), clips (n, 2), spacing (n,); the first `rows` rows are not padding."""

    vectors: _Array
    clips: _Array | None
    spacing: _Array | None
    rows: int


def mean_distance(
    queries: np.ndarray,
    bank: np.ndarray,
    k: int,
    *,
    query_clips: np.ndarray | None = None,
    bank_clips: np.ndarray | None = None,
    spacing: np.ndarray | None = None,
) -> np.ndarray:
    """Return 1 - mean cosine of the k nearest bank pieces: (q, d), (n, d) of unit length -> (q,) float32.

    `query_clips` (q, 2) and `bank_clips` (n, 2) hold the numbers, from 0, of the clips that each piece was made from. A
    query then ignores bank pieces that share a clip with it. With `spacing` (n,), the distance to each bank piece is
    divided by its spacing. If fewer than k pieces remain, all of them count; if none remains, the distance is NaN.

    Memory is bounded by the chunks and k numbers per query, however large the bank. The bank is read once and may be
    memory-mapped.
    """
    k = min(k, len(bank))
    if k == 0 or len(queries) == 0:
        return np.full(len(queries), np.nan, np.float32)
    size, step = _chunk_size(len(queries), QUERY_CHUNK), _chunk_size(len(bank), BANK_CHUNK)
    begins = range(0, len(queries), size)
    best = [jnp.full((size, k), jnp.inf) for _ in begins]
    for i in range(0, len(bank), step):
        bank_chunk = jax.device_put(
            _BankChunk(
                _pad(bank[i : i + step], step, 0.0),
                None if bank_clips is None else _pad(bank_clips[i : i + step], step, _PADDING_CLIP),
                None if spacing is None else _pad(spacing[i : i + step], step, 1.0),
                min(step, len(bank) - i),
            )
        )
        for j, begin in enumerate(begins):
            rows = slice(begin, begin + size)
            own = None if query_clips is None else _pad(query_clips[rows], size, _NO_CLIP)
            best[j] = _merge(best[j], _pad(queries[rows], size, 0.0), own, bank_chunk, k=k)
        jax.block_until_ready(best)  # otherwise the chunks of a large bank queue up in memory
    return np.concatenate([np.asarray(_mean(chunk)) for chunk in best])[: len(queries)]


def _chunk_size(length: int, most: int) -> int:
    """Return a power of two, so that banks of many lengths share few compiled programs."""
    return min(most, 1 << max(length - 1, 0).bit_length())


def _pad(rows: np.ndarray, length: int, value: float) -> np.ndarray:
    if len(rows) == length:
        return rows
    padding = [(0, length - len(rows))] + [(0, 0)] * (rows.ndim - 1)
    return np.pad(rows, padding, constant_values=value)


@functools.partial(jax.jit, static_argnames="k")
def _merge(best: _Array, queries: _Array, query_clips: _Array | None, bank: _BankChunk, *, k: int) -> jax.Array:
    """Merge the k smallest distances so far (q, k) with those to another chunk of the bank: -> (q, k)."""
    distances = 1 - jnp.matmul(queries, bank.vectors.T, precision=jax.lax.Precision.HIGHEST)
    if bank.spacing is not None:
        distances = distances / bank.spacing[None]
    excluded = (jnp.arange(len(bank.vectors)) >= bank.rows)[None]
    if query_clips is not None and bank.clips is not None:
        for own, other in itertools.product(query_clips.T, bank.clips.T):
            excluded = excluded | (own[:, None] == other[None])
    distances = jnp.where(excluded, jnp.inf, distances)
    distances = jax.lax.optimization_barrier(distances)  # otherwise a CPU recomputes them for each use
    return _smallest(jnp.concatenate([best, _smallest_of_blocks(distances, k)], axis=1), k)


def _smallest_of_blocks(distances: jax.Array, k: int) -> jax.Array:
    """Return the k smallest of each row, by blocks of columns: (q, n) -> (q, min(k, n))."""
    q, n = distances.shape
    number = n // BLOCK
    if number * BLOCK < n or number <= k:
        return _smallest(distances, min(k, n))
    blocks = distances.reshape(q, number, BLOCK)
    _, nearest = jax.lax.top_k(-jnp.min(blocks, axis=-1), k)
    return _smallest(jnp.take_along_axis(blocks, nearest[:, :, None], axis=1).reshape(q, k * BLOCK), k)


def _smallest(distances: jax.Array, k: int) -> jax.Array:
    return -jax.lax.top_k(-distances, k)[0]


@jax.jit
def _mean(best: jax.Array) -> jax.Array:
    """Return the mean of the finite distances: (q, k) -> (q,), NaN without any."""
    finite = jnp.isfinite(best)
    number = jnp.sum(finite, axis=1)
    total = jnp.sum(jnp.where(finite, best, 0.0), axis=1)
    return jnp.where(number > 0, total / jnp.maximum(number, 1), jnp.nan)
