"""Arrays of pictures and labels: `.npz` files, and what a user's own function returns."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ppodd.datasets.parts import TEST, VALIDATION, Part, arrays_part
from ppodd.datasets.splits import split_of
from ppodd.errors import BadInput, one_line

_PIXELS = frozenset(["x", "images", "image", "imgs", "img", "data", "pixels", "pictures"])
_NAMES = ("class_names", "label_names", "classes")  # of the labels 0, 1, …
_LABELS = frozenset(["y", "labels", "label", "targets", "target"])


def npz_parts(path: Path, split: str) -> list[Part]:
    """The splits of an `.npz` file: `x_train`, `y_train`, …; or `train_images`, `train_labels`, …; or `x` and `y`.

    Raises:
        BadInput: it is no such file, or holds Python objects, which are never unpickled.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except (OSError, ValueError, zipfile.BadZipFile, EOFError) as error:
        objects = zipfile.is_zipfile(path) and "allow_pickle" in str(error)
        why = "it holds Python objects, which are never unpickled" if objects else one_line(error)
        why = why if zipfile.is_zipfile(path) else "it is no zip of arrays"
        raise BadInput(f"{path} is no readable .npz file of plain arrays ({why})") from None
    names = next((_texts(arrays.pop(name)) for name in _NAMES if name in arrays and _is_text(arrays[name])), ())
    pixels = _by_split(path, arrays, _PIXELS)
    labels = _by_split(path, arrays, _LABELS)
    for unlabelled in {TEST, VALIDATION} & (pixels.keys() - labels.keys()):
        labels[unlabelled] = np.full(len(pixels[unlabelled]), None)
    if not pixels or set(pixels) - set(labels):
        raise BadInput(
            f"{path} holds {', '.join(arrays)}: needed are x and y, or x_train, y_train, x_test and y_test "
            f"(or images and labels)"
        )
    return [
        _part(f"{path} ({name})" if name else str(path), x, labels[name], name or split, names)
        for name, x in pixels.items()
    ]


def _is_text(array: np.ndarray) -> bool:
    return array.ndim == 1 and array.dtype.kind in "US"


def _texts(array: np.ndarray) -> tuple[str, ...]:
    return tuple(map(str, np.char.decode(array, "utf-8") if array.dtype.kind == "S" else array))


def returned_parts(name: str, value: Any) -> list[Part]:
    """The parts of what a user's function returned.

    Raises:
        ValueError: it is of another form; the message says of which.
    """
    if isinstance(value, list) and all(isinstance(part, Part) for part in value):
        return value
    if not isinstance(value, Mapping) or "train" not in value:
        raise ValueError(f"returned {type(value).__name__}")
    classes = tuple(map(str, value.get("classes", ())))
    parts = []
    for split, pair in value.items():
        if split == "classes":
            continue
        if not split_of(str(split)) or not isinstance(pair, (tuple, list)) or len(pair) != 2:
            raise ValueError(f"returned {split!r}: {type(pair).__name__}")
        x, y = (np.asarray(half) for half in pair)
        parts.append(_part(f"{name} ({split})", x, y, split_of(str(split)), classes))
    return parts


def _by_split(path: Path, arrays: Mapping[str, np.ndarray], words: frozenset[str]) -> dict[str, np.ndarray]:
    found: dict[str, np.ndarray] = {}
    first: dict[str, str] = {}
    for name, array in arrays.items():
        if words & set(name.lower().split("_")) or name.lower() in words:
            if (split := split_of(name)) in first:
                which = f"arrays {first[split]} and {name} are both {split or 'of no split'}"
                raise BadInput(f"{path}: the {which}: keep one of them, or join them")
            found[split], first[split] = array, name
    return found


def _part(place: str, x: np.ndarray, y: np.ndarray, split: str, names: tuple[str, ...] = ()) -> Part:
    if x.ndim not in (3, 4) or len(x) != len(y):
        raise BadInput(
            f"{place}: pictures {list(x.shape)} and labels {list(y.shape)} do not fit: [N, height, width] or "
            f"[N, height, width, channels], and N labels"
        )
    return arrays_part(place, _channels_last(x, place), y.tolist(), split, names)


def _channels_last(x: np.ndarray, place: str) -> np.ndarray:
    """`[N, h, w]` or `[N, h, w, C]`, of this or of `[N, C, h, w]`."""
    if x.ndim == 3:
        return x
    first, last = x.shape[1] in (1, 3), x.shape[3] in (1, 3, 4)
    if first and last and x.shape[1] != x.shape[2]:
        raise BadInput(f"{place}: it is not clear which side of {list(x.shape)} are channels: give [N, h, w, C]")
    return x.transpose(0, 2, 3, 1) if first and not last else x
