"""Class folders as the libraries read them: why finding classes and splits is left to us (docs/data.md).

Where one of these fails, a library has learned to read what it did not.
"""

from collections import Counter

import pytest
from image_sets import flat, tree

from ppodd.datasets import Request, read_images
from ppodd.datasets.tables import library
from ppodd.libraries import torchvision

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")


def by_imagefolder(folder):
    """Pictures of each class by split; of `None` where no label was read."""
    found = {}
    for split, rows in library().load_dataset("imagefolder", data_dir=str(folder), streaming=True).items():
        names = rows.features["label"].names if "label" in rows.features else None
        rows = rows.cast_column("image", library().Image(decode=False))
        labels = [row["label"] for row in rows] if names else [None for _ in rows]
        found[split] = dict(Counter(None if label is None else names[label] for label in labels))
    return found


def by_torchvision(folder):
    """Pictures of each class."""
    found = torchvision().datasets.ImageFolder(str(folder))
    return dict(Counter(found.classes[label] for _, label in found.samples))


def here(folder):
    images, _ = read_images(Request(str(folder)))
    return {s: dict(Counter(images.classes[label] for label in y)) for s, y in images.y.items() if len(y)}


def splits(folder, train, test):
    tree(folder / train)
    tree(folder / test, count=3, split="test")


def linked(folder):
    tree(folder.parent / "far")
    for label in ("ant", "bee"):
        (folder / label).symlink_to(folder.parent / "far" / label)


BOTH = {"train": {"ant": 5, "bee": 5}, "test": {"ant": 3, "bee": 3}}
CUT = {"train": {"ant": 4, "bee": 4}, "test": {"ant": 1, "bee": 1}}
ELSEWHERE = {
    "splits": (lambda p: splits(p, "train", "test"), BOTH, {"train": 10, "test": 6}, BOTH),
    "splits with capitals": (
        lambda p: splits(p, "Training", "Testing"),
        {"train": {"ant": 8, "bee": 8}},
        {"Training": 10, "Testing": 6},
        BOTH,
    ),
    "a class called test tube": (
        lambda p: tree(p, ("flask", "test tube")),
        {"test": {None: 5}},
        {"flask": 5, "test tube": 5},
        {"train": {"flask": 4, "test tube": 4}, "test": {"flask": 1, "test tube": 1}},
    ),
    "a class called train": (
        lambda p: tree(p, ("ant", "train")),
        {"train": {None: 5}},
        {"ant": 5, "train": 5},
        {"train": {"ant": 4, "train": 4}, "test": {"ant": 1, "train": 1}},
    ),
    "an unlabelled test split": (
        lambda p: (tree(p / "train"), flat(p / "test")),
        {"train": {None: 10}, "test": {None: 3}},
        {"train": 10, "test": 3},
        CUT,
    ),
    "linked classes": (linked, None, {"ant": 5, "bee": 5}, CUT),
    "folders in classes": (
        lambda p: [tree(p / label, ("images",)) for label in ("ant", "bee")],
        {"train": {None: 10}},
        {"ant": 5, "bee": 5},
        CUT,
    ),
    "splits in class folders": (
        lambda p: [tree(p / c, (split,), n, split) for c in ("ant", "bee") for split, n in (("train", 5), ("test", 3))],
        {"train": {None: 10}, "test": {"test": 6}},
        {"ant": 8, "bee": 8},
        BOTH,
    ),
    "splits in the names of pictures": (
        lambda p: (tree(p, name="train_{}.png"), tree(p, count=3, split="test", name="test_{}.png")),
        BOTH,
        {"ant": 8, "bee": 8},
        BOTH,
    ),
    "what notebooks and archivers leave": (
        lambda p: (tree(p), flat(p / ".ipynb_checkpoints"), flat(p / "__MACOSX")),
        {"train": {"ant": 5, "bee": 5}},
        {".ipynb_checkpoints": 3, "__MACOSX": 3, "ant": 5, "bee": 5},
        CUT,
    ),
}


@pytest.mark.parametrize("case", ELSEWHERE)
def test_class_folders_that_a_library_reads_otherwise_are_read_right_here(tmp_path, case):
    make, imagefolder, torchvisions, right = ELSEWHERE[case]
    (place := tmp_path / "data").mkdir()
    make(place)
    if imagefolder is None:
        with pytest.raises(FileNotFoundError, match="doesn't contain any data files"):
            by_imagefolder(place)
    else:
        assert by_imagefolder(place) == imagefolder
    assert by_torchvision(place) == torchvisions and here(place) == right
