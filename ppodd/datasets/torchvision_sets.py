"""Data sets in their own formats that torchvision reads and downloads: MNIST and its like, SVHN, STL-10."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ppodd.datasets.parts import TEST, TRAIN, Part, arrays_part
from ppodd.errors import BadInput, one_line


class _Set(NamedTuple):
    """One of them: torchvision's class, the files that are read below a folder, and how it is asked for a split."""

    torchvision: str
    files: tuple[str, ...]
    split: Callable[[str], dict[str, Any]]


def _by_train(split: str) -> dict[str, Any]:
    return {"train": split == TRAIN}


def _by_name(split: str) -> dict[str, Any]:
    return {"split": split}


def _like_mnist(name: str) -> _Set:
    files = [f"{part}-{kind}-ubyte" for part in ("train", "t10k") for kind in ("images-idx3", "labels-idx1")]
    return _Set(name, tuple(f"{name}/raw/{file}" for file in files), _by_train)


_MNIST, _FASHION, _KMNIST = map(_like_mnist, ("MNIST", "FashionMNIST", "KMNIST"))
_SVHN = _Set("SVHN", ("train_32x32.mat", "test_32x32.mat"), _by_name)
_STL10 = _Set(
    "STL10",
    tuple(f"stl10_binary/{name}" for name in ("train_X.bin", "train_y.bin", "test_X.bin", "test_y.bin")),
    _by_name,
)


def known(name: str) -> Any:
    """A class of `torchvision.datasets`. Raises `BadInput` where torchvision is not there, or fits no such torch."""
    try:
        import torchvision.datasets
    except ImportError:
        raise BadInput("torchvision is not installed: pip install 'ppodd[download]'") from None
    except RuntimeError as error:  # of a build for another torch
        raise BadInput(
            f"torchvision does not fit this torch ({one_line(error)}): install the one made for it"
        ) from None
    return getattr(torchvision.datasets, name)


def download(name: str, folder: Path, *splits: dict[str, Any]) -> None:
    """Have torchvision fetch a data set, or splits of it, and check what it fetched.

    Raises:
        BadInput: torchvision is not there, or cannot fetch it.
    """
    kind = known(name)
    try:
        for split in splits or ({},):
            kind(str(folder), download=True, **split)
    except Exception as error:  # whatever the network or the disk says
        raise BadInput(
            f"torchvision could not download {name} to {folder}: {one_line(error)}; fetch it by hand"
        ) from None


def _find(form: _Set, folder: Path) -> list[Path] | None:
    files = [folder / file for file in form.files]
    return files if all(file.is_file() for file in files) else None


def _read(form: _Set, files: list[Path]) -> list[Part]:
    kind, root = known(form.torchvision), files[0].parents[form.files[0].count("/")]
    parts = []
    for split in (TRAIN, TEST):
        try:
            read = kind(str(root), **form.split(split))
        except Exception as error:  # whatever it meets in the files
            raise BadInput(f"torchvision cannot read {root} ({one_line(error)}): fetch the data set again") from error
        pixels = np.asarray(read.data)
        pixels = pixels.transpose(0, 2, 3, 1) if pixels.ndim == 4 else pixels  # it keeps channels first
        labels = np.asarray(read.targets if hasattr(read, "targets") else read.labels).tolist()
        parts.append(arrays_part(f"{root} ({split})", pixels, labels, split, tuple(getattr(read, "classes", ()))))
    return parts


def _download(form: _Set, folder: Path) -> None:
    download(form.torchvision, folder, form.split(TRAIN), form.split(TEST))


find_mnist, read_mnist, download_mnist = (partial(do, _MNIST) for do in (_find, _read, _download))
find_fashion_mnist, read_fashion_mnist, download_fashion_mnist = (
    partial(do, _FASHION) for do in (_find, _read, _download)
)
find_kmnist, read_kmnist, download_kmnist = (partial(do, _KMNIST) for do in (_find, _read, _download))
find_svhn, read_svhn, download_svhn = (partial(do, _SVHN) for do in (_find, _read, _download))
find_stl10, read_stl10, download_stl10 = (partial(do, _STL10) for do in (_find, _read, _download))
