"""Data sets as people have them: each is read right, or refused in one line; nothing is read wrong without a word.

Every case is the smallest input that shows it. What is asserted: pictures of each class in each split, that no picture
is in another's split (`image_sets`), and what is said. Each goes four ways: through the library, and through `distill`,
`sweep` and `import` up to where they would compute (`ways`).
"""

import gc
import io
import json
import os
import re
import shutil
import struct
import tarfile
import tempfile
import unicodedata
import zlib

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from image_sets import LEVELS, encoded, flat, picture, pixels, table, tree
from PIL import Image
from ways import WAYS, said_by

from ppodd.datasets.images import read_images
from ppodd.datasets.sources import Request
from ppodd.errors import BadInput

# Hugging Face's library leaves the files of its streams to the garbage collector.
pytestmark = [
    pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture(autouse=True, scope="module")
def no_files_left():
    yield
    gc.collect()


def read(path, **options):
    """What the library reads; each command says the same of it, or refuses it by the same line and writes nothing."""
    try:
        images = read_images(Request(str(path), **options))[0]
    except BadInput as error:
        told, refusal = [], error
    else:
        told, refusal = images.report.lines(), None
    for way in WAYS:
        with tempfile.TemporaryDirectory() as folder:
            goes_on, said = said_by(way, folder, images.spec if told else None, dataset=str(path), **options)
        if refusal:
            assert not goes_on and str(refusal) in said.splitlines()[-1], f"{way}: {said}"
        else:
            assert goes_on and "\n".join(told) in said, f"{way}: {said}"
    if refusal:
        raise refusal
    return images


def counts(images):
    """Pictures of each class, by split."""
    splits = {s: np.bincount(y, minlength=len(images.classes)).tolist() for s, y in images.y.items() if len(y)}
    return {split: dict(zip(images.classes, numbers, strict=True)) for split, numbers in splits.items()}


def said(images):
    return "\n".join(images.report.lines())


def split_tree(folder, **places):
    """Class folders below places that are named as the splits of their pictures: `train="Training"`."""
    for split, place in places.items():
        tree(folder / place, split=split, count={"train": 5, "validation": 2, "test": 3}[split])


def split_tables(folder, **places):
    for split, place in places.items():
        table(folder / place, (0, 1) * {"train": 5, "validation": 2, "test": 3}[split], split=split)


def split_column(folder, name, values):
    """Pictures, and a list of them with a column that may say the split of each."""
    rows = []
    for i, value in enumerate(values):
        flat(folder / f"p{i}", 1, "test" if "Test" in str(value) else "train")
        rows.append((f"p{i}\\0.png", ("ant", "bee")[i % 2], value))  # as Windows writes paths
    csv(folder / "metadata.csv", rows, ("file_name", "label", name))


def listed(folder, name, train, test, other="", by=str):
    """Pictures at places of their splits, and a list of them all at the root that names them by their paths."""
    rows = []
    for split, place, count in (("train", train, 10), ("test", test, 6), ("validation", other, 1 if other else 0)):
        for i in range(count):
            path = folder / place.format(i)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(picture(split))
            rows.append((by(path.relative_to(folder)), ("ant", "bee")[i % 2]))
    csv(folder / name, rows)


TRAIN, TEST = {"ant": 5, "bee": 5}, {"ant": 3, "bee": 3}
VALIDATION = {"ant": 2, "bee": 2}
BOTH = {"train": TRAIN, "test": TEST}
ALL = {**BOTH, "validation": VALIDATION}
CUT = {"train": {"ant": 4, "bee": 4}, "test": {"ant": 1, "bee": 1}}

SPLITS = {
    "train and test": (lambda p: split_tree(p, train="train", test="test"), BOTH, "test: 6 images from .*test"),
    "capitals": (lambda p: split_tree(p, train="Training", test="Testing"), BOTH, ""),
    "words with others": (lambda p: split_tree(p, train="seg_train", test="seg_test"), BOTH, ""),
    "a folder around splits": (lambda p: split_tree(p / "intel", train="train", test="test"), BOTH, ""),
    "each split in a folder of its name": (
        lambda p: split_tree(p, train="seg_train/seg_train", test="seg_test/seg_test"),
        BOTH,
        "",
    ),
    "a validation split tests": (lambda p: split_tree(p, train="train", validation="val"), None, "from .*validation"),
    "valid": (lambda p: split_tree(p, train="train", validation="valid"), None, ""),
    "dev": (lambda p: split_tree(p, train="train", validation="dev"), None, ""),
    "eval": (lambda p: split_tree(p, train="train", test="eval"), BOTH, ""),
    "three splits": (
        lambda p: split_tree(p, train="train", validation="val", test="test"),
        ALL,
        "validation split joins the pictures that choices are made by",
    ),
    "an unlabelled test split": (
        lambda p: (tree(p / "train"), flat(p / "test")),
        CUT,
        r"\(test\) has no labels: its 3 pictures are left out",
    ),
    "an unlabelled test split in a folder": (
        lambda p: (tree(p / "train"), flat(p / "test/unknown")),
        CUT,
        r"\(test\) has no labels: its 3 pictures are left out",
    ),
    "an unlabelled test beside a labelled validation split": (
        lambda p: (split_tree(p, train="train", validation="val"), flat(p / "test")),
        None,
        "has no labels",
    ),
    "no split": (lambda p: tree(p), CUT, "warning: there is no test split: every fifth image of each class"),
    "a class called train": (
        lambda p: tree(p, ("ant", "bee", "train")),
        {"train": {"ant": 4, "bee": 4, "train": 4}, "test": {"ant": 1, "bee": 1, "train": 1}},
        "",
    ),
    "classes that are kinds of trains": (
        lambda p: tree(p, ("bullet train", "steam train")),
        {"train": {"bullet train": 4, "steam train": 4}, "test": {"bullet train": 1, "steam train": 1}},
        "",
    ),
    "splits below classes": (
        lambda p: [
            tree(p / f"{c}", (place,), {"train": 5, "test": 3}[place], place)
            for c in TRAIN
            for place in ("train", "test")
        ],
        BOTH,
        "",
    ),
    "splits in the names of pictures": (
        lambda p: (tree(p, name="train_{}.png"), tree(p, count=3, split="test", name="test_{}.png")),
        BOTH,
        "",
    ),
    "splits in the names of pictures but one": (
        lambda p: (
            tree(p, name="train_{}.png"),
            tree(p, count=3, split="test", name="test_{}.png"),
            tree(p, ("ant",), 1, "validation", name="other.png"),
        ),
        BOTH,
        r"\(in no split\) belongs to no split: its 1 pictures are left out",
    ),
    "splits below classes, and a folder of none": (
        lambda p: [
            tree(p / f"{c}", (place,), {"train": 5, "test": 3, "extra": 1}[place], place.replace("extra", "validation"))
            for c in TRAIN
            for place in ("train", "test", "extra")
        ],
        BOTH,
        r"\(in no split\) belongs to no split: its 2 pictures are left out",
    ),
    "splits in the names of few pictures": (
        lambda p: [tree(p, count=count, name=name) for count, name in ((3, "{}.png"), (1, "train_{}.png"),
                                                                       (1, "test_{}.png"))],
        CUT,
        "warning: names say test and train, but only of 4 of 10 pictures: these are not split by that",
    ),
    "test in the names of some pictures": (
        lambda p: (tree(p, count=4), tree(p, count=1, name="test_{}.png")),
        CUT,
        "warning: names say test, but only of 2 of 10 pictures",
    ),
    "classes whose pictures are called as splits are": (
        lambda p: (tree(p, ("ant",), name="steam train {}.png"), tree(p, ("bee",), name="test tube {}.png")),
        CUT,
        "",
    ),
    "a copy of all beside the splits": (
        lambda p: [split_tree(place, train="train", test="test", validation="val") for place in (p, p / "chest_xray")],
        ALL,
        r"^(?!.*hold the same folders)(?s:.*)\(in no split\) belongs to no split: its 20 pictures are left out",
    ),
    "a list of paths in splits": (lambda p: listed(p, "metadata.csv", "train/{}.png", "test/{}.png"), BOTH, "paths of"),
    "a list of paths in folders of splits, by another name": (
        lambda p: listed(p, "labels.csv", "img/train_set/{}.png", "img/test_set/{}.png"),
        BOTH,
        "",
    ),
    "a list of names that say splits but one": (
        lambda p: listed(p, "metadata.csv", "train_{}.png", "test_{}.png", "other{}.png"),
        BOTH,
        r"\(paths of no split\) belongs to no split: its 1 pictures are left out",
    ),
    "a list of names without folders, the pictures in splits": (
        lambda p: listed(p, "labels.csv", "train/{}.png", "test/t{}.png", by=lambda path: path.stem),
        BOTH,
        "",
    ),
    "a list of numbers, the pictures in splits": (
        lambda p: listed(p, "labels.csv", "train/{}.png", "test/1{}.png", by=lambda path: int(path.stem)),
        BOTH,
        "",
    ),
    "a column called split that holds lists": (
        lambda p: (
            flat(p, 10, "train"),
            pd.DataFrame(
                [{"file_name": f"{i}.png", "label": ("ant", "bee")[i % 2], "split": [i % 2]} for i in range(10)]
            ).to_json(p / "metadata.jsonl", orient="records", lines=True),
        ),
        CUT,
        r"column split of .*metadata.jsonl names no split \(\[0\], \[1\]\): it is not split by that",
    ),
    "a list beside class folders": (
        lambda p: (tree(p), csv(p / "notes.csv", [("ant/0.png", "bee")])),
        CUT,
        "warning: notes.csv is not read, since the folders tell the classes",
    ),
    "a folder of no split beside splits": (
        lambda p: (split_tree(p, train="train", test="test"), tree(p / "extra", split="validation")),
        BOTH,
        r"\(in no split\) belongs to no split: its 10 pictures are left out",
    ),
    "the hub's converted layout": (
        lambda p: split_tables(p, train="train/0000.parquet", test="test/0000.parquet"),
        BOTH,
        "",
    ),
    "the hub's converted layout with configurations' folder": (
        lambda p: split_tables(p, train="plain_text/train/0000.parquet", test="plain_text/test/0000.parquet"),
        BOTH,
        "",
    ),
    "the hub's shards": (
        lambda p: split_tables(p, train="data/train-00000-of-00001.parquet", test="data/test-00000-of-00001.parquet"),
        BOTH,
        "",
    ),
    "files with capitals": (lambda p: split_tables(p, train="Train.parquet", test="Test.parquet"), BOTH, ""),
    "a file called dev": (lambda p: split_tables(p, train="train.parquet", validation="dev.parquet"), None, ""),
    "a file called latest trains": (
        lambda p: split_tables(p, train="latest.parquet"),
        CUT,
        "warning: there is no test split",
    ),
    "latest beside test": (lambda p: split_tables(p, train="latest.parquet", test="test.parquet"), BOTH, ""),
    "several configurations of the hub": (
        lambda p: (split_tables(p / "one", train="train/0.parquet", test="test/0.parquet"),
                   table(p / "two/train/0.parquet", (0, 1) * 5)),
        {"train": {"ant": 10, "bee": 10}, "test": TEST},
        "warning: one, two are read as one: were they forms of it, give the path of one",
    ),
    "a table of no split beside splits": (
        lambda p: split_tables(p, train="train.parquet", test="test.parquet", validation="extra.parquet"),
        BOTH,
        "extra.parquet belongs to no split: its 4 pictures are left out",
    ),
    "a column that names splits": (
        lambda p: split_column(p, "Usage", ["Training"] * 10 + ["PublicTest", "PrivateTest"] * 3),
        BOTH,
        "",
    ),
    "a column called split that names none": (
        lambda p: split_column(p, "split", [0, 1] * 5),
        CUT,
        r"warning: column split of .*metadata.csv names no split \(0, 1\): it is not split by that",
    ),
    "lists of splits beside class folders": (
        lambda p: (tree(p), [(p / f"{split}.txt").write_text("ant/0") for split in ("train", "test")]),
        CUT,
        r"warning: test.txt, train.txt are not read: if splits are meant by that, lay the pictures",
    ),
    "masks beside pictures": (
        lambda p: (tree(p, count=3), tree(p, count=2, name="{}_mask.png")),
        CUT,
        "warning: 4 pictures called mask are read as any other",
    ),
    "classes of masks": (
        lambda p: [tree(p, (c,), name=f"{c}_{{}}.png") for c in ("with_mask", "without")],
        {"train": {"with_mask": 4, "without": 4}, "test": {"with_mask": 1, "without": 1}},
        r"^(?!.*called mask)",
    ),
    "the same folders in every class": (
        lambda p: [tree(p / fold, split="train") for fold in ("ant", "bee")],
        {"train": {"ant": 8, "bee": 8}, "test": {"ant": 2, "bee": 2}},
        r"warning: all classes \(ant, bee\) hold the same folders \(ant, bee\): the outer are the classes",
    ),
    "a class folder called as a split is": (
        lambda p: tree(p, ("ant", "bee", "test")),
        {"train": {"ant": 4, "bee": 4, "test": 4}, "test": {"ant": 1, "bee": 1, "test": 1}},
        "warning: class folder test beside others: were it a split, move it beside theirs",
    ),
    "a split beside a folder of none": (
        lambda p: split_tree(p, train="invalid", validation="valid"),
        None,
        r"warning: no split is called train, another is named: .* \(in no split\) trains",
    ),
    "one of several shards": (
        lambda p: split_tables(p, train="data/train-00000-of-00002.parquet", test="data/test-00000-of-00001.parquet"),
        BOTH,
        "warning: data/train: 1 file of the 2 that the names tell of",
    ),
    "a form to fill in beside a list": (
        lambda p: (listed(p, "labels.csv", "train/{}.png", "test/{}.png"), submission(p)),
        BOTH,
        "note: sample_submission.csv is not read",
    ),
    "a test split without a picture": (
        lambda p: (tree(p / "train"), (p / "test").mkdir()),
        CUT,
        r"warning: test holds no picture that is read \(it is empty\)",
    ),
    "folders of folders": (
        lambda p: [tree(p / "train_images" / order, (f"{order} 1", f"{order} 2")) for order in ("ant", "bee")],
        {"train": {"ant": 8, "bee": 8}, "test": {"ant": 2, "bee": 2}},
        r"warning: classes \(ant, bee\) hold folders \(ant 1, ant 2, bee 1, …\): the outer are the classes",
    ),
    "folders of folders, in a folder each": (
        lambda p: [tree(p / place / "images", ("bike", "cup")) for place in ("ant", "bee")],
        {"train": {"ant": 8, "bee": 8}, "test": {"ant": 2, "bee": 2}},
        r"warning: all classes \(ant, bee\) hold the same folders \(bike, cup\)",
    ),
    "a folder of other files beside classes": (
        lambda p: (tree(p), (p / "cow/empty").mkdir(parents=True), (p / "cow/0.png.part").write_bytes(picture())),
        CUT,
        r"warning: folder cow holds no picture that is read \(.*\), so that it is no class",
    ),
    "a class of what is unlabelled": (
        lambda p: tree(p, ("ant", "bee", "Unlabelled")),
        {split: {"Unlabelled": count, "ant": count, "bee": count} for split, count in (("train", 4), ("test", 1))},
        "warning: class folder Unlabelled is one of the classes: take it out, were it none",
    ),
    "a table that trains beside class folders that test": (
        lambda p: (table(p / "train.parquet"), tree(p / "test", split="test")),
        CUT,
        "warning: pictures in folders of the test split are not read, since tables tell what is: list them in one, too",
    ),
    "a list that trains beside class folders that test": (
        lambda p: (metadata(p / "train"), tree(p / "test", split="test")),
        CUT,
        r"note: left out: 10 .png files(?s:.*)warning: pictures in folders of the test split are not read",
    ),
    "splits in tables of two forms": (
        lambda p: (table(p / "train.parquet"), flat(p / "images", 2), csv(p / "test.csv", [("images/0.png", "ant")])),
        CUT,
        "warning: test.csv is not read, since train.parquet is: write all splits in one form",
    ),
    "arrays whose test split has no labels": (
        lambda p: np.savez(p / "x.npz", x_test=np.stack([pixels("test")] * 3), y_train=np.arange(10) % 2,
                           x_train=np.stack([pixels() for _ in range(10)])),
        CUT,
        r"x.npz \(test\) has no labels: its 3 pictures are left out",
    ),
    "lists of the same pictures": (
        lambda p: [metadata(p), shutil.copy(p / "metadata.csv", p / "a.csv"), (p / "metadata.csv").rename(p / "b.csv")],
        {"train": {"ant": 8, "bee": 8}, "test": {"ant": 2, "bee": 2}},
        "warning: 8 of 16 training images are copies of others, pixel by pixel",
    ),
    "two folders of one split": (
        lambda p: (split_tree(p, train="train", test="test"), tree(p / "train_augmented")),
        {"train": {"ant": 10, "bee": 10}, "test": TEST},
        "note: folders train, train_augmented are all of the train split",
    ),
    "texts that list no pictures, and lists that do": (
        lambda p: (tree(p), [(p / f"{name}.txt").write_text(text) for name, text in
                             (("train_log", "loss 2.3"), ("val", "ant/0.png 1"))]),
        CUT,
        "warning: val.txt is not read",
    ),
    "a column that may say splits": (
        lambda p: split_column(p, "is_valid", [False] * 8 + [True] * 2),
        CUT,
        "warning: column is_valid is not read: were splits meant by it, call it split",
    ),
    "several files of arrays": (
        lambda p: [npz(KERAS)(p), shutil.copy(p / "x.npz", p / "x_64.npz")],
        {split: {label: 2 * count for label, count in there.items()} for split, there in BOTH.items()},
        "warning: x.npz, x_64.npz are read as one: were they forms of it, give the path of one",
    ),
    "test labels of -1": (
        lambda p: (table(p / "train.parquet"), table(p / "test.parquet", [-1] * 4, split="test")),
        CUT,
        "test.parquet has no labels: its 4 pictures are left out",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", SPLITS)
def test_each_picture_is_in_its_split(tmp_path, case):
    make, expected, words = SPLITS[case]
    make(tmp_path)
    images = read(f"{tmp_path}/")
    names = {"0": "ant", "1": "bee"}
    found = {s: {names.get(c, c): n for c, n in there.items()} for s, there in counts(images).items()}
    assert found == (expected or {"train": TRAIN, "test": VALIDATION})
    cut_off = expected == CUT or "warning: there is no test split" in said(images)
    for split, x in images.x.items():
        low, high = LEVELS["train" if cut_off else "validation" if not expected and split == "test" else split]
        assert not len(x) or (low <= x.min() and x.max() <= high), f"{split} holds pictures of another split"
    assert re.search(words, said(images))


REFUSED_SPLITS = {
    "a column that names some splits": (
        lambda p: split_column(p, "split", ["train"] * 4 + ["", "test"]),
        "metadata.csv: split names no split in row 4, but in others",
    ),
    "a class that only the test split has": (
        lambda p: (tree(p / "train"), tree(p / "test", ("ant", "bee", "cow"), split="test")),
        "class 'cow' of the test split has no training image",
    ),
    "a class in other letters": (
        lambda p: (tree(p / "train"), tree(p / "test", ("Ant", "bee"), split="test")),
        "class 'Ant' of the test split has no training image; did you mean 'ant'",
    ),
    "a file of two splits": (
        lambda p: table(p / "train_test.parquet"),
        "train_test.parquet names test and train: name it after the one split that it holds",
    ),
    "no training split": (
        lambda p: split_tables(p, test="test.parquet"),
        r"has no labelled training split \(found: test\)",
    ),
    "splits without class folders": (
        lambda p: (flat(p / "train"), flat(p / "test")),
        "holds 6 pictures, but no class folders",
    ),
    "parts of one set": (
        lambda p: tree(p, ("HAM10000_images_part_1", "HAM10000_images_part_2")),
        "has the folders HAM10000_images_part_1, HAM10000_images_part_2, which are no classes, but parts of one set",
    ),
    "folds with classes in each split": (
        lambda p: [tree(p / f"fold_{k}" / split, split=split) for k in (1, 2) for split in ("train", "test")],
        "has the folders fold_1, fold_2, which are no classes",
    ),
    "a class folder without a picture": (
        lambda p: (tree(p / "train"), tree(p / "test", split="test"), (p / "train/cow/empty").mkdir(parents=True)),
        r"train/cow holds no picture that is read \(it is empty\): put pictures of its class there",
    ),
    "a class folder of pictures that are not read": (
        lambda p: (tree(p), (p / "cow").mkdir(), (p / "cow/0.heic").write_bytes(b"?")),
        r"cow holds no picture that is read \(.heic files are not read\): put pictures of its class there, as .png",
    ),
    "one class of pictures that are read": (
        lambda p: (tree(p, ("ant",)), (p / "cow").mkdir(), (p / "cow/0.HEIC").write_bytes(b"?")),
        r"no class folders \(all are in ant\): .*; 0.HEIC is not read: convert it to .png",
    ),
    "a zip of pictures beside a list of them": (
        lambda p: (
            flat(p / "raw"),
            shutil.make_archive(str(p / "train"), "zip", p / "raw"),
            shutil.rmtree(p / "raw"),
            csv(p / "train.csv", [(f"{i}.png", i % 2) for i in range(3)]),
            submission(p),
        ),
        "train.zip holds 3 pictures, but no class folders .*; unpack it beside .*/train.csv, should that tell them",
    ),
    "one folder of all pictures, by any name": (
        lambda p: (flat(p / "jpg"), (p / "imagelabels.mat").write_text("")),
        r"no class folders \(all are in jpg\): .*; imagelabels.mat is not read: write labels as a .csv file",
    ),
    "labels in JSON": (
        lambda p: (flat(p / "images"), (p / "labels.json").write_text("{}")),
        "labels.json is not read: write labels as a .csv file of the pictures' names and their labels",
    ),
    "a packed list": (
        lambda p: (flat(p / "images"), (p / "labels.csv.gz").write_bytes(b"")),
        "no class folders .*; labels.csv.gz is not read: unpack it",
    ),
    "a form to fill in alone": (
        lambda p: (flat(p / "train"), flat(p / "test1"), csv(p / "sampleSubmission.csv", [(0, 0)], ("id", "label"))),
        r"no class folders \(all are in test1, train\): put each class in one of its own$",
    ),
    "one folder of all pictures": (lambda p: flat(p / "images"), "holds 3 pictures, but no class folders"),
    "one folder of all pictures of a split": (lambda p: flat(p / "train"), "holds 3 pictures, but no class folders"),
    "one folder of all pictures in each split": (
        lambda p: [flat(p / split / "images") for split in ("train", "test")],
        "holds 6 pictures, but no class folders",
    ),
    "a list of several labels, one a column": (
        lambda p: (flat(p / "images"), csv(p / "train.csv", [(0, 1, 0), (1, 0, 1)], ("image_id", "rust", "scab"))),
        r"train.csv has columns \['image_id', 'rust', 'scab'\]: needed are .* and one of label",
    ),
    "pixels in columns": (
        lambda p: csv(p / "train.csv", [[0] * 785], ["label", *(f"pixel{i}" for i in range(784))]),
        r"holds no pictures; .*train.csv has columns \['label', 'pixel0', .*'pixel10'\] and 773 more: columns of",
    ),
    "pixels as text": (
        lambda p: csv(p / "train.csv", [(i % 2, "70 80 82 72") for i in range(10)], ("label", "image")),
        "train.csv row 0 holds 4 numbers as text, which are no picture",
    ),
    "a list of a row for each thing that is seen": (
        lambda p: (
            flat(p / "images"),
            csv(p / "train.csv", [(0, "ant", 3), (1, "bee", 4), (0, "bee", 5)], ("image_id", "class_name", "x_min")),
        ),
        r"train.csv rows 0 and 2 name 0 with labels 'ant' and 'bee' \(multi-label\): give each picture one",
    ),
    "pictures and their masks": (
        lambda p: tree(p, ("images", "masks")),
        "has the folders images, masks, which are no classes, but pictures and what is drawn on them",
    ),
    "pictures and their outlines in each split": (
        lambda p: [tree(p / split, ("JPEGImages", "SegmentationClass")) for split in ("train", "val")],
        "has the folders JPEGImages, SegmentationClass, which are no classes",
    ),
    "pictures as text": (
        lambda p: csv(p / "train.csv", [("iVBOR" * 1000, i % 2) for i in range(10)], ("image", "label")),
        r"train.csv row 0 holds 5,000 characters of text, which name no file \(base64 is not read\)",
    ),
    "pictures of a zip without class folders": (
        lambda p: (flat(p / "raw"), shutil.make_archive(str(p / "x"), "zip", p / "raw"), shutil.rmtree(p / "raw")),
        "x.zip holds 3 pictures, but no class folders",
    ),
    "a list of other columns": (
        lambda p: dog_breeds(p),
        r"16 pictures, but no class folders.*labels.csv has columns \['id', 'breed'\]: name those of the images and",
    ),
    "one class": (lambda p: tree(p, ("ant",)), r"holds 5 pictures, but no class folders \(all are in ant\)"),
}


@pytest.mark.parametrize("case", REFUSED_SPLITS)
def test_what_cannot_be_split_is_refused(tmp_path, case):
    make, words = REFUSED_SPLITS[case]
    make(tmp_path)
    with pytest.raises(BadInput, match=words) as caught:
        read(f"{tmp_path}/")
    assert "\n" not in str(caught.value)


def test_the_hubs_layout_of_a_known_data_set_keeps_its_test_set(tmp_path):
    for split, rows in (("train", 20), ("test", 10)):
        labels = list(range(10)) * (rows // 10)
        table(tmp_path / f"cifar10/{split}/0000.parquet", labels, split=split, shape=(32, 32, 3), image="img")
    for root in (tmp_path, tmp_path / "cifar10"):
        images, _ = read_images(Request("cifar10", str(root)))
        assert len(images.y["train"]) == 20 and len(images.y["test"]) == 10
        assert images.x["train"].max() < 100 and images.x["test"].min() > 150


def foreign(folder):
    """What is left by notebooks, archivers, file managers and by us, each with a copy of a picture or class."""
    tree(folder / "train")
    tree(folder / "test", count=3, split="test")
    for place in (".ipynb_checkpoints", "__MACOSX", ".git", "ppodd-archive", "@eaDir"):
        for above in ("", "train", "train/ant"):
            flat(folder / above / place, split="validation")
    for name in ("._0.png", ".hidden.png", "Thumbs.db", ".DS_Store", "notes.txt"):
        (folder / "train/ant" / name).write_bytes(picture("validation"))
    (folder / "results/runs/mine").mkdir(parents=True)
    (folder / "results/runs/mine/config.json").write_text("{}")
    flat(folder / "results/runs/mine/stage-01", split="validation")


def test_hidden_and_foreign_things_are_no_data(tmp_path):
    foreign(tmp_path)
    images = read(f"{tmp_path}/")
    assert counts(images) == BOTH and images.x["train"].max() < 100 and images.x["test"].min() > 150
    for skipped in (r"\.ipynb_checkpoints", "__MACOSX", r"\._\*", "archives of ppodd", r"1 \.txt files"):
        assert re.search(skipped, said(images))


def test_pipes_sockets_and_devices_are_never_opened(tmp_path):
    tree(tmp_path / "tree")
    for name in ("tree/ant/x.png", "tree/x.parquet", "listed.png"):
        os.mkfifo(tmp_path / name)
    (tmp_path / "tree/ant/y.png").symlink_to("/dev/zero")
    images = read(tmp_path / "tree")
    assert counts(images) == CUT and "3 pipes, sockets and devices" in said(images)
    csv(tmp_path / "list.csv", [("listed.png", "ant"), ("tree/bee/0.png", "bee")])
    with pytest.raises(BadInput, match=r"row 0 \(listed.png\) is no readable image \(it is no regular file\)"):
        read(tmp_path / "list.csv")
    with pytest.raises(BadInput, match="holds no data set"):
        read(tmp_path / "tree/x.parquet")


def test_linked_folders_and_files_are_followed(tmp_path):
    tree(tmp_path / "far")
    (tmp_path / "near/bee").mkdir(parents=True)
    (tmp_path / "near/ant").symlink_to(tmp_path / "far/ant")
    for i in range(5):
        (tmp_path / f"near/bee/{i}.png").symlink_to(tmp_path / f"far/bee/{i}.png")
    (tmp_path / "near/bee/around").symlink_to(tmp_path / "near")
    assert counts(read(tmp_path / "near")) == CUT


def two_halves(kind, **options):
    """A picture of 8 × 16 px, its upper half purple, its lower one green."""
    array = np.zeros((16, 8, 3), np.uint8)
    array[:8, :, ::2] = array[8:, :, 1] = 255
    return encoded(array, kind, **options)


def turned(kind):
    """The same, stored lying on its side as a camera does, and noted so."""
    exif = Image.Exif()
    exif[0x0112] = 6
    image = Image.open(io.BytesIO(two_halves("PNG"))).transpose(Image.Transpose.ROTATE_90)
    return encoded(image, kind, exif=exif)


def mixed(folder, first, others, count=4):
    """Two classes, whose first picture is the one, all others the others."""
    for label in ("ant", "bee"):
        (folder / label).mkdir(parents=True)
        for i in range(1, count + 1):
            (folder / label / f"{i}.png").write_bytes(others())
    (folder / "ant/0.png").write_bytes(first())


GREY, RGB = (8, 8), (8, 8, 3)


def ramp(most, dtype=np.uint16):
    """Grey pictures whose values rise from 0 to the largest; each another, so that they are not alike."""
    values = np.linspace(0, most, 64).reshape(8, 8).astype(dtype)
    return lambda: encoded(Image.fromarray(values), "TIFF")


def transparent():
    array = np.zeros((8, 8, 4), np.uint8)
    array[:, 4:] = (10, 20, 30, 255)
    return encoded(array)


def palette(**options):
    image = Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8) * 3).convert("P")
    return encoded(image, "PNG", **options)


BYTES = np.round(np.linspace(0, 1, 64) * 255).reshape(8, 8)
DEPTHS = {
    "16 bits": (65535, np.uint16, 1.0, "taken for 16 bits"),
    "12 bits": (4095, np.uint16, 1.0, "taken for 12 bits"),
    "8 bits in 16": (255, np.uint16, 1.0, "taken for 8 bits"),
    "float from 0 to 1": (1, np.float32, 1.0, "scaled from 0–1"),
    "float from 0 to 255": (255, np.float32, 1.0, "taken for 8 bits"),
}


@pytest.mark.parametrize("case", DEPTHS)
def test_deep_grey_pictures_are_scaled_by_their_depth(tmp_path, case):
    most, dtype, _, words = DEPTHS[case]
    mixed(tmp_path / "data", ramp(most, dtype), ramp(most, dtype))
    images = read(tmp_path / "data")
    assert np.abs(images.x["train"][0, 0].astype(float) - BYTES).max() <= 1
    assert re.search(words, said(images))


def deep_colour(most):
    """A PNG of 16 bits a channel, which Pillow reads but does not write."""
    rows = np.linspace(0, most, 8 * 8 * 3).reshape(8, 24).astype(">u2")
    packed = zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows))
    header = struct.pack(">IIBBBBB", 8, 8, 16, 2, 0, 0, 0)
    chunks = (b"IHDR" + header, b"IDAT" + packed, b"IEND")
    framed = [struct.pack(">I", len(c) - 4) + c + struct.pack(">I", zlib.crc32(c)) for c in chunks]
    return b"\x89PNG\r\n\x1a\n" + b"".join(framed)


def test_colour_of_16_bits_a_channel_is_read_by_its_upper_8_or_refused_where_it_holds_fewer(tmp_path):
    bright, dark = deep_colour(65535), deep_colour(4095)
    mixed(tmp_path / "data", lambda: bright, lambda: bright)
    images = read(tmp_path / "data")
    assert images.x["train"].max() == 255
    assert "9 pictures of 16 bits a channel in colour, of which the upper 8 are read" in said(images)
    mixed(tmp_path / "dark", picture, lambda: dark)
    with pytest.raises(BadInput, match=r"colour of 16 bits a channel \(8 pictures\) has values of 12 bits.*: scale"):
        read(tmp_path / "dark")


@pytest.mark.parametrize("kind", ["BMP", "PCX"])
def test_dark_pictures_whose_rows_take_216_bytes_are_not_taken_for_16_bits_a_channel(tmp_path, kind):
    def dark():
        stream = io.BytesIO()
        Image.fromarray((np.arange(8 * 72 * 3) % 100).astype(np.uint8).reshape(8, 72, 3)).save(stream, kind)
        return stream.getvalue()

    mixed(tmp_path / "data", dark, dark)
    assert "16 bits" not in said(read(tmp_path / "data"))


def test_the_depth_is_that_of_the_largest_value_of_all(tmp_path):
    mixed(tmp_path / "data", ramp(200), ramp(65535))
    images = read(tmp_path / "data")
    assert images.x["train"][0].max() == 1 and images.x["train"][-1].max() == 255


CHANNELS = {
    "the first picture is grey": (lambda: picture(shape=GREY), lambda: picture(shape=RGB), 3),
    "a later picture is grey": (lambda: picture(shape=RGB), lambda: picture(shape=GREY), 3),
    "all are grey": (lambda: picture(shape=GREY), lambda: picture(shape=GREY), 1),
    "grey with transparency": (lambda: picture(shape=GREY), lambda: encoded(Image.new("LA", (8, 8), (9, 99))), 1),
    "one bit": (lambda: encoded(Image.effect_noise((8, 8), 99).convert("1")), lambda: picture(shape=GREY), 1),
    "a palette": (palette, lambda: picture(shape=GREY), 3),
}


@pytest.mark.parametrize("case", CHANNELS)
def test_channels_are_decided_over_all_pictures(tmp_path, case):
    first, others, channels = CHANNELS[case]
    mixed(tmp_path / "data", first, others)
    assert read(tmp_path / "data").spec == (2, channels, 8, 8)


def test_channels_are_decided_over_all_splits_and_shards(tmp_path):
    table(tmp_path / "train-0.parquet", shape=GREY)
    table(tmp_path / "train-1.parquet", shape=RGB)
    table(tmp_path / "test.parquet", shape=GREY, split="test")
    images = read(f"{tmp_path}/")
    assert images.spec == (2, 3, 8, 8) and len(images.y["train"]) == 20
    grey, colour = images.x["train"][:10], images.x["train"][10:]
    assert (grey[:, 0] == grey[:, 1]).all() and not (colour[:, 0] == colour[:, 1]).all()


PIXELS = {
    "what is transparent is white": (transparent, lambda x: x[:, 0, 0].tolist() == [255] * 3 and x[2, 0, 7] == 30),
    "a transparent colour of a palette": (lambda: palette(transparency=0), lambda x: x[0, 0, 0] == 255),
    "upright in a JPEG": (lambda: turned("JPEG"), lambda x: x[0, :7].min() > 200 and x[0, 9:].max() < 50),
    "upright in a PNG": (lambda: turned("PNG"), lambda x: x[0, :8].min() == 255 and x[0, 8:].max() == 0),
    "upright in a TIFF": (lambda: turned("TIFF"), lambda x: x[0, :8].min() == 255 and x[0, 8:].max() == 0),
    "CMYK": (
        lambda: encoded(Image.fromarray(pixels()).convert("CMYK"), "JPEG", quality=100),
        lambda x: x.shape == (3, 8, 8) and x.max() < 130,
    ),
}


@pytest.mark.parametrize("case", PIXELS)
def test_pictures_are_decoded_as_they_look(tmp_path, case):
    make, right = PIXELS[case]
    mixed(tmp_path / "data", make, make)
    assert right(read(tmp_path / "data").x["train"][0])


def test_pictures_that_were_turned_or_flattened_are_counted(tmp_path):
    mixed(tmp_path / "data", lambda: turned("PNG"), lambda: two_halves("PNG"))
    turned_one = said(read(tmp_path / "data"))
    assert "1 picture turned upright" in turned_one and "resized" not in turned_one
    mixed(tmp_path / "clear", transparent, picture)
    assert "1 picture with transparency laid on white" in said(read(tmp_path / "clear"))


@pytest.mark.parametrize(
    ("suffix", "kind"),
    [(".ppm", "PPM"), (".pgm", "PPM"), (".jfif", "JPEG"), (".avif", "AVIF"), (".jp2", "JPEG2000"), (".TIFF", "TIFF"),
     (".JPG", "JPEG"), (".webp", "WEBP"), (".gif", "GIF"), (".bmp", "BMP"), (".tga", "TGA")],
)  # fmt: skip
def test_kinds_of_pictures_are_read(tmp_path, suffix, kind):
    for label in ("ant", "bee"):
        (tmp_path / label).mkdir()
        for i in range(5):
            shape = GREY if suffix == ".pgm" else RGB
            (tmp_path / label / f"{i}{suffix}").write_bytes(picture(shape=shape, kind=kind))
    assert counts(read(f"{tmp_path}/")) == CUT


def test_pictures_that_are_not_read_are_said(tmp_path):
    tree(tmp_path)
    (tmp_path / "ant/5.heic").write_bytes(b"?")
    images = read(f"{tmp_path}/")
    assert counts(images) == CUT and "warning: .heic files are pictures that are not read" in said(images)


def bomb():
    return encoded(Image.new("1", (20000, 20000)))


BAD = {
    "truncated": (lambda p: p.write_bytes(picture()[:-40]), "x.png is no readable image"),
    "no picture": (lambda p: p.write_text("404"), r"x.png is no readable image \(of no known format\)"),
    "a pointer of Git LFS": (
        lambda p: p.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n"),
        r"image \(a pointer of Git LFS: git lfs pull fetches the file\)",
    ),
    "empty": (lambda p: p.write_bytes(b""), "x.png is no readable image"),
    "a link that leads nowhere": (lambda p: p.symlink_to("gone.png"), r"image \(its link leads nowhere"),
    "a decompression bomb": (lambda p: p.write_bytes(bomb()), r"x.png is no readable image \(.*400000000 pixels"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_bad_pictures_are_named_and_left_out_by_choice(tmp_path, case):
    make, words = BAD[case]
    tree(tmp_path)
    make(tmp_path / "ant/x.png")
    with pytest.raises(BadInput, match=words) as caught:
        read(f"{tmp_path}/")
    assert "\n" not in str(caught.value)
    images = read(f"{tmp_path}/", on_bad_image="skip")
    assert counts(images) == CUT and "1 unreadable image left out: " in said(images)


@pytest.mark.parametrize("cell", [{"bytes": None, "path": "gone.png"}, None], ids=["a path to nothing", "nothing"])
def test_cells_without_a_picture_are_named_and_left_out_by_choice(tmp_path, cell):
    images = [{"bytes": picture(), "path": None} for _ in range(10)] + [cell]
    table(tmp_path / "x.parquet", [0, 1] * 5 + [0], images=images)
    with pytest.raises(BadInput, match=r"x.parquet row 10 (names gone.png, which is not in|holds no image bytes)"):
        read(tmp_path / "x.parquet")
    images = read(tmp_path / "x.parquet", on_bad_image="skip")
    assert len(images.y["train"]) == 8 and "1 unreadable image left out: " in said(images)


def test_a_folder_with_the_name_of_a_picture_is_refused(tmp_path):
    tree(tmp_path)
    (tmp_path / "ant/x.png").mkdir()
    with pytest.raises(BadInput, match=r"ant/x.png is a folder with the name of a picture: rename or remove it"):
        read(f"{tmp_path}/")


NOTHING = {
    "black": (lambda: encoded(np.zeros((8, 8), np.uint8)), "they are 0 everywhere"),
    "one colour": (lambda: encoded(Image.new("RGB", (8, 8), (9, 9, 9))), "channel 0 of them is 9 everywhere"),
    "a dead channel": (lambda: encoded(pixels() * np.array([1, 0, 1], np.uint8)), "channel 1 of them is 0 everywhere"),
}


@pytest.mark.parametrize("case", NOTHING)
def test_pictures_without_variance_are_refused(tmp_path, case):
    make, words = NOTHING[case]
    mixed(tmp_path / "data", make, make)
    with pytest.raises(BadInput, match=f"nothing to learn from: {words}"):
        read(tmp_path / "data")


ODD = [0, 1] * 5
LABELS = {
    "numbers from 0": (ODD, ("0", "1")),
    "numbers from 1": ([1, 2] * 5, ("1", "2")),
    "gaps": ([0, 7] * 5, ("0", "7")),
    "ten and more, in order": ([2, 10] * 5, ("2", "10")),
    "whole floats": ([0.0, 1.0] * 5, ("0", "1")),
    "booleans": ([False, True] * 5, ("0", "1")),
    "small integers": (pa.array(ODD, pa.uint8()), ("0", "1")),
    "text": (["bee", "ant"] * 5, ("ant", "bee")),
    "names of several words": (["bald eagle", "golden eagle", "golden owl"] * 5, None),
    "names with commas": (["crane, bird", "crane, lifter", "owl"] * 5, None),
    "names of persons": (["Smith, John", "Smith, Ada", "Doe, John", "Doe, Ada"] * 5, None),
    "names that end in a semicolon": (["cat;", "dog;", "cow"] * 5, None),
    "a name of two words that are names": (["sea", "lion", "sea lion", "sea lion"] * 6, None),
    "categories": (pa.array(["bee", "ant"] * 5).dictionary_encode(), ("ant", "bee")),
    "lists of one": ([[0], [1]] * 5, ("0", "1")),
    "lists of one name": ([["ant"], ["bee"]] * 5, ("ant", "bee")),
    "one-hot": ([[1, 0, 0], [0, 0, 1]] * 5, ("0", "2")),
    "one-hot floats": ([[1.0, 0.0], [0.0, 1.0]] * 5, ("0", "1")),
}


@pytest.mark.parametrize("case", LABELS)
def test_labels_are_mapped_to_classes(tmp_path, case):
    labels, classes = LABELS[case]
    table(tmp_path / "x.parquet", labels)
    images = read(tmp_path / "x.parquet")
    if classes is None:
        assert images.classes == tuple(sorted(set(labels)))
        return
    assert images.classes == classes
    first = images.classes.index({"text": "bee", "categories": "bee"}.get(case, classes[0]))
    assert images.y["train"].tolist() == [first, 1 - first] * 4


REFUSED_LABELS = {
    "a regression": ([0.6, 0.2] * 5, r"row 0: label 0.6 is no class: a number from 0 or a name is"),
    "negative": ([0, -3] * 5, r"row 1: label -3 is out of range"),
    "some without": ([0, 1] * 4 + [None, 1], r"row 8 has no label \(None\), others have"),
    "several classes": (
        [[0, 1], [1]] * 5,
        r"row 0: label \[0, 1\] may name several classes \(multi-label\): give each picture one",
    ),
    "several ones": ([[1, 1, 0], [0, 1, 0]] * 5, r"\[1, 1, 0\] may name several classes \(multi-label\)"),
    "several names": (
        ["cat;dog", "cat", "dog"] * 4,
        r"row 0: label 'cat;dog' names several classes \(multi-label\), cat and dog: give each picture one",
    ),
    "several names, between bars": (["cat|dog", "dog|cow", "cow|cat"] * 4, r"'cat\|dog' names several classes"),
    "several names, between commas": (["cat, dog", "cat", "dog, cow", "cow"] * 4, r"'cat, dog' names several classes"),
    "several names, as Python writes them": (["['cat', 'dog']", "['cat']", "['dog']"] * 4, "names several classes"),
    "several names, between spaces": (
        ["cat", "dog", "cat dog", "cow", "cow dog"] * 4,
        r"row 2: label 'cat dog' names several classes",
    ),
    "several numbers": (["1 2", "2 3", "1 3"] * 4, r"'1 2' names several classes"),
    "soft": ([[0.4, 0.6], [1.0, 0.0]] * 5, r"label 0.4, 0.6 is soft"),
}


@pytest.mark.parametrize("case", REFUSED_LABELS)
def test_labels_that_are_no_class_are_refused_by_what_they_are(tmp_path, case):
    labels, words = REFUSED_LABELS[case]
    table(tmp_path / "x.parquet", labels)
    with pytest.raises(BadInput, match=words) as caught:
        read(tmp_path / "x.parquet")
    assert "\n" not in str(caught.value)


def test_files_that_number_their_classes_differently_agree_by_name(tmp_path):
    table(tmp_path / "train-0.parquet", [0, 1] * 3, names=["ant", "bee"])
    table(tmp_path / "train-1.parquet", [0, 1] * 3, names=["bee", "ant"])
    table(tmp_path / "test.parquet", [1, 1], names=["bee", "ant"], split="test")
    images = read(f"{tmp_path}/")
    assert images.classes == ("ant", "bee") and images.y["test"].tolist() == [0, 0]
    assert images.y["train"].tolist() == [0, 1] * 3 + [1, 0] * 3


def test_class_names_without_pictures_are_left_out_and_said(tmp_path):
    table(tmp_path / "x.parquet", [1, 2] * 5, names=["background", "ant", "bee"])
    images = read(tmp_path / "x.parquet")
    assert images.classes == ("ant", "bee") and "no picture is of class background: left out" in said(images)


@pytest.mark.parametrize("other", ["Ant", " ant", "a nt"])
def test_classes_that_may_be_one_are_warned_of(tmp_path, other):
    table(tmp_path / "x.parquet", ["ant", other] * 5)
    assert "warning: classes that differ in capitals or spaces alone: " in said(read(tmp_path / "x.parquet"))


def test_names_written_as_macos_does_are_the_same_classes(tmp_path):
    for split, form in (("train", "NFC"), ("test", "NFD")):
        tree(tmp_path / split, (unicodedata.normalize(form, "größe"), "bee"), split=split)
    assert counts(read(f"{tmp_path}/")) == {split: {"bee": 5, "größe": 5} for split in ("train", "test")}


def test_names_that_are_not_utf_8_are_classes(tmp_path):
    tree(tmp_path)
    os.rename(tmp_path / "ant", os.fsencode(tmp_path) + b"/gr\xf6\xdfe")
    assert read(f"{tmp_path}/").classes == ("bee", r"gr\xf6\xdfe")


def test_paths_that_are_not_utf_8_are_read_as_files_and_refused_as_arguments(tmp_path):
    metadata(tmp_path / "data")
    os.rename(tmp_path / "data/metadata.csv", os.fsencode(tmp_path) + b"/data/\xf6.csv")
    assert r"data/\xf6.csv" in said(read(tmp_path / "data"))
    table(tmp_path / "data/x.parquet")
    os.rename(tmp_path / "data/x.parquet", os.fsencode(tmp_path) + b"/data/\xf6.parquet")
    with pytest.raises(BadInput, match="its path is not in UTF-8: rename it"):
        read(tmp_path / "data")
    for way in ("distill", "import"):
        (tmp_path / way).mkdir()
        goes_on, line = said_by(way, tmp_path / way, dataset=f"{tmp_path}/\udcf6")
        assert not goes_on and "is not in UTF-8: rename it, or link to it by another name" in line


@pytest.mark.parametrize("embedded", [True, False])
def test_pictures_beside_a_table_are_left_out_where_it_names_none(tmp_path, embedded):
    flat(tmp_path, 10, "train")
    cells = None if embedded else [f"{i}.png" for i in range(10)]
    table(tmp_path / "x.parquet", images=cells)
    assert ("left out: 10 .png files" in said(read(f"{tmp_path}/"))) == embedded


def test_test_images_that_train_are_warned_of(tmp_path):
    split_tree(tmp_path, train="train", test="test")
    assert "also in the training set" not in said(read(tmp_path))
    for name in ("0.png", "1.png"):
        shutil.copy(tmp_path / "train/ant" / name, tmp_path / "test/bee" / name)
    assert "warning: 2 test images also in the training set, pixel by pixel" in said(read(tmp_path))


def test_a_name_of_words_that_are_names_is_said(tmp_path):
    table(tmp_path / "x.parquet", ["sea", "lion", "sea lion"] * 5)
    assert "warning: label 'sea lion' is read as one class beside sea and lion" in said(read(tmp_path / "x.parquet"))


def test_training_images_that_are_those_of_another_class_are_warned_of(tmp_path):
    tree(tmp_path, count=10)
    shutil.copy(tmp_path / "ant/0.png", tmp_path / "bee/0.png")
    assert "warning: 1 of 16 training images are copies of some of another class, pixel by pixel" in said(
        read(tmp_path)
    )


def test_arrays_may_name_their_classes(tmp_path):
    x, y = np.stack([pixels() for _ in range(10)]), np.arange(10) % 2
    for number, names in enumerate((["ant", "bee"], [b"ant", b"bee"])):
        np.savez(tmp_path / f"{number}.npz", x=x, y=y, class_names=np.array(names))
        assert counts(read(tmp_path / f"{number}.npz")) == CUT
    for more in ({"classes": 2}, {"names": np.array([f"{i}.png" for i in range(len(x))])}):  # which name no class
        np.savez(tmp_path / "other.npz", x=x, y=y, **more)
        assert read(tmp_path / "other.npz").classes == ("0", "1")


def test_a_number_that_labels_write_in_two_ways_is_refused(tmp_path):
    flat(tmp_path, 4)
    csv(tmp_path / "train.csv", [(f"{i}.png", label) for i, label in enumerate(("01", "1", "2", "2"))])
    with pytest.raises(BadInput, match="labels '01' and '1' are one number: write them alike"):
        read(tmp_path)


def test_test_images_without_labels_are_left_out_of_an_unnamed_training_set(tmp_path):
    x, y = np.stack([pixels("train")] * 10), np.arange(10) % 2
    np.savez(tmp_path / "x.npz", x=x, y=y, x_test=x[:3])
    found = read(tmp_path / "x.npz")
    assert sum(map(len, found.y.values())) == 10 and "its 3 pictures are left out" in said(found)


def test_a_list_that_leads_nowhere_and_an_empty_split_beside_classes_are_warned_of(tmp_path):
    tree(tmp_path)
    (tmp_path / "train.txt").symlink_to("nowhere")
    (tmp_path / "test").mkdir()
    found = said(read(tmp_path))
    assert "warning: train.txt is not read" in found and "test holds no picture that is read" in found


def test_two_classes_of_one_name_stay_two(tmp_path):
    table(tmp_path / "x.parquet", [0, 1] * 5, class_names="crane,crane")
    assert read(tmp_path / "x.parquet").classes == ("crane (0)", "crane (1)")


def test_numbers_and_names_in_one_set_are_refused(tmp_path):
    table(tmp_path / "train.parquet", ["ant", "bee"] * 5)
    table(tmp_path / "test.parquet", [0, 1] * 3, split="test")
    with pytest.raises(BadInput, match="some files label by number and some by name: write them alike"):
        read(f"{tmp_path}/")


def csv(path, rows, columns=("file_name", "label"), **options):
    pd.DataFrame(rows, columns=list(columns)).to_csv(path, index=False, **options)


def metadata(folder):
    flat(folder, 10, "train")
    csv(folder / "metadata.csv", [(f"{i}.png", ("ant", "bee")[i % 2]) for i in range(10)])


def metadata_by_split(folder):
    for split, count in (("train", 10), ("test", 6)):
        flat(folder / split, count, split)
        csv(folder / split / "metadata.csv", [(f"{i}.png", ("ant", "bee")[i % 2]) for i in range(count)])


def json_lines(folder):
    flat(folder, 10, "train")
    rows = [{"file_name": f"{i}.png", "label": ("ant", "bee")[i % 2]} for i in range(10)]
    (folder / "metadata.jsonl").write_text(pd.DataFrame(rows).to_json(orient="records", lines=True))


def submission(folder):
    """A form to fill in, which lists the pictures of the test set."""
    csv(folder / "sample_submission.csv", [(f"test/{i}.png", "ant") for i in range(6)])


def padded_ids(folder):
    """Numbers with zeros before them, which a table of text is read without."""
    (folder / "images").mkdir()
    for i in range(10):
        (folder / f"images/{i:04}.png").write_bytes(picture("train"))
    csv(folder / "labels.csv", [(f"{i:04}", i % 2) for i in range(10)], ("image_id", "label"))


def kaggle(folder):
    """Names without suffixes, in a folder of their own."""
    flat(folder / "train_images", 10, "train")
    csv(folder / "labels.csv", [(f"train_images/{i}", ("ant", "bee")[i % 2]) for i in range(10)], ("path", "category"))


def numbered_ids(folder):
    """As Kaggle has it: numbers of pictures, the same ones in the folder of the test set; a form to fill in."""
    for split, place, count in (("train", "train_images", 10), ("test", "test_images", 6)):
        flat(folder / place, count, split)
        csv(folder / f"{split}.csv", [(i, i % 2) for i in range(count)], ("image_id", "label"))
    csv(folder / "sample_submission.csv", [(0, 1)], ("image_id", "label"))


def dog_breeds(folder):
    """Names without suffixes or folders, of training pictures alone; a form to fill in for those to be told."""
    flat(folder / "train", 10, "train")
    flat(folder / "test", 6, "test")
    for i in range(10):
        (folder / f"train/{i}.png").rename(folder / f"train/a{i}.png")
    csv(folder / "labels.csv", [(f"a{i}", ("ant", "bee")[i % 2]) for i in range(10)], ("id", "breed"))


def webdataset(folder, label="cls", value=str):
    for split, count in (("train", 10), ("test", 6)):
        with tarfile.open(folder / f"{split}-0000.tar", "w") as tar:
            for i in range(count):
                for name, data in ((f"{i:04}.png", picture(split)), (f"{i:04}.{label}", value(i % 2).encode())):
                    member = tarfile.TarInfo(name)
                    member.size = len(data)
                    tar.addfile(member, io.BytesIO(data))


def with_others_beside(folder):
    """A folder of splits, and beside it a picture, archives of the same, and arrays."""
    split_tree(folder / "data", train="train", test="test")
    shutil.make_archive(str(folder / "data"), "zip", folder / "data")
    np.savez(folder / "features.npz", a=np.zeros(3))
    (folder / "preview.png").write_bytes(picture("validation"))


def with_a_text_in_it(folder):
    """A tar of class folders and a text, which is no webdataset."""
    split_tree(folder / "raw", train="train", test="test")
    (folder / "raw/README.txt").write_text("ants and bees")
    shutil.make_archive(str(folder / "data"), "tar", folder / "raw")
    shutil.rmtree(folder / "raw")


def archives_beside_a_list(folder):
    metadata(folder)
    shutil.make_archive(str(folder / "images"), "zip", folder)


def saved_to_disk(folder):
    import datasets

    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["ant", "bee"])})
    splits = {}
    for split, count in (("train", 10), ("test", 6)):
        rows = {
            "image": [{"bytes": picture(split), "path": None} for _ in range(count)],
            "label": [0, 1] * (count // 2),
        }
        splits[split] = datasets.Dataset.from_dict(rows, features=features)
    datasets.DatasetDict(splits).save_to_disk(str(folder))


def semicolons(folder):
    flat(folder, 10, "train")
    csv(folder / "metadata.csv", [(f"{i}.png", ("ant", "bee")[i % 2]) for i in range(10)], sep=";")


def addresses_on_disk(folder):
    flat(folder / "my pictures", 10, "train")
    rows = [((folder / f"my pictures/{i}.png").as_uri(), ("ant", "bee")[i % 2]) for i in range(10)]
    csv(folder / "labels.csv", rows)


def packed(kind):
    def make(folder):
        split_tree(folder / "raw", train="train", test="test")
        shutil.make_archive(str(folder / "data"), kind, folder / "raw")
        shutil.rmtree(folder / "raw")

    return make


def packed_splits(folder):
    for split, count in (("train", 5), ("test", 3)):
        tree(folder / "raw", count=count, split=split)
        shutil.make_archive(str(folder / split), "zip", folder / "raw")
        shutil.rmtree(folder / "raw")


def npz(names, layout=lambda x: x, shape=(8, 8, 3)):
    def make(folder):
        arrays = {}
        for split, (x, y), count in zip(("train", "test"), names, (10, 6), strict=True):
            arrays[x] = layout(np.stack([pixels(split, shape) for _ in range(count)]))
            arrays[y] = np.arange(count) % 2
        np.savez(folder / "x.npz", **arrays)

    return make


KERAS, MEDMNIST = (
    (("x_train", "y_train"), ("x_test", "y_test")),
    (
        ("train_images", "train_labels"),
        ("test_images", "test_labels"),
    ),
)
LAYOUTS = {
    "metadata.csv": (metadata, CUT),
    "metadata.csv in each split": (metadata_by_split, BOTH),
    "metadata.jsonl": (json_lines, CUT),
    "a list of names without suffixes": (kaggle, CUT),
    "a list of numbers": (numbered_ids, BOTH),
    "a list of numbers with zeros before them": (padded_ids, CUT),
    "a list with semicolons": (semicolons, CUT),
    "addresses of files on this machine": (addresses_on_disk, CUT),
    "webdataset": (webdataset, BOTH),
    "webdataset whose labels are in JSON": (
        lambda p: webdataset(p, "json", lambda label: json.dumps({"label": label, "by": "hand"})),
        BOTH,
    ),
    "other things beside the folder": (with_others_beside, BOTH),
    "a tar with a text in it": (with_a_text_in_it, BOTH),
    "a zip beside a list": (archives_beside_a_list, CUT),
    "saved to disk by datasets": (saved_to_disk, BOTH),
    "a zip": (packed("zip"), BOTH),
    "a tar": (packed("tar"), BOTH),
    "a packed tar": (packed("gztar"), BOTH),
    "a zip for each split": (packed_splits, BOTH),
    "arrays as Keras has them": (npz(KERAS), BOTH),
    "arrays as MedMNIST has them": (npz(MEDMNIST), BOTH),
    "grey arrays": (npz(KERAS, shape=(8, 8)), BOTH),
    "channels first": (npz(KERAS, lambda x: x.transpose(0, 3, 1, 2)), BOTH),
    "float arrays": (npz(KERAS, lambda x: (x / 255).astype(np.float32)), BOTH),
}


@pytest.mark.parametrize("case", LAYOUTS)
def test_layouts_are_read(tmp_path, case):
    make, expected = LAYOUTS[case]
    make(tmp_path)
    images = read(f"{tmp_path}/")
    names = {"0": "ant", "1": "bee"}
    assert {s: {names.get(c, c): n for c, n in there.items()} for s, there in counts(images).items()} == expected
    assert images.x["train"].max() < 100 and (expected is CUT or images.x["test"].min() > 150)


REFUSED_FILES = {
    "a text": (lambda p: p.write_text("hello"), "x.txt", "is of no kind that is read"),
    "an empty zip": (lambda p: p.write_bytes(b"PK\x05\x06" + bytes(18)), "x.zip", "holds no data set"),
    "a table without rows": (lambda p: p.write_text("file_name,label\n"), "x.csv", "holds no rows"),
    "no arrays": (lambda p: p.write_bytes(b"?" * 99), "x.npz", "it is no zip of arrays"),
    "a damaged table": (lambda p: p.write_text("junk"), "x.parquet", "is no readable parquet file"),
    "a table in another encoding": (
        lambda p: p.write_bytes("file_name,label\n0.png,größe\n".encode("cp1252")),
        "x.csv",
        "x.csv is not in UTF-8 .*: write it so",
    ),
    "a pointer of Git LFS": (
        lambda p: p.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n"),
        "x.parquet",
        "x.parquet is a pointer of Git LFS: git lfs pull fetches the file",
    ),
    "arrays with what is no number": (
        lambda p: np.savez(p, x=np.array([0.5, np.nan] * 320, np.float32).reshape(10, 8, 8), y=np.arange(10) % 2),
        "x.npz",
        "hold values from nan to nan: scale them to 0–1",
    ),
    "float arrays that overshoot": (
        lambda p: np.savez(p, x=np.linspace(0, 1.02, 640, dtype=np.float32).reshape(10, 8, 8), y=np.arange(10) % 2),
        "x.npz",
        "hold values from 0 to 1.02: scale them to 0–1",
    ),
    "a damaged zip": (lambda p: p.write_bytes(b"PK\x03\x04"), "x.zip", "cannot be unpacked"),
    "a damaged tar": (lambda p: p.write_bytes(b"no"), "x.tar", "is no readable tar file"),
    "pickled arrays": (
        lambda p: np.savez(p, x=np.array([{}], object), y=np.zeros(1)),
        "x.npz",
        "is no readable .npz file of plain arrays",
    ),
    "arrays of other names": (lambda p: np.savez(p, a=np.zeros(3)), "x.npz", "holds a: needed are x and y"),
    "arrays that do not fit": (
        lambda p: np.savez(p, x=np.zeros((3, 8, 8), np.uint8), y=np.zeros(2)),
        "x.npz",
        r"pictures \[3, 8, 8\] and labels \[2\] do not fit",
    ),
    "other columns": (
        lambda p: table(p, image="pixels", label="kind", names=None),
        "x.parquet",
        "name others by --image_column and --label_column",
    ),
    "names of pictures that are not there": (
        lambda p: csv(p, [("gone.png", "ant"), ("lost.png", "bee")]),
        "x.csv",
        "row 0 names gone.png, which is not in .*: put the pictures beside the table",
    ),
    "a tar whose labels are text in .cls": (
        lambda p: (
            webdataset(p.parent, value=lambda label: ("ant", "bee")[label]),
            (p.parent / "train-0000.tar").rename(p),
        ),
        "x.tar",
        "its .cls files hold text: number the classes, or write names in .txt files",
    ),
    "records of TensorFlow": (
        lambda p: p.write_bytes(b"?"),
        "x.tfrecord",
        "x.tfrecord is not read: write it as an .npz file of x and y, or as .parquet",
    ),
    "pixels of a known data set": (
        lambda p: p.write_bytes(b"?"),
        "train-images-idx3-ubyte",
        r"is not read: name the data set it is of \(--dataset mnist\) and its folder",
    ),
    "a name of two pictures": (
        lambda p: (
            [(p.parent / f"a{suffix}").write_bytes(picture()) for suffix in (".jpg", ".png")],
            csv(p, [("a", "ant"), ("b", "bee")]),
        ),
        "x.csv",
        "row 0 names a, as a.jpg and a.png are: write the suffix, too",
    ),
    "places of boxes in columns x and y": (
        lambda p: (flat(p.parent, 3), csv(p, [(1, 1, "ant"), (2, 2, "bee")], ("x", "y", "species"))),
        "x.csv",
        r"x.csv has columns \['x', 'y', 'species'\]: needed are img or image",
    ),
    "addresses": (
        lambda p: csv(p, [("https://example.org/a.png", "ant"), ("https://example.org/b.png", "bee")]),
        "x.csv",
        "row 0 names https://example.org/a.png: fetch the pictures first",
    ),
}


@pytest.mark.parametrize("case", REFUSED_FILES)
def test_files_that_are_no_data_set_are_refused(tmp_path, case):
    make, name, words = REFUSED_FILES[case]
    make(tmp_path / name)
    with pytest.raises(BadInput, match=words) as caught:
        read(tmp_path / name)
    assert "\n" not in str(caught.value)


def test_what_lies_in_a_folder_without_data_is_said(tmp_path, caplog):
    with pytest.raises(BadInput, match=r"holds no data set \(it is empty\): read are class folders of pictures"):
        read(tmp_path)
    (tmp_path / "a.txt").write_text("a")
    (tmp_path / ".hidden").mkdir()
    with pytest.raises(BadInput, match=r"\(1 hidden or foreign: .hidden, 1 .txt files\)"):
        read(tmp_path)
    (tmp_path / "x.parquet").write_text("junk")
    with pytest.raises(BadInput, match="is no readable parquet file"):
        read(tmp_path)
    assert not caplog.records  # the library's own line is in ours


@pytest.mark.parametrize("typed", [False, True], ids=["paths", "pictures"])
def test_which_of_several_columns_is_read_is_said(tmp_path, typed):
    if typed:
        rows = {
            name: [{"bytes": picture(split), "path": "x.png"}] * 10
            for name, split in (("mask", "test"), ("image", "train"))
        }
        features = {name: {"_type": "Image"} for name in rows}
        rows |= {"category": [1, 0] * 5, "label": [0, 1] * 5}
        features |= {name: {"_type": "Value", "dtype": "int64"} for name in ("category", "label")}
        described = {"huggingface": json.dumps({"info": {"features": features}})}
        pq.write_table(pa.table(rows).replace_schema_metadata(described), tmp_path / "x.parquet")
    else:
        flat(tmp_path, 10, "train")
        rows = [(f"{i}.png", ("x", "y")[i % 2], ("ant", "bee")[i % 2]) for i in range(10)]
        csv(tmp_path / "metadata.csv", rows, ("file_name", "category", "label"))
    images = read(f"{tmp_path}/")
    assert "note: labels are of column label, not of category (--label_column)" in said(images)
    assert images.classes == (("0", "1") if typed else ("ant", "bee")) and images.x["train"].max() < 100
    assert ("images are of column image, not of mask (--image_column)" in said(images)) == typed
    chosen = read(f"{tmp_path}/", label_column="category", image_column="mask" if typed else "file_name")
    assert "are of column" not in said(chosen) and (chosen.x["train"].max() > 150) == typed


def test_columns_are_named_by_choice(tmp_path):
    table(tmp_path / "x.parquet", ["ant", "bee"] * 5, image="scan", label="finding")
    images = read(tmp_path / "x.parquet", image_column="scan", label_column="finding")
    assert images.classes == ("ant", "bee")
    with pytest.raises(BadInput, match=r"--label_column findings: .* has columns \['scan', 'finding'\]"):
        read(tmp_path / "x.parquet", image_column="scan", label_column="findings")


def test_a_list_of_other_columns_is_read_by_choice(tmp_path):
    dog_breeds(tmp_path)
    csv(tmp_path / "sample_submission.csv", [("0", 0.5, 0.5)], ("id", "ant", "bee"))
    images = read(f"{tmp_path}/", image_column="id", label_column="breed")
    assert counts(images) == CUT and max(images.x[split].max() for split in ("train", "test")) < 100
    assert "sample_submission.csv is not read" in said(images)


def test_classes_and_numbers_of_pictures_are_chosen(tmp_path):
    tree(tmp_path, ("ant", "bee", "cow", "dog"), 5)
    chosen = read(f"{tmp_path}/", classes=("bee", "dog"))
    assert counts(chosen) == {"train": {"bee": 4, "dog": 4}, "test": {"bee": 1, "dog": 1}}
    assert read(f"{tmp_path}/", classes=("1-2",)).classes == ("bee", "cow")
    few = read(f"{tmp_path}/", per_class=3)
    assert (len(few.y["train"]), len(few.y["test"])) == (12, 4)
    assert "2 of 4 classes are kept" in said(chosen) and "the first 3 training images of each class" in said(few)
    with pytest.raises(BadInput, match=r"'cat' is no class; did you mean 'ant'.*: name classes, numbers from 0 to 3"):
        read(f"{tmp_path}/", classes=("cat",))


def stale(folder):
    """A tree of linked classes and pictures; the list of those that Tiny-ImageNet and CUB come with."""
    tree(folder / "old")
    tree(folder / "new", split="test")
    (folder / "data").mkdir()
    for label in ("ant", "bee"):
        (folder / "data" / label).symlink_to(folder / "old" / label)


def relink(folder):
    (folder / "data/ant").unlink()
    (folder / "data/ant").symlink_to(folder / "new/ant")


def replace_behind_a_link(folder):
    shutil.rmtree(folder / "old/ant")
    shutil.copytree(folder / "new/ant", folder / "old/ant")


def replace_with_the_same_times(folder):
    """Another picture of the same size in bytes, copied with its times."""
    target = folder / "old/ant/0.png"
    old = target.stat()
    data = picture("test")
    while len(data) != old.st_size:
        data = picture("test")
    target.write_bytes(data)
    os.utime(target, ns=(old.st_atime_ns, old.st_mtime_ns))


@pytest.mark.parametrize("change", [relink, replace_behind_a_link, replace_with_the_same_times])
def test_a_changed_tree_is_read_anew(tmp_path, change):
    stale(tmp_path)
    assert read(tmp_path / "data").x["train"].max() < 100
    change(tmp_path)
    assert read(tmp_path / "data").x["train"].max() > 150


def test_what_has_come_to_lie_beside_is_said_or_refused_though_the_pictures_are_cached(tmp_path):
    tree(tmp_path)
    assert "test.txt" not in said(read(tmp_path))
    (tmp_path / "test.txt").write_text("ant/0.png")
    assert "warning: test.txt is not read" in said(read(tmp_path))
    (tmp_path / "cow").mkdir()
    with pytest.raises(BadInput, match=r"cow holds no picture that is read \(it is empty\)"):
        read(tmp_path)


def test_pictures_that_come_to_lie_beside_a_cached_table_are_said(tmp_path):
    table(tmp_path / "train.parquet")
    assert "not read" not in said(read(tmp_path))
    tree(tmp_path / "test", ("ant",))
    assert "pictures in folders of the test split are not read" in said(read(tmp_path))


def test_a_changed_list_is_read_anew(tmp_path):
    root = tmp_path / "tiny-imagenet-200"
    for wnid in ("n01", "n02"):
        tree(root / "train" / wnid, ("images",))
    flat(root / "val/images", 4)
    annotations = root / "val/val_annotations.txt"
    annotations.write_text("".join(f"{i}.png\tn0{1 + i % 2}\t0\n" for i in range(4)))
    assert read(root).y["test"].tolist() == [0, 1, 0, 1]
    annotations.write_text("".join(f"{i}.png\tn0{2 - i % 2}\t0\n" for i in range(4)))
    assert read(root).y["test"].tolist() == [1, 0, 1, 0]


def test_a_changed_picture_that_a_list_names_is_read_anew(tmp_path):
    root = tmp_path / "CUB_200_2011"
    tree(root / "images", ("001.Ant", "002.Bee"), 4)
    names = [f"00{1 + i // 4}.{('Ant', 'Bee')[i // 4]}/{i % 4}.png" for i in range(8)]
    lists = {
        "images": [f"{i} {name}" for i, name in enumerate(names)],
        "image_class_labels": [f"{i} {1 + i // 4}" for i in range(8)],
        "train_test_split": [f"{i} {int(i % 4 < 3)}" for i in range(8)],
        "classes": ["1 001.Ant", "2 002.Bee"],
    }
    for name, rows in lists.items():
        (root / f"{name}.txt").write_text("\n".join(rows))
    assert read(root).x["train"].max() < 100
    (root / "images/001.Ant/0.png").write_bytes(picture("test"))
    assert read(root).x["train"].max() > 150


def test_a_changed_picture_that_a_table_names_is_read_anew(tmp_path):
    metadata(tmp_path)
    assert read(tmp_path / "metadata.csv").x["train"].max() < 100
    (tmp_path / "0.png").write_bytes(picture("test"))
    assert read(tmp_path / "metadata.csv").x["train"].max() > 150


@pytest.mark.parametrize("names", [str, lambda path: path.stem], ids=["paths", "names"])
def test_a_missing_picture_of_a_table_that_comes_back_is_read(tmp_path, names):
    listed(tmp_path, "labels.csv", "train/{}.png", "test/t{}.png", by=names)
    (tmp_path / "train/3.png").rename(tmp_path / "train/3.gone")
    assert counts(read(f"{tmp_path}/", on_bad_image="skip"))["train"] == {"ant": 5, "bee": 4}
    (tmp_path / "train/3.gone").rename(tmp_path / "train/3.png")
    assert counts(read(f"{tmp_path}/", on_bad_image="skip")) == BOTH
