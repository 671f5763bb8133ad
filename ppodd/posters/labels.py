"""Soft labels of patches: fixed by the class areas they cover, or learned (PoDDL)."""

from __future__ import annotations

import math

import numpy as np
import torch

from ppodd.errors import BadInput
from ppodd.posters.layout import Layout, positions, windows


def _overlaps(starts: list[int], size: int, area_starts: list[int], area_size: int) -> torch.Tensor:
    """Pixels that each window shares with each area along one axis: `[windows, areas]`."""
    a, b = torch.tensor(starts)[:, None], torch.tensor(area_starts)[None, :]
    return (torch.minimum(a + size, b + area_size) - torch.maximum(a, b)).clamp(min=0)


def fixed_labels(layout: Layout, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """Labels `[P, K]`: for each patch the softmax over classes of its pixels that lie in each class's area.

    Of tiles, their classes.
    """
    if layout.patch_classes is not None:
        return _one_hot(layout.patch_classes, layout).to(dtype)
    along_x = _overlaps(layout.patch_xs, layout.spec.width, layout.area_xs, layout.area_width)  # [nx, columns]
    along_y = _overlaps(layout.patch_ys, layout.spec.height, layout.area_ys, layout.area_height)  # [ny, rows]
    pixels = torch.einsum("xc,yr->xyrc", along_x, along_y).flatten(0, 1).flatten(1)  # [P, rows·columns]
    counts = torch.zeros(layout.patches, layout.spec.classes, dtype=torch.int64)
    counts[:, torch.from_numpy(layout.class_order.flatten())] = pixels
    return torch.softmax(counts.double(), dim=1).to(dtype)


def label_array_shape(layout: Layout, comp_ipc: int, released: bool = False) -> tuple[int, int]:
    """Rows and columns of the label array: the poster's proportions, as many cells as fit in `K · comp_ipc`.

    The released code took fewer cells than that, even where as many fit: 10×9 for CIFAR-100, of whose classes ten start
    without a cell. Of tiles, a cell each.

    Raises:
        BadInput: there are more tiles than cells.
    """
    if layout.patch_classes is not None:
        if layout.patches > layout.spec.classes * comp_ipc:
            raise BadInput(
                f"comp_ipc={comp_ipc}: {layout.patches} images want a label each, and that many cells for "
                f"{layout.spec.classes} classes are too few: raise it to {-(-layout.patches // layout.spec.classes)}"
            )
        return len(layout.patch_ys), len(layout.patch_xs)
    cells = layout.spec.classes * comp_ipc
    scale = math.sqrt(cells / (layout.width * layout.height))
    tall, wide = layout.height * scale, layout.width * scale
    most = max(1, cells - 1) if released else cells
    sides = [(r, c) for r in _around(tall, released) for c in _around(wide, released) if r * c <= most]
    return max(sides, key=lambda side: (side[0] * side[1], side[0]))


def _around(value: float, one_less: bool) -> tuple[int, int]:
    """The whole numbers next to a value; of a whole one itself, and the one below it where that is asked."""
    value = round(value, 9)  # a square root that should be whole is not always
    above = max(1, math.ceil(value))
    return max(1, above - 1 if one_less else math.floor(value)), above


def initial_label_array(
    layout: Layout, comp_ipc: int, released: bool = False, dtype: torch.dtype = torch.float32
) -> torch.Tensor:
    """Label array `[K, h', w']` of one-hot blocks over the class grid, or of the tiles' classes."""
    height, width = label_array_shape(layout, comp_ipc, released)
    if layout.patch_classes is not None:
        return _one_hot(layout.patch_classes.reshape(width, height).T, layout).permute(2, 0, 1).to(dtype).contiguous()
    rows, columns = layout.class_order.shape
    row_of = np.searchsorted(np.round(np.linspace(0, height, rows + 1))[1:], np.arange(height), side="right")
    column_of = np.searchsorted(np.round(np.linspace(0, width, columns + 1))[1:], np.arange(width), side="right")
    classes = torch.from_numpy(layout.class_order[row_of][:, column_of])  # [h', w']
    return torch.nn.functional.one_hot(classes, layout.spec.classes).permute(2, 0, 1).to(dtype).contiguous()


def _one_hot(classes: np.ndarray, layout: Layout) -> torch.Tensor:
    return torch.nn.functional.one_hot(torch.from_numpy(np.ascontiguousarray(classes)).long(), layout.spec.classes)


class LabelWindows:
    """Turns a label array into patch labels: each patch crops its window, sums it and normalises to 1."""

    def __init__(self, layout: Layout, shape: tuple[int, ...], device: torch.device):
        """For label arrays of `shape` `(h', w')`."""
        height, width = shape
        size_x = max(1, layout.patch_width * width // layout.width)
        size_y = max(1, layout.patch_height * height // layout.height)
        xs = positions(width, size_x, len(layout.patch_xs))
        ys = positions(height, size_y, len(layout.patch_ys))
        inside = windows(xs, ys, size_x, size_y, width)
        # a matrix product sums the windows of all patches at once, and its gradient is another
        self._sums = torch.zeros(layout.patches, height * width, device=device).scatter_(1, inside.to(device), 1.0)

    def labels(self, array: torch.Tensor) -> torch.Tensor:
        """`[K, h', w']` → `[P, K]`, differentiable."""
        sums = self._sums.to(array.dtype) @ array.flatten(1).T
        return sums / sums.sum(dim=1, keepdim=True).clamp(min=1e-12)
