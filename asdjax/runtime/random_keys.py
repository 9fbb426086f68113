"""Random keys as a pure function of a seed and names."""

import hashlib

import jax


def make_key(seed: int, *names: str) -> jax.Array:
    """Return a random key of its own for every (seed, names). Names are hashed, never counted."""
    key = jax.random.key(seed)
    for name in names:
        word = int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big")
        key = jax.random.fold_in(key, word)
    return key
