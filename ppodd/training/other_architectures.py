"""Networks of other kinds than those that posters are distilled with, for images of 8 px a side or more.

They judge whether a poster teaches networks in general or only its own kind. Each is of its published size where
`width` is 128, the paper's, and smaller or larger in proportion. What was made for images of 224 px is sized for
small ones: first layers keep more pixels, and maps are halved only as long as 2 × 2 pixels are left, which an instance
norm can still tell from one another.

ResNet-18: He et al. 2016. VGG-11: Simonyan & Zisserman 2015. AlexNet: Krizhevsky et al. 2012. ViT-Ti: Dosovitskiy et
al. 2021, Touvron et al. 2021. ConvNeXt-A: Liu et al. 2022, its smallest of Woo et al. 2023.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import nn

from ppodd.datasets import Spec

_PAPER_WIDTH = 128


def _scaled(channels: int, width: int, multiple: int = 1) -> int:
    """Channels of a published size at `width`, a whole multiple of `multiple`."""
    return multiple * max(1, round(channels * width / (_PAPER_WIDTH * multiple)))


def _norm(kind: str, channels: int) -> nn.Module:
    if kind == "none":
        return nn.Identity()
    return nn.BatchNorm2d(channels) if kind == "batch" else nn.GroupNorm(channels, channels)


class _Sides:
    """The shorter side of the maps while a network is built, in px."""

    def __init__(self, spec: Spec):
        self.px = min(spec.height, spec.width)

    def halved(self) -> bool:
        """Whether the next layer may halve the map; it then counts as halved."""
        fits = self.px >= 4
        self.px = self.px // 2 if fits else self.px
        return fits


class _Pooled(nn.Module):
    """Features, their mean over the map, one linear layer."""

    def __init__(self, features: nn.Module, channels: int, classes: int, norm: nn.Module | None = None):
        super().__init__()
        self.features, self.norm, self.classifier = features, norm or nn.Identity(), nn.Linear(channels, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """`[B, C, h, w]` → logits `[B, K]`."""
        return self.classifier(self.norm(self.features(x).mean((2, 3))))


class _ResidualBlock(nn.Module):
    """Two 3×3 convolutions beside a shortcut."""

    def __init__(self, channels: int, out: int, stride: int, norm: str):
        super().__init__()
        self.convolutions = nn.Sequential(
            nn.Conv2d(channels, out, 3, stride, 1, bias=False), _norm(norm, out), nn.ReLU(),
            nn.Conv2d(out, out, 3, 1, 1, bias=False), _norm(norm, out),
        )  # fmt: skip
        same = stride == 1 and channels == out
        self.shortcut = (
            nn.Identity() if same else nn.Sequential(nn.Conv2d(channels, out, 1, stride, bias=False), _norm(norm, out))
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.relu(self.convolutions(x) + self.shortcut(x))


def resnet18(spec: Spec, width: int, norm: str) -> nn.Module:
    """A stem of one 3×3 convolution, no pool, then four stages of two residual blocks."""
    sides, channels = _Sides(spec), _scaled(64, width)
    layers: list[nn.Module] = [
        nn.Conv2d(spec.channels, channels, 3, 1, 1, bias=False),
        _norm(norm, channels),
        nn.ReLU(),
    ]
    for stage in range(4):
        out = _scaled(64, width) * 2**stage
        stride = 2 if stage and sides.halved() else 1
        layers += [_ResidualBlock(channels, out, stride, norm), _ResidualBlock(out, out, 1, norm)]
        channels = out
    return _Pooled(nn.Sequential(*layers), channels, spec.classes)


def vgg11(spec: Spec, width: int, norm: str) -> nn.Module:
    """Eight 3×3 convolutions with maxima of 2×2 pixels between them; one linear layer in place of three."""
    sides, channels = _Sides(spec), spec.channels
    layers: list[nn.Module] = []
    for published, pooled in zip((64, 128, 256, 256, 512, 512, 512, 512), (1, 1, 0, 1, 0, 1, 0, 1), strict=True):
        out = _scaled(published, width)
        layers += [nn.Conv2d(channels, out, 3, padding=1), _norm(norm, out), nn.ReLU()]
        layers += [nn.MaxPool2d(2)] if pooled and sides.halved() else []
        channels = out
    return _Pooled(nn.Sequential(*layers), channels, spec.classes)


def alexnet(spec: Spec, width: int) -> nn.Module:
    """Five convolutions with maxima between them, no norm; the first keeps the map's size, its 11×11 is 5×5 here."""
    sides, channels = _Sides(spec), spec.channels
    layers: list[nn.Module] = []
    sizes = zip((64, 192, 384, 256, 256), (5, 5, 3, 3, 3), (1, 1, 0, 0, 1), strict=True)
    for published, kernel, pooled in sizes:
        out = _scaled(published, width)
        layers += [nn.Conv2d(channels, out, kernel, padding=kernel // 2), nn.ReLU()]
        layers += [nn.MaxPool2d(2)] if pooled and sides.halved() else []
        channels = out
    return _Pooled(nn.Sequential(*layers), channels, spec.classes)


class _Attention(nn.Module):
    """Multi-head self-attention in plain products, which have second derivatives everywhere."""

    def __init__(self, channels: int, heads: int):
        super().__init__()
        self.heads, self.qkv, self.out = heads, nn.Linear(channels, 3 * channels), nn.Linear(channels, channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)  # each [B, heads, N, d]
        weights = (q @ k.mT / math.sqrt(q.shape[-1])).softmax(-1)
        return self.out((weights @ v).transpose(1, 2).flatten(2))


class _TransformerBlock(nn.Module):
    """Attention, then two linear layers, each after a norm and beside a shortcut."""

    def __init__(self, channels: int, heads: int):
        super().__init__()
        self.attention = nn.Sequential(nn.LayerNorm(channels), _Attention(channels, heads))
        self.linear = nn.Sequential(
            nn.LayerNorm(channels), nn.Linear(channels, 4 * channels), nn.GELU(), nn.Linear(4 * channels, channels)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.attention(x)
        return x + self.linear(x)


class _ViT(nn.Module):
    """Patches of the image as tokens, a class token before them, twelve blocks of three heads."""

    def __init__(self, spec: Spec, channels: int, depth: int = 12, heads: int = 3):
        super().__init__()
        side = _largest_divisor(math.gcd(spec.height, spec.width), max(2, min(spec.height, spec.width) // 8))
        words = (spec.height // side) * (spec.width // side)
        self.embedding = nn.Conv2d(spec.channels, channels, side, side)
        self.class_word = nn.Parameter(torch.zeros(1, 1, channels))
        self.positions = nn.Parameter(0.02 * torch.randn(1, words + 1, channels))
        self.blocks = nn.Sequential(*(_TransformerBlock(channels, heads) for _ in range(depth)), nn.LayerNorm(channels))
        self.classifier = nn.Linear(channels, spec.classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """`[B, C, h, w]` → logits `[B, K]`."""
        words = self.embedding(x).flatten(2).mT
        words = torch.cat([self.class_word.expand(len(x), -1, -1), words], 1) + self.positions
        return self.classifier(self.blocks(words)[:, 0])


def _largest_divisor(of: int, at_most: int) -> int:
    return next(divisor for divisor in range(max(1, at_most), 0, -1) if of % divisor == 0)


def vit_tiny(spec: Spec, width: int) -> nn.Module:
    """About 8 × 8 patches an image; of 2 px a side at least, as a pixel alone says little."""
    return _ViT(spec, _scaled(192, width, multiple=3))


class _LayerNorm2d(nn.LayerNorm):
    """A layer norm over the channels of a map `[B, C, h, w]`."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class _ConvNeXtBlock(nn.Module):
    """A 7×7 convolution of each channel by itself, then two linear layers, beside a shortcut."""

    def __init__(self, channels: int):
        super().__init__()
        self.residual = nn.Sequential(
            nn.Conv2d(channels, channels, 7, padding=3, groups=channels), _LayerNorm2d(channels, eps=1e-6),
            nn.Conv2d(channels, 4 * channels, 1), nn.GELU(), nn.Conv2d(4 * channels, channels, 1),
        )  # fmt: skip
        self.scale = nn.Parameter(1e-6 * torch.ones(channels, 1, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.scale * self.residual(x)


def convnext_atto(spec: Spec, width: int) -> nn.Module:
    """Stages of 2, 2, 6 and 2 blocks; its first layer takes squares of 1 to 4 pixels, by the size of the images."""
    square = max(1, min(4, min(spec.height, spec.width) // 16))
    sides, channels = _Sides(spec), _scaled(40, width)
    sides.px //= square
    layers: list[nn.Module] = [nn.Conv2d(spec.channels, channels, square, square), _LayerNorm2d(channels, eps=1e-6)]
    for stage, blocks in enumerate((2, 2, 6, 2)):
        out = _scaled(40, width) * 2**stage
        if stage:
            halve = 2 if sides.halved() else 1
            layers += [_LayerNorm2d(channels, eps=1e-6), nn.Conv2d(channels, out, halve, halve)]
        layers += [_ConvNeXtBlock(out) for _ in range(blocks)]
        channels = out
    return _Pooled(nn.Sequential(*layers), channels, spec.classes, nn.LayerNorm(channels, eps=1e-6))
