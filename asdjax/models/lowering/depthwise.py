"""Depthwise convolution: a filter per channel; k and m are its rows and columns."""

import functools

import jax
import jax.numpy as jnp

from asdjax.models.lowering.convolution import Size, both_pads, conv_output, padded, strided, tap


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def shifted_products(x: jax.Array, kernel: jax.Array, stride: int) -> jax.Array:
    """Depthwise convolution as a sum of k * m shifted products: (b, f, t, c), (k, m, c) -> (b, f', t', c).

    On two x86 cores a training step of MobileFaceNet runs 2.2 times, of EfficientNet-B0 5 times as fast with it
    as with `lax.conv` over one group a channel, whose gradients the CPU backend computes one element at a time. Not
    on a TPU: by the estimate of a v5e's compiler 48 pieces of EfficientNet-B0 (1024) take 36.5 ms instead of 23.2.
    """
    return _sum_of_shifts(x, kernel, stride)


def _sum_of_shifts(x: jax.Array, kernel: jax.Array, stride: int) -> jax.Array:
    k, m = kernel.shape[:2]
    size = conv_output(x.shape[1], k, stride), conv_output(x.shape[2], m, stride)
    return _shifted_sum(padded(x, both_pads(kernel)), kernel, size, stride)


def _shifted_sum(whole: jax.Array, kernel: jax.Array, size: Size, stride: int) -> jax.Array:
    """Each tap of the kernel times what it meets of the padded input, summed: -> (b, *size, c).

    In `lax`, not `jnp`, which traces each of EfficientNet-B0's some thousand taps as a function of its own.
    """
    k, m, c = kernel.shape
    shape = (whole.shape[0], *size, c)
    weights = kernel.reshape(k * m, c)
    total = jnp.zeros(shape, whole.dtype)
    for i in range(k):
        for j in range(m):
            weight = jax.lax.broadcast_in_dim(jax.lax.index_in_dim(weights, i * m + j, keepdims=False), shape, (3,))
            total = jax.lax.add(total, jax.lax.mul(tap(whole, i, j, size, (stride, stride)), weight))
    return total


def _shifts_forward(x: jax.Array, kernel: jax.Array, stride: int) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return _sum_of_shifts(x, kernel, stride), (x, kernel)


def _shifts_backward(
    stride: int, saved: tuple[jax.Array, jax.Array], gradient: jax.Array
) -> tuple[jax.Array, jax.Array]:
    x, kernel = saved
    to_x = _shifts_input_gradient((x.shape[1], x.shape[2]), gradient, kernel, stride)
    return to_x, _shifts_kernel_gradient(x, gradient, kernel, stride)


def _shifts_input_gradient(size: Size, gradient: jax.Array, kernel: jax.Array, stride: int) -> jax.Array:
    """The same sum with the kernel turned round, over the gradient spread out by the stride: -> (b, *size, c).

    Left to autodiff it becomes a sum of k * m padded arrays, each with a bounds check in the innermost loop.
    """
    spread = []
    for n, made, k in zip(size, gradient.shape[1:3], kernel.shape[:2], strict=True):
        low = k - 1 - (k - 1) // 2
        spread.append((low, n + k - 2 - low - stride * (made - 1), stride - 1))
    whole = jax.lax.pad(gradient, jnp.zeros((), gradient.dtype), [(0, 0, 0), *spread, (0, 0, 0)])
    return _shifted_sum(whole, kernel[::-1, ::-1], size, 1)


def _shifts_kernel_gradient(x: jax.Array, gradient: jax.Array, kernel: jax.Array, stride: int) -> jax.Array:
    """Row by row into k * m accumulators, (b, f, t, c), (b, f', t', c) -> (k, m, c).

    Left to autodiff it becomes k * m reductions over shifted views, which the CPU backend does not vectorise:
    109 ms against 11 for 8 x 512 x 16 x 64 and a 3x3 kernel on two x86 cores.
    """
    k, m = kernel.shape[:2]
    b, rows, columns, c = gradient.shape
    whole = padded(x, both_pads(kernel))

    def add_row(i: jax.Array, sums: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
        of_output = jax.lax.dynamic_slice_in_dim(gradient, i, 1, 1)
        under_row = jax.lax.dynamic_slice_in_dim(whole, i * stride, k, 1)
        taps = [tap(under_row, u, v, (1, columns), (stride, stride)) for u in range(k) for v in range(m)]
        products = (jax.lax.mul(tap, of_output).astype(jnp.float32) for tap in taps)
        return tuple(map(jax.lax.add, sums, products))

    zeros = tuple(jnp.zeros((b, 1, columns, c), jnp.float32) for _ in range(k * m))
    sums = jax.lax.fori_loop(0, rows, add_row, zeros)
    return jnp.stack([jnp.sum(total, axis=(0, 1, 2)) for total in sums]).reshape(kernel.shape).astype(kernel.dtype)


shifted_products.defvjp(_shifts_forward, _shifts_backward)


def grouped_conv(x: jax.Array, kernel: jax.Array, stride: int) -> jax.Array:
    """Depthwise convolution as the compiler's own: (b, f, t, c), (k, m, c) -> (b, f', t', c)."""
    return strided(x, kernel[:, :, None], (stride, stride), both_pads(kernel), groups=x.shape[-1])
