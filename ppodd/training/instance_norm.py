"""Instance norm `z = γ ŷ + β`, `ŷ = ρ (y − mean y)` of each map: forward, backward and along a direction.

On a CPU torch's own group norm takes many times as long as its arithmetic where channels are last: there, few passes
over the maps do it, each vectorised along the channels. Elsewhere torch's are one operation each.
"""

from __future__ import annotations

from typing import NamedTuple

import torch

Tensor = torch.Tensor

_PIXELS = (-2, -1)


class NormCache(NamedTuple):
    """What the backward pass needs."""

    maps: Tensor  # ŷ on a CPU, else y: [B, C, h, w]
    mean: Tensor | None  # of y
    rstd: Tensor  # ρ


class NormTangent(NamedTuple):
    """Maps and their tangents, normed: `dŷ = τ (ν − σ ŷ)`."""

    maps: Tensor  # [ν; ŷ]: [2, B, C, h, w]; ν is ẏ without its mean, at some scale
    rstd: Tensor  # ρ [B, C, 1, 1]
    ratio: Tensor  # τ: ρ over that scale
    slope: Tensor  # σ = mean(ν ŷ)


def forward(y: Tensor, scale: Tensor, shift: Tensor, eps: float) -> tuple[Tensor, NormCache]:
    """`z` of maps `y [B, C, h, w]`, which may be overwritten; `γ, β [C]`."""
    if y.device.type != "cpu":
        z, mean, rstd = torch.native_group_norm(y, scale, shift, *_size(y), eps)
        return z, NormCache(y, mean, rstd)
    y -= mean_of(y)
    rstd = mean_of(y * y).add_(eps).rsqrt_()
    y *= rstd
    return torch.addcmul(shift[:, None, None], y, scale[:, None, None]), NormCache(y, None, rstd)


def backward(g: Tensor, kept: NormCache, scale: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """From the gradient of `z` to those of `y`, `γ` and `β`: `g_y = ρ γ (g − mean(g) − ŷ mean(g ŷ))`."""
    if kept.mean is not None:
        library = torch.ops.aten.native_group_norm_backward
        return library(g, kept.maps, kept.mean, kept.rstd, scale, *_size(g), [True] * 3)
    sums = torch.stack([sum_of(g * kept.maps), sum_of(g)])
    factor = kept.rstd * scale[:, None, None]
    by_normed, constant = sums * (factor / -g[0, 0].numel())
    to_y = torch.addcmul(constant, kept.maps, by_normed).addcmul_(g, factor)
    return (to_y, *sums.sum((1, 3, 4)))


def along(maps: Tensor, eps: float) -> NormTangent:
    """Of `[ẏ; y]`, `[2, B, C, h, w]`, which may be overwritten."""
    if maps.device.type != "cpu":
        both = maps.flatten(0, 1)
        normed, _, rstd = torch.native_group_norm(both, None, None, *_size(both), eps)
        normed, rstd = normed.view_as(maps), rstd.view(*maps.shape[:3], 1, 1)
        return NormTangent(normed, rstd[1], rstd[1] / rstd[0], mean_of(normed[0] * normed[1]))
    maps -= mean_of(maps)
    covariance, variance = mean_of(maps * maps[1])
    rstd = variance.add_(eps).rsqrt_()
    maps[1] *= rstd
    return NormTangent(maps, rstd, rstd, covariance * rstd)


def mean_of(maps: Tensor) -> Tensor:
    """Over pixels, which are kept as axes of length 1."""
    return maps.mean(_PIXELS, keepdim=True)


def sum_of(maps: Tensor) -> Tensor:
    """Over pixels, which are kept as axes of length 1."""
    return maps.sum(_PIXELS, keepdim=True)


def _size(maps: Tensor) -> tuple[int, int, int, int]:
    """As torch's group norm wants it, a group a channel."""
    count, channels, height, width = maps.shape
    return count, channels, height * width, channels
