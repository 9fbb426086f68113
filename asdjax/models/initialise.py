"""What every array holds before training: a function of (seed, names, path) alone.

Numbers come from numpy on the host: an initialiser under XLA would be compiled anew for each of some hundred
shapes, which takes longer than the demo trains.
"""

import hashlib
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

Shape = tuple[int, ...]


def _he_normal(generator: np.random.Generator, shape: Shape) -> np.ndarray:
    """Variance 2 / fan in (He et al. 2015), fan in being all axes but the last; OPEN."""
    return generator.standard_normal(shape, np.float32) * np.float32((2 / np.prod(shape[:-1])) ** 0.5)


def _glorot_uniform(generator: np.random.Generator, shape: Shape) -> np.ndarray:
    """Uniform in +-sqrt(6 / (rows + columns)) (Glorot & Bengio 2010), the usual start of ArcFace centres; OPEN."""
    limit = np.float32((6 / sum(shape)) ** 0.5)
    return (2 * generator.random(shape, np.float32) - 1) * limit


def _constant(value: float) -> Callable[[np.random.Generator, Shape], np.ndarray]:
    return lambda _, shape: np.full(shape, value, np.float32)


RULES = {
    "kernel": _he_normal,
    "weights": _glorot_uniform,
    "bias": _constant(0.0),
    "scale": _constant(1.0),
    "slope": _constant(0.25),  # PReLU; OPEN
    "mean": _constant(0.0),
    "var": _constant(1.0),
}
"""By the last word of an array's path."""


def fill(shapes: Mapping[str, Any], seed: int, *names: str) -> dict[str, jax.Array]:
    """Arrays for shapes by path, each from a stream of its own named by (seed, names, path)."""
    return {path: jnp.asarray(_leaf(path, leaf.shape, seed, names)) for path, leaf in shapes.items()}


def _leaf(path: str, shape: Shape, seed: int, names: tuple[str, ...]) -> np.ndarray:
    digest = hashlib.sha256("\0".join((str(seed), *names, path)).encode()).digest()
    generator = np.random.Generator(np.random.Philox(key=int.from_bytes(digest[:16], "big")))
    return RULES[path.rsplit("/", 1)[-1]](generator, shape)
