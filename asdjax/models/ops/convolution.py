"""Dense convolution, and what all convolutions share: pads, taps, the size that is left.

k and m are a kernel's rows and columns.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp

Size = tuple[int, int]
Pads = tuple[Size, Size]
"""Of both axes, before and after."""

KernelGradient = Callable[[jax.Array, jax.Array], jax.Array]
"""Of a 1x1 kernel: what it met (b, places, c), the gradient of what it made (b, places, d) -> (c, d)."""


def conv_output(size: int, kernel: int, stride: int) -> int:
    """Length that a convolution padded by (kernel - 1) // 2 on each side leaves of `size`."""
    return (size + 2 * ((kernel - 1) // 2) - kernel) // stride + 1


def met(kernel: jax.Array, size: Size, stride: int) -> jax.Array:
    """A kernel (k, k, ...) without those outer rows and columns, as many on each side, that meet nothing but padding on
    a map of this size: the convolution is the same.

    A 3x3 kernel on a map of one column is one of three numbers, as in ResNet-50's last stage; a 5x5 one on two columns,
    as in EfficientNet-B0's fifth, has three that count.
    """
    k, m = kernel.shape[:2]
    row, column = _unmet(size[0], k, stride), _unmet(size[1], m, stride)
    return kernel[row : k - row, column : m - column]


def _unmet(size: int, kernel: int, stride: int) -> int:
    """Along one axis: how many on each side."""
    pad = (kernel - 1) // 2
    last = stride * (conv_output(size, kernel, stride) - 1)
    return max(0, min(pad - last, kernel - pad - size))


def conv(x: jax.Array, kernel: jax.Array, stride: int) -> jax.Array:
    """Dense convolution as the compiler's own: (b, f, t, c), (k, m, c, d) -> (b, f', t', d).

    On a TPU 1x1 kernels too, which so keep the layout of the convolutions around them: by the estimate of a v5e's
    compiler a step of 48 pieces takes MobileFaceNet (512) 8.0 ms instead of 10.7 with `pointwise_conv`, ResNet-50 (512)
    10.4 instead of 13.1, EfficientNet-B0 (1024) 18.7 instead of 23.2 (measured with signal.by_fft and
    `max_pool_by_axes`).
    """
    return strided(x, kernel, (stride, stride), both_pads(kernel))


def tapped_conv(x: jax.Array, kernel: jax.Array, stride: int) -> jax.Array:
    """The same convolution, whose kernel's gradient is a matrix product a tap, or where that is faster the backend's.

    The CPU backend's own gradient convolves maps with the batch as channels. On two x86 cores ResNet-50's step of 48
    pieces (1024) takes 7.4 s instead of 8.3, of 8 pieces 1.03 instead of 1.13, with 2.9 GiB of temporaries instead of
    2.7; with all taps in one product, 3.8 GiB, it takes 7.5. Of 256 channels at stride 1 the backend's own takes 42 ms
    instead of 56 (48 x 64 x 2), unless the map has one column: there 512 channels take 40 instead of 23 (48 x 32 x 1).
    """
    return _tapped(x, kernel, (stride, stride), both_pads(kernel))


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _tapped(x: jax.Array, kernel: jax.Array, strides: Size, pads: Pads) -> jax.Array:
    return strided(x, kernel, strides, pads)


def _tapped_forward(
    x: jax.Array, kernel: jax.Array, strides: Size, pads: Pads
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return strided(x, kernel, strides, pads), (x, kernel)


def _tapped_backward(
    strides: Size, pads: Pads, saved: tuple[jax.Array, jax.Array], gradient: jax.Array
) -> tuple[jax.Array, jax.Array]:
    x, kernel = saved
    (to_x,) = jax.linear_transpose(lambda x: strided(x, kernel, strides, pads), x)(gradient)
    if kernel.shape[2] >= 256 and kernel.shape[1] > 1 and strides == (1, 1):
        (to_kernel,) = jax.linear_transpose(lambda kernel: strided(x, kernel, strides, pads), kernel)(gradient)
        return to_x, to_kernel
    return to_x, _tapped_kernel_gradient(x, gradient, kernel, strides, pads)


def _tapped_kernel_gradient(
    x: jax.Array, gradient: jax.Array, kernel: jax.Array, strides: Size, pads: Pads
) -> jax.Array:
    """(b, f, t, c), (b, f', t', d) -> (k, m, c, d): one product after another, so that one shifted map is there at a
    time; of few channels several taps in a product, which would be too thin."""
    k, m, c, d = kernel.shape
    whole = padded(x, pads)
    size = gradient.shape[1], gradient.shape[2]
    taps = [(i, j) for i in range(k) for j in range(m)]
    at_once = max(1, 64 // c)
    parts = []
    for begin in range(0, len(taps), at_once):
        shifted = [tap(whole, i, j, size, strides) for i, j in taps[begin : begin + at_once]]
        rows = jnp.concatenate(shifted, axis=-1)
        product = jax.lax.dot_general(
            rows.reshape(-1, rows.shape[-1]), gradient.reshape(-1, d), (((0,), (0,)), ((), ()))
        )
        whole, gradient, product = jax.lax.optimization_barrier((whole, gradient, product))
        parts.append(product)
    return jnp.concatenate(parts).reshape(kernel.shape)


_tapped.defvjp(_tapped_forward, _tapped_backward)


def conv_of_rows(x: jax.Array, kernel: jax.Array, stride: int) -> jax.Array:
    """The same convolution of maps of one channel, (b, f, t, 1), (k, m, 1, d) -> (b, f', t', d), the k rows that an
    output meets laid beside each other as channels, under a kernel of one row.

    The CPU backend gathers what a kernel meets in runs as long as a column has channels: with one they are single
    numbers. Forward, 16 x 1024 x 32 at stride 2, float32, one model, on two x86 cores: 7x7 to 8 channels 4.0 ms instead
    of 12.3, to 64 14.3 instead of 15.3; 3x3 to 8 2.6 instead of 4.6. The kernel's gradient is a product of all taps, by
    which MobileFaceNet's step of 8 pieces (512) takes 0.16 s instead of 0.18. Under `vmap` over two models, 8 pieces
    each, 7x7 to 64 takes 41 ms instead of 29.
    """
    k = kernel.shape[0]
    pad, pads = both_pads(kernel)
    whole = padded(x, (pad, (0, 0)))
    span = stride * (conv_output(x.shape[1], k, stride) - 1) + 1
    rows = [jax.lax.slice_in_dim(whole, i, i + span, stride, axis=1) for i in range(k)]
    of_one_row = kernel.swapaxes(0, 2)  # (1, m, k, d)
    return _tapped(jnp.concatenate(rows, axis=-1), of_one_row, (1, stride), ((0, 0), pads))


def pointwise_conv(x: jax.Array, kernel: jax.Array, stride: int) -> jax.Array:
    """1x1 convolution as a matrix product: (b, f, t, c), (1, 1, c, d) -> (b, f', t', d).

    Under `vmap` over models it stays a batched product, where a convolution would become a grouped one. On a CPU that
    is up to 2.5 times the rate of `lax.conv` over a whole training step (8 samples, 1024 x 32, float32, two x86 cores).
    The barrier before its gradients keeps the compiler from computing the normalisation's backward pass within each of
    the two products again, once of them transposed: MobileFaceNet's step takes 0.36 s instead of 0.50.
    """
    return _product(x[:, ::stride, ::stride], kernel[0, 0], _of_all_rows)


def pointwise_conv_in_parts(x: jax.Array, kernel: jax.Array, stride: int) -> jax.Array:
    """The same product, whose kernel's gradient is a sum of each sample's: for a GPU, to which one thin product of two
    hundred thousand rows leaves most of its processors idle, 110 microseconds for 76 MB.

    What a stride leaves stands behind a barrier: jaxlib 0.11.2 aborts where it would fuse that into a product of
    Triton's.
    """
    if stride > 1:
        x = jax.lax.optimization_barrier(x[:, ::stride, ::stride])
    return _product(x, kernel[0, 0], _of_samples)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _product(x: jax.Array, kernel: jax.Array, to_kernel: KernelGradient) -> jax.Array:
    return jnp.einsum("bftc,cd->bftd", x, kernel)


def _product_forward(
    x: jax.Array, kernel: jax.Array, to_kernel: KernelGradient
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return _product(x, kernel, to_kernel), (x, kernel)


def _product_backward(
    to_kernel: KernelGradient, saved: tuple[jax.Array, jax.Array], gradient: jax.Array
) -> tuple[jax.Array, jax.Array]:
    x, kernel = saved
    b, c, d = len(x), *kernel.shape
    of_samples = jax.lax.optimization_barrier(gradient).reshape(b, -1, d)
    to_x = (of_samples.reshape(-1, d) @ kernel.T).reshape(x.shape)
    return to_x, to_kernel(x.reshape(b, -1, c), of_samples)


def _of_all_rows(x: jax.Array, gradient: jax.Array) -> jax.Array:
    """A kernel's gradient as one product: (b, places, c), (b, places, d) -> (c, d)."""
    c, d = x.shape[-1], gradient.shape[-1]
    return jax.lax.dot_general(x.reshape(-1, c), gradient.reshape(-1, d), (((0,), (0,)), ((), ())))


def _of_samples(x: jax.Array, gradient: jax.Array) -> jax.Array:
    """The same as a sum of one of each sample, in float32, where there are many rows and few numbers in the kernel."""
    b, places, c = x.shape
    if b * places < 8192 or b * c * gradient.shape[-1] > 2**21:
        return _of_all_rows(x, gradient)
    by_sample = (((1,), (1,)), ((0,), (0,)))
    of_samples = jax.lax.dot_general(x, gradient, by_sample, preferred_element_type=jnp.float32)
    return jnp.sum(of_samples, axis=0).astype(x.dtype)


_product.defvjp(_product_forward, _product_backward)


def banded_product(x: jax.Array, kernel: jax.Array, stride: int) -> jax.Array:
    """The same convolution, of maps of few columns, as one matrix product: the k whole rows under a row of outputs
    times the kernel laid out as a band, (b, f, t, c), (k, m, c, d) -> (b, f', t', d).

    For a GPU: of 48 pieces at height 512 ResNet-50's 3x3 ones are products of 768 to 6,144 rows by 1,536 or 3,072 by
    512, so are their gradients, and they stay products, of a batch, under `vmap` over models, where cuDNN has slow
    grouped ones: on an H200 such a step takes 6.5 ms, seven stacked ones 20.5; with cuDNN's, untuned, one takes 333. Of
    maps with more than a dozen times the kernel's columns, whose band would be mostly zeros, the compiler's own.
    """
    b, f, t, c = x.shape
    k, m = kernel.shape[:2]
    if t > 12 * m:
        return conv(x, kernel, stride)
    pad, _ = both_pads(kernel)
    whole = padded(x, (pad, (0, 0))).reshape(b, -1, t * c)
    made = conv_output(f, k, stride)
    span = stride * (made - 1) + 1
    rows = [jax.lax.slice_in_dim(whole, i, i + span, stride, axis=1) for i in range(k)]
    band = _band(kernel.astype(jnp.float32), t, stride).astype(x.dtype)  # its gradient's columns are summed in float32
    y = jnp.einsum("bfk,kn->bfn", jnp.concatenate(rows, axis=-1), band)
    return y.reshape(b, made, -1, kernel.shape[3])


def _band(kernel: jax.Array, columns: int, stride: int) -> jax.Array:
    """What each of all columns is multiplied by for each column of the output: (k, m, c, d) -> (k * t * c, t' * d)."""
    k, m, c, d = kernel.shape
    pad = (m - 1) // 2
    zero = jnp.zeros((), kernel.dtype)
    made = conv_output(columns, m, stride)
    places = []
    for o in range(made):
        before = o * stride - pad
        edges = [(0, 0, 0), (before, columns - m - before, 0), (0, 0, 0), (0, 0, 0)]
        places.append(jax.lax.pad(kernel, zero, edges))
    return jnp.stack(places, axis=3).reshape(k * columns * c, made * d)


def padded(x: jax.Array, pads: Pads) -> jax.Array:
    """With zeros before and after: (b, f, t, c) -> (b, f + before + after, t + before + after, c)."""
    return jnp.pad(x, ((0, 0), *pads, (0, 0)))


def tap(whole: jax.Array, i: int, j: int, size: Size, strides: Size) -> jax.Array:
    """What tap (i, j) of a kernel meets of a padded map, for each output: (b, f, t, c) -> (b, *size, c)."""
    b, _, _, c = whole.shape
    last = (b, i + strides[0] * (size[0] - 1) + 1, j + strides[1] * (size[1] - 1) + 1, c)
    return jax.lax.slice(whole, (0, i, j, 0), last, (1, *strides, 1))


def both_pads(kernel: jax.Array) -> Pads:
    """(k - 1) // 2 on each side of the rows, (m - 1) // 2 of the columns, of a kernel (k, m, ...)."""
    rows, columns = ((k - 1) // 2 for k in kernel.shape[:2])
    return (rows, rows), (columns, columns)


def strided(x: jax.Array, kernel: jax.Array, strides: Size, pads: Pads, *, groups: int = 1) -> jax.Array:
    """The compiler's own convolution: (b, f, t, c), (k, m, c / groups, d) -> (b, f', t', d)."""
    return jax.lax.conv_general_dilated(
        x, kernel, strides, pads, dimension_numbers=("NHWC", "HWIO", "NHWC"), feature_group_count=groups
    )
