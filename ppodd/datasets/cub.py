"""CUB-200-2011's own layout: `images.txt`, `image_class_labels.txt`, `train_test_split.txt`, `classes.txt`."""

from __future__ import annotations

from pathlib import Path

from ppodd.datasets.parts import TEST, TRAIN, Part, files_part
from ppodd.datasets.text import lines
from ppodd.errors import BadInput

_LISTS = ("images.txt", "image_class_labels.txt", "train_test_split.txt", "classes.txt")


def find_cub(folder: Path) -> list[Path] | None:
    """The lists, and the pictures that they name."""
    for place in (folder, folder / "CUB_200_2011"):
        if (place / "train_test_split.txt").is_file():
            names = _table(place / "images.txt").values()
            return [*(place / name for name in _LISTS), *(place / "images" / name for name in names)]
    return None


def read_cub(files: list[Path]) -> list[Part]:
    """The birds of CUB-200-2011, by its own lists of images, classes and split."""
    names, labels, trains, classes = map(_table, files[: len(_LISTS)])
    place = files[0].parent
    try:
        rows = [(place / "images" / names[i], int(labels[i]) - 1, trains[i] == "1") for i in names]
    except KeyError as error:
        raise BadInput(
            f"{place}: image {error} is in images.txt but not in every list: fetch the data set again"
        ) from None
    titles = tuple(classes[i].split(".", 1)[-1] for i in sorted(classes, key=int))
    return [
        files_part(
            f"{place} ({split})", [(path, label) for path, label, trained in rows if trained == wanted], split, titles
        )
        for split, wanted in ((TRAIN, True), (TEST, False))
    ]


def _table(path: Path) -> dict[str, str]:
    return dict(line.split(" ", 1) for line in lines(path))
