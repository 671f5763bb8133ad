"""What readers give: labelled pictures, part by part, as they lie in files. Nothing is decoded yet."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ppodd.errors import BadInput

TRAIN, VALIDATION, TEST = "train", "validation", "test"


class Picture(NamedTuple):
    """A picture's file, its encoded bytes, its pixels, or why there is none; `where` names it in errors.

    Where its file was not found, `sought` is where it was looked for.
    """

    where: str
    data: Path | bytes | np.ndarray | BadInput
    sought: tuple[Path, ...] = ()


@dataclass(frozen=True)
class Part:
    """Labelled pictures of one file, or of one folder.

    Attributes:
        place: the file or folder, as people know it.
        labels: one a picture, as they lie there: a class's name or number, or `None`.
        pictures: gives the pictures, in the order of the labels.
        split: `train`, `validation` or `test`, where the place says so.
        names: what the numbers among the labels stand for: 0, 1, ….
    """

    place: str
    labels: Sequence[Any]
    pictures: Callable[[], Iterator[Picture]]
    split: str = ""
    names: tuple[str, ...] = ()


@dataclass
class Notes:
    """What people should know of how the data was read.

    `skipped` counts what was left out, by why; `beside` are picture files beside tables, which may name them; `empty`
    are folders without a file.
    """

    notes: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    skipped: dict[str, int] = field(default_factory=dict)
    beside: list[Path] = field(default_factory=list)
    empty: list[Path] = field(default_factory=list)

    def skip(self, why: str, count: int = 1) -> None:
        """Count what is left out, by its reason."""
        self.skipped[why] = self.skipped.get(why, 0) + count


def files_part(place: str, rows: Sequence[tuple[Path, Any]], split: str = "", names: tuple[str, ...] = ()) -> Part:
    """A part of picture files with their labels."""
    return Part(
        place,
        [label for _, label in rows],
        lambda: (Picture(str(path), path) for path, _ in rows),
        split,
        names,
    )


def arrays_part(
    place: str, pixels: np.ndarray, labels: Sequence[Any], split: str = "", names: tuple[str, ...] = ()
) -> Part:
    """A part of pictures whose pixels are here: `[N, h, w]` or `[N, h, w, channels]`."""
    return Part(
        place,
        labels,
        lambda: (Picture(f"{place} row {row}", picture) for row, picture in enumerate(pixels)),
        split,
        names,
    )
