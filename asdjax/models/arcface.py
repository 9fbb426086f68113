"""ArcFace: an additive angular margin on the target class (Deng et al. 2019). In float32; margins are radians."""

import jax
import jax.numpy as jnp
import optax

# 1 - cos^2 never falls below it, so that the gradient of the sine stays finite at cos = +-1: about one float32
# rounding error of 1, hence nothing that float32 could tell apart is lost
_SINE_SQUARED_FLOOR = 1e-7


def logits(cosine: jax.Array, target: jax.Array, *, margin_radians: float, scale: jax.Array | float) -> jax.Array:
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


def loss(cosine: jax.Array, target: jax.Array, *, margin_radians: float, scale: jax.Array | float) -> jax.Array:
    """Softmax cross-entropy of each row's `logits`, (b, k), (b,) -> (b,)."""
    rows = logits(cosine, target, margin_radians=margin_radians, scale=scale)
    return optax.softmax_cross_entropy_with_integer_labels(rows, target)
