"""Depthwise convolution: one filter of k rows and m columns per channel.

The kernel, and so its gradient, may have a wider dtype than the map. The output has the map's dtype.
"""

import functools

import jax
import jax.numpy as jnp
from jax.experimental.layout import Layout, with_layout_constraint

from asdjax.models.ops.convolution import (
    Size,
    centred_pads,
    conv_output_size,
    slice_tap_input,
    strided_conv,
    zero_pad,
)
from asdjax.models.ops.sums import THREAD_SUM_LENGTH, sum_rows_together


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def shifted_products(x: jax.Array, kernel: jax.Array, stride: int) -> jax.Array:
    """Convolve as a sum of k * m shifted products, (b, f, t, c), (k, m, c) -> (b, f', t', c).

    For a CPU, which computes the gradients of `grouped_conv` one element at a time.
    """
    padded = zero_pad(x, centred_pads(kernel))
    return _sum_shifts(padded, kernel.astype(x.dtype), _output_size(x, kernel, stride), stride)


def _output_size(x: jax.Array, kernel: jax.Array, stride: int) -> Size:
    k, m = kernel.shape[:2]
    return conv_output_size(x.shape[1], k, stride), conv_output_size(x.shape[2], m, stride)


def _sum_shifts(padded: jax.Array, kernel: jax.Array, size: Size, stride: int) -> jax.Array:
    """Multiply each tap of the kernel by its inputs in the padded map and sum, to (b, *size, c)."""
    # `lax` instead of `jnp`, which would trace each of EfficientNet-B0's thousand taps as a function of its own
    k, m, c = kernel.shape
    shape = (padded.shape[0], *size, c)
    weights = kernel.reshape(k * m, c)
    total = jnp.zeros(shape, padded.dtype)
    for i in range(k):
        for j in range(m):
            weight = jax.lax.broadcast_in_dim(jax.lax.index_in_dim(weights, i * m + j, keepdims=False), shape, (3,))
            total = jax.lax.add(total, jax.lax.mul(slice_tap_input(padded, (i, j), size, (stride, stride)), weight))
    return total


def _shifts_forward(x: jax.Array, kernel: jax.Array, stride: int) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return shifted_products(x, kernel, stride), (x, kernel)


def _shifts_backward(
    stride: int, saved: tuple[jax.Array, jax.Array], gradient: jax.Array
) -> tuple[jax.Array, jax.Array]:
    x, kernel = saved
    to_x = _shifts_input_gradient((x.shape[1], x.shape[2]), gradient, kernel, stride)
    return to_x, _shifts_kernel_gradient(x, gradient, kernel, stride)


def _shifts_input_gradient(size: Size, gradient: jax.Array, kernel: jax.Array, stride: int) -> jax.Array:
    """Sum shifts of the dilated gradient, weighted by the rotated kernel, to (b, *size, c).

    Autodiff would sum k * m padded arrays, each with a bounds check in the innermost loop.
    """
    rotated = kernel[::-1, ::-1].astype(gradient.dtype)
    return _sum_shifts(_dilate(gradient, size, kernel, stride), rotated, size, 1)


def _dilate(gradient: jax.Array, size: Size, kernel: jax.Array, stride: int) -> jax.Array:
    """Put zeros between and around an output's gradient, as the rotated kernel needs to give (b, *size, c)."""
    dilation = []
    for n, output_n, k in zip(size, gradient.shape[1:3], kernel.shape[:2], strict=True):
        low = k - 1 - (k - 1) // 2
        dilation.append((low, n + k - 2 - low - stride * (output_n - 1), stride - 1))
    return jax.lax.pad(gradient, jnp.zeros((), gradient.dtype), [(0, 0, 0), *dilation, (0, 0, 0)])


def _shifts_kernel_gradient(x: jax.Array, gradient: jax.Array, kernel: jax.Array, stride: int) -> jax.Array:
    """Add up the kernel's gradient row by row in k * m accumulators, (b, f, t, c), (b, f', t', c) -> (k, m, c).

    Autodiff would make k * m reductions over shifted views, which the CPU backend does not vectorise.
    """
    k, m = kernel.shape[:2]
    b, rows, columns, c = gradient.shape
    padded = zero_pad(x, centred_pads(kernel))

    def add_row(i: jax.Array, totals: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
        output_row = jax.lax.dynamic_slice_in_dim(gradient, i, 1, 1)
        input_rows = jax.lax.dynamic_slice_in_dim(padded, i * stride, k, 1)
        taps = [slice_tap_input(input_rows, (u, v), (1, columns), (stride, stride)) for u in range(k) for v in range(m)]
        products = (jax.lax.mul(tap, output_row).astype(jnp.float32) for tap in taps)
        return tuple(map(jax.lax.add, totals, products))

    zeros = tuple(jnp.zeros((b, 1, columns, c), jnp.float32) for _ in range(k * m))
    totals = jax.lax.fori_loop(0, rows, add_row, zeros)
    return jnp.stack([jnp.sum(total, axis=(0, 1, 2)) for total in totals]).reshape(kernel.shape).astype(kernel.dtype)


shifted_products.defvjp(_shifts_forward, _shifts_backward)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def padded_shifts(x: jax.Array, kernel: jax.Array, stride: int) -> jax.Array:
    """Compute the same sum as `shifted_products`, in float32, from an input that is written out with its padding.

    For a GPU. Columns and channels are read as one axis, without bounds checks and in wide loads. The barriers after
    the sums keep XLA from repeating them in the reductions that follow.
    """
    return _padded_forward(x, kernel, stride)[0]


def _padded_forward(x: jax.Array, kernel: jax.Array, stride: int) -> tuple[jax.Array, tuple[jax.Array, ...]]:
    padded = jax.lax.optimization_barrier(zero_pad(x, centred_pads(kernel)))
    y = _sum_merged_shifts(padded, kernel, _output_size(x, kernel, stride), stride)
    return jax.lax.optimization_barrier(y), (padded, kernel)


def _padded_backward(stride: int, saved: tuple[jax.Array, ...], gradient: jax.Array) -> tuple[jax.Array, jax.Array]:
    padded, kernel = saved
    k, m = kernel.shape[:2]
    output_size = gradient.shape[1], gradient.shape[2]
    (top, _), (left, _) = centred_pads(kernel)
    size = padded.shape[1] - 2 * top, padded.shape[2] - 2 * left
    if stride == 1:  # the gradient is written out once, with its padding
        dilated = _write_row_major(_dilate(gradient, size, kernel, stride))
        merged_gradient = _slice_merged_tap(dilated, (k - 1 - top, m - 1 - left), output_size, stride)
    else:
        gradient = _write_row_major(gradient)
        dilated = _write_row_major(_dilate(gradient, size, kernel, stride))
        merged_gradient = _merge_columns_channels(gradient).astype(jnp.float32)
    taps = [_slice_merged_tap(padded, (i, j), output_size, stride) for i in range(k) for j in range(m)]
    to_kernel = _sum_products(taps, merged_gradient, kernel.shape[-1])
    to_x = _sum_merged_shifts(dilated, kernel[::-1, ::-1], size, 1)
    return jax.lax.optimization_barrier(to_x), to_kernel.reshape(kernel.shape).astype(kernel.dtype)


def _write_row_major(x: jax.Array) -> jax.Array:
    """Have an array written to memory in the order of its axes.

    Otherwise XLA transposes the maps around it, because of the mean over a map in squeeze-and-excite.
    """
    return jax.lax.optimization_barrier(with_layout_constraint(x, Layout(tuple(range(x.ndim)))))


def _sum_products(taps: list[jax.Array], gradient: jax.Array, channels: int) -> jax.Array:
    """Sum the products of each tap's inputs with the gradient, (b, f', t' * c) each, to (taps, c).

    Runs of `THREAD_SUM_LENGTH` rows are summed first, for all taps at once, so that XLA reads both maps once.
    """
    _, rows, columns = gradient.shape
    run = THREAD_SUM_LENGTH if rows % THREAD_SUM_LENGTH == 0 else rows
    run_sums = [jnp.sum((tap * gradient).reshape(-1, run, columns), axis=1) for tap in taps]
    by_column = [run_sum.reshape(-1, channels) for run_sum in jax.lax.optimization_barrier(run_sums)]
    return sum_rows_together(by_column)


def _sum_merged_shifts(padded: jax.Array, kernel: jax.Array, size: Size, stride: int) -> jax.Array:
    """Compute `_sum_shifts` in float32, with columns and channels as one axis."""
    k, m = kernel.shape[:2]
    weights = jnp.tile(kernel.astype(jnp.float32), (1, 1, size[1]))[:, :, None, None]
    terms = (_slice_merged_tap(padded, (i, j), size, stride) * weights[i, j] for i in range(k) for j in range(m))
    total = functools.reduce(jax.lax.add, terms).astype(padded.dtype)
    return total.reshape(padded.shape[0], *size, -1)


def _slice_merged_tap(padded: jax.Array, tap: Size, size: Size, stride: int) -> jax.Array:
    """Slice the inputs of one tap (i, j) in float32, (b, f, t, c) -> (b, f', t' * c)."""
    if stride > 1:
        return _merge_columns_channels(slice_tap_input(padded, tap, size, (stride, stride))).astype(jnp.float32)
    (i, j), c = tap, padded.shape[-1]
    last = (padded.shape[0], i + size[0], (j + size[1]) * c)
    return jax.lax.slice(_merge_columns_channels(padded), (0, i, j * c), last).astype(jnp.float32)


def _merge_columns_channels(x: jax.Array) -> jax.Array:
    """Reshape (b, f, t, c) to (b, f, t * c)."""
    return x.reshape(*x.shape[:2], -1)


padded_shifts.defvjp(_padded_forward, _padded_backward)


def grouped_conv(x: jax.Array, kernel: jax.Array, stride: int) -> jax.Array:
    """Convolve by the compiler's own operation, one group per channel, (b, f, t, c), (k, m, c) -> (b, f', t', c)."""
    kernel = kernel[:, :, None].astype(x.dtype)
    return strided_conv(x, kernel, (stride, stride), centred_pads(kernel), groups=x.shape[-1])
