"""Posters that are tiled with real images: how many lie side by side, and how large each is. Light: needs no torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ppodd.errors import BadInput
from ppodd.posters.geometry import Geometry, Tiling

if TYPE_CHECKING:
    from ppodd.datasets import Spec


def scaled_tiles(geometry: Geometry, spec: Spec) -> Tiling:
    """One tile a class, as large as fits. Raises `BadInput` where whole images fit."""
    columns, rows = geometry.poster_class_num_x, geometry.poster_class_num_y
    width, height = geometry.poster_width // columns, geometry.poster_height // rows
    if width >= spec.width and height >= spec.height:
        raise BadInput(
            f"scales images down or crops them, but a poster of {_size(geometry)} px ({geometry.ipc(spec):.3g} IPC) "
            f"holds a whole image of each class: choose random-images, k-means or herding"
        )
    return Tiling(columns, rows, min(width, spec.width), min(height, spec.height))


def whole_tiles(geometry: Geometry, spec: Spec) -> Tiling:
    """Tiles of whole images. Raises `BadInput` where there is not one for each class."""
    columns, rows = geometry.poster_width // spec.width, geometry.poster_height // spec.height
    if columns * rows < spec.classes:
        least = f"{geometry.poster_class_num_x * spec.width}×{geometry.poster_class_num_y * spec.height}"
        raise BadInput(
            f"keeps images whole, and a poster of {_size(geometry)} px ({geometry.ipc(spec):.3g} IPC) holds "
            f"{columns * rows} of {spec.width}×{spec.height} px, fewer than the {spec.classes} classes: choose "
            f"downscaled or cropped, which it can hold, or a poster of {least} px"
        )
    return Tiling(columns, rows, spec.width, spec.height)


def _size(geometry: Geometry) -> str:
    return f"{geometry.poster_width}×{geometry.poster_height}"
