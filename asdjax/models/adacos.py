"""AdaCos: softmax over scaled cosines without a margin. The scale is fixed by the number of centres, or adapts.

Zhang et al. 2019, "AdaCos: adaptively scaling cosine logits"; Wilkinghoff 2021, "Sub-cluster AdaCos". Letters: b
batch, k classes, c sub-clusters of a class.
"""

import math

import jax
import jax.numpy as jnp

# lower bound of the dynamic scale: with few classes and negative cosines the formula turns negative; OPEN
LEAST_SCALE = 1.0


def fixed_scale(centres: int) -> float:
    """Return sqrt(2) * log(centres - 1), also the first value of a dynamic scale (Zhang et al. 2019, equation 10)."""
    return math.sqrt(2) * math.log(centres - 1)


def loss(cosine: jax.Array, target: jax.Array, scale: jax.Array | float) -> jax.Array:
    """Return -log of the target's softmax probability, summed over its sub-clusters: (b, k, c), (b,) -> (b,).

    With one sub-cluster per class it is the softmax cross-entropy.
    """
    by_class = jax.nn.logsumexp(scale * cosine, axis=-1)
    target_share = jnp.take_along_axis(by_class, target[:, None], axis=1)[:, 0]
    return jax.nn.logsumexp(by_class, axis=-1) - target_share


def dynamic_scale(
    cosine: jax.Array, counted: jax.Array, angle: jax.Array, scale_before: jax.Array | float
) -> jax.Array:
    """Return log(mean over rows of the sum of exp(previous scale * counted cosines)) / cos(min(pi / 4, median angle)).

    cosine: (b, n). counted: (b, n) bool, true for the other classes (Zhang et al. 2019, equation 15) or for all
    sub-clusters (Wilkinghoff 2021). angle: (b,) radians between each embedding and its target.
    """
    exponents = jnp.where(counted, scale_before * cosine, -jnp.inf)
    log_sum = jax.nn.logsumexp(exponents) - math.log(len(cosine))
    scale = log_sum / jnp.cos(jnp.minimum(jnp.pi / 4, jnp.median(angle)))
    return jnp.maximum(scale, LEAST_SCALE)
