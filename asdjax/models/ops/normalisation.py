"""Batch normalisation and the activation after it as one operation, and arithmetic by channel."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from asdjax.models.ops.sums import ChannelSum

EPSILON = 1e-5  # added to a variance; open in the report

#: A function (y, *parameters) -> y, elementwise on (..., c); its parameters broadcast by channel.
Activation = Callable[..., jax.Array]

#: The parameters of an activation, (c,) each.
Parameters = tuple[jax.Array, ...]

#: The activated array (..., c), and the mean and variance (c,) of the batch.
Results = tuple[jax.Array, jax.Array, jax.Array]

#: What the derivative needs: x (..., c); 1 / deviation, factor, mean and shift (c,); the activation's parameters.
Saved = tuple[jax.Array, jax.Array, jax.Array, jax.Array, jax.Array, Parameters]


def linear(y: jax.Array) -> jax.Array:
    """Return y unchanged."""
    return y


def prelu(y: jax.Array, slope: jax.Array) -> jax.Array:
    """Return y where positive, else slope * y (He et al. 2015)."""
    return jnp.where(y > 0, y, slope * y)


@partial(jax.custom_vjp, nondiff_argnums=(4, 5))
def batch_normalise(
    x: jax.Array,
    scale: jax.Array,
    bias: jax.Array,
    parameters: Parameters,
    activation: Activation,
    channel_sum: ChannelSum,
) -> Results:
    """Normalise x (..., c) over all axes but the last, scale and shift by (c,), and activate.

    The biased mean and variance (c,) are returned in float32; no gradient flows through them. The derivative is
    written out (Ioffe & Szegedy 2015, section 3) as two passes over x and the gradient, where autodiff makes more.

    With an activation it suits a GPU: each pass computes the activation's derivative again instead of reading it from
    memory. A CPU and a TPU are faster with `batch_normalise_then_activate`.
    """
    return _forward(x, scale, bias, parameters, activation, channel_sum)[0]


def _forward(
    x: jax.Array,
    scale: jax.Array,
    bias: jax.Array,
    parameters: Parameters,
    activation: Activation,
    channel_sum: ChannelSum,
) -> tuple[Results, Saved]:
    wide = x.astype(jnp.float32)
    n = x.size // x.shape[-1]
    mean, mean_square = (total / n for total in channel_sum(wide, jnp.square(wide)))
    var = jnp.maximum(mean_square - jnp.square(mean), 0.0)
    inverse = jax.lax.rsqrt(var + EPSILON)
    factor = scale * inverse
    shift = bias - mean * factor
    y = scale_shift_activate(x, factor, shift, activation, parameters)
    return (y, mean, var), (x, inverse, factor, mean, shift, parameters)


def _backward(
    activation: Activation, channel_sum: ChannelSum, saved: Saved, gradients: Results
) -> tuple[jax.Array, jax.Array, jax.Array, Parameters]:
    x, inverse, factor, mean, shift, parameters = saved

    def activation_gradients(coefficients: tuple[jax.Array, jax.Array, Parameters]) -> tuple[jax.Array, ...]:
        """Return the gradients of the activation's input and of each parameter, (..., c), before they are summed."""
        factor, shift, parameters = coefficients
        spread = [jnp.broadcast_to(per_channel(array, x), x.shape) for array in parameters]
        _, backward = jax.vjp(activation, _scale_and_shift(x, factor, shift), *spread)
        return backward(gradients[0].astype(jnp.float32))

    for_bias, for_scale, for_x, *for_parameters = _copies((factor, shift, parameters), 3 + len(parameters))
    to_bias, products, *to_parameters = channel_sum(
        activation_gradients(for_bias)[0],
        activation_gradients(for_scale)[0] * x.astype(jnp.float32),
        *(activation_gradients(copy)[i] for i, copy in enumerate(for_parameters, 1)),
    )
    to_scale = (products - mean * to_bias) * inverse
    n = x.size // x.shape[-1]
    # factor * (g - mean(g) - x_hat * mean(g * x_hat)), gathered into one multiply-add each of g and x
    x_factor = -factor * inverse * to_scale / n
    constant = -factor * to_bias / n - x_factor * mean
    to_x = (
        activation_gradients(for_x)[0] * per_channel(factor, x)
        + x.astype(jnp.float32) * per_channel(x_factor, x)
        + per_channel(constant, x)
    )
    return to_x.astype(x.dtype), to_scale, to_bias, tuple(to_parameters)


def _copies(arrays: Any, times: int) -> Iterator[Any]:
    """Yield copies that XLA takes for different arrays.

    XLA writes to memory what two sums, or both passes, have in common. With copies it computes this in each sum
    instead. Within one pass a GPU's own compiler still shares the work.
    """
    for _ in range(times):
        arrays = jax.lax.optimization_barrier(arrays)
        yield arrays


batch_normalise.defvjp(_forward, _backward)


def batch_normalise_then_activate(
    x: jax.Array,
    scale: jax.Array,
    bias: jax.Array,
    parameters: Parameters,
    activation: Activation,
    channel_sum: ChannelSum,
) -> Results:
    """Compute the same as `batch_normalise`, with the activation's derivative left to autodiff.

    For a CPU and a TPU.
    """
    y, mean, var = batch_normalise(x, scale, bias, (), linear, channel_sum)
    wide = y.astype(jnp.float32)  # a slope's gradient, a long sum, is added up in float32
    return activation(wide, *(per_channel(array, x) for array in parameters)).astype(y.dtype), mean, var


def scale_shift_activate(
    x: jax.Array, factor: jax.Array, shift: jax.Array, activation: Activation, parameters: Parameters
) -> jax.Array:
    """Compute x * factor + shift and activate it, in float32; (..., c), (c,), (c,) -> (..., c) in the dtype of x."""
    y = _scale_and_shift(x, factor, shift)
    return activation(y, *(per_channel(array, x) for array in parameters)).astype(x.dtype)


def _scale_and_shift(x: jax.Array, factor: jax.Array, shift: jax.Array) -> jax.Array:
    return x.astype(jnp.float32) * per_channel(factor, x) + per_channel(shift, x)


def per_channel(numbers: jax.Array, like: jax.Array) -> jax.Array:
    """Reshape (c,) to (1, ..., 1, c), with as many axes as `like`."""
    return numbers.reshape((1,) * (like.ndim - 1) + (-1,))
