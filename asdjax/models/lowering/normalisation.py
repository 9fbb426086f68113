"""Normalisation by a batch's statistics, and arithmetic by channel."""

import functools

import jax
import jax.numpy as jnp

from asdjax.models.lowering.sums import Sums


@functools.partial(jax.custom_vjp, nondiff_argnums=(3, 4))
def normalised(
    x: jax.Array, scale: jax.Array, bias: jax.Array, epsilon: float, summed: Sums
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """x (..., c) normalised over all axes but the last, scaled by (c,) and shifted by (c,); with the mean and (biased)
    variance (c,) used, float32.

    The derivative is written out (Ioffe & Szegedy 2015, section 3): two reductions and one pass over x, where
    autodiff makes several of each. No gradient flows through the mean and variance returned.
    """
    return _normalised_forward(x, scale, bias, epsilon, summed)[0]


def _normalised_forward(
    x: jax.Array, scale: jax.Array, bias: jax.Array, epsilon: float, summed: Sums
) -> tuple[tuple[jax.Array, jax.Array, jax.Array], tuple[jax.Array, ...]]:
    wide = x.astype(jnp.float32)
    n = x.size // x.shape[-1]
    mean, of_squares = (total / n for total in summed(wide, jnp.square(wide)))
    var = jnp.maximum(of_squares - jnp.square(mean), 0.0)
    inverse = jax.lax.rsqrt(var + epsilon)
    y = scaled_and_shifted(x, scale * inverse, bias - mean * scale * inverse)
    return (y, mean, var), (x, scale, mean, inverse)


def _normalised_backward(
    epsilon: float,
    summed: Sums,
    saved: tuple[jax.Array, ...],
    gradients: tuple[jax.Array, jax.Array, jax.Array],
) -> tuple[jax.Array, jax.Array, jax.Array]:
    x, scale, mean, inverse = saved
    gradient = gradients[0].astype(jnp.float32)
    wide = x.astype(jnp.float32)
    to_bias, products = summed(gradient, gradient * wide)
    to_scale = (products - mean * to_bias) * inverse
    n = x.size // x.shape[-1]
    # scale * inverse * (g - mean(g) - x_hat * mean(g * x_hat)), gathered into one multiply-add each of g and x
    slope = scale * inverse
    of_x = -slope * inverse * to_scale / n
    constant = -slope * to_bias / n - of_x * mean
    to_x = gradient * per_channel(slope, x) + wide * per_channel(of_x, x) + per_channel(constant, x)
    return to_x.astype(x.dtype), to_scale, to_bias


normalised.defvjp(_normalised_forward, _normalised_backward)


def scaled_and_shifted(x: jax.Array, scale: jax.Array, shift: jax.Array) -> jax.Array:
    """x * scale + shift in float32, (..., c), (c,), (c,) -> (..., c) in the type of x."""
    return (x.astype(jnp.float32) * per_channel(scale, x) + per_channel(shift, x)).astype(x.dtype)


def per_channel(channels: jax.Array, like: jax.Array) -> jax.Array:
    """(c,) -> (1, ..., 1, c), to go with an array of so many axes."""
    return channels.reshape((1,) * (like.ndim - 1) + (-1,))
