"""A contact sheet: some pictures of each class, so that people see whether labels and colours are right."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from ppodd.datasets.parts import TEST, TRAIN
from ppodd.datasets.reading import Images

_CLASSES, _PICTURES, _GAP, _SIDE = 20, 8, 2, 48  # of a sheet; px between pictures; px that small pictures fill


def contact_sheet(images: Images) -> bytes:
    """PNG: a row for each of the first classes, training pictures on the left and test pictures on the right."""
    zoom = max(1, _SIDE // images.spec.height)
    height, width = images.spec.height * zoom, images.spec.width * zoom
    rows = min(_CLASSES, len(images.classes))
    sheet = np.full((rows * (height + _GAP), 2 * _PICTURES * (width + _GAP) + 4 * _GAP, 3), 255, np.uint8)
    for side, split in enumerate((TRAIN, TEST)):
        for label in range(rows):
            for column, picture in enumerate(_spread(images, split, label)):
                top = label * (height + _GAP)
                left = (side * _PICTURES + column) * (width + _GAP) + side * 4 * _GAP
                large = picture.transpose(1, 2, 0).repeat(zoom, 0).repeat(zoom, 1)
                sheet[top : top + height, left : left + width] = large
    buffer = io.BytesIO()
    Image.fromarray(sheet).save(buffer, "PNG")
    return buffer.getvalue()


def _spread(images: Images, split: str, label: int) -> np.ndarray:
    """Some pictures `[n, C, h, w]` of a class, spread evenly over those that there are."""
    rows = np.flatnonzero(images.y[split] == label)
    chosen = np.unique(np.linspace(0, len(rows) - 1, min(_PICTURES, len(rows))).round().astype(int))
    return images.x[split][rows[chosen]]
