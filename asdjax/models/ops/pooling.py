"""Maxima and means over places of a map."""

import functools

import jax
import jax.numpy as jnp

from asdjax.models.ops.convolution import conv_output


def max_pool(x: jax.Array) -> jax.Array:
    """3x3 maximum at stride 2, padded by 1, as the compiler's own: (b, f, t, c) -> (b, f / 2, t / 2, c), rounded up.

    On a TPU: by a v5e's compiler a step of 48 pieces of ResNet-50 (512) moves 2.36 GB instead of 2.78 with
    slices of each axis whose gradient is spread out, and takes 1.4 ms less of 10.4, which leaves the gradient out: of
    that there is no estimate, and it must take more than 1.4 ms, and so move its 63 MB at a twentieth of the memory's
    rate, to be no gain.
    """
    pads = ((0, 0), (1, 1), (1, 1), (0, 0))
    return jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (1, 3, 3, 1), (1, 2, 2, 1), pads)


def max_pool_by_axes(x: jax.Array) -> jax.Array:
    """The same maximum along one axis, then along the other.

    Of equals the gradient goes to the first column's, there to the first row's; XLA and PyTorch look row by row.
    """
    return max_of_three(max_of_three(x, 1), 2)


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def max_of_three(x: jax.Array, axis: int) -> jax.Array:
    """Maximum of each three neighbours along an axis, at stride 2, padded by 1: that axis is halved, rounded up.

    The gradient goes to the first of equals. Slices in both directions: the gradient of `lax.reduce_window` looks for
    each maximum's place again and scatters, on two x86 cores 60 of the 1250 ms of a ResNet-50's whole step. Even places
    are the second of one three, odd ones the last of one and the first of the next, laid between them: beside a sum of
    three gradients spread out that is 0.85 to 0.91 of the time on two x86 cores (both directions and a ReLU, 8 and 48 x
    512 x 16 x 64), and for an H200 of both axes 83 instructions for a place instead of 274 (PTX).
    """
    return functools.reduce(jnp.maximum, _threes(x, axis))


def _threes(x: jax.Array, axis: int) -> list[jax.Array]:
    """What comes first, second and third of each three."""
    pad = [(0, 0, 0)] * x.ndim
    pad[axis] = (1, 1, 0)
    padded = jax.lax.pad(x, jnp.array(-jnp.inf, x.dtype), pad)
    last = 2 * (conv_output(x.shape[axis], 3, 2) - 1)
    return [jax.lax.slice_in_dim(padded, i, i + last + 1, 2, axis) for i in range(3)]


def _max_forward(x: jax.Array, axis: int) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    y = max_of_three(x, axis)
    return y, (x, y)


def _max_backward(axis: int, saved: tuple[jax.Array, jax.Array], gradient: jax.Array) -> tuple[jax.Array]:
    x, y = saved
    first, second, _ = _threes(x, axis)
    of_first = first == y
    of_second = (second == y) & ~of_first
    zero = jnp.zeros((), gradient.dtype)
    even, last, next_first = (
        jnp.where(chosen, gradient, zero) for chosen in (of_second, ~(of_first | of_second), of_first)
    )
    from_next = [(0, 0, 0)] * x.ndim
    from_next[axis] = (-1, 1, 0)
    both = jnp.stack([even, last + jax.lax.pad(next_first, zero, from_next)], axis=axis + 1)
    between = both.reshape(*y.shape[:axis], 2 * y.shape[axis], *y.shape[axis + 1 :])
    return (jax.lax.slice_in_dim(between, 0, x.shape[axis], axis=axis),)


max_of_three.defvjp(_max_forward, _max_backward)


def global_average_pool(x: jax.Array) -> jax.Array:
    """(b, f, t, c) -> (b, c), summed in float32."""
    return jnp.mean(x, axis=(1, 2), dtype=jnp.float32).astype(x.dtype)
