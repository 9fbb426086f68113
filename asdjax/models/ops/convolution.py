"""Dense convolution, and the padding, taps and output sizes that all convolutions share.

A kernel has k rows and m columns.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp

Size = tuple[int, int]
#: Zeros before and after, for the rows and for the columns.
Pads = tuple[Size, Size]

#: A function from a 1x1 convolution's input (b, places, c) and its output's gradient (b, places, d) to the kernel's
#: gradient (c, d).
KernelGradient = Callable[[jax.Array, jax.Array], jax.Array]


def conv_output_size(size: int, kernel: int, stride: int) -> int:
    """Return the length of a convolution's output along one axis, padded by (kernel - 1) // 2 on each side."""
    return (size + 2 * ((kernel - 1) // 2) - kernel) // stride + 1


def crop_kernel(kernel: jax.Array, size: Size, stride: int) -> jax.Array:
    """Cut off the outer rows and columns of a kernel (k, k, ...) that meet only padding on a map of this size.

    As many are cut on each side, so the convolution stays the same. For example, one column of a 3x3 kernel is left on
    a map of one column (the last stage of ResNet-50).
    """
    k, m = kernel.shape[:2]
    row, column = _count_padding_taps(size[0], k, stride), _count_padding_taps(size[1], m, stride)
    return kernel[row : k - row, column : m - column]


def _count_padding_taps(size: int, kernel: int, stride: int) -> int:
    """Return the number of outer taps, on each side of one axis, that meet only padding."""
    pad = (kernel - 1) // 2
    last = stride * (conv_output_size(size, kernel, stride) - 1)
    return max(0, min(pad - last, kernel - pad - size))


def conv(x: jax.Array, kernel: jax.Array, stride: int) -> jax.Array:
    """Convolve by the compiler's own operation, (b, f, t, c), (k, m, c, d) -> (b, f', t', d).

    A TPU uses it for 1x1 kernels too: they then keep the layout of the convolutions around them.
    """
    return strided_conv(x, kernel, (stride, stride), centred_pads(kernel))


def conv_with_tapwise_gradient(x: jax.Array, kernel: jax.Array, stride: int) -> jax.Array:
    """Convolve as `conv`, with the kernel's gradient as one matrix product per tap.

    For a CPU, whose own gradient convolves maps with the batch as channels. Kernels of many channels at stride 1 keep
    that gradient, because it is faster there.
    """
    return _conv_tapwise(x, kernel, (stride, stride), centred_pads(kernel))


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _conv_tapwise(x: jax.Array, kernel: jax.Array, strides: Size, pads: Pads) -> jax.Array:
    return strided_conv(x, kernel, strides, pads)


def _tapwise_forward(
    x: jax.Array, kernel: jax.Array, strides: Size, pads: Pads
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return strided_conv(x, kernel, strides, pads), (x, kernel)


def _tapwise_backward(
    strides: Size, pads: Pads, saved: tuple[jax.Array, jax.Array], gradient: jax.Array
) -> tuple[jax.Array, jax.Array]:
    x, kernel = saved
    (to_x,) = jax.linear_transpose(lambda x: strided_conv(x, kernel, strides, pads), x)(gradient)
    if kernel.shape[2] >= 256 and kernel.shape[1] > 1 and strides == (1, 1):
        (to_kernel,) = jax.linear_transpose(lambda kernel: strided_conv(x, kernel, strides, pads), kernel)(gradient)
        return to_x, to_kernel
    return to_x, _tapwise_kernel_gradient(x, gradient, kernel, strides, pads)


def _tapwise_kernel_gradient(
    x: jax.Array, gradient: jax.Array, kernel: jax.Array, strides: Size, pads: Pads
) -> jax.Array:
    """Compute the kernel's gradient one product after another, (b, f, t, c), (b, f', t', d) -> (k, m, c, d).

    The barrier keeps one shifted map in memory at a time. With few channels, several taps share a product, which would
    otherwise be too thin.
    """
    k, m, c, d = kernel.shape
    padded = zero_pad(x, pads)
    size = gradient.shape[1], gradient.shape[2]
    taps = [(i, j) for i in range(k) for j in range(m)]
    taps_per_product = max(1, 64 // c)
    parts = []
    for begin in range(0, len(taps), taps_per_product):
        shifted = [slice_tap_input(padded, tap, size, strides) for tap in taps[begin : begin + taps_per_product]]
        rows = jnp.concatenate(shifted, axis=-1)
        product = jax.lax.dot_general(
            rows.reshape(-1, rows.shape[-1]), gradient.reshape(-1, d), (((0,), (0,)), ((), ()))
        )
        padded, gradient, product = jax.lax.optimization_barrier((padded, gradient, product))
        parts.append(product)
    return jnp.concatenate(parts).reshape(kernel.shape)


_conv_tapwise.defvjp(_tapwise_forward, _tapwise_backward)


def conv_rows_as_channels(x: jax.Array, kernel: jax.Array, stride: int) -> jax.Array:
    """Convolve maps of one channel, (b, f, t, 1), (k, m, 1, d) -> (b, f', t', d).

    The k rows under an output become channels, and the kernel has one row. For a CPU, which reads a kernel's input in
    runs as long as a column has channels: with one channel they are single numbers.
    """
    k = kernel.shape[0]
    row_pads, column_pads = centred_pads(kernel)
    rows = _slice_rows(zero_pad(x, (row_pads, (0, 0))), x.shape[1], k, stride)
    one_row_kernel = kernel.swapaxes(0, 2)  # (1, m, k, d)
    return _conv_tapwise(jnp.concatenate(rows, axis=-1), one_row_kernel, (1, stride), ((0, 0), column_pads))


def pointwise_conv(x: jax.Array, kernel: jax.Array, stride: int) -> jax.Array:
    """Compute a 1x1 convolution as a matrix product, (b, f, t, c), (1, 1, c, d) -> (b, f', t', d).

    Under `vmap` over models it stays a batched product, where a convolution would become a grouped one. A barrier
    before its gradients keeps a CPU's compiler from repeating the normalisation's backward pass in both products.
    """
    return _multiply(x[:, ::stride, ::stride], kernel[0, 0], _whole_kernel_gradient)


def pointwise_conv_in_parts(x: jax.Array, kernel: jax.Array, stride: int) -> jax.Array:
    """Compute the same product as `pointwise_conv`, with the kernel's gradient as a sum over samples.

    For a GPU: one thin product of all rows would leave most of its processors idle.
    """
    if stride > 1:
        # jaxlib 0.11.2 aborts if it fuses this slice into a Triton product
        x = jax.lax.optimization_barrier(x[:, ::stride, ::stride])
    return _multiply(x, kernel[0, 0], _kernel_gradient_by_sample)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _multiply(x: jax.Array, kernel: jax.Array, kernel_gradient: KernelGradient) -> jax.Array:
    return jnp.einsum("bftc,cd->bftd", x, kernel)


def _multiply_forward(
    x: jax.Array, kernel: jax.Array, kernel_gradient: KernelGradient
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return _multiply(x, kernel, kernel_gradient), (x, kernel)


def _multiply_backward(
    kernel_gradient: KernelGradient, saved: tuple[jax.Array, jax.Array], gradient: jax.Array
) -> tuple[jax.Array, jax.Array]:
    x, kernel = saved
    b, c, d = len(x), *kernel.shape
    by_sample = jax.lax.optimization_barrier(gradient).reshape(b, -1, d)
    to_x = (by_sample.reshape(-1, d) @ kernel.T).reshape(x.shape)
    return to_x, kernel_gradient(x.reshape(b, -1, c), by_sample)


def _whole_kernel_gradient(x: jax.Array, gradient: jax.Array) -> jax.Array:
    """Compute a 1x1 kernel's gradient as one product, (b, places, c), (b, places, d) -> (c, d)."""
    c, d = x.shape[-1], gradient.shape[-1]
    return jax.lax.dot_general(x.reshape(-1, c), gradient.reshape(-1, d), (((0,), (0,)), ((), ())))


def _kernel_gradient_by_sample(x: jax.Array, gradient: jax.Array) -> jax.Array:
    """Compute the same gradient as a float32 sum over samples, if there are many rows and the kernel is small."""
    b, places, c = x.shape
    if b * places < 8192 or b * c * gradient.shape[-1] > 2**21:
        return _whole_kernel_gradient(x, gradient)
    batched = (((1,), (1,)), ((0,), (0,)))
    by_sample = jax.lax.dot_general(x, gradient, batched, preferred_element_type=jnp.float32)
    return jnp.sum(by_sample, axis=0).astype(x.dtype)


_multiply.defvjp(_multiply_forward, _multiply_backward)


def banded_product(x: jax.Array, kernel: jax.Array, stride: int) -> jax.Array:
    """Convolve maps of few columns as one matrix product, (b, f, t, c), (k, m, c, d) -> (b, f', t', d).

    The k whole rows under a row of outputs are multiplied by the kernel, laid out as a band matrix. For a GPU: the
    products and their gradients stay (batched) products under `vmap` over models, where cuDNN has slow grouped
    convolutions. Maps more than twelve times as wide as the kernel use `conv`: their band would be mostly zeros.
    """
    b, f, t, c = x.shape
    k, m = kernel.shape[:2]
    if t > 12 * m:
        return conv(x, kernel, stride)
    row_pads, _ = centred_pads(kernel)
    padded = zero_pad(x, (row_pads, (0, 0))).reshape(b, -1, t * c)
    rows = _slice_rows(padded, f, k, stride)
    band = _make_band(kernel.astype(jnp.float32), t, stride).astype(x.dtype)  # float32 sums in its gradient
    y = jnp.einsum("bfk,kn->bfn", jnp.concatenate(rows, axis=-1), band)
    return y.reshape(b, y.shape[1], -1, kernel.shape[3])


def _slice_rows(padded: jax.Array, size: int, kernel: int, stride: int) -> list[jax.Array]:
    """Slice the input rows of each tap of a kernel's column, from a map of `size` rows padded along axis 1."""
    span = stride * (conv_output_size(size, kernel, stride) - 1) + 1
    return [jax.lax.slice_in_dim(padded, i, i + span, stride, axis=1) for i in range(kernel)]


def _make_band(kernel: jax.Array, columns: int, stride: int) -> jax.Array:
    """Return the weight of every input column for every output column, (k, m, c, d) -> (k * t * c, t' * d)."""
    k, m, c, d = kernel.shape
    pad = (m - 1) // 2
    zero = jnp.zeros((), kernel.dtype)
    output_columns = conv_output_size(columns, m, stride)
    places = []
    for column in range(output_columns):
        before = column * stride - pad
        edges = [(0, 0, 0), (before, columns - m - before, 0), (0, 0, 0), (0, 0, 0)]
        places.append(jax.lax.pad(kernel, zero, edges))
    return jnp.stack(places, axis=3).reshape(k * columns * c, output_columns * d)


def zero_pad(x: jax.Array, pads: Pads) -> jax.Array:
    """Pad the rows and columns of maps (b, f, t, c) with zeros."""
    return jnp.pad(x, ((0, 0), *pads, (0, 0)))


def slice_tap_input(padded: jax.Array, tap: Size, size: Size, strides: Size) -> jax.Array:
    """Slice the inputs of one tap (i, j) of a kernel for each output, (b, f, t, c) -> (b, *size, c)."""
    b, _, _, c = padded.shape
    i, j = tap
    last = (b, i + strides[0] * (size[0] - 1) + 1, j + strides[1] * (size[1] - 1) + 1, c)
    return jax.lax.slice(padded, (0, i, j, 0), last, (1, *strides, 1))


def centred_pads(kernel: jax.Array) -> Pads:
    """Return pads of (k - 1) // 2 rows and (m - 1) // 2 columns on each side, for a kernel (k, m, ...)."""
    rows, columns = ((k - 1) // 2 for k in kernel.shape[:2])
    return (rows, rows), (columns, columns)


def strided_conv(x: jax.Array, kernel: jax.Array, strides: Size, pads: Pads, *, groups: int = 1) -> jax.Array:
    """Call the compiler's own convolution, (b, f, t, c), (k, m, c / groups, d) -> (b, f', t', d)."""
    return jax.lax.conv_general_dilated(
        x, kernel, strides, pads, dimension_numbers=("NHWC", "HWIO", "NHWC"), feature_group_count=groups
    )
