"""Where patches and class areas lie on the poster (PoDD, section 3; METHOD: poster geometry)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from ppodd.datasets import Spec
from ppodd.posters.geometry import Geometry, Tiling


def positions(full: int, size: int, count: int) -> list[int]:
    """First pixels of `count` overlapping windows of `size` on `full` px: `round(linspace(0, full − size, count))`."""
    return np.round(np.linspace(0, full - size, count)).astype(int).tolist()


@dataclass(frozen=True)
class Layout:
    """Where everything lies, in pixels; patches are enumerated x-major, classes by `class_order` `[rows, columns]`.

    Attributes:
        patch_xs, patch_ys: left and top pixels of the patch grid's columns and rows.
        area_xs, area_ys: left and top pixels of the class grid's columns and rows; none of tiles.
        patch_width, patch_height: of a patch; one that is smaller than an image is scaled up to be trained on.
        patch_classes: the class of each patch `[P]`, where patches are tiles of one image each.
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
    patch_width: int
    patch_height: int
    patch_classes: np.ndarray | None = None

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
            patch_width=spec.width,
            patch_height=spec.height,
        )

    @classmethod
    def tiled(
        cls, width: int, height: int, spec: Spec, class_order: np.ndarray, tiles: Tiling, classes: np.ndarray
    ) -> Layout:
        """A poster of `width` × `height` px that the tiles, of these `classes`, need not fill."""
        return cls(
            spec=spec,
            width=width,
            height=height,
            patch_xs=[column * tiles.width for column in range(tiles.columns)],
            patch_ys=[row * tiles.height for row in range(tiles.rows)],
            area_width=0,
            area_height=0,
            area_xs=[],
            area_ys=[],
            class_order=np.asarray(class_order),
            patch_width=tiles.width,
            patch_height=tiles.height,
            patch_classes=classes,
        )

    @property
    def patches(self) -> int:
        """Number of patches, P."""
        return len(self.patch_xs) * len(self.patch_ys)

    def patch_pixels(self) -> torch.Tensor:
        """Flat poster indices of every patch's pixels: `[P, height·width]`, row by row in each patch."""
        return windows(self.patch_xs, self.patch_ys, self.patch_width, self.patch_height, self.width)


def windows(xs: list[int], ys: list[int], width: int, height: int, full_width: int) -> torch.Tensor:
    """Flat indices `[len(xs)·len(ys), height·width]` of windows at `xs × ys` (x-major) in rows of `full_width`."""
    corners = torch.tensor([y * full_width + x for x in xs for y in ys])
    inside = (torch.arange(height)[:, None] * full_width + torch.arange(width)[None, :]).flatten()
    return corners[:, None] + inside[None, :]
