"""A ConvNet's block after its convolution: instance norm `z = γ ŷ + β`, ReLU and 2×2 average pool `p`.

Forward, backward, and both along a direction, where a map and its tangent go through each operation together: see
`ppodd.training.convnet_derivatives`. On a CPU with a C compiler each of them is one function, compiled for the machine;
otherwise they are made of torch's operations.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

import torch
import torch.nn.functional as F

from ppodd.training import compiled, instance_norm
from ppodd.training.convolution import laid_out, layout

Tensor = torch.Tensor
_aten = torch.ops.aten


class Block(NamedTuple):
    """A block's parameters in one or more points; channels are those of all networks."""

    weights: list[Tensor]  # of the first two points, each in the convolution's domain
    scale: Tensor  # γ [points, C]
    shift: Tensor  # β [points, C]


class Blocks(Protocol):
    """What is kept for the backward pass is used up by it."""

    def forward(self, y: Tensor, scale: Tensor, shift: Tensor, eps: float) -> tuple[Tensor, Any]:
        """`p`, and what the backward pass needs, of maps `y [B, C, h, w]`, which may be overwritten; `γ, β [C]`."""

    def backward(self, g: Tensor, kept: Any, scale: Tensor, shift: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """From the gradient of `p` to those of `y`, `γ` and `β`."""

    def forward_along(self, maps: Tensor, block: Block, eps: float) -> tuple[Tensor, Any]:
        """`[ṗ; p]` of `[ẏ; y]`, `[2·B, C, h, w]`, which may be overwritten."""

    def backward_along(self, g: Tensor, kept: Any, block: Block) -> tuple[Tensor, Tensor, Tensor]:
        """From `[g; ġ]` at `p` to `[g; ġ]` at `y`, `[2·B, …]`, and the tangents of the gradients of `γ` and `β`."""


def blocks(device: torch.device, dtype: torch.dtype) -> Blocks:
    """The fastest there are."""
    functions = compiled.functions(dtype, device)
    return CompiledBlocks(functions) if functions else TorchBlocks()


class CompiledBlocks:
    """Those of `kernels.c`: a few passes over maps that stay in the cache. The maps are overwritten at each step."""

    def __init__(self, functions: compiled.Functions):
        self._do = functions

    def forward(self, y: Tensor, scale: Tensor, shift: Tensor, eps: float) -> tuple[Tensor, Any]:
        """See `Blocks`."""
        y = laid_out(y)
        pooled, (rstd,) = _half_as_wide(y, len(y)), _numbers(y, 1, len(y))
        self._do.forward(compiled.size(y), y, scale, shift, eps, pooled, rstd)
        return pooled, (y, rstd)

    def backward(self, g: Tensor, kept: Any, scale: Tensor, shift: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """See `Blocks`."""
        maps, rstd = kept
        g_scale, g_shift = maps.new_empty(2, maps.shape[1])
        self._do.backward(compiled.size(maps), laid_out(g), maps, rstd, scale, shift, g_scale, g_shift)
        return maps, g_scale, g_shift

    def forward_along(self, maps: Tensor, block: Block, eps: float) -> tuple[Tensor, Any]:
        """See `Blocks`."""
        maps = laid_out(maps)
        half = len(maps) // 2
        pooled, (rstd, slope) = _half_as_wide(maps, len(maps)), _numbers(maps, 2, half)
        scales, shifts = block.scale[:2], block.shift[:2]
        self._do.forward_along(compiled.size(maps, half), maps, *scales, *shifts, eps, pooled, rstd, slope)
        return pooled, (maps, rstd, slope)

    def backward_along(self, g: Tensor, kept: Any, block: Block) -> tuple[Tensor, Tensor, Tensor]:
        """See `Blocks`."""
        maps, rstd, slope = kept
        g_scale, g_shift = maps.new_empty(2, maps.shape[1])
        size, scales = compiled.size(maps, len(rstd)), block.scale[:2]
        self._do.backward_along(size, laid_out(g), maps, rstd, slope, *scales, block.shift[1], g_scale, g_shift)
        return maps, g_scale, g_shift


def _half_as_wide(maps: Tensor, images: int) -> Tensor:
    _, channels, height, width = maps.shape
    return maps.new_empty(images, height // 2, width // 2, channels).permute(0, 3, 1, 2)


def _numbers(maps: Tensor, kinds: int, images: int) -> Tensor:
    """One a channel of an image."""
    return maps.new_empty(kinds, images, maps.shape[1])


class TorchBlocks:
    """In torch's operations. ReLU and pool share one mask, and the norm's sums are taken over pooled maps."""

    def forward(self, y: Tensor, scale: Tensor, shift: Tensor, eps: float) -> tuple[Tensor, Any]:
        """See `Blocks`."""
        z, normed = instance_norm.forward(y, scale, shift, eps)
        z.relu_()
        return F.avg_pool2d(z, 2), (normed, z)

    def backward(self, g: Tensor, kept: Any, scale: Tensor, shift: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """See `Blocks`."""
        normed, z = kept
        g = _unpooled(g, z)
        g = _aten.threshold_backward.grad_input(g, z, 0, grad_input=g)
        return instance_norm.backward(g, normed, scale)

    def forward_along(self, maps: Tensor, block: Block, eps: float) -> tuple[Tensor, Any]:
        """See `Blocks`."""
        return _pool_along(maps, block, eps)

    def backward_along(self, g: Tensor, kept: Any, block: Block) -> tuple[Tensor, Tensor, Tensor]:
        """See `Blocks`."""
        return _pool_backward_along(g, kept, block)


class _Pooled(NamedTuple):
    """What a block's forward pass along a direction leaves for the backward pass."""

    normed: instance_norm.NormTangent
    mask: Tensor  # m, as numbers [B, C, h, w]
    pooled: Tensor  # [d pool(m ŷ); pool(m ŷ); pool(m)]: [3, B, C, h/2, w/2]


def _pool_along(maps: Tensor, block: Block, eps: float) -> tuple[Tensor, _Pooled]:
    """Norm, ReLU and pool of `[ẏ; y]`, `[2·B, C, h, w]`: `[ṗ; p]`."""
    normed = instance_norm.along(maps.unflatten(0, (2, -1)), eps)
    scale, shift = block.scale[:, None, :, None, None], block.shift[:, None, :, None, None]
    half, *size = len(maps) // 2, *maps.shape[1:]
    masked = torch.empty(3 * half, *size, dtype=maps.dtype, device=maps.device, memory_format=layout(maps.device))
    masked = masked.unflatten(0, (3, half))
    mask = masked[2]
    torch.addcmul(shift[1], normed.maps[1], scale[1], out=mask).gt_(0)
    torch.mul(normed.maps, mask, out=masked[:2])
    pooled = F.avg_pool2d(masked.flatten(0, 1), 2).unflatten(0, (3, half))
    pooled[0].addcmul_(normed.slope, pooled[1], value=-1).mul_(normed.ratio)
    output = (pooled[:2] * scale[1]).addcmul_(pooled[2], shift[:2])
    output[0].addcmul_(pooled[1], scale[0])
    return output.flatten(0, 1), _Pooled(normed, mask, pooled)


def _pool_backward_along(g: Tensor, kept: _Pooled, block: Block) -> tuple[Tensor, Tensor, Tensor]:
    """From `[g; ġ]` at `p` to `[g; ġ]` at `y`, `[2·B, …]`, and the tangents of the gradients of `γ` and `β`.

    The gradient is `g_y = κ (g_z − mean(g_z) − ŷ mean(g_z ŷ))` with `κ = ρ γ`, and `ρ̇ = −ρ τ σ`.
    """
    normed, pixels = kept.normed, kept.mask[0, 0].numel()
    g = g.unflatten(0, (2, -1))
    sums = instance_norm.sum_of(g[:, None] * kept.pooled)  # Σ g d(m ŷ), Σ g ŷ, Σ g; with ġ
    sums_dot = sums[1, 1:]
    sums_dot[0].add_(sums[0, 0])
    factor = normed.rstd * block.scale[1:, None, :, None, None]  # κ, κ̇
    factor[1].addcmul_(normed.ratio * normed.slope, factor[0], value=-1)
    shares = factor[:, None] * sums[0, 1:]  # of ŷ, of 1; with their tangents
    shares[1].addcmul_(factor[0], sums_dot)
    by_tangent = shares[0, 0] * normed.ratio
    shares[1, 0].addcmul_(by_tangent, normed.slope, value=-1)
    outer = g * factor[0]
    outer[1].addcmul_(g[0], factor[1])
    both = _unpooled(outer.flatten(0, 1), normed.maps.flatten(0, 1)).view_as(normed.maps)
    both.mul_(kept.mask)
    both.add_(shares[:, 1], alpha=-1 / pixels).addcmul_(normed.maps[1], shares[:, 0], value=-1 / pixels)
    both[1].addcmul_(normed.maps[0], by_tangent, value=-1 / pixels)
    g_scale, g_shift = sums_dot.sum((1, 3, 4))
    return both.flatten(0, 1), g_scale, g_shift


def _unpooled(g: Tensor, like: Tensor) -> Tensor:
    """The average pool's gradient, from `g` to maps as wide and high as `like`."""
    return _aten.avg_pool2d_backward(g, like, [2, 2], [2, 2], [0, 0], False, True, None)
