"""Maxima and means over places of a map."""

import functools

import jax
import jax.numpy as jnp

from asdjax.models.ops.convolution import conv_output_size


def max_pool(x: jax.Array) -> jax.Array:
    """Take the 3x3 maximum at stride 2, padded by 1, by the compiler's own operation.

    (b, f, t, c) -> (b, f / 2, t / 2, c), rounded up.
    """
    pads = ((0, 0), (1, 1), (1, 1), (0, 0))
    return jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (1, 3, 3, 1), (1, 2, 2, 1), pads)


def max_pool_by_axes(x: jax.Array) -> jax.Array:
    """Take the same maximum as `max_pool`, along one axis and then along the other.

    Among equal maxima the gradient goes to the first column, and there to the first row. XLA and PyTorch search row
    by row instead.
    """
    return max_along_axis(max_along_axis(x, 1), 2)


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def max_along_axis(x: jax.Array, axis: int) -> jax.Array:
    """Take the maximum of three neighbours along an axis, at stride 2, padded by 1; the axis is halved, rounded up.

    The gradient goes to the first of equal maxima. Both directions use slices only: the gradient of
    `lax.reduce_window` searches for each maximum again and scatters, which is slow on a CPU.
    """
    return functools.reduce(jnp.maximum, _slice_neighbours(x, axis))


def _slice_neighbours(x: jax.Array, axis: int) -> list[jax.Array]:
    """Return the first, second and third element of each window of three."""
    pad = [(0, 0, 0)] * x.ndim
    pad[axis] = (1, 1, 0)
    padded = jax.lax.pad(x, jnp.array(-jnp.inf, x.dtype), pad)
    last = 2 * (conv_output_size(x.shape[axis], 3, 2) - 1)
    return [jax.lax.slice_in_dim(padded, i, i + last + 1, 2, axis) for i in range(3)]


def _max_forward(x: jax.Array, axis: int) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    y = max_along_axis(x, axis)
    return y, (x, y)


def _max_backward(axis: int, saved: tuple[jax.Array, jax.Array], gradient: jax.Array) -> tuple[jax.Array]:
    # an even place is the second of one window; an odd place is the third of one and the first of the next
    x, y = saved
    first, second, _ = _slice_neighbours(x, axis)
    is_first = first == y
    is_second = (second == y) & ~is_first
    zero = jnp.zeros((), gradient.dtype)
    to_even, to_third, to_first = (
        jnp.where(is_maximum, gradient, zero) for is_maximum in (is_second, ~(is_first | is_second), is_first)
    )
    shift = [(0, 0, 0)] * x.ndim
    shift[axis] = (-1, 1, 0)
    even_and_odd = jnp.stack([to_even, to_third + jax.lax.pad(to_first, zero, shift)], axis=axis + 1)
    interleaved = even_and_odd.reshape(*y.shape[:axis], 2 * y.shape[axis], *y.shape[axis + 1 :])
    return (jax.lax.slice_in_dim(interleaved, 0, x.shape[axis], axis=axis),)


max_along_axis.defvjp(_max_forward, _max_backward)


def global_average_pool(x: jax.Array) -> jax.Array:
    """Average all places of a map, (b, f, t, c) -> (b, c), summed in float32."""
    return jnp.mean(x, axis=(1, 2), dtype=jnp.float32).astype(x.dtype)
