"""The six variants in idiomatic PyTorch. Names follow asdjax's array paths, so that weights can be copied.

Needs torch only. Shapes: pieces (b, c_in, f, t), embeddings (b, 128).
"""

import torch
from torch import nn
from torch.nn import functional

EMBEDDING = 128


def conv(c_in: int, c_out: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Conv2d:
    """Return a convolution without bias, padded by (k - 1) // 2 on each side."""
    return nn.Conv2d(c_in, c_out, kernel, stride, (kernel - 1) // 2, groups=groups, bias=False)


def norm(channels: int) -> nn.BatchNorm2d:
    """Return a batch normalisation with asdjax's settings."""
    return nn.BatchNorm2d(channels, eps=1e-5, momentum=0.1)


class Unit(nn.Module):
    """A convolution, batch normalisation and an optional activation."""

    def __init__(self, convolution: nn.Conv2d, activation: nn.Module | None = None) -> None:
        super().__init__()
        self.conv, self.norm = convolution, norm(convolution.out_channels)
        self.activation = activation or nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.activation(self.norm(self.conv(x)))


def prelu(convolution: nn.Conv2d) -> Unit:
    return Unit(convolution, nn.PReLU(convolution.out_channels))


def silu(convolution: nn.Conv2d) -> Unit:
    return Unit(convolution, nn.SiLU(inplace=True))


class Bottleneck(nn.Module):
    def __init__(self, c_in: int, c_out: int, expansion: int, stride: int) -> None:
        super().__init__()
        wide = c_in * expansion
        self.expand = prelu(conv(c_in, wide, 1))
        self.depthwise = prelu(conv(wide, wide, 3, stride, groups=wide))
        self.project = Unit(conv(wide, c_out, 1))
        self.residual = stride == 1 and c_in == c_out

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.project(self.depthwise(self.expand(x)))
        return x + y if self.residual else y


class Backbone(nn.Module):
    """The common parts of the three backbones: early, late, embedding."""

    early: nn.Module
    late: nn.Module
    embedding: nn.Module

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.embedding(self.late(self.early(x)))


class MobileFaceNet(Backbone):
    """MobileFaceNet of Chen et al. 2018, as in Table 1 of the report."""

    def __init__(self, height: int) -> None:
        super().__init__()
        blocks: list[nn.Module] = [prelu(conv(1, 64, 3, 2)), prelu(conv(64, 64, 3, groups=64))]
        channels = 64
        for t, c, n, s in ((2, 64, 5, 2), (4, 128, 1, 2), (2, 128, 6, 2), (4, 128, 1, 2), (2, 128, 2, 1)):
            for i in range(n):
                blocks.append(Bottleneck(channels, c, t, s if i == 0 else 1))
                channels = c
        self.early = nn.Sequential(*blocks[:-1])
        self.late = nn.Sequential(blocks[-1], prelu(conv(channels, 512, 1)))
        whole_map = nn.Conv2d(512, 512, (height // 32, 1), groups=512, bias=False)
        self.embedding = nn.Sequential(Unit(whole_map), Unit(conv(512, EMBEDDING, 1)), nn.Flatten())


class ResidualBlock(nn.Module):
    def __init__(self, c_in: int, c: int, stride: int) -> None:
        super().__init__()
        self.reduce = Unit(conv(c_in, c, 1))
        self.spatial = Unit(conv(c, c, 3, stride))
        self.expand = Unit(conv(c, 4 * c, 1))
        self.shortcut = Unit(conv(c_in, 4 * c, 1, stride)) if stride != 1 or c_in != 4 * c else nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.expand(functional.relu(self.spatial(functional.relu(self.reduce(x)))))
        return functional.relu(y + self.shortcut(x))


class Stem(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = Unit(conv(1, 64, 7, 2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return functional.max_pool2d(functional.relu(self.conv(x)), 3, 2, 1)


class ResNet50(Backbone):
    """ResNet-50 of He et al. 2016, with the stride on the 3x3 convolution."""

    def __init__(self, height: int) -> None:
        super().__init__()
        del height
        blocks: list[nn.Module] = [Stem()]
        channels = 64
        for c, n, s in ((64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2)):
            for i in range(n):
                blocks.append(ResidualBlock(channels, c, s if i == 0 else 1))
                channels = 4 * c
        self.early = nn.Sequential(*blocks[:-1])
        self.late = nn.Sequential(blocks[-1], nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.embedding = nn.Linear(channels, EMBEDDING)


class SqueezeExcite(nn.Module):
    def __init__(self, channels: int, squeezed: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(channels, squeezed, 1)
        self.excite = nn.Conv2d(squeezed, channels, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        mean = functional.adaptive_avg_pool2d(x, 1)
        return x * torch.sigmoid(self.excite(functional.silu(self.squeeze(mean))))


class MBConv(nn.Module):
    def __init__(self, c_in: int, c_out: int, expansion: int, stride: int, kernel: int) -> None:
        super().__init__()
        wide = c_in * expansion
        self.expand = silu(conv(c_in, wide, 1)) if expansion > 1 else nn.Identity()
        self.depthwise = silu(conv(wide, wide, kernel, stride, groups=wide))
        self.gate = SqueezeExcite(wide, max(1, c_in // 4))
        self.project, self.norm = conv(wide, c_out, 1), norm(c_out)
        self.residual = stride == 1 and c_in == c_out

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.norm(self.project(self.gate(self.depthwise(self.expand(x)))))
        return x + y if self.residual else y


class EfficientNetB0(Backbone):
    """EfficientNet-B0 of Tan & Le 2019, Table 1, without drop path and dropout."""

    def __init__(self, height: int) -> None:
        super().__init__()
        del height
        blocks: list[nn.Module] = [silu(conv(1, 32, 3, 2))]
        channels = 32
        stages = (
            (1, 16, 1, 1, 3),
            (6, 24, 2, 2, 3),
            (6, 40, 2, 2, 5),
            (6, 80, 3, 2, 3),
            (6, 112, 3, 1, 5),
            (6, 192, 4, 2, 5),
            (6, 320, 1, 1, 3),
        )
        for t, c, n, s, k in stages:
            for i in range(n):
                blocks.append(MBConv(channels, c, t, s if i == 0 else 1, k))
                channels = c
        self.early = nn.Sequential(*blocks[:-2])
        self.late = nn.Sequential(*blocks[-2:], silu(conv(channels, 1280, 1)), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.embedding = nn.Linear(1280, EMBEDDING)


BACKBONES = {"mobilefacenet": MobileFaceNet, "resnet50": ResNet50, "efficientnet_b0": EfficientNetB0}


def read_height(variant: str) -> int:
    return int(variant.rsplit("_", 1)[1])


def build(variant: str) -> Backbone:
    return BACKBONES[variant.rsplit("_", 1)[0]](read_height(variant))
