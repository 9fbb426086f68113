"""AdaCos: softmax over scaled cosines without a margin, whose scale follows from the number of centres, or from
the batch as training goes.

Zhang et al. 2019, "AdaCos: adaptively scaling cosine logits"; Wilkinghoff 2021, "Sub-cluster AdaCos". Letters: b
batch, k classes, c sub-clusters of a class.
"""

import math

import jax
import jax.numpy as jnp

LEAST_SCALE = 1.0
"""Below it the dynamic scale never falls: with few classes the formula turns negative once their cosines are; OPEN."""


def fixed_scale(centres: int) -> float:
    """sqrt(2) * log(centres - 1), also the first of a dynamic one (Zhang et al. 2019, equation 10)."""
    return math.sqrt(2) * math.log(centres - 1)


def loss(cosine: jax.Array, target: jax.Array, scale: jax.Array | float) -> jax.Array:
    """Minus the log of the target's share of the softmax, its sub-clusters' shares summed: (b, k, c), (b,) -> (b,).

    With one sub-cluster this is the softmax cross-entropy.
    """
    of_classes = jax.nn.logsumexp(scale * cosine, axis=-1)
    of_target = jnp.take_along_axis(of_classes, target[:, None], axis=1)[:, 0]
    return jax.nn.logsumexp(of_classes, axis=-1) - of_target


def dynamic_scale(
    cosine: jax.Array, counted: jax.Array, angle: jax.Array, scale_before: jax.Array | float
) -> jax.Array:
    """log(mean over rows of the sum of exp(scale before * counted cosines)) / cos(min(pi / 4, median angle)).

    cosine, counted: (b, n), the latter bool; angle: (b,) radians, between each embedding and its target. Counted are
    the other classes' cosines (Zhang et al. 2019, equation 15), or those of all sub-clusters (Wilkinghoff 2021).
    """
    exponents = jnp.where(counted, scale_before * cosine, -jnp.inf)
    log_sum = jax.nn.logsumexp(exponents) - math.log(len(cosine))
    scale = log_sum / jnp.cos(jnp.minimum(jnp.pi / 4, jnp.median(angle)))
    return jnp.maximum(scale, LEAST_SCALE)
