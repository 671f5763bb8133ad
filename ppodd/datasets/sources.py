"""The registry of data sets: what is known of each before any of it is read, and which code finds and reads it.

Light: enough to check a config in milliseconds; readers are imported when they are called.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from ppodd.errors import BadInput
from ppodd.registry import Entry, Registry, is_import_path

DEFAULT_ROOT = "dataset"  # where data sets lie unless `root` says
HUB = "hf:"  # before the name of a data set of the Hugging Face hub
# What is read by its path: tables, shards of tars, arrays, and archives of any of these or of pictures.
TABLES = (".parquet", ".arrow", ".csv", ".tsv", ".jsonl")
FILES = (*TABLES, ".npz", ".tar", ".zip", ".tgz", ".tar.gz")


class Spec(NamedTuple):
    """Shape of a data set: `classes` labels, images of `channels × height × width` pixels."""

    classes: int
    channels: int
    height: int
    width: int


@dataclass(frozen=True)
class DataSource(Entry):
    """A data set that has a name. A user registers a function, or one of these where there is more to say.

    Attributes:
        target: reads it. A function of the files that `find` returned; where there is no `find`, of the folder
            `--root`. It returns `{"train": (pictures, labels), "test": …}`, also `"validation"` and `"classes"` (the
            names of the labels 0, 1, …), or a list of `Part`s.
        spec: its shape, where that is known unread: data of another is refused.
        find: a function of a folder: the files that are read there, or `None` where the data set is not there. What
            lies in those files is cached; without `find`, it is read each time.
        hint: what `find` looks for, in words.
        download: a function of a folder: fetches the data set into it, or says why it cannot by `BadInput`.
        resized: whether its pictures are of unequal sizes, and so resized to those of `spec`, which are square, unless
            told otherwise.
        embedded: whether a package holds it, so that there is no folder to name.
    """

    spec: Spec | None = None
    find: str | Callable[[Path], list[Path] | None] | None = None
    hint: str = ""
    download: str | Callable[[Path], None] | None = None
    resized: bool = False
    embedded: bool = False


def _own(module: str, name: str, spec: Spec, hint: str, download: bool = False) -> DataSource:
    """One of ours: its functions are named after what they do, in a module named after the data set."""
    path = f"ppodd.datasets.{module}"
    return DataSource(
        f"{path}:read_{name}",
        spec=spec,
        find=f"{path}:find_{name}",
        hint=hint,
        download=f"{path}:download_{name}" if download else None,
    )


class _Sources(Registry[DataSource]):
    def unknown(self, name: str) -> BadInput:
        """The error for a name that is none; a file or folder of that name is hinted at."""
        if name and Path(name).exists():
            return BadInput(f"unknown dataset {name!r}, but it is in this folder: a path is written ./{name}")
        return super().unknown(name)


SOURCES = _Sources(
    "dataset",
    DataSource,
    "ppodd.datasets",
    'a function of a folder that returns {"train": (pictures, labels), "test": …}, also "validation" and "classes", '
    "or a list of Parts; or a DataSource of one",
    {
        "digits": replace(_own("digits", "digits", Spec(10, 1, 8, 8), "scikit-learn"), embedded=True),
        "cifar10": _own(
            "cifar", "cifar10", Spec(10, 3, 32, 32), "parquet files of it, or cifar-10-batches-py", download=True
        ),
        "cifar100": _own(
            "cifar", "cifar100", Spec(100, 3, 32, 32), "parquet files of it, or cifar-100-python", download=True
        ),
        "tiny-imagenet-200": _own(
            "tiny_imagenet", "tiny_imagenet", Spec(200, 3, 64, 64), "train and val/val_annotations.txt"
        ),
        **{
            name: _own("torchvision_sets", name.replace("-", "_"), spec, f"{files}, as torchvision keeps it", True)
            for name, spec, files in (
                ("mnist", Spec(10, 1, 28, 28), "MNIST/raw"),
                ("fashion-mnist", Spec(10, 1, 28, 28), "FashionMNIST/raw"),
                ("kmnist", Spec(10, 1, 28, 28), "KMNIST/raw"),
                ("svhn", Spec(10, 3, 32, 32), "train_32x32.mat"),
                ("stl10", Spec(10, 3, 96, 96), "stl10_binary"),
            )
        },
        # its photographs are resized to 32×32, as PoDD does
        "cub-200": replace(_own("cub", "cub", Spec(200, 3, 32, 32), "images.txt and its other lists"), resized=True),
    },
    also=("./folder", "file.parquet", f"{HUB}owner/name"),
    within=lambda given: [] if is_path(given) or given.startswith(HUB) else [given],
)

SPECS: dict[str, Spec] = {name: source.spec for name, source in SOURCES.own.items() if source.spec}


class Columns(NamedTuple):
    """The columns of tables that are read, where they are not the usual ones."""

    image: str = ""
    label: str = ""


class Request(NamedTuple):
    """Which data set, which of it, and how it is prepared: what a config's fields say of data.

    Attributes:
        image_size: the side that pictures are resized to (0: as they are).
        validation: share of the training set that is held out.
        classes: the classes that are kept, by name, by number or as ranges of numbers (empty: all).
        per_class: training pictures of each class that are kept (0: all).
        image_column, label_column: of tables (empty: the usual ones).
        on_bad_image: `refuse` or `skip` what cannot be read.
    """

    dataset: str
    root: str = ""
    image_size: int = 0
    zca: bool = False
    validation: float = 0.1
    dtype: str = "float32"
    classes: tuple[str, ...] = ()
    per_class: int = 0
    image_column: str = ""
    label_column: str = ""
    on_bad_image: str = "refuse"

    @property
    def columns(self) -> Columns:
        """The columns of a table that hold image and label, where they were named."""
        return Columns(self.image_column, self.label_column)

    @property
    def size(self) -> int:
        """The side that pictures are resized to, also where the data set itself asks for it."""
        source = self.source
        return self.image_size or (source.spec.width if source and source.spec and source.resized else 0)

    @property
    def source(self) -> DataSource | None:
        """What is known of a data set that has a name; of one by its path or of the hub, nothing is."""
        return None if is_path(self.dataset) or self.dataset.startswith(HUB) else SOURCES.get(self.dataset)

    @property
    def expected(self) -> Spec | None:
        """The shape that a data set has to have, where it is known, its pictures resized as asked."""
        source, size = self.source, self.size
        spec = source.spec if source and not self.classes else None
        return spec._replace(height=size or spec.height, width=size or spec.width) if spec else None


def known_spec(dataset: str, image_size: int) -> Spec | None:
    """The shape of a data set whose images are resized to `image_size` (0: not), where it is known unread."""
    spec = SPECS.get(dataset)
    return spec._replace(height=image_size, width=image_size) if spec and image_size else spec


def is_embedded(dataset: str) -> bool:
    """Whether a package holds the data set, so that no folder is read."""
    return SOURCES.known(dataset).embedded


def is_path(dataset: str) -> bool:
    """Whether `dataset` names a file or folder rather than a data set of the registry, of the hub or of code."""
    if dataset in SPECS or dataset.startswith(HUB) or is_import_path(dataset):
        return False
    return "/" in dataset or dataset.startswith((".", "~")) or dataset.lower().endswith(FILES)


def function(code: str | Callable[..., Any]) -> Callable[..., Any]:
    """A function, or what its import path names."""
    return Entry(code).function
