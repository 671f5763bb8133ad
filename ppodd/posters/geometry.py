"""Where patches and class areas lie on the poster (PoDD, section 3; METHOD: poster geometry)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from ppodd.config import DistillConfig
from ppodd.datasets import Spec


def positions(full: int, size: int, count: int) -> list[int]:
    """First pixels of `count` overlapping windows of `size` on `full` px: `round(linspace(0, full − size, count))`."""
    return np.round(np.linspace(0, full - size, count)).astype(int).tolist()


@dataclass(frozen=True)
class Layout:
    """The poster's geometry in pixels; patches are enumerated x-major, classes lie by `class_order` `[rows, columns]`.

    Attributes:
        patch_xs, patch_ys: left and top pixels of the patch grid's columns and rows.
        area_xs, area_ys: left and top pixels of the class grid's columns and rows.
    """

    spec: Spec
    width: int
    height: int
    patch_xs: list[int]
    patch_ys: list[int]
    area_width: int
    area_height: int
    area_xs: list[int]
    area_ys: list[int]
    class_order: np.ndarray

    @classmethod
    def of(cls, config: DistillConfig, spec: Spec, class_order: np.ndarray) -> Layout:
        """The layout that `config` describes for images of `spec`."""
        return cls(
            spec=spec,
            width=config.poster_width,
            height=config.poster_height,
            patch_xs=positions(config.poster_width, spec.width, config.patch_num_x),
            patch_ys=positions(config.poster_height, spec.height, config.patch_num_y),
            area_width=config.class_area_width,
            area_height=config.class_area_height,
            area_xs=positions(config.poster_width, config.class_area_width, config.poster_class_num_x),
            area_ys=positions(config.poster_height, config.class_area_height, config.poster_class_num_y),
            class_order=np.asarray(class_order),
        )

    @property
    def patches(self) -> int:
        """Number of patches, P."""
        return len(self.patch_xs) * len(self.patch_ys)

    def patch_pixels(self) -> torch.Tensor:
        """Flat poster indices of every patch's pixels: `[P, h·w]`, row by row in each patch."""
        return windows(self.patch_xs, self.patch_ys, self.spec.width, self.spec.height, self.width)


def windows(xs: list[int], ys: list[int], width: int, height: int, full_width: int) -> torch.Tensor:
    """Flat indices `[len(xs)·len(ys), height·width]` of windows at `xs × ys` (x-major) in rows of `full_width`."""
    corners = torch.tensor([y * full_width + x for x in xs for y in ys])
    inside = (torch.arange(height)[:, None] * full_width + torch.arange(width)[None, :]).flatten()
    return corners[:, None] + inside[None, :]
