"""Several ConvNets as one: their channels side by side, as many convolution groups as networks.

Each network keeps its own parameters, normalisation and batch statistics; predictions are never mixed. One wide
network makes a step of all of them in as many operations as a step of one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import nn

from ppodd.training.networks import ConvNet

_CPU_BYTES, _GPU_BYTES = 2**23, 2**30  # of activation at once; measured on a CPU with 32 MiB of cache


class Ensemble(nn.Module):
    """`N` networks of one architecture, their parameters copied from `modules`; in training mode."""

    def __init__(self, modules: Sequence[ConvNet]):
        super().__init__()
        self.size = len(modules)
        self.features = nn.Sequential(*_wide([module.features for module in modules]))
        self.weight = nn.Parameter(torch.stack([module.classifier.weight.detach() for module in modules]))  # [N, K, F]
        self.bias = nn.Parameter(torch.stack([module.classifier.bias.detach() for module in modules])[:, None])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Images `[B, N·C, h, w]`, network by network along the channels → logits `[N, B, K]`."""
        return self._classified(self.features(x))

    def judge(self, x: torch.Tensor) -> torch.Tensor:
        """Logits `[N, B, K]` of every network on the same images `[B, C, h, w]`."""
        first = cast("nn.Conv2d", self.features[0])
        # all networks see the same channels: the first convolution needs no groups
        return self._classified(self.features[1:](F.conv2d(x, first.weight, first.bias, padding=first.padding)))

    def _classified(self, features: torch.Tensor) -> torch.Tensor:
        return torch.baddbmm(self.bias, features.reshape(len(features), self.size, -1).transpose(0, 1), self.weight.mT)

    def images_at_once(self, height: int, width: int) -> int:
        """How many images of that size to pass through together: as many as pay, whatever memory there is.

        Counted by the first block's activation, the largest. On a CPU what stays in the cache is faster than more at
        once; a GPU wants much to do, within its memory.
        """
        convolution = cast("nn.Conv2d", self.features[0])
        padding, channels = int(convolution.padding[0]), convolution.out_channels
        area = (height + 2 * padding - 2) * (width + 2 * padding - 2)
        limit = _CPU_BYTES if self.weight.device.type == "cpu" else _GPU_BYTES
        return max(1, limit // (channels * area * self.weight.element_size()))

    def per_image(self) -> bool:
        """Whether an image's logits do not depend on the images beside it, as they do where norms are of a batch."""
        return not (self.training and any(isinstance(layer, nn.BatchNorm2d) for layer in self.features))


def _wide(stacks: Sequence[nn.Sequential]) -> Iterator[nn.Module]:
    """The layers of `N` ConvNets, place by place, each as one layer of `N` times the channels."""
    for layers in zip(*stacks, strict=True):
        first, n = layers[0], len(layers)
        if isinstance(first, nn.ReLU):
            continue  # part of the pool that follows
        if isinstance(first, nn.AvgPool2d):
            yield RectifiedPool()
        elif isinstance(first, nn.Conv2d):
            channels = n * first.in_channels, n * first.out_channels
            kind = OneChannelConv2d if first.in_channels == 1 else nn.Conv2d
            yield _filled(layers, kind, *channels, first.kernel_size, padding=first.padding, groups=n)
        elif isinstance(first, nn.GroupNorm):
            yield _filled(layers, nn.GroupNorm, n * first.num_groups, n * first.num_channels)
        elif isinstance(first, nn.BatchNorm2d):
            yield _filled(layers, nn.BatchNorm2d, n * first.num_features)
        else:
            raise TypeError(f"no wide form of {first}: add one here")


def _filled(layers: Sequence[nn.Module], kind: type[nn.Module], *args: Any, **kwargs: Any) -> nn.Module:
    """A layer of `kind` that holds the parameters and buffers of `layers` one after another."""
    states = [layer.state_dict() for layer in layers]
    state = {name: torch.cat([s[name] for s in states]) if t.dim() else t.clone() for name, t in states[0].items()}
    # made on no device, a layer draws no initial values: the networks' own take their place
    layer = kind(*args, **kwargs, device="meta")
    layer.load_state_dict(state, assign=True)
    return layer


class OneChannelConv2d(nn.Conv2d):
    """A convolution with groups of one channel (grey images) as one matrix product, the bias a column of it.

    The library's own takes three times as long on a CPU, gradient included.
    """

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """`[B, N, h, w]` → `[B, N·O, h', w']`."""
        padding, side = int(self.padding[0]), self.kernel_size[0]
        height, width = (size + 2 * padding - side + 1 for size in x.shape[2:])
        columns = F.unfold(x.reshape(-1, 1, *x.shape[2:]), side, padding=padding)  # [B·N, 9, h'·w']
        columns = torch.cat([columns, torch.ones_like(columns[:, :1])], 1).unflatten(0, (len(x), self.groups))
        assert self.bias is not None
        weights = torch.cat([self.weight.flatten(1), self.bias[:, None]], 1).unflatten(0, (self.groups, -1))
        return (weights @ columns).reshape(len(x), -1, height, width)


class RectifiedPool(nn.Module):
    """ReLU, then the mean of each 2×2 square; a last odd row or column is left out, as `AvgPool2d` does."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """`[B, C, h, w]` → `[B, C, ⌊h/2⌋, ⌊w/2⌋]`."""
        return _RectifiedPool.apply(x) if x.device.type == "cpu" else F.avg_pool2d(x.relu(), 2)


class _RectifiedPool(torch.autograd.Function):
    """On a CPU torch's own average pool takes longer than the convolution beside it, and its gradient longer still."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(x)
        height, width = _even(x)
        rows = x[..., 0:height:2, :width].relu().add_(x[..., 1:height:2, :width].relu())
        return (rows[..., 0::2] + rows[..., 1::2]).mul_(0.25)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:
        (x,) = ctx.saved_tensors
        height, width = _even(x)
        # two rows of pixels follow each other in memory: a product with a small matrix writes both in order
        spread = 0.25 * torch.eye(width // 2, dtype=x.dtype, device=x.device).repeat_interleave(2, dim=1)
        spread = F.pad(spread, (0, x.shape[3] - width)).repeat(1, 2)  # [w/2, 2·w]
        full = (gradient.reshape(-1, width // 2) @ spread).view(*x.shape[:2], height, x.shape[3])
        full = F.pad(full, (0, 0, 0, x.shape[2] - height)) if height < x.shape[2] else full
        return torch.ops.aten.threshold_backward.grad_input(full, x, 0, grad_input=full)


def _even(x: torch.Tensor) -> tuple[int, int]:
    return x.shape[2] // 2 * 2, x.shape[3] // 2 * 2
