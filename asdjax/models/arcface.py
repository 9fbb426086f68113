"""ArcFace: an additive angular margin on the target class (Deng et al. 2019). In float32; margins are radians.

Letters: b batch, k classes.
"""

import jax
import jax.numpy as jnp
import optax

# lower bound of 1 - cos^2, which keeps the gradient of the sine finite at cos = +-1; about one float32 rounding error
_SINE_SQUARED_FLOOR = 1e-7


def logits(cosine: jax.Array, target: jax.Array, *, margin_radians: float, scale: jax.Array | float) -> jax.Array:
    """Return scale * cos(theta + margin) for the target class, scale * cos(theta) elsewhere: (b, k), (b,) -> (b, k).

    If theta + margin > pi, the target's logit is scale * (cos(theta) - margin * sin(margin)), which keeps falling as
    theta grows (Deng et al. 2019, the authors' implementation).
    """
    sine = jnp.sqrt(jnp.maximum(1 - jnp.square(cosine), _SINE_SQUARED_FLOOR))
    shifted = cosine * jnp.cos(margin_radians) - sine * jnp.sin(margin_radians)
    beyond = cosine - margin_radians * jnp.sin(margin_radians)
    with_margin = jnp.where(cosine > -jnp.cos(margin_radians), shifted, beyond)
    is_target = target[:, None] == jnp.arange(cosine.shape[-1])[None]
    return scale * jnp.where(is_target, with_margin, cosine)


def loss(cosine: jax.Array, target: jax.Array, *, margin_radians: float, scale: jax.Array | float) -> jax.Array:
    """Return the softmax cross-entropy of each row's `logits`, (b, k), (b,) -> (b,)."""
    rows = logits(cosine, target, margin_radians=margin_radians, scale=scale)
    return optax.softmax_cross_entropy_with_integer_labels(rows, target)
