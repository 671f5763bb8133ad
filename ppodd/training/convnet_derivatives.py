"""First and second derivatives of the instance-norm ConvNet, written out: no graph is built or kept.

A block is convolution `y = W * x`, instance norm `z = γ ŷ + β`, ReLU and 2×2 average pool `p`. A convolution's bias
is removed by the norm: its derivatives are exactly 0.

The product with the Hessian is taken forward-over-reverse (MixFlow-MG, arXiv 2505.00793): a dot over a name is its
derivative along the direction `v` in parameter space, `g` the gradient of the loss. A map and its tangent go
through each operation together, the tangent first in the forward pass, `[ẋ; x]`, last in the backward one, `[g; ġ]`.
Two facts make that cheap. ReLU and pool are linear where they are differentiable, so all of their derivatives share
one mask `m = [z > 0]`; and the norm's scale and shift commute with the pool, so `p = γ pool(m ŷ) + β pool(m)` and
every sum that the norm's derivatives need is a sum over pooled maps, a quarter of the size.

Several networks of one shape are differentiated as one, their channels side by side, as many convolution groups as
networks. Images go through in pieces small enough for the processor's cache; instance norm makes them independent of
each other.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple, cast

import torch
from torch import nn

from ppodd.training.blocks import Block, blocks
from ppodd.training.classifier import classifier
from ppodd.training.compiled_convnet import CompiledConvNet
from ppodd.training.convolution import Convolution, convolution
from ppodd.training.derivatives import AutogradDerivatives, Derivatives, Products
from ppodd.training.networks import ConvNet, Network
from ppodd.training.precision import BF16, FLOAT32

_PIECE_BYTES = 8 << 20  # of the first block's output, on a CPU

Tensor = torch.Tensor


def derivatives_of(network: Network, shape: Sequence[int], networks: int = 1, precision: str = FLOAT32) -> Derivatives:
    """The fastest derivatives of `network` for images of `shape` `[…, h, w]`: those written out, else autograd's.

    Of several `networks` like it at once only those written out.
    """
    if ConvNetDerivatives.fits(network):
        if CompiledConvNet.fits(network, shape, networks, precision):
            return CompiledConvNet(network, shape, networks)
        return ConvNetDerivatives(network, shape, networks, precision)
    assert networks == 1, f"{type(network.module)} is differentiated by autograd, one network at a time"
    assert precision != BF16, f"{type(network.module)} is differentiated by autograd, in its own precision"
    return AutogradDerivatives(network)


class _Parameters(NamedTuple):
    """Points in parameter space, taken apart."""

    blocks: list[Block]
    weight: Tensor  # [points, E, K, D]
    bias: Tensor  # [points, E, K]


class ConvNetDerivatives:
    """Derivatives of the mean cross-entropy of a `ConvNet` with instance norm; see `ppodd.training.derivatives`.

    With `networks`, everything given has a leading axis `E`: as many networks like `network`, each on its own images.
    """

    def __init__(self, network: Network, shape: Sequence[int], networks: int = 1, precision: str = FLOAT32):
        """For images of `shape` `[…, h, w]`."""
        self._network, self._networks = network, networks
        modules = list(cast("ConvNet", network.module).features)
        self._eps = [m.eps for m in modules if isinstance(m, nn.GroupNorm)]
        self._blocks = blocks(network.theta.device, network.theta.dtype)
        self._classifier = classifier(network.theta.device, network.theta.dtype)
        self._convolutions: list[Convolution] = []
        self._first_map = 1  # numbers in one image's first map
        height, width = shape[-2:]
        for m in modules:
            if isinstance(m, nn.Conv2d):
                padding = int(m.padding[0])
                channels = m.in_channels, m.out_channels
                kind = convolution(network.theta, *channels, height, width, padding, networks, precision)
                self._convolutions.append(kind)
                height, width = height + 2 * padding - 2, width + 2 * padding - 2
                if len(self._convolutions) == 1:
                    self._first_map = networks * m.out_channels * height * width
                height, width = height // 2, width // 2

    @staticmethod
    def fits(network: Network) -> bool:
        """Whether `network` is such a ConvNet."""
        return type(network.module) is ConvNet and network.module.norm == "instance"

    @torch.no_grad()
    def gradient(self, theta: Tensor, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """See `Derivatives`: block by block back from the softmax, a piece of the batch at a time."""
        parameters = self._take_apart(theta[None])
        pieces = [self._gradient(parameters, *piece) for piece in self._pieces(images, labels)]
        losses, gradients = zip(*pieces, strict=True)
        return _total(losses).view(theta.shape[:-1]), _total(gradients).view_as(theta)

    @torch.no_grad()
    def products(self, theta: Tensor, images: Tensor, labels: Tensor, direction: Tensor) -> Products:
        """See `Derivatives`: a forward pass along `direction`, then the tangent of the backward pass."""
        # so that two neighbours are there in either order
        parameters = self._take_apart(torch.stack([direction, theta, direction]))
        pieces = [self._products(parameters, *piece) for piece in self._pieces(images, labels)]
        to_theta, to_images, to_labels = zip(*pieces, strict=True)
        of_each = torch.cat(to_images).unflatten(1, (self._networks, -1)).transpose(0, 1)
        of_labels = torch.cat(to_labels, 1).view_as(labels) * (-1 / images.shape[-4])
        return Products(_total(to_theta).view_as(theta), of_each.reshape(images.shape), of_labels)

    def _gradient(self, parameters: _Parameters, x: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        kept = []
        for conv, block, eps in zip(self._convolutions, parameters.blocks, self._eps, strict=True):
            y, inside = conv.forward(x, block.weights[0])
            x, pooled = self._blocks.forward(y, block.scale[0], block.shift[0], eps)
            kept.append((inside, pooled))
        last = self._classifier.gradient(x, parameters.weight[0], parameters.bias[0], labels)
        g, gradients = last.maps, [last.bias, last.weight]
        for i in reversed(range(len(kept))):
            (inside, pooled), block = kept.pop(), parameters.blocks[i]
            g, g_scale, g_shift = self._blocks.backward(g, pooled, block.scale[0], block.shift[0])
            to_x, g_weight = self._convolutions[i].backward(inside, g, block.weights[0], i > 0)
            g = g if to_x is None else to_x
            gradients += [g_shift, g_scale, torch.zeros_like(g_shift), g_weight]
        return last.losses, self._put_together(gradients)

    def _products(self, parameters: _Parameters, x: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        kept = []
        for i, (conv, block, eps) in enumerate(zip(self._convolutions, parameters.blocks, self._eps, strict=True)):
            maps, inside = conv.forward_along(x, block.weights[1], block.weights[0], i > 0)
            x, pooled = self._blocks.forward_along(maps, block, eps)
            kept.append((inside, pooled))
        last = self._classifier.along(x, parameters.weight, parameters.bias, labels)
        g, gradients = last.both, [last.bias, last.weight]
        for i in reversed(range(len(kept))):
            (inside, pooled), block = kept.pop(), parameters.blocks[i]
            g, g_scale, g_shift = self._blocks.backward_along(g, pooled, block)
            conv, (weight_dot, weight) = self._convolutions[i], block.weights
            g, g_weight = conv.backward_along(inside, g, weight, weight_dot, i > 0)
            gradients += [g_shift, g_scale, torch.zeros_like(g_shift), g_weight]
        return self._put_together(gradients), g, last.logs  # the labels': see `products`

    def _take_apart(self, points: Tensor) -> _Parameters:
        """Points `[points, …, D]`."""
        parts = iter(self._network.parts(points.view(len(points), self._networks, -1)))
        blocks = []
        for conv in self._convolutions:
            weight, _bias, scale, shift = (next(parts).flatten(1, 2) for _ in range(4))
            blocks.append(Block([conv.weight(w) for w in weight[:2]], scale, shift))
        return _Parameters(blocks, next(parts), next(parts))

    def _pieces(self, images: Tensor, labels: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """Images `[B, E·C, h, w]` and labels `[E, B, K]`, the latter negative and over the number of all images.

        In pieces that the cache holds; on a GPU whole.
        """
        count = size = images.shape[-4]
        if images.device.type == "cpu":
            size = max(1, _PIECE_BYTES // (self._first_map * images.element_size()))
        images = images.reshape(self._networks, count, *images.shape[-3:]).transpose(0, 1).flatten(1, 2)
        labels = labels.reshape(self._networks, count, -1) * (-1 / count)
        yield from zip(images.split(size), labels.split(size, 1), strict=True)

    def _put_together(self, gradients: list[Tensor]) -> Tensor:
        """`[E, D]`; `θ`'s order is the reverse of the backward pass's."""
        return torch.cat([gradient.reshape(self._networks, -1) for gradient in reversed(gradients)], 1)


def _total(parts: Sequence[Tensor]) -> Tensor:
    return sum(parts[1:], parts[0])
