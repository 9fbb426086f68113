"""Layers of the backbones, as flax modules; ops/ holds their arithmetic.

Every convolution has no bias and pads by (k - 1) // 2 on each side; the report leaves both open. Parameters stay
float32, and `dtype` is the dtype of the arithmetic. Layers declare their arrays as numpy arrays of zeros or ones, which
cost little; models/initialise.py fills them.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.typing import DTypeLike

from asdjax.models.ops import convolution, depthwise, normalisation, pooling, sums
from asdjax.models.ops.convolution import Size
from asdjax.models.ops.normalisation import Activation, linear, prelu
from asdjax.runtime.per_platform import PerPlatform

# The form of each operation on a CPU, a GPU and a TPU. tests/perf/op_forms.py compares them.
POINTWISE = PerPlatform(convolution.pointwise_conv, convolution.pointwise_conv_in_parts, convolution.conv)
ONE_CHANNEL = PerPlatform(convolution.conv_rows_as_channels, convolution.banded_product, convolution.conv)
DENSE = PerPlatform(convolution.conv_with_tapwise_gradient, convolution.banded_product, convolution.conv)
DEPTHWISE = PerPlatform(depthwise.shifted_products, depthwise.padded_shifts, depthwise.grouped_conv)
MAX_POOL = PerPlatform(pooling.max_pool_by_axes, pooling.max_pool_by_axes, pooling.max_pool)
BATCH_NORM = PerPlatform(
    normalisation.batch_normalise_then_activate,
    normalisation.batch_normalise,
    normalisation.batch_normalise_then_activate,
)
CHANNEL_SUM = PerPlatform(sums.sum_by_channel, sums.sum_by_channel_in_stages, sums.sum_by_channel)

EMBEDDING = 128  # width of every variant's embedding (report, Table 1)


def _zeros(*shape: int) -> np.ndarray:
    return np.zeros(shape, np.float32)


def _ones(*shape: int) -> np.ndarray:
    return np.ones(shape, np.float32)


def scale_width(channels: int, width: float) -> int:
    """Return the channels of a backbone `width` times as wide: a multiple of 8, at least 8; exact at width 1."""
    return channels if width == 1 else max(8, 8 * round(channels * width / 8))


class _PlatformLayer(nnx.Module):
    """A layer computed in the platform's own form.

    After `eval()` it can be exported for several platforms; each gets its own form.
    """

    def __init__(self) -> None:
        self.deterministic = False  # set by `eval()`, as for a dropout

    def _compute(self, forms: PerPlatform, *arrays: jax.Array) -> jax.Array:
        if self.deterministic:
            return jax.lax.platform_dependent(*arrays, cpu=forms.cpu, tpu=forms.tpu, default=forms.gpu)
        return forms.current()(*arrays)


class _Convolution(_PlatformLayer):
    """A convolution with a stride along both axes."""

    def __init__(self, kernel: np.ndarray, *, stride: int) -> None:
        super().__init__()
        self.kernel = nnx.Param(kernel)
        self.stride = stride

    def _convolve(self, x: jax.Array, kernel: jax.Array, forms: PerPlatform) -> jax.Array:
        strided = PerPlatform(*(partial(form, stride=self.stride) for form in forms))
        return self._compute(strided, x, convolution.crop_kernel(kernel, (x.shape[1], x.shape[2]), self.stride))


class Conv(_Convolution):
    """Dense convolution, (b, f, t, c_in) -> (b, f', t', c_out)."""

    def __init__(self, c_in: int, c_out: int, kernel: int, *, stride: int = 1, dtype: DTypeLike) -> None:
        super().__init__(_zeros(kernel, kernel, c_in, c_out), stride=stride)
        self.dtype = dtype

    def __call__(self, x: jax.Array) -> jax.Array:
        kernel = jnp.asarray(self.kernel[...], self.dtype)
        k, _, c_in, _ = kernel.shape
        if k == 1:
            return self._convolve(x, kernel, POINTWISE)
        if c_in == 1:
            return self._convolve(x, kernel, ONE_CHANNEL)
        return self._convolve(x, kernel, DENSE)


class DepthwiseConv(_Convolution):
    """One k x k filter per channel, (b, f, t, c) -> (b, f', t', c), in the dtype of x."""

    def __init__(self, channels: int, kernel: int, *, stride: int = 1) -> None:
        super().__init__(_zeros(kernel, kernel, channels), stride=stride)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self._convolve(x, self.kernel[...], DEPTHWISE)


class MaxPool(_PlatformLayer):
    """3x3 maximum at stride 2, padded by 1: (b, f, t, c) -> (b, f / 2, t / 2, c), rounded up."""

    def __call__(self, x: jax.Array) -> jax.Array:
        return self._compute(MAX_POOL, x)


class GlobalDepthwiseConv(nnx.Module):
    """GDConv of MobileFaceNet: one filter per channel, as large as the map, (b, f, t, c) -> (b, c)."""

    def __init__(self, channels: int, size: Size, *, dtype: DTypeLike) -> None:
        self.kernel = nnx.Param(_zeros(*size, channels))
        self.dtype = dtype

    def __call__(self, x: jax.Array) -> jax.Array:
        return jnp.einsum("bftc,ftc->bc", x, jnp.asarray(self.kernel[...], self.dtype))


class Dense(nnx.Module):
    """Dense layer, (b, c_in) -> (b, c_out)."""

    def __init__(self, c_in: int, c_out: int, *, use_bias: bool = True, dtype: DTypeLike) -> None:
        self.kernel = nnx.Param(_zeros(c_in, c_out))
        self.bias = nnx.Param(_zeros(c_out)) if use_bias else None
        self.dtype = dtype

    def __call__(self, x: jax.Array) -> jax.Array:
        y = x @ jnp.asarray(self.kernel[...], self.dtype)
        return y if self.bias is None else y + jnp.asarray(self.bias[...], self.dtype)[None]


class BatchNorm(nnx.Module):
    """Batch normalisation over all axes but the last, then an activation, (..., c) -> (..., c).

    Epsilon is 1e-5 and the running averages decay by 0.9; the report leaves both open. Statistics and running averages
    are float32 whatever the dtype of x. Under `jit` over a mesh the batch is the global one. After `eval()` the running
    averages normalise, and stay unchanged.

    A batch is normalised by its biased variance. The running average takes that variance too or, if `unbiased`, the one
    over n - 1 of n places, as PyTorch's does.
    """

    decay = 0.9

    def __init__(self, channels: int) -> None:
        self.scale = nnx.Param(_ones(channels))
        self.bias = nnx.Param(_zeros(channels))
        self.mean = nnx.BatchStat(_zeros(channels))
        self.var = nnx.BatchStat(_ones(channels))
        self.use_running_average = False
        self.unbiased = False

    def __call__(self, x: jax.Array, activation: Activation = linear, *parameters: jax.Array) -> jax.Array:
        """Normalise and activate x; the activation's parameters are (c,) each."""
        scale, bias = self.scale[...], self.bias[...]
        if self.use_running_average:
            factor = scale * jax.lax.rsqrt(self.var[...] + normalisation.EPSILON)
            shift = bias - self.mean[...] * factor
            return normalisation.scale_shift_activate(x, factor, shift, activation, parameters)
        y, mean, var = BATCH_NORM.current()(x, scale, bias, parameters, activation, CHANNEL_SUM.current())
        self.mean.set_value(self.decay * self.mean[...] + (1 - self.decay) * mean)
        n = x.size // x.shape[-1]
        running_var = var * (n / (n - 1)) if self.unbiased and n > 1 else var
        self.var.set_value(self.decay * self.var[...] + (1 - self.decay) * running_var)
        return y


class ConvNorm(nnx.Module):
    """Convolution or dense layer with batch normalisation and an activation, to (b, ..., channels)."""

    def __init__(self, conv: nnx.Module, channels: int, activation: Activation = linear) -> None:
        self.conv = conv
        self.norm = BatchNorm(channels)
        self.activation = activation

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.norm(self.conv(x), self.activation)


class ConvNormPReLU(nnx.Module):
    """Convolution or dense layer with batch normalisation and a PReLU, which has one slope per channel."""

    def __init__(self, conv: nnx.Module, channels: int) -> None:
        self.conv = conv
        self.norm = BatchNorm(channels)
        self.slope = nnx.Param(_zeros(channels))

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.norm(self.conv(x), prelu, self.slope[...])
