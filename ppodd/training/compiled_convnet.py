"""Derivatives of whole ConvNets by compiled functions, where each convolution takes every network by itself.

So it is for images of few channels and small maps: there a gradient is some sixty operations that each take less time
than it takes to call them. The formulas are those of `ppodd.training.convnet_derivatives`, the functions those of its
parts. What a network comes to is the same to the bit, whatever others are beside it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import nn

from ppodd.training import compiled
from ppodd.training.convolution import FewChannels, SmallMaps, convolution
from ppodd.training.derivatives import Products
from ppodd.training.networks import ConvNet, Network
from ppodd.training.precision import FLOAT32

Tensor = torch.Tensor
_PIECE_BYTES = 8 << 20  # of one network's first maps at once, which the processor's cache holds


class CompiledConvNet:
    """See `ppodd.training.derivatives`; with a leading axis `E` of everything, of as many networks like `network`."""

    def __init__(self, network: Network, shape: Sequence[int], networks: int = 1):
        """For images of `shape` `[…, h, w]`."""
        module = cast("ConvNet", network.module)
        convolutions, functions = _convolutions(module), compiled.functions(network.theta.dtype)
        assert functions
        self._do, first, (height, width) = functions, convolutions[0], shape[-2:]
        padding = int(first.padding[0])
        first_map = first.out_channels * (height + 2 * padding - 2) * (width + 2 * padding - 2)
        self._most = max(1, _PIECE_BYTES // (first_map * network.theta.element_size()))
        widths = (m.out_channels for m in convolutions)
        eps = next(m.eps for m in module.features if isinstance(m, nn.GroupNorm))  # that of all
        self._net = compiled.Net(
            height=height, width=width, groups=networks, channels=first.in_channels, classes=network.classes,
            padding=padding, blocks=len(convolutions), parameters=network.theta.numel(),
            widths=compiled.Net.Widths(*widths), eps=eps,
        )  # fmt: skip

    @staticmethod
    def fits(network: Network, shape: Sequence[int], networks: int = 1, precision: str = FLOAT32) -> bool:
        """Whether it is for such a ConvNet: there are functions for all of it, on images of `shape`.

        If it is for one network it is for several, which need not be so the other way round.
        """
        convolutions, (height, width) = _convolutions(cast("ConvNet", network.module)), shape[-2:]
        if (
            not compiled.functions(network.theta.dtype, network.theta.device)
            or len(convolutions) > compiled.Net.MOST_BLOCKS
        ):
            return False
        for m in convolutions:
            padding = int(m.padding[0])
            channels = m.in_channels, m.out_channels
            kind = convolution(network.theta, *channels, height, width, padding, networks, precision)
            if type(kind) is not (FewChannels if m is convolutions[0] else SmallMaps):
                return False
            height, width = height // 2 + padding - 1, width // 2 + padding - 1
        return True

    def gradient(self, theta: Tensor, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """See `Derivatives`."""
        losses, to_theta = theta.new_empty(theta.shape[:-1]), theta.new_empty(theta.shape)
        given = [tensor.contiguous() for tensor in (theta, images, labels)]
        self._do.net_gradient(self._of(images), *given, losses, to_theta, self._space(theta, along=False))
        return losses, to_theta

    def products(self, theta: Tensor, images: Tensor, labels: Tensor, direction: Tensor) -> Products:
        """See `Derivatives`."""
        found = Products(*(tensor.new_empty(tensor.shape) for tensor in (theta, images, labels)))
        given = [tensor.contiguous() for tensor in (theta, direction, images, labels)]
        self._do.net_products(self._of(images), *given, *found, self._space(theta, along=True))
        return found

    def _of(self, images: Tensor) -> compiled.Net:
        self._net.images, self._net.threads = images.shape[-4], torch.get_num_threads()
        self._net.at_once = min(self._most, images.shape[-4])
        return self._net

    def _space(self, like: Tensor, along: bool) -> Tensor:
        """Room to compute in."""
        return like.new_empty(self._do.space_of(self._net, along))


def _convolutions(module: ConvNet) -> list[nn.Conv2d]:
    return [m for m in module.features if isinstance(m, nn.Conv2d)]
