"""The layers that backbones are made of, as modules; lowering/ says how their arithmetic is written.

Every convolution here is without bias and padded by (k - 1) // 2 on each side, both choices that the report
leaves open. Parameters stay float32; `dtype` is what the arithmetic runs in. Arrays are declared here by shape, as
numpy ones, which cost nothing, and filled by models/initialise.py.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.typing import DTypeLike

from asdjax.models.ops import convolution, depthwise, normalisation, pooling, sums
from asdjax.models.ops.convolution import Size
from asdjax.models.ops.normalisation import Activation, linear, prelu
from asdjax.runtime.per_platform import PerPlatform

POINTWISE = PerPlatform(convolution.pointwise_conv, convolution.pointwise_conv_in_parts, convolution.conv)
OF_ONE_CHANNEL = PerPlatform(convolution.conv_of_rows, convolution.banded_product, convolution.conv)
DENSE = PerPlatform(convolution.tapped_conv, convolution.banded_product, convolution.conv)
DEPTHWISE = PerPlatform(depthwise.shifted_products, depthwise.padded_shifts, depthwise.grouped_conv)
MAX_POOL = PerPlatform(pooling.max_pool_by_axes, pooling.max_pool_by_axes, pooling.max_pool)
NORMALISED = PerPlatform(
    normalisation.normalised_then_activated, normalisation.normalised, normalisation.normalised_then_activated
)
SUMS = PerPlatform(sums.sums, sums.sums_in_stages, sums.sums)

EMBEDDING = 128
"""Width of every variant's embedding (report, Table 1)."""


def _zeros(*shape: int) -> np.ndarray:
    return np.zeros(shape, np.float32)


def _ones(*shape: int) -> np.ndarray:
    return np.ones(shape, np.float32)


def scaled(channels: int, width: float) -> int:
    """Channels of a backbone `width` times as wide: a multiple of 8, at least 8; exact at width 1."""
    return channels if width == 1 else max(8, 8 * round(channels * width / 8))


class _ByPlatform(nnx.Module):
    """What is computed in the platform's own form. After `eval()` it may be exported for several: each gets its own."""

    def __init__(self) -> None:
        self.deterministic = False  # which `eval()` turns on, as it does a dropout's

    def _computed(self, forms: PerPlatform, *arrays: jax.Array) -> jax.Array:
        if self.deterministic:
            return jax.lax.platform_dependent(*arrays, cpu=forms.cpu, tpu=forms.tpu, default=forms.gpu)
        return forms.here()(*arrays)


class _Convolution(_ByPlatform):
    """A kernel that takes every `stride`-th place of both axes."""

    def __init__(self, kernel: np.ndarray, *, stride: int) -> None:
        super().__init__()
        self.kernel = nnx.Param(kernel)
        self.stride = stride

    def _convolved(self, x: jax.Array, kernel: jax.Array, forms: PerPlatform) -> jax.Array:
        strided = PerPlatform(*(functools.partial(form, stride=self.stride) for form in forms))
        return self._computed(strided, x, convolution.met(kernel, (x.shape[1], x.shape[2]), self.stride))


class Conv(_Convolution):
    """Dense convolution, (b, f, t, c_in) -> (b, f', t', c_out)."""

    def __init__(self, c_in: int, c_out: int, kernel: int, *, stride: int = 1, dtype: DTypeLike) -> None:
        super().__init__(_zeros(kernel, kernel, c_in, c_out), stride=stride)
        self.dtype = dtype

    def __call__(self, x: jax.Array) -> jax.Array:
        kernel = jnp.asarray(self.kernel[...], self.dtype)
        k, _, c_in, _ = kernel.shape
        if k == 1:
            return self._convolved(x, kernel, POINTWISE)
        if c_in == 1:
            return self._convolved(x, kernel, OF_ONE_CHANNEL)
        return self._convolved(x, kernel, DENSE)


class DepthwiseConv(_Convolution):
    """One k x k filter per channel, (b, f, t, c) -> (b, f', t', c), in the type of x."""

    def __init__(self, channels: int, kernel: int, *, stride: int = 1) -> None:
        super().__init__(_zeros(kernel, kernel, channels), stride=stride)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self._convolved(x, self.kernel[...], DEPTHWISE)


class MaxPool(_ByPlatform):
    """3x3 maximum at stride 2, padded by 1: (b, f, t, c) -> (b, f / 2, t / 2, c), rounded up."""

    def __call__(self, x: jax.Array) -> jax.Array:
        return self._computed(MAX_POOL, x)


class GlobalDepthwiseConv(nnx.Module):
    """MobileFaceNet's GDConv: one filter per channel as large as the map, (b, f, t, c) -> (b, c)."""

    def __init__(self, channels: int, size: Size, *, dtype: DTypeLike) -> None:
        self.kernel = nnx.Param(_zeros(*size, channels))
        self.dtype = dtype

    def __call__(self, x: jax.Array) -> jax.Array:
        return jnp.einsum("bftc,ftc->bc", x, jnp.asarray(self.kernel[...], self.dtype))


class Dense(nnx.Module):
    """(b, c_in) -> (b, c_out), with bias unless told otherwise."""

    def __init__(self, c_in: int, c_out: int, *, use_bias: bool = True, dtype: DTypeLike) -> None:
        self.kernel = nnx.Param(_zeros(c_in, c_out))
        self.bias = nnx.Param(_zeros(c_out)) if use_bias else None
        self.dtype = dtype

    def __call__(self, x: jax.Array) -> jax.Array:
        y = x @ jnp.asarray(self.kernel[...], self.dtype)
        return y if self.bias is None else y + jnp.asarray(self.bias[...], self.dtype)[None]


class BatchNorm(nnx.Module):
    """Batch normalisation over all axes but the last, (..., c) alike: epsilon 1e-5, running averages decay 0.9 (both
    open); and an activation behind it, whose parameters are (c,) each.

    Statistics and their running averages are float32 whatever the compute type. Under `jit` over a mesh the
    batch is the global one. After `eval()` the running averages normalise, and stay as they are. A batch is normalised
    by its biased variance; the running average takes that too or, if `unbiased`, the one over n - 1 of its n places, as
    PyTorch's does.
    """

    epsilon = 1e-5
    decay = 0.9

    def __init__(self, channels: int) -> None:
        self.scale = nnx.Param(_ones(channels))
        self.bias = nnx.Param(_zeros(channels))
        self.mean = nnx.BatchStat(_zeros(channels))
        self.var = nnx.BatchStat(_ones(channels))
        self.use_running_average = False
        self.unbiased = False

    def __call__(self, x: jax.Array, activation: Activation = linear, *parameters: jax.Array) -> jax.Array:
        scale, bias = self.scale[...], self.bias[...]
        if self.use_running_average:
            factor = scale * jax.lax.rsqrt(self.var[...] + self.epsilon)
            return normalisation.activated(x, factor, bias - self.mean[...] * factor, activation, parameters)
        y, mean, var = NORMALISED.here()(x, scale, bias, parameters, activation, self.epsilon, SUMS.here())
        self.mean.set_value(self.decay * self.mean[...] + (1 - self.decay) * mean)
        n = x.size // x.shape[-1]
        kept = var * (n / (n - 1)) if self.unbiased and n > 1 else var
        self.var.set_value(self.decay * self.var[...] + (1 - self.decay) * kept)
        return y


class ConvNorm(nnx.Module):
    """A convolution or dense layer, its batch normalisation and an activation, to what shape the first makes: (b, ...,
    channels)."""

    def __init__(self, conv: nnx.Module, channels: int, activation: Activation = linear) -> None:
        self.conv = conv
        self.norm = BatchNorm(channels)
        self.activation = activation

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.norm(self.conv(x), self.activation)


class ConvNormPReLU(nnx.Module):
    """As `ConvNorm`, activated by a PReLU with a slope for each channel."""

    def __init__(self, conv: nnx.Module, channels: int) -> None:
        self.conv = conv
        self.norm = BatchNorm(channels)
        self.slope = nnx.Param(_zeros(channels))

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.norm(self.conv(x), prelu, self.slope[...])
