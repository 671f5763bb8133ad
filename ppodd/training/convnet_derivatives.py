"""First and second derivatives of the instance-norm ConvNet, written out: no graph is built or kept.

A block is convolution `y = W * x`, instance norm `ŷ = ρ (y − mean y)`, `z = γ ŷ + β`, ReLU and 2×2 average pool `p`.
Two facts make it cheap. ReLU and pool are linear where they are differentiable, so all of their derivatives share one
mask `m = [z > 0]`; and the norm's scale and shift commute with the pool, so `p = γ pool(m ŷ) + β pool(m)` and every
sum that the norm's derivatives need is a sum over pooled maps, a quarter of the size. A convolution's bias is
removed by the norm: its derivatives are exactly 0.

The product with the Hessian is taken forward-over-reverse (MixFlow-MG, arXiv 2505.00793): a dot over a name is its
derivative along the direction `v` in parameter space, `g_` the gradient of the loss. Both passes go over
images in pieces small enough for the processor's cache; instance norm makes images independent of each other.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import nn

from ppodd.training.convolution import Convolution, convolution
from ppodd.training.derivatives import AutogradDerivatives, Derivatives, Products
from ppodd.training.networks import ConvNet, Network

_PIECE_BYTES = 8 << 20  # of the first block's output, on a CPU

Tensor = torch.Tensor


def derivatives_of(network: Network, shape: Sequence[int]) -> Derivatives:
    """The fastest derivatives of `network` for images of `shape` `[…, h, w]`: those below, else autograd's."""
    return ConvNetDerivatives(network, shape) if ConvNetDerivatives.fits(network) else AutogradDerivatives(network)


class _Weights(NamedTuple):
    """Parameters of a block, or a direction in their space; `W` in its convolution's domain, `γ, β [O]`."""

    conv: Tensor
    scale: Tensor
    shift: Tensor


class _Parameters(NamedTuple):
    """`θ` taken apart."""

    blocks: list[_Weights]
    weight: Tensor  # [K, D]
    bias: Tensor  # [K]


class _Block(NamedTuple):
    """What a block's forward pass leaves for the others; maps are `[B, O, h, w]`, pooled ones half as wide and high."""

    x: Tensor  # input, in the convolution's domain
    normed: Tensor  # ŷ
    mask: Tensor  # m, as numbers
    rstd: Tensor  # ρ [B, O, 1, 1]
    pooled_mask: Tensor  # pool(m)
    pooled_normed: Tensor  # pool(m ŷ)
    output: Tensor  # p


class _Dots(NamedTuple):
    """The same of a block's tangent."""

    x: Tensor | None  # ẋ, in the convolution's domain; images do not move
    conv: Tensor  # ẏ
    mean: Tensor  # mean(ẏ) [B, O, 1, 1]
    slope: Tensor  # mean(ŷ ẏ) [B, O, 1, 1]
    pooled_normed: Tensor  # d pool(m ŷ)
    output: Tensor  # ṗ


class ConvNetDerivatives:
    """Derivatives of the mean cross-entropy of a `ConvNet` with instance norm; see `ppodd.derivatives`."""

    def __init__(self, network: Network, shape: Sequence[int]):
        """For images of `shape` `[…, h, w]`."""
        self._network = network
        modules = list(cast(ConvNet, network.module).features)
        self._eps = [m.eps for m in modules if isinstance(m, nn.GroupNorm)]
        self._convolutions = []
        self._first_map = 1  # numbers in one image's first map
        height, width = shape[-2:]
        for m in modules:
            if isinstance(m, nn.Conv2d):
                padding = int(m.padding[0])
                kind = convolution(network.theta.device, m.in_channels, m.out_channels, height, width, padding)
                self._convolutions.append(kind)
                grown = 2 * padding - 2
                if len(self._convolutions) == 1:
                    self._first_map = m.out_channels * (height + grown) * (width + grown)
                height, width = (height + grown) // 2, (width + grown) // 2

    @staticmethod
    def fits(network: Network) -> bool:
        """Whether `network` is such a ConvNet."""
        return type(network.module) is ConvNet and network.module.norm == "instance"

    @torch.no_grad()
    def gradient(self, theta: Tensor, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        parameters = self._take_apart(theta)
        loss, total = theta.new_zeros(()), torch.zeros_like(theta)
        for x, y in self._pieces(images, labels):
            blocks = self._forward(parameters, x)
            features = blocks[-1].output.flatten(1)
            logits = torch.addmm(parameters.bias, features, parameters.weight.T)
            log_q = logits.log_softmax(1)
            loss -= (y * log_q).sum()
            g_logits = log_q.exp() * y.sum(1, keepdim=True) - y
            gradients = [g_logits.sum(0), g_logits.T @ features]
            g_p = (g_logits @ parameters.weight).view_as(blocks[-1].output)
            for i in reversed(range(len(blocks))):
                block, weights, conv = blocks[i], parameters.blocks[i], self._convolutions[i]
                g_y, g_scale, g_shift = _norm_gradient(block, weights, g_p)
                g_y = conv.map(g_y)
                gradients += [g_shift, g_scale, torch.zeros_like(g_shift), conv.to_weight([(block.x, g_y)])]
                if i > 0:
                    g_p = conv.to_image([(g_y, weights.conv)])
            total += _put_together(gradients)
        return loss / len(images), total / len(images)

    @torch.no_grad()
    def products(self, theta: Tensor, images: Tensor, labels: Tensor, direction: Tensor) -> Products:
        parameters, dots = self._take_apart(theta), self._take_apart(direction)
        total, to_images, to_labels = torch.zeros_like(theta), [], []
        for x, y in self._pieces(images, labels):
            blocks, tangents = self._forward_along(parameters, dots, x)
            features, features_dot = blocks[-1].output.flatten(1), tangents[-1].output.flatten(1)
            q = torch.addmm(parameters.bias, features, parameters.weight.T).softmax(1)
            logits_dot = torch.addmm(dots.bias, features, dots.weight.T).addmm_(features_dot, parameters.weight.T)
            mass = y.sum(1, keepdim=True)
            mean_dot = (q * logits_dot).sum(1, keepdim=True)
            to_labels.append(mean_dot - logits_dot)
            g_logits, g_logits_dot = q * mass - y, q * mass * (logits_dot - mean_dot)
            gradients = [g_logits_dot.sum(0), g_logits_dot.T @ features + g_logits.T @ features_dot]
            g_p = (g_logits @ parameters.weight).view_as(blocks[-1].output)
            g_p_dot = (g_logits_dot @ parameters.weight + g_logits @ dots.weight).view_as(g_p)
            for i in reversed(range(len(blocks))):
                each = blocks[i], tangents[i], parameters.blocks[i], dots.blocks[i]
                g_p, g_p_dot, part = _block_backward_along(self._convolutions[i], *each, g_p, g_p_dot)
                gradients += part
            to_images.append(g_p_dot)
            total += _put_together(gradients)
        count = len(images)
        return Products(total / count, torch.cat(to_images) / count, torch.cat(to_labels) / count)

    def _forward(self, parameters: _Parameters, x: Tensor) -> list[_Block]:
        blocks = []
        for conv, weights, eps in zip(self._convolutions, parameters.blocks, self._eps, strict=True):
            inside = conv.image(x)
            blocks.append(_pooled_norm(inside, conv.product([(inside, weights.conv)]), weights, eps))
            x = blocks[-1].output
        return blocks

    def _forward_along(self, parameters: _Parameters, dots: _Parameters, x: Tensor) -> tuple[list[_Block], list[_Dots]]:
        """Blocks and their tangents: `θ` alone moves."""
        blocks = self._forward(parameters, x)
        tangents: list[_Dots] = []
        for conv, block, weights, along in zip(self._convolutions, blocks, parameters.blocks, dots.blocks, strict=True):
            pairs, x_dot = [(block.x, along.conv)], None
            if tangents:
                x_dot = conv.image(tangents[-1].output)
                pairs.append((x_dot, weights.conv))
            tangents.append(_tangent(x_dot, conv.product(pairs), block, weights, along))
        return blocks, tangents

    def _take_apart(self, theta: Tensor) -> _Parameters:
        parts = iter(self._network.parts(theta))
        blocks = []
        for conv in self._convolutions:
            weight, _bias, scale, shift = (next(parts) for _ in range(4))
            blocks.append(_Weights(conv.weight(weight), scale, shift))
        return _Parameters(blocks, next(parts), next(parts))

    def _pieces(self, images: Tensor, labels: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """Images and labels in pieces that the cache holds; on a GPU whole."""
        size = len(images)
        if images.device.type == "cpu":
            size = max(1, _PIECE_BYTES // (self._first_map * images.element_size()))
        yield from zip(images.split(size), labels.split(size), strict=True)


def _block_backward_along(
    conv: Convolution,
    block: _Block,
    tangent: _Dots,
    weights: _Weights,
    weights_dot: _Weights,
    g_p: Tensor,
    g_p_dot: Tensor,
) -> tuple[Tensor, Tensor, list[Tensor]]:
    """From `g_p` and its tangent at a block's output to those at its input, and the parameters' tangents."""
    g_y_dot, scale_dot, shift_dot = _norm_gradient_along(block, tangent, weights, weights_dot, g_p, g_p_dot)
    g_y = conv.map(_norm_gradient(block, weights, g_p)[0])
    g_y_dot = conv.map(g_y_dot)
    to_weight = [(block.x, g_y_dot)]
    if tangent.x is not None:
        to_weight.append((tangent.x, g_y))
        g_p = conv.to_image([(g_y, weights.conv)])
    g_p_dot = conv.to_image([(g_y_dot, weights.conv), (g_y, weights_dot.conv)])
    return g_p, g_p_dot, [shift_dot, scale_dot, torch.zeros_like(shift_dot), conv.to_weight(to_weight)]


def _put_together(gradients: list[Tensor]) -> Tensor:
    """`θ`'s order is the reverse of the backward pass's."""
    return torch.cat([gradient.reshape(-1) for gradient in reversed(gradients)])


def _pooled_norm(inside: Tensor, y: Tensor, weights: _Weights, eps: float) -> _Block:
    count, channels, height, width = y.shape
    normed, _, rstd = torch.native_group_norm(y, None, None, count, channels, height * width, channels, eps)
    scale, shift = weights.scale[:, None, None], weights.shift[:, None, None]
    mask = torch.addcmul(shift, normed, scale).gt_(0)
    pooled_mask, pooled_normed = F.avg_pool2d(mask, 2), F.avg_pool2d(mask * normed, 2)
    output = scale * pooled_normed + shift * pooled_mask
    return _Block(inside, normed, mask, rstd.view(count, channels, 1, 1), pooled_mask, pooled_normed, output)


def _tangent(x_dot: Tensor | None, y_dot: Tensor, block: _Block, weights: _Weights, weights_dot: _Weights) -> _Dots:
    """`dŷ = ρ (ẏ − mean(ẏ) − ŷ mean(ŷ ẏ))`, pooled under the mask."""
    mean, slope = _mean(y_dot), _mean(block.normed * y_dot)
    pooled = F.avg_pool2d(block.mask * y_dot, 2)
    pooled_dot = block.rstd * (pooled - mean * block.pooled_mask - slope * block.pooled_normed)
    scale = weights.scale[:, None, None]
    scale_dot, shift_dot = weights_dot.scale[:, None, None], weights_dot.shift[:, None, None]
    output = scale * pooled_dot + scale_dot * block.pooled_normed + shift_dot * block.pooled_mask
    return _Dots(x_dot, y_dot, mean, slope, pooled_dot, output)


def _norm_gradient(block: _Block, weights: _Weights, g_p: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """`g_y = κ (g_z − mean(g_z) − ŷ mean(g_z ŷ))` with `κ = ρ γ`, and the gradients of `γ` and `β`."""
    pixels = block.normed[0, 0].numel()
    shift_sum, scale_sum = _sum(g_p * block.pooled_mask), _sum(g_p * block.pooled_normed)
    k = block.rstd * weights.scale[:, None, None]
    g_y = torch.addcmul(k * shift_sum / -pixels, block.normed, k * scale_sum / -pixels)
    g_y.addcmul_(block.mask, _spread(k * g_p, block.mask))
    return g_y, scale_sum.sum(0), shift_sum.sum(0)


def _norm_gradient_along(
    block: _Block, tangent: _Dots, weights: _Weights, weights_dot: _Weights, g_p: Tensor, g_p_dot: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """The tangent of `_norm_gradient`, with `ρ̇ = −ρ² mean(ŷ ẏ)`."""
    pixels = block.normed[0, 0].numel()
    scale, scale_dot = weights.scale[:, None, None], weights_dot.scale[:, None, None]
    shift_mean, scale_mean = _sum(g_p * block.pooled_mask) / pixels, _sum(g_p * block.pooled_normed) / pixels
    shift_sum_dot = _sum(g_p_dot * block.pooled_mask)
    scale_sum_dot = _sum(g_p_dot * block.pooled_normed) + _sum(g_p * tangent.pooled_normed)
    k = block.rstd * scale
    k_dot = block.rstd * scale_dot - block.rstd.square() * tangent.slope * scale
    by_conv = -k * block.rstd * scale_mean
    by_normed = -k_dot * scale_mean - k * scale_sum_dot / pixels - by_conv * tangent.slope
    constant = -k_dot * shift_mean - k * shift_sum_dot / pixels - by_conv * tangent.mean
    g_y_dot = torch.addcmul(constant, block.normed, by_normed).addcmul_(tangent.conv, by_conv)
    g_y_dot.addcmul_(block.mask, _spread(k_dot * g_p + k * g_p_dot, block.mask))
    return g_y_dot, scale_sum_dot.sum(0), shift_sum_dot.sum(0)


def _spread(pooled: Tensor, like: Tensor) -> Tensor:
    """The average pool's transpose, as wide and high as `like`: the pool drops a last odd row or column."""
    spread = F.interpolate(pooled * 0.25, scale_factor=2.0, mode="nearest")
    rest_y, rest_x = like.shape[2] - spread.shape[2], like.shape[3] - spread.shape[3]
    return F.pad(spread, (0, rest_x, 0, rest_y)) if rest_x or rest_y else spread


def _mean(maps: Tensor) -> Tensor:
    return maps.mean((2, 3), keepdim=True)


def _sum(maps: Tensor) -> Tensor:
    return maps.sum((2, 3), keepdim=True)
