"""The poster: its initial value, the patches cut from it, and its rendering as a picture."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from ppodd.posters.layout import Layout


def fade_blend(tiles: torch.Tensor, xs: list[int], ys: list[int], width: int, height: int) -> torch.Tensor:
    """Lay tiles on a canvas, fading linearly from each to the next where they overlap: rows first, then columns.

    Args:
        tiles: `[len(ys), len(xs), C, h, w]`.

    Returns:
        `[C, height, width]`; pixels that no tile covers are 0.
    """
    rows = torch.stack([_fade_along(row, xs, width) for row in tiles])  # [rows, C, h, width]
    return _fade_along(rows.transpose(-1, -2), ys, height).transpose(-1, -2)


def _fade_along(tiles: torch.Tensor, starts: list[int], length: int) -> torch.Tensor:
    """Blend tiles `[n, …, size]` placed at `starts` along the last axis: `[…, length]`.

    Both tiles weigh in at every pixel of an overlap. The published fade includes the weights 0 and 1 at its ends; why
    this one does not is in docs/fidelity.md.
    """
    size = tiles.shape[-1]
    out = tiles.new_zeros(*tiles.shape[1:-1], length)
    end = 0
    for tile, start in zip(tiles, starts, strict=True):
        overlap = max(0, end - start)
        fade = torch.linspace(0, 1, overlap + 2, dtype=tiles.dtype, device=tiles.device)[1:-1]
        out[..., start : start + overlap] *= 1 - fade
        out[..., start : start + overlap] += tile[..., :overlap] * fade
        out[..., start + overlap : start + size] = tile[..., overlap:]
        end = start + size
    return out


def initial_poster(layout: Layout, generator: torch.Generator, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """One Gaussian area per class, each of unit norm, fade-blended to the poster: `[C, H, W]`."""
    rows, columns = layout.class_order.shape
    shape = (rows, columns, layout.spec.channels, layout.area_height, layout.area_width)
    areas = torch.randn(shape, generator=generator, dtype=torch.float64)
    areas /= areas.flatten(2).norm(dim=2)[:, :, None, None, None]
    return fade_blend(areas, layout.area_xs, layout.area_ys, layout.width, layout.height).to(dtype)


class Patches:
    """Cuts patches out of stacked posters, a whole batch in one gather."""

    def __init__(self, layout: Layout, device: torch.device):
        self.count = layout.patches
        self.shape = (layout.spec.channels, layout.spec.height, layout.spec.width)
        self._cut = (layout.spec.channels, layout.patch_height, layout.patch_width)
        self._pixels = layout.patch_pixels().to(device)
        self._poster_pixels = layout.width * layout.height

    def crop(self, posters: torch.Tensor, picks: torch.Tensor) -> torch.Tensor:
        """Patches `[B, C, h, w]` of posters `[T, C, H, W]`, smaller ones scaled up; pick `t·P + p` is patch `p` of `t`.

        Differentiable in the posters; the gradient is summed in a fixed order on a CPU.
        """
        channels = posters.shape[1]
        poster, patch = picks // self.count, picks % self.count
        planes = poster[:, None] * channels + torch.arange(channels, device=picks.device)  # [B, C]
        index = planes[:, :, None] * self._poster_pixels + self._pixels[patch][:, None, :]  # [B, C, h·w]
        # gather's gradient is a scatter along one row: in order, unlike that of indexing
        pixels = posters.reshape(1, -1).gather(1, index.view(1, -1))
        cut = pixels.view(picks.numel(), *self._cut)
        return cut if self._cut == self.shape else F.interpolate(cut, self.shape[1:], mode="bilinear")

    def all(self, poster: torch.Tensor) -> torch.Tensor:
        """Every patch of one poster `[C, H, W]`: `[P, C, h, w]`."""
        return self.crop(poster[None], torch.arange(self.count, device=poster.device))
