"""Depthwise convolution: a filter per channel; k and m are its rows and columns. The kernel may be of a wider type than
the map, as its gradient then is; what comes of it is of the map's."""

import functools

import jax
import jax.numpy as jnp
from jax.experimental.layout import Layout, with_layout_constraint

from asdjax.models.ops.convolution import Size, both_pads, conv_output, padded, strided, tap
from asdjax.models.ops.sums import IN_A_THREAD, side_by_side


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
    return _shifted_sum(padded(x, both_pads(kernel)), kernel.astype(x.dtype), size, stride)


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
    turned = kernel[::-1, ::-1].astype(gradient.dtype)
    return _shifted_sum(_spread(gradient, size, kernel, stride), turned, size, 1)


def _spread(gradient: jax.Array, size: Size, kernel: jax.Array, stride: int) -> jax.Array:
    """The gradient with zeros between and around, over which the kernel turned round passes."""
    spread = []
    for n, made, k in zip(size, gradient.shape[1:3], kernel.shape[:2], strict=True):
        low = k - 1 - (k - 1) // 2
        spread.append((low, n + k - 2 - low - stride * (made - 1), stride - 1))
    return jax.lax.pad(gradient, jnp.zeros((), gradient.dtype), [(0, 0, 0), *spread, (0, 0, 0)])


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


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def padded_shifts(x: jax.Array, kernel: jax.Array, stride: int) -> jax.Array:
    """The same sum for a GPU: of an input, and of a gradient, that are written out with their padding, and read with
    columns and channels as one axis.

    XLA then makes 63 instructions for an output of a 3x3 kernel, instead of 135 with bounds checks, and 46 where the
    kernel is float32, all loads wide; of a 5x5 one 185, and 131 (PTX for an H200). Without the barriers behind
    the sums it computes them again within the reductions that follow: those took 16 of the 37 ms of seven stacked
    MobileFaceNets (512), of 315 ms with cuDNN's grouped convolutions, untuned. At stride 1 the gradient is written with
    its padding only, which the kernel's gradient leaves out. It is held to the order of its axes, as else the mean over
    a map has all of EfficientNet-B0 around it transposed: seven stacked ones (512) moved 45.1 GB instead of 42.6.
    """
    return _padded_forward(x, kernel, stride)[0]


def _padded_forward(x: jax.Array, kernel: jax.Array, stride: int) -> tuple[jax.Array, tuple[jax.Array, ...]]:
    k, m = kernel.shape[:2]
    size = conv_output(x.shape[1], k, stride), conv_output(x.shape[2], m, stride)
    whole = jax.lax.optimization_barrier(padded(x, both_pads(kernel)))
    y = _sum_of_merged(whole, kernel, size, stride)
    return jax.lax.optimization_barrier(y), (whole, kernel)


def _padded_backward(stride: int, saved: tuple[jax.Array, ...], gradient: jax.Array) -> tuple[jax.Array, jax.Array]:
    whole, kernel = saved
    k, m = kernel.shape[:2]
    made = gradient.shape[1], gradient.shape[2]
    (top, _), (left, _) = both_pads(kernel)
    size = whole.shape[1] - 2 * top, whole.shape[2] - 2 * left
    if stride == 1:
        spread = _in_order(_spread(gradient, size, kernel, stride))
        of_output = _merged_tap(spread, k - 1 - top, m - 1 - left, made, stride)
    else:
        gradient = _in_order(gradient)
        spread = _in_order(_spread(gradient, size, kernel, stride))
        of_output = _merged(gradient).astype(jnp.float32)
    taps = [_merged_tap(whole, i, j, made, stride) for i in range(k) for j in range(m)]
    to_kernel = _sums_of_products(taps, of_output, kernel.shape[-1])
    to_x = _sum_of_merged(spread, kernel[::-1, ::-1], size, 1)
    return jax.lax.optimization_barrier(to_x), to_kernel.reshape(kernel.shape).astype(kernel.dtype)


def _in_order(x: jax.Array) -> jax.Array:
    """Written out by the order of its axes."""
    return jax.lax.optimization_barrier(with_layout_constraint(x, Layout(tuple(range(x.ndim)))))


def _sums_of_products(taps: list[jax.Array], gradient: jax.Array, channels: int) -> jax.Array:
    """Of each tap's products with the gradient, (b, f', t' * c) each: -> (taps, c).

    First of sixteen rows, which XLA gives to one thread, for all taps: both maps are read once. Of all rows at once it
    made a reduction of each tap or two, which read them again: a step of EfficientNet-B0 (512) moved 7.24 GB instead of
    4.92, and these took 20 of the 175 ms of seven fleets.
    """
    _, rows, columns = gradient.shape
    run = IN_A_THREAD if rows % IN_A_THREAD == 0 else rows
    of_runs = [jnp.sum((tap * gradient).reshape(-1, run, columns), axis=1) for tap in taps]
    by_column = [of_run.reshape(-1, channels) for of_run in jax.lax.optimization_barrier(of_runs)]
    return side_by_side(by_column)


def _sum_of_merged(whole: jax.Array, kernel: jax.Array, size: Size, stride: int) -> jax.Array:
    """As `_shifted_sum`, added up in float32."""
    k, m = kernel.shape[:2]
    weights = jnp.tile(kernel.astype(jnp.float32), (1, 1, size[1]))[:, :, None, None]
    terms = (_merged_tap(whole, i, j, size, stride) * weights[i, j] for i in range(k) for j in range(m))
    total = functools.reduce(jax.lax.add, terms).astype(whole.dtype)
    return total.reshape(whole.shape[0], *size, -1)


def _merged_tap(whole: jax.Array, i: int, j: int, size: Size, stride: int) -> jax.Array:
    """What tap (i, j) meets of a padded map, float32: (b, f, t, c) -> (b, f', t' * c)."""
    if stride > 1:
        return _merged(tap(whole, i, j, size, (stride, stride))).astype(jnp.float32)
    c = whole.shape[-1]
    last = (whole.shape[0], i + size[0], (j + size[1]) * c)
    return jax.lax.slice(_merged(whole), (0, i, j * c), last).astype(jnp.float32)


def _merged(x: jax.Array) -> jax.Array:
    """Columns and channels as one axis: (b, f, t, c) -> (b, f, t * c)."""
    return x.reshape(*x.shape[:2], -1)


padded_shifts.defvjp(_padded_forward, _padded_backward)


def grouped_conv(x: jax.Array, kernel: jax.Array, stride: int) -> jax.Array:
    """Depthwise convolution as the compiler's own: (b, f, t, c), (k, m, c) -> (b, f', t', c)."""
    kernel = kernel[:, :, None].astype(x.dtype)
    return strided(x, kernel, (stride, stride), both_pads(kernel), groups=x.shape[-1])
