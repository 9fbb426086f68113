"""Nearest neighbours by cosine: a matrix product and a top-k on the device, in chunks.

Letters: q queries, n bank pieces, d embedding.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

QUERY_CHUNK = 1024
BANK_CHUNK = 65536
NOBODY = -1


def mean_distance(
    queries: np.ndarray,
    bank: np.ndarray,
    k: int,
    *,
    query_clip: np.ndarray | None = None,
    bank_clip: np.ndarray | None = None,
) -> np.ndarray:
    """1 - mean cosine of the k nearest bank pieces: (q, d), (n, d) of unit length -> (q,) float32.

    With `query_clip` (q,) and `bank_clip` (n,), clip numbers from 0, a query never meets the pieces of its own
    clip. Where fewer than k remain all of them count; where none remains the distance is NaN. Memory is bounded
    by the chunks whatever q and n are.
    """
    k = min(k, len(bank))
    if k == 0:
        return np.full(len(queries), np.nan, np.float32)
    if query_clip is None or bank_clip is None:
        query_clip, bank_clip = np.full(len(queries), NOBODY), np.arange(len(bank))
    chunks = [
        _of_chunk(queries[i : i + QUERY_CHUNK], bank, k, query_clip[i : i + QUERY_CHUNK], bank_clip)
        for i in range(0, len(queries), QUERY_CHUNK)
    ]
    return np.concatenate(chunks) if chunks else np.zeros(0, np.float32)


def _of_chunk(
    queries: np.ndarray, bank: np.ndarray, k: int, query_clip: np.ndarray, bank_clip: np.ndarray
) -> np.ndarray:
    size = _chunk_size(len(queries), QUERY_CHUNK)
    padded, clips = _padded(queries, size, 0.0), _padded(query_clip, size, NOBODY)
    best = jnp.full((size, k), -jnp.inf)
    step = _chunk_size(len(bank), BANK_CHUNK)
    for i in range(0, len(bank), step):
        part, part_clips = bank[i : i + step], bank_clip[i : i + step]
        real = len(part)
        best = _merge(best, padded, _padded(part, step, 0.0), clips, _padded(part_clips, step, NOBODY), real, k=k)
    return np.asarray(_distance(best))[: len(queries)]


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
    part: jax.Array,
    query_clip: jax.Array,
    part_clip: jax.Array,
    real: jax.Array,
    *,
    k: int,
) -> jax.Array:
    """The k highest cosines so far (q, k) and those to another chunk of the bank, of which `real` rows count."""
    cosines = jnp.matmul(queries, part.T, precision=jax.lax.Precision.HIGHEST)
    own = query_clip[:, None] == part_clip[None, :]
    padding = jnp.arange(len(part))[None, :] >= real
    cosines = jnp.where(own | padding, -jnp.inf, cosines)
    nearest, _ = jax.lax.top_k(cosines, min(k, len(part)))
    return jax.lax.top_k(jnp.concatenate([best, nearest], axis=1), k)[0]


@jax.jit
def _distance(best: jax.Array) -> jax.Array:
    """(q, k) -> (q,): 1 - the mean over those that are there."""
    there = jnp.isfinite(best)
    number = jnp.sum(there, axis=1)
    total = jnp.sum(jnp.where(there, best, 0.0), axis=1)
    return jnp.where(number > 0, 1 - total / jnp.maximum(number, 1), jnp.nan)
