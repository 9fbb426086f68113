"""EfficientNet-B0 for spectrogram pieces (Tan & Le 2019, Table 1).

It has no drop path and no dropout; the report leaves both open.
"""

import jax
from flax import nnx
from jax.typing import DTypeLike

from asdjax.models import layers
from asdjax.models.layers import EMBEDDING, ConvNorm
from asdjax.models.ops import pooling
from asdjax.runtime.per_platform import PerPlatform

# expansion, channels, repeats, stride of the first repeat, kernel (Tan & Le 2019, Table 1)
STAGES = (
    (1, 16, 1, 1, 3),
    (6, 24, 2, 2, 3),
    (6, 40, 2, 2, 5),
    (6, 80, 3, 2, 3),
    (6, 112, 3, 1, 5),
    (6, 192, 4, 2, 5),
    (6, 320, 1, 1, 3),
)
STEM, HEAD = 32, 1280
SQUEEZE = 4  # the squeezed width is a quarter of the block's input channels


def _pass_through(x: jax.Array) -> jax.Array:
    return x


@jax.custom_vjp
def _materialise(x: jax.Array) -> jax.Array:
    """Write x to memory in its own dtype.

    Otherwise a GPU's compiler also writes the unrounded float32 map, for the gate's gradient.
    """
    return jax.lax.optimization_barrier(x)


# the gradient passes without a barrier: it need not be written to memory
_materialise.defvjp(lambda x: (jax.lax.optimization_barrier(x), None), lambda _, gradient: (gradient,))

# what is done to a map before its gate is computed
BEFORE_GATE = PerPlatform(_pass_through, _materialise, _pass_through)


class SqueezeExcite(nnx.Module):
    """Gate per channel, computed from the means of all channels (Hu et al. 2018): (b, f, t, c) -> (b, f, t, c)."""

    def __init__(self, channels: int, squeezed: int, *, dtype: DTypeLike) -> None:
        self.squeeze = layers.Dense(channels, squeezed, dtype=dtype)
        self.excite = layers.Dense(squeezed, channels, dtype=dtype)

    def __call__(self, x: jax.Array) -> jax.Array:
        x = BEFORE_GATE.current()(x)
        gate = nnx.sigmoid(self.excite(nnx.silu(self.squeeze(pooling.global_average_pool(x)))))
        return x * gate[:, None, None, :]


class MBConv(nnx.Module):
    """Mobile inverted bottleneck: 1x1 up, depthwise, squeeze-and-excite, linear 1x1 down.

    A residual sum follows if the shape stays: (b, f, t, c_in) -> (b, f / stride, t / stride, c_out), rounded up.
    """

    def __init__(self, c_in: int, c_out: int, expansion: int, stride: int, kernel: int, *, dtype: DTypeLike) -> None:
        wide = c_in * expansion
        self.expand = ConvNorm(layers.Conv(c_in, wide, 1, dtype=dtype), wide, nnx.silu) if expansion > 1 else None
        self.depthwise = ConvNorm(layers.DepthwiseConv(wide, kernel, stride=stride), wide, nnx.silu)
        self.gate = SqueezeExcite(wide, max(1, c_in // SQUEEZE), dtype=dtype)
        self.project = layers.Conv(wide, c_out, 1, dtype=dtype)
        self.norm = layers.BatchNorm(c_out)
        self.residual = stride == 1 and c_in == c_out

    def __call__(self, x: jax.Array) -> jax.Array:
        y = x if self.expand is None else self.expand(x)
        y = self.norm(self.project(self.gate(self.depthwise(y))))
        return x + y if self.residual else y


class EfficientNetB0(nnx.Module):
    """Backbone (b, height, frames, c_in) -> (b, 128), of 4,170,940 parameters with one input channel.

    `late` begins at the last residual sum (the last 192-channel block). `embedding` is the dense layer (see
    training/optimizer.py).
    """

    def __init__(self, height: int, frames: int, c_in: int = 1, *, width: float = 1.0, dtype: DTypeLike) -> None:
        del height, frames  # global average pooling takes any size
        channels = layers.scale_width(STEM, width)
        blocks: list[nnx.Module] = [ConvNorm(layers.Conv(c_in, channels, 3, stride=2, dtype=dtype), channels, nnx.silu)]
        for expansion, c, repeats, stride, kernel in STAGES:
            c_out = layers.scale_width(c, width)
            for i in range(repeats):
                blocks.append(MBConv(channels, c_out, expansion, stride if i == 0 else 1, kernel, dtype=dtype))
                channels = c_out
        head = layers.scale_width(HEAD, width)
        head_unit = ConvNorm(layers.Conv(channels, head, 1, dtype=dtype), head, nnx.silu)
        self.early = nnx.Sequential(*blocks[:-2])
        self.late = nnx.Sequential(*blocks[-2:], head_unit, pooling.global_average_pool)
        self.embedding = layers.Dense(head, EMBEDDING, dtype=dtype)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.embedding(self.late(self.early(x)))
