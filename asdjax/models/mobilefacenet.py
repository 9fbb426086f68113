"""MobileFaceNet for spectrogram pieces (Chen et al. 2018, as in Table 1 of the report)."""

import jax
from flax import nnx
from jax.typing import DTypeLike

from asdjax.models import layers
from asdjax.models.layers import EMBEDDING, ConvNorm, ConvNormPReLU

# expansion t, channels c, repeats n, stride s of the first repeat (report, Table 1)
BOTTLENECKS = ((2, 64, 5, 2), (4, 128, 1, 2), (2, 128, 6, 2), (4, 128, 1, 2), (2, 128, 2, 1))
STEM, HEAD = 64, 512
TOTAL_STRIDE = 32


class Bottleneck(nnx.Module):
    """Inverted bottleneck: 1x1 up, depthwise 3x3, linear 1x1 down, and a residual sum if the shape stays.

    (b, f, t, c_in) -> (b, f / stride, t / stride, c_out), rounded up.
    """

    def __init__(self, c_in: int, c_out: int, expansion: int, stride: int, *, dtype: DTypeLike) -> None:
        wide = c_in * expansion
        self.expand = ConvNormPReLU(layers.Conv(c_in, wide, 1, dtype=dtype), wide)
        self.depthwise = ConvNormPReLU(layers.DepthwiseConv(wide, 3, stride=stride), wide)
        self.project = ConvNorm(layers.Conv(wide, c_out, 1, dtype=dtype), c_out)
        self.residual = stride == 1 and c_in == c_out

    def __call__(self, x: jax.Array) -> jax.Array:
        y = self.project(self.depthwise(self.expand(x)))
        return x + y if self.residual else y


class MobileFaceNet(nnx.Module):
    """Backbone (b, height, frames, c_in) -> (b, 128), of 993,280 parameters at 1024 x 32 and 985,088 at 512 x 32.

    `late` begins at the last residual sum. `embedding` is the linear GDConv and the linear layer (see
    training/optimizer.py).
    """

    def __init__(self, height: int, frames: int, c_in: int = 1, *, width: float = 1.0, dtype: DTypeLike) -> None:
        channels = layers.scale_width(STEM, width)
        blocks: list[nnx.Module] = [
            ConvNormPReLU(layers.Conv(c_in, channels, 3, stride=2, dtype=dtype), channels),
            ConvNormPReLU(layers.DepthwiseConv(channels, 3), channels),
        ]
        for expansion, c, repeats, stride in BOTTLENECKS:
            c_out = layers.scale_width(c, width)
            for i in range(repeats):
                blocks.append(Bottleneck(channels, c_out, expansion, stride if i == 0 else 1, dtype=dtype))
                channels = c_out
        head = layers.scale_width(HEAD, width)
        size = (-(-height // TOTAL_STRIDE), -(-frames // TOTAL_STRIDE))
        self.early = nnx.Sequential(*blocks[:-1])
        self.late = nnx.Sequential(blocks[-1], ConvNormPReLU(layers.Conv(channels, head, 1, dtype=dtype), head))
        self.embedding = nnx.Sequential(
            ConvNorm(layers.GlobalDepthwiseConv(head, size, dtype=dtype), head),
            ConvNorm(layers.Dense(head, EMBEDDING, use_bias=False, dtype=dtype), EMBEDDING),
        )

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.embedding(self.late(self.early(x)))
