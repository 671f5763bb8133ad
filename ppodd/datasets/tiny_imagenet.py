"""Tiny-ImageNet's own layout: `train/<id>/images`, `val/val_annotations.txt`; `val` is the test split."""

from __future__ import annotations

from pathlib import Path

from ppodd.datasets.listing import files_below, is_picture
from ppodd.datasets.parts import TEST, TRAIN, Notes, Part, files_part
from ppodd.datasets.text import lines
from ppodd.errors import BadInput

_ANNOTATIONS = "val_annotations.txt"


def find_tiny_imagenet(folder: Path) -> list[Path] | None:
    """The annotations, the names of the classes, and the pictures of `train` and `val`."""
    for place in (folder, folder / "tiny-imagenet-200"):
        if (place / "val" / _ANNOTATIONS).is_file():
            words = [path for path in [place / "words.txt"] if path.is_file()]
            below = (
                p for split in ("train", "val") if (place / split).is_dir() for p in files_below(place / split, Notes())
            )
            return [place / "val" / _ANNOTATIONS, *words, *filter(is_picture, below)]
    return None


def read_tiny_imagenet(files: list[Path]) -> list[Part]:
    """Tiny ImageNet: the folders of `train`, and `val` by its list of annotations."""
    annotations, place = files[0], files[0].parent.parent
    words_file = place / "words.txt"
    words = dict(line.split("\t", 1) for line in lines(words_file) if "\t" in line) if words_file in files else {}
    pictures = [path for path in files if is_picture(path)]
    train = [(path, path.relative_to(place / "train").parts[0]) for path in pictures if place / "train" in path.parents]
    ids = sorted({wnid for _, wnid in train})
    rows = [line.split("\t")[:2] for line in lines(annotations)]
    unknown = next((wnid for _, wnid in rows if wnid not in ids), None)
    if unknown:
        raise BadInput(f"{annotations} names class {unknown!r}, which has no training images")
    names = tuple(words.get(wnid, wnid).split(",")[0].strip() for wnid in ids)
    index = {wnid: number for number, wnid in enumerate(ids)}
    test = [(annotations.parent / "images" / name, index[wnid]) for name, wnid in rows]
    return [
        files_part(str(place / "train"), [(path, index[wnid]) for path, wnid in train], TRAIN, names),
        files_part(str(place / "val"), test, TEST, names),
    ]
