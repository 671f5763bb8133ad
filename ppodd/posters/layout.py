"""Where patches and class areas lie on the poster (PoDD, section 3; METHOD: poster geometry)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from ppodd.datasets import Spec
from ppodd.posters.geometry import Geometry


def positions(full: int, size: int, count: int) -> list[int]:
    """First pixels of `count` overlapping windows of `size` on `full` px: `round(linspace(0, full − size, count))`."""
    return np.round(np.linspace(0, full - size, count)).astype(int).tolist()


@dataclass(frozen=True)
class Layout:
    """Where everything lies, in pixels; patches are enumerated x-major, classes by `class_order` `[rows, columns]`.

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
    def of(cls, geometry: Geometry, spec: Spec, class_order: np.ndarray) -> Layout:
        """The layout of such a poster for images of `spec`."""
        x, y = geometry.x(spec.width), geometry.y(spec.height)
        return cls(
            spec=spec,
            width=x.poster,
            height=y.poster,
            patch_xs=positions(x.poster, x.image, x.patches),
            patch_ys=positions(y.poster, y.image, y.patches),
            area_width=x.area,
            area_height=y.area,
            area_xs=positions(x.poster, x.area, x.areas),
            area_ys=positions(y.poster, y.area, y.areas),
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
