"""A poster's layout from its pixel budget: size, class grid and patch grid for any classes and images. No torch."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from ppodd.datasets import Spec
from ppodd.errors import BadInput
from ppodd.posters.geometry import Geometry

_PATCHES_A_CLASS = 3  # along each axis: PoDD's settings have two or three
_SIZES = ("poster_width", "poster_height")
_GRID = ("poster_class_num_x", "poster_class_num_y")


class _Axis(NamedTuple):
    """So many classes along one axis, whose images have `image` px there.

    Attributes:
        wanted: the poster's px, were each class's part of it shaped as an image is.
    """

    image: int
    classes: int
    wanted: float

    @property
    def least(self) -> int:
        """Px of a poster on which a patch of each class lies at another position."""
        return self.image + self.classes - 1

    @property
    def is_narrow(self) -> bool:
        """Whether the classes have to lie closer than in the shape of an image."""
        return self.classes > 1 and self.wanted < self.least


class _Sized(NamedTuple):
    """A class grid on a poster of a size."""

    x: _Axis
    y: _Axis
    width: int
    height: int

    @property
    def fits(self) -> bool:
        """Whether every class has a patch of its own."""
        return self.width >= self.x.least and self.height >= self.y.least


def geometry_of(ipc: float, spec: Spec, given: Mapping[str, int]) -> Geometry:
    """The layout of a poster of at most `ipc` images per class.

    The class grid is the squarest on which classes need not lie closer along one axis than along the other; each
    class's part of the poster is shaped as an image is. Class areas are of an image's size, as in PoDD's settings.

    Args:
        given: fields that are not chosen, but for which the others are.

    Raises:
        BadInput: no layout has so few pixels, or the class grid that is given has no place for the classes.
    """
    grids = list(_grids(spec.classes, given))
    if not grids:
        field = next(name for name in _GRID if name in given)
        sides = [n for n in range(1, spec.classes + 1) if spec.classes % n == 0]
        raise BadInput(
            f"{field}={given[field]}: {spec.classes} classes fill a grid with a side of {_few(sides)}", field
        )
    sized = [_sized(columns, rows, ipc, spec, given) for columns, rows in grids]
    fitting = [grid for grid in sized if grid.fits]
    if not fitting and not set(_SIZES) & set(given):
        least = min(grid.x.least * grid.y.least for grid in sized) / (spec.classes * spec.height * spec.width)
        raise BadInput(
            f"ipc={ipc:g}: on so few pixels not each of {spec.classes} classes has a patch of {spec.width} × "
            f"{spec.height} px of its own: the nearest that a layout can meet is {math.ceil(least * 1e4) / 1e4:g}",
            "ipc",
        )
    best = min(fitting or sized, key=lambda grid: grid.x.is_narrow or grid.y.is_narrow)  # the first of these
    return Geometry(
        best.width,
        best.height,
        best.x.classes,
        best.y.classes,
        _area(best.x, best.width),
        _area(best.y, best.height),
        _patches(best.x, best.width),
        _patches(best.y, best.height),
    )._replace(**given)


def _grids(classes: int, given: Mapping[str, int]) -> Iterable[tuple[int, int]]:
    """Columns and rows of every class grid, the squarest first; those that are wide unless they were given."""
    columns, rows = (given.get(name) for name in _GRID)
    if columns and rows:
        return [(columns, rows)]
    pairs = [(classes // n, n) for n in range(classes, 0, -1) if classes % n == 0]
    if columns or rows:
        return [(x, y) for x, y in pairs if columns in (x, None) and rows in (y, None)]
    return [(x, y) for x, y in pairs if x >= y]


def _sized(columns: int, rows: int, ipc: float, spec: Spec, given: Mapping[str, int]) -> _Sized:
    scale = math.sqrt(ipc)
    x = _Axis(spec.width, columns, scale * spec.width * columns)
    y = _Axis(spec.height, rows, scale * spec.height * rows)
    pixels = math.floor(ipc * spec.classes * spec.height * spec.width + 1e-6)
    width, height = given.get("poster_width"), given.get("poster_height")
    if height is None:
        height = pixels // width if width else max(math.floor(y.wanted + 1e-6), y.least)
    if width is None:
        width = max(pixels // height, x.least)
        height = given.get("poster_height", pixels // width)
    return _Sized(x, y, width, height)


def _area(axis: _Axis, poster: int) -> int:
    """As large as an image, or as it takes to leave no gap."""
    return poster if axis.classes == 1 else max(axis.image, math.ceil(poster / axis.classes))


def _patches(axis: _Axis, poster: int) -> int:
    """Some for each class, at different positions, and so many that each overlaps the next by half of it at least."""
    room = poster - axis.image
    overlapping = math.ceil(2 * room / axis.image) + 1
    return max(1, min(room + 1, max(_PATCHES_A_CLASS * axis.classes, overlapping)))


def _few(values: list[int], most: int = 12) -> str:
    return ", ".join(map(str, values[:most])) + (", …" if len(values) > most else "")
