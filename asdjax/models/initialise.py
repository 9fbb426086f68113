"""Initial values of every array: a function of (seed, names, path) alone.

The numbers come from numpy on the host. XLA would compile an initialiser for each of some hundred shapes.
"""

import hashlib
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

Shape = tuple[int, ...]


def _he_normal(generator: np.random.Generator, shape: Shape) -> np.ndarray:
    """Draw with variance 2 / fan-in (He et al. 2015), the fan-in over all axes but the last; open in the report."""
    return generator.standard_normal(shape, np.float32) * np.float32((2 / np.prod(shape[:-1])) ** 0.5)


def _glorot_uniform(generator: np.random.Generator, shape: Shape) -> np.ndarray:
    """Draw uniformly in +-sqrt(6 / (rows + columns)) (Glorot & Bengio 2010); open in the report."""
    limit = np.float32((6 / sum(shape)) ** 0.5)
    return (2 * generator.random(shape, np.float32) - 1) * limit


def _constant(value: float) -> Callable[[np.random.Generator, Shape], np.ndarray]:
    return lambda _, shape: np.full(shape, value, np.float32)


#: Initialisers by the last word of an array's path.
RULES = {
    "kernel": _he_normal,
    "weights": _glorot_uniform,
    "bias": _constant(0.0),
    "scale": _constant(1.0),
    "slope": _constant(0.25),  # of a PReLU; open in the report
    "mean": _constant(0.0),
    "var": _constant(1.0),
}


def fill(shapes: Mapping[str, Any], seed: int, *names: str) -> dict[str, jax.Array]:
    """Return an array for each shape by path, from a random stream named by (seed, names, path).

    Raises KeyError if a path's last word has no rule.
    """
    return {path: jnp.asarray(_draw(path, leaf.shape, seed, names)) for path, leaf in shapes.items()}


def _draw(path: str, shape: Shape, seed: int, names: tuple[str, ...]) -> np.ndarray:
    digest = hashlib.sha256("\0".join((str(seed), *names, path)).encode()).digest()
    generator = np.random.Generator(np.random.Philox(key=int.from_bytes(digest[:16], "big")))
    return RULES[path.rsplit("/", 1)[-1]](generator, shape)
