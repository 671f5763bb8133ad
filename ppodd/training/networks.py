"""The ConvNets that train on posters, and any network of the user's own by import path."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.func import functional_call

from ppodd.datasets import Spec
from ppodd.errors import BadInput
from ppodd.training.architectures import ARCHITECTURES, Shape, feature_size, first_padding


class ConvNet(nn.Module):
    """Blocks of 3×3 convolution, normalisation, ReLU and 2×2 average pool, then one linear layer.

    Args:
        widths: channels of each block.
        norm: `instance` (GroupNorm with one group a channel), `batch` or `none`.
    """

    def __init__(self, spec: Spec, widths: list[int], norm: str = "instance"):
        super().__init__()
        self.norm = norm
        blocks: list[nn.Module] = []
        height, width = feature_size(spec, len(widths))
        if not min(height, width):
            raise BadInput(
                f"{len(widths)} blocks are too many for images of {spec.height} × {spec.width} px: "
                f"choose an arch with fewer"
            )
        channels, padding = spec.channels, first_padding(spec)
        for out in widths:
            blocks += [nn.Conv2d(channels, out, 3, padding=padding), *_norm(norm, out), nn.ReLU(), nn.AvgPool2d(2)]
            channels, padding = out, 1
        self.features = nn.Sequential(*blocks)
        self.classifier = nn.Linear(channels * height * width, spec.classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """`[B, C, h, w]` → logits `[B, K]`."""
        return self.classifier(self.features(x).flatten(1))


def _norm(kind: str, channels: int) -> list[nn.Module]:
    if kind == "none":
        return []
    return [nn.BatchNorm2d(channels) if kind == "batch" else nn.GroupNorm(channels, channels)]


def _named(shape: Shape) -> Callable[[Spec, int], nn.Module]:
    def build(spec: Spec, width: int) -> nn.Module:
        return ConvNet(spec, [width * shape.growth**block for block in range(shape.blocks)], shape.norm)

    return build


class Network:
    """An architecture whose parameters live in one flat vector `θ [D]`, so that optimisers and gradients are plain.

    Buffers (batch statistics) are a network's own and updated in place while it trains.
    """

    def __init__(self, module: nn.Module, classes: int):
        self.module, self.classes = module, classes
        self._names, tensors = zip(*module.named_parameters(), strict=True)
        self._shapes = [t.shape for t in tensors]
        self._sizes = [t.numel() for t in tensors]
        self.theta = torch.cat([t.detach().flatten() for t in tensors])

    def parts(self, theta: torch.Tensor) -> list[torch.Tensor]:
        """`θ` as the module's parameters, in its order; views."""
        return [part.view(shape) for part, shape in zip(theta.split(self._sizes), self._shapes, strict=True)]

    def __call__(self, theta: torch.Tensor, x: torch.Tensor, keep_buffers: bool = False) -> torch.Tensor:
        """Logits `[B, K]` of images `[B, C, h, w]` under `θ`; `keep_buffers` leaves the buffers as they are."""
        tensors = dict(zip(self._names, self.parts(theta), strict=True))
        if keep_buffers:
            tensors |= {name: buffer.clone() for name, buffer in self.module.named_buffers()}
        return functional_call(self.module, tensors, (x,))


def fresh_network(
    arch: str, spec: Spec, width: int, seed: int, device: torch.device, dtype: torch.dtype = torch.float32
) -> Network:
    """A newly initialised network of `arch`, in training mode; the same one for the same seed on every device.

    Raises:
        BadInput: a user's `module:attribute` that cannot be imported or called with `(spec, width)`.
    """
    build = _named(ARCHITECTURES[arch]) if arch in ARCHITECTURES else _imported(arch)
    # torch's initialisers know only the global generator: lend it, and put it back
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        module = build(spec, width)
    return Network(module.to(device=device, dtype=dtype).train(), spec.classes)


def _imported(path: str) -> Callable[[Spec, int], Any]:
    module, _, attribute = path.partition(":")
    try:
        return getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise BadInput(f"cannot import network {path!r}: {error}; write module:callable taking (spec, width)") from None
