"""ArcFace: an additive angular margin on the target class, for all variants of a fleet in one vmapped call.

Deng et al. 2019 (margin), Deng et al. 2020 (sub-centres). All in float32. Margins are radians.
"""

import jax
import jax.numpy as jnp
import optax

# 1 - cos^2 never falls below it, so that the gradient of the sine stays finite at cos = +-1: about one float32
# rounding error of 1, hence nothing that float32 could tell apart is lost
_SINE_SQUARED_FLOOR = 1e-7
_NORM_SQUARED_FLOOR = 1e-12


def normalise(vectors: jax.Array) -> jax.Array:
    """Rows of unit length, (..., d) -> (..., d); a zero row stays zero."""
    squared = jnp.sum(jnp.square(vectors), axis=-1, keepdims=True)
    return vectors * jax.lax.rsqrt(jnp.maximum(squared, _NORM_SQUARED_FLOOR))


def cosines(embeddings: jax.Array, weights: jax.Array, subcentres: int = 1) -> jax.Array:
    """Cosine of each embedding to each class, (b, d), (k * subcentres, d) -> (b, k): the nearest sub-centre's."""
    embeddings, weights = normalise(embeddings), normalise(weights)
    every = jnp.matmul(embeddings, weights.T, precision=jax.lax.Precision.HIGHEST)
    return jnp.max(every.reshape(len(embeddings), -1, subcentres), axis=-1)


def fleet_cosines(embeddings: jax.Array, weights: jax.Array, subcentres: int = 1) -> jax.Array:
    """`cosines` of all variants at once, (v, b, d), (v, k * subcentres, d) -> (v, b, k)."""
    return jax.vmap(lambda e, w: cosines(e, w, subcentres))(embeddings, weights)


def logits(cosine: jax.Array, target: jax.Array, *, margin_radians: float, scale: float) -> jax.Array:
    """scale * cos(theta + margin) on the target class, scale * cos(theta) elsewhere: (b, k), (b,) -> (b, k).

    Past theta + margin > pi the target's logit is scale * (cos(theta) - margin * sin(margin)), which keeps
    falling (Deng et al. 2019, the authors' implementation).
    """
    sine = jnp.sqrt(jnp.maximum(1 - jnp.square(cosine), _SINE_SQUARED_FLOOR))
    shifted = cosine * jnp.cos(margin_radians) - sine * jnp.sin(margin_radians)
    beyond = cosine - margin_radians * jnp.sin(margin_radians)
    with_margin = jnp.where(cosine > -jnp.cos(margin_radians), shifted, beyond)
    is_target = target[:, None] == jnp.arange(cosine.shape[-1])[None]
    return scale * jnp.where(is_target, with_margin, cosine)


def loss(cosine: jax.Array, target: jax.Array, *, margin_radians: float, scale: float) -> jax.Array:
    """Softmax cross-entropy of each row's `logits`, (b, k), (b,) -> (b,)."""
    rows = logits(cosine, target, margin_radians=margin_radians, scale=scale)
    return optax.softmax_cross_entropy_with_integer_labels(rows, target)


def mixup_loss(
    cosine: jax.Array,
    target_a: jax.Array,
    target_b: jax.Array,
    weight: jax.Array,
    *,
    margin_radians: float,
    scale: float,
) -> jax.Array:
    """(1 - w) * loss to a + w * loss to b, each with the margin on its own target: (b, k) and three (b,) -> (b,)."""
    to_a = loss(cosine, target_a, margin_radians=margin_radians, scale=scale)
    to_b = loss(cosine, target_b, margin_radians=margin_radians, scale=scale)
    return (1 - weight) * to_a + weight * to_b
