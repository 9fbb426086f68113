"""ResNet-50 for spectrogram pieces (He et al. 2016, with the stride on the 3x3 convolution: "v1.5")."""

import jax
from flax import nnx
from jax.typing import DTypeLike

from asdjax.models import layers
from asdjax.models.layers import EMBEDDING, ConvNorm
from asdjax.models.ops import pooling

# channels of the 3x3 convolution, blocks, stride of the first block (He et al. 2016, Table 1)
STAGES = ((64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2))
STEM, EXPANSION = 64, 4


class Stem(nnx.Module):
    """Stem of 7x7 at stride 2, ReLU and 3x3 maximum at stride 2.

    (b, f, t, c_in) -> (b, f / 4, t / 4, c_out), rounded up.
    """

    def __init__(self, c_in: int, c_out: int, *, dtype: DTypeLike) -> None:
        self.conv = ConvNorm(layers.Conv(c_in, c_out, 7, stride=2, dtype=dtype), c_out, nnx.relu)
        self.pool = layers.MaxPool()

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.pool(self.conv(x))


class ResidualBlock(nnx.Module):
    """Bottleneck block: 1x1 down, 3x3, 1x1 up, a sum with the input, ReLU.

    The input is projected if the shape changes: (b, f, t, c_in) -> (b, f / stride, t / stride, 4 c), rounded up.
    """

    def __init__(self, c_in: int, c: int, stride: int, *, dtype: DTypeLike) -> None:
        c_out = c * EXPANSION
        self.reduce = ConvNorm(layers.Conv(c_in, c, 1, dtype=dtype), c, nnx.relu)
        self.spatial = ConvNorm(layers.Conv(c, c, 3, stride=stride, dtype=dtype), c, nnx.relu)
        self.expand = ConvNorm(layers.Conv(c, c_out, 1, dtype=dtype), c_out)
        shortcut = ConvNorm(layers.Conv(c_in, c_out, 1, stride=stride, dtype=dtype), c_out)
        self.shortcut = shortcut if stride != 1 or c_in != c_out else None

    def __call__(self, x: jax.Array) -> jax.Array:
        y = self.expand(self.spatial(self.reduce(x)))
        return nnx.relu(y + (x if self.shortcut is None else self.shortcut(x)))


class ResNet50(nnx.Module):
    """Backbone (b, height, frames, c_in) -> (b, 128), of 23,764,032 parameters with one input channel.

    `late` is the last residual block. `embedding` is the dense layer (see training/optimizer.py).
    """

    def __init__(self, height: int, frames: int, c_in: int = 1, *, width: float = 1.0, dtype: DTypeLike) -> None:
        del height, frames  # global average pooling takes any size
        channels = layers.scale_width(STEM, width)
        blocks: list[nnx.Module] = [Stem(c_in, channels, dtype=dtype)]
        for c, repeats, stride in STAGES:
            c_mid = layers.scale_width(c, width)
            for i in range(repeats):
                blocks.append(ResidualBlock(channels, c_mid, stride if i == 0 else 1, dtype=dtype))
                channels = c_mid * EXPANSION
        self.early = nnx.Sequential(*blocks[:-1])
        self.late = nnx.Sequential(blocks[-1], pooling.global_average_pool)
        self.embedding = layers.Dense(channels, EMBEDDING, dtype=dtype)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.embedding(self.late(self.early(x)))
