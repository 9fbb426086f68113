"""`asdjax plan` of the plain lowering: convolutions, pool and FFT as the compiler's own, normalisation by autodiff.

uv run --extra tpu python tests/peers/plain_plan.py --config dcase2021 --devices v5e:1x1

What the forms that models/layers.py and signal.py choose are to be compared with.
"""

import sys

import jax
import jax.numpy as jnp

from asdjax import signal
from asdjax.cli import main
from asdjax.models import layers
from asdjax.models.layers import Forms
from asdjax.models.lowering import convolution, depthwise, normalisation, pooling


def normalised(
    x: jax.Array, scale: jax.Array, bias: jax.Array, epsilon: float
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """As normalisation.normalised, by the definition."""
    wide = x.astype(jnp.float32)
    axes = tuple(range(x.ndim - 1))
    mean, var = jnp.mean(wide, axes), jnp.var(wide, axes)
    y = (wide - mean) * jax.lax.rsqrt(var + epsilon) * scale + bias
    return y.astype(x.dtype), *jax.lax.stop_gradient((mean, var))


if __name__ == "__main__":
    layers.POINTWISE = layers.OF_ONE_CHANNEL = layers.DENSE = Forms(
        convolution.conv, convolution.conv, convolution.conv
    )
    layers.DEPTHWISE = Forms(depthwise.grouped_conv, depthwise.grouped_conv, depthwise.grouped_conv)
    layers.MAX_POOL = Forms(pooling.max_pool, pooling.max_pool, pooling.max_pool)
    normalisation.normalised = normalised
    signal.by_products = signal.by_fft
    sys.exit(main(["plan", *sys.argv[1:]]))
