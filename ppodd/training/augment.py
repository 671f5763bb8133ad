"""Augmentation: a strategy joins transforms by `_`; one of them is drawn a step, or several are composed.

What is random is drawn first, as numbers per image; applying them is deterministic and differentiable in the images.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F

from ppodd.training import strategies
from ppodd.training.strategies import AUGMENTATIONS

_ANGLE = 15.0  # degrees, either way
_SCALE = 1.2
_CROP = 0.125  # of the image side
_BRIGHTNESS, _SATURATION, _CONTRAST = 1.0, 2.0, 0.5
_CUTOUT = 0.5  # of the image side


class Augmentation(NamedTuple):
    """Transforms of one step, in order, each with its uniform numbers in [0, 1): `[B, 3]`."""

    transforms: tuple[tuple[str, torch.Tensor], ...]

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        """`[B, C, h, w]` → the same shape."""
        for name, numbers in self.transforms:
            changed = AUGMENTATIONS.get(name)(images, numbers)
            if getattr(changed, "shape", None) != images.shape:
                raise AUGMENTATIONS.returned(name, changed, f"images {tuple(images.shape)}")
            images = changed
        return images

    def to(self, device: torch.device, dtype: torch.dtype) -> Augmentation:
        """The same with its numbers on a device, in the dtype of the images."""
        moved = ((n, u.to(device=device, dtype=dtype, non_blocking=True)) for n, u in self.transforms)
        return Augmentation(tuple(moved))


def draw(strategy: str, composed: bool, batch: int, generator: torch.Generator) -> Augmentation:
    """The augmentation of one step: one transform of `strategy`; composed: flip, colour, cutout and one of the rest."""
    names, always = strategies.names(strategy), [name for name, t in AUGMENTATIONS.own.items() if t.always]
    rest = [name for name in names if name not in always] if composed else names
    chosen = [rest[int(torch.randint(len(rest), (), generator=generator))]] if rest else []
    if composed and names:
        chosen = [*always, *chosen]
    return Augmentation(tuple((name, torch.rand(batch, 3, generator=generator)) for name in chosen))


class EachAugmentation(NamedTuple):
    """The augmentations of one step of several trainings, each of its own images."""

    each: tuple[Augmentation, ...]

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        """`[E·B, C, h, w]` → the same shape."""
        return augmented(images.unflatten(0, (len(self.each), -1)), self.each).flatten(0, 1)


def augmented(images: torch.Tensor, augmentations: Sequence[Augmentation]) -> torch.Tensor:
    """Images `[M, B, C, h, w]`, each of the `M` batches under its own augmentation; those of one kind together."""
    kinds: dict[tuple[str, ...], list[int]] = {}
    for index, augmentation in enumerate(augmentations):
        kinds.setdefault(tuple(name for name, _ in augmentation.transforms), []).append(index)
    if len(kinds) == 1:
        return _joined(augmentations, images)(images.flatten(0, 1)).view_as(images)
    out = torch.empty_like(images)
    for indices in kinds.values():
        at = torch.tensor(indices).to(images.device, non_blocking=True)
        some = images[at]
        joined = _joined([augmentations[index] for index in indices], images)
        out[at] = joined(some.flatten(0, 1)).view_as(some)
    return out


def _joined(augmentations: Sequence[Augmentation], like: torch.Tensor) -> Augmentation:
    """Augmentations of one kind as one over all their images."""
    columns = zip(*(augmentation.transforms for augmentation in augmentations), strict=True)
    joined = ((column[0][0], torch.cat([numbers for _, numbers in column])) for column in columns)
    return Augmentation(tuple(joined)).to(like.device, like.dtype)


def flip(x: torch.Tensor, u: torch.Tensor) -> torch.Tensor:
    """Mirror about the vertical axis, or not."""
    return torch.where((u[:, 0] < 0.5)[:, None, None, None], x.flip(3), x)


@functools.cache
def _centres(size: int, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """Where the pixels of a line are, its ends at -1 and 1: `[size]`."""
    return (2 * torch.arange(size, dtype=dtype, device=device) + 1) / size - 1


def _transformed(x: torch.Tensor, matrices: torch.Tensor) -> torch.Tensor:
    """Each image sampled where its matrix `[B, 2, 2]` takes the pixels' places.

    By products and sums of single numbers: a library's matrix products would round by how many images there are.
    """
    height, width = (_centres(size, x.dtype, x.device) for size in x.shape[2:])
    across, down = matrices[:, None, None].unbind(-1)  # [B, 1, 1, 2]
    grid = across * width[:, None] + down * height[:, None, None]
    return F.grid_sample(x, grid, align_corners=False)


def rotate(x: torch.Tensor, u: torch.Tensor) -> torch.Tensor:
    """Turn by up to 15° either way."""
    angle = (u[:, 0] - 0.5) * 2 * math.radians(_ANGLE)
    cos, sin = angle.cos(), angle.sin()
    return _transformed(x, torch.stack([cos, -sin, sin, cos], 1).view(-1, 2, 2))


def scale(x: torch.Tensor, u: torch.Tensor) -> torch.Tensor:
    """Shrink or stretch each axis by a factor of up to 1.2."""
    factor = 1 / _SCALE + u[:, :2] * (_SCALE - 1 / _SCALE)
    return _transformed(x, factor.diag_embed())


def crop(x: torch.Tensor, u: torch.Tensor) -> torch.Tensor:
    """Shift by whole pixels, zeros coming in: a crop of the padded image."""
    height, width = x.shape[2:]
    most_y, most_x = int(height * _CROP + 0.5), int(width * _CROP + 0.5)
    dy = (u[:, 0] * (2 * most_y + 1)).long()[:, None]
    dx = (u[:, 1] * (2 * most_x + 1)).long()[:, None]
    padded = F.pad(x, (most_x, most_x, most_y, most_y))
    rows = (dy + torch.arange(height, device=x.device))[:, None, :, None].expand(-1, x.shape[1], -1, padded.shape[3])
    columns = (dx + torch.arange(width, device=x.device))[:, None, None, :].expand(-1, x.shape[1], height, -1)
    return padded.gather(2, rows).gather(3, columns)


def color(x: torch.Tensor, u: torch.Tensor) -> torch.Tensor:
    """Brightness, saturation, contrast."""
    u = u[:, :, None, None, None]
    x = x + (u[:, 0] - 0.5) * _BRIGHTNESS
    mean = x.mean(dim=1, keepdim=True)
    x = (x - mean) * (u[:, 1] * _SATURATION) + mean
    mean = x.mean(dim=(1, 2, 3), keepdim=True)
    return (x - mean) * (u[:, 2] + _CONTRAST) + mean


def cutout(x: torch.Tensor, u: torch.Tensor) -> torch.Tensor:
    """Zero a rectangle of half the side, centred anywhere on the image."""

    def outside(side: int, where: torch.Tensor) -> torch.Tensor:
        size = int(side * _CUTOUT + 0.5)
        first = (where * (side + (1 - size % 2))).long()[:, None] - size // 2
        at = torch.arange(side, device=x.device)[None, :]
        return (at < first) | (at >= first + size)

    keep = outside(x.shape[2], u[:, 0])[:, None, :, None] | outside(x.shape[3], u[:, 1])[:, None, None, :]
    return x * keep
