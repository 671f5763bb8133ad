"""The sizes of a poster, its class areas and patches, and whether they fit a data set (PoDD, section 3). No torch."""

from __future__ import annotations

import math
from typing import NamedTuple

from ppodd.datasets import Spec
from ppodd.errors import BadInput


class Axis(NamedTuple):
    """The sizes (px) and counts along one axis of a poster."""

    image: int
    poster: int
    area: int
    areas: int
    patches: int


class Tiling(NamedTuple):
    """Tiles of one image each from a poster's upper left: how many along each axis, and their size (px)."""

    columns: int
    rows: int
    width: int
    height: int


class Geometry(NamedTuple):
    """The numbers that lay out a poster, each named as the flag that sets it."""

    poster_width: int
    poster_height: int
    poster_class_num_x: int
    poster_class_num_y: int
    class_area_width: int
    class_area_height: int
    patch_num_x: int
    patch_num_y: int

    def ipc(self, spec: Spec) -> float:
        """Images per class of one poster: `H·W / (h·w·K)`."""
        return self.poster_width * self.poster_height / (spec.height * spec.width * spec.classes)

    def x(self, image_width: int) -> Axis:
        """What lies along the width."""
        return Axis(image_width, self.poster_width, self.class_area_width, self.poster_class_num_x, self.patch_num_x)

    def y(self, image_height: int) -> Axis:
        """What lies along the height."""
        return Axis(image_height, self.poster_height, self.class_area_height, self.poster_class_num_y, self.patch_num_y)

    def check(self, spec: Spec) -> None:
        """Raise `BadInput` unless poster, class areas and patches fit images and classes of `spec`."""
        columns, rows = self.poster_class_num_x, self.poster_class_num_y
        if columns * rows != spec.classes:
            raise BadInput(
                f"poster_class_num_x × poster_class_num_y = {columns} × {rows} = {columns * rows}, but the data set "
                f"has {spec.classes} classes: choose a layout whose product is {spec.classes}, or have it chosen by "
                f"ipc",
                "poster_class_num_x",
            )
        _check_axis("width", "x", self.x(spec.width))
        _check_axis("height", "y", self.y(spec.height))


def _check_axis(side: str, letter: str, axis: Axis) -> None:
    image, poster, area, areas, patches = axis
    if image > poster:
        raise BadInput(
            f"poster_{side}={poster} is smaller than the image {side} {image}: raise it to at least {image}, "
            f"or have the layout chosen by ipc",
            f"poster_{side}",
        )
    if patches > poster - image + 1:
        raise BadInput(
            f"patch_num_{letter}={patches} patches of {image} px cannot be placed at different positions on "
            f"poster_{side}={poster}: at most {poster - image + 1}",
            f"patch_num_{letter}",
        )
    if area > poster:
        raise BadInput(
            f"class_area_{side}={area} exceeds poster_{side}={poster}: lower it to at most {poster}",
            f"class_area_{side}",
        )
    covered = area == poster if areas == 1 else math.ceil((poster - area) / (areas - 1)) <= area
    if not covered:
        raise BadInput(
            f"{areas} class areas of class_area_{side}={area} leave gaps on poster_{side}={poster}: "
            f"raise class_area_{side} to at least {math.ceil(poster / areas)}",
            f"class_area_{side}",
        )
