"""Data sets in their own formats, which torchvision reads and downloads: CIFAR, MNIST and its like, SVHN, STL-10."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ppodd import libraries
from ppodd.datasets.parts import TEST, TRAIN, Part, arrays_part
from ppodd.errors import BadInput, one_line


class TorchvisionSet(NamedTuple):
    """One of them: torchvision's class, the files that it reads below a folder, and how it is asked for a split."""

    torchvision: str
    files: tuple[str, ...]
    split: Callable[[str], dict[str, Any]]

    @property
    def cls(self) -> Any:
        """Torchvision's class, but that MNIST's like never unpickle what an old torchvision kept of them."""
        cls = getattr(libraries.torchvision().datasets, self.torchvision)
        return type(self.torchvision, (cls,), {"_check_legacy_exist": lambda _: False})


def by_train(split: str) -> dict[str, Any]:
    """How most are asked for a split."""
    return {"train": split == TRAIN}


def _by_name(split: str) -> dict[str, Any]:
    return {"split": split}


def _like_mnist(name: str) -> TorchvisionSet:
    files = [f"{part}-{kind}-ubyte" for part in ("train", "t10k") for kind in ("images-idx3", "labels-idx1")]
    return TorchvisionSet(name, tuple(f"{name}/raw/{file}" for file in files), by_train)


_MNIST, _FASHION, _KMNIST = map(_like_mnist, ("MNIST", "FashionMNIST", "KMNIST"))
_SVHN = TorchvisionSet("SVHN", ("train_32x32.mat", "test_32x32.mat"), _by_name)
_STL10 = TorchvisionSet(
    "STL10",
    tuple(
        f"stl10_binary/{name}" for name in ("train_X.bin", "train_y.bin", "test_X.bin", "test_y.bin", "class_names.txt")
    ),
    _by_name,
)


def find_set(known: TorchvisionSet, folder: Path) -> list[Path] | None:
    """The files that torchvision reads below a folder, where all are there."""
    files = [folder / file for file in known.files]
    return files if all(file.is_file() for file in files) else None


def read_set(known: TorchvisionSet, files: list[Path]) -> list[Part]:
    """What torchvision reads of these files.

    Raises:
        BadInput: it cannot.
    """
    kind, root = known.cls, files[0].parents[known.files[0].count("/")]
    parts = []
    for split in (TRAIN, TEST):
        try:
            read = kind(str(root), **known.split(split))
        except Exception as error:  # whatever it meets in the files
            raise BadInput(f"torchvision cannot read {root} ({one_line(error)}): fetch the data set again") from error
        pixels = np.asarray(read.data)
        pixels = pixels.transpose(0, 2, 3, 1) if pixels.shape[1:2] == (3,) else pixels  # of some, channels come first
        labels = np.asarray(read.targets if hasattr(read, "targets") else read.labels).tolist()
        parts.append(arrays_part(f"{root} ({split})", pixels, labels, split, tuple(getattr(read, "classes", ()))))
    return parts


def download_set(known: TorchvisionSet, folder: Path) -> None:
    """Have torchvision fetch a data set, and check what it fetched.

    Raises:
        BadInput: it cannot; folders that were made for it are gone.
    """
    kind, made = known.cls, next((path for path in (*reversed(folder.parents), folder) if not path.exists()), None)
    try:
        for split in (TRAIN, TEST):
            kind(str(folder), download=True, **known.split(split))
    except Exception as error:  # whatever the network or the disk says
        if made:
            shutil.rmtree(made, ignore_errors=True)
        raise BadInput(
            f"torchvision could not download {known.torchvision} to {folder}: {one_line(error)}; fetch it by hand"
        ) from None


find_mnist, read_mnist, download_mnist = (partial(do, _MNIST) for do in (find_set, read_set, download_set))
find_fashion_mnist, read_fashion_mnist, download_fashion_mnist = (
    partial(do, _FASHION) for do in (find_set, read_set, download_set)
)
find_kmnist, read_kmnist, download_kmnist = (partial(do, _KMNIST) for do in (find_set, read_set, download_set))
find_svhn, read_svhn, download_svhn = (partial(do, _SVHN) for do in (find_set, read_set, download_set))
find_stl10, read_stl10, download_stl10 = (partial(do, _STL10) for do in (find_set, read_set, download_set))
