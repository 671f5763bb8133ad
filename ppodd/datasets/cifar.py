"""CIFAR-10 and CIFAR-100: as torchvision keeps and downloads them, or parquet files that bear their name."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path
from typing import NamedTuple

from ppodd import libraries
from ppodd.datasets.parts import Notes, Part
from ppodd.datasets.sources import Columns
from ppodd.datasets.splits import split_of_path, splits_of_files
from ppodd.datasets.tables import table_parts
from ppodd.datasets.torchvision_sets import TorchvisionSet, by_train, download_set, read_set
from ppodd.errors import BadInput


class _Cifar(NamedTuple):
    """One of them by name, and as torchvision keeps it."""

    name: str
    kept: TorchvisionSet


def _kept(torchvision: str, folder: str, *files: str) -> TorchvisionSet:
    return TorchvisionSet(torchvision, tuple(f"{folder}/{file}" for file in files), by_train)


_CIFAR10 = _Cifar(
    "cifar10",
    _kept(
        "CIFAR10",
        "cifar-10-batches-py",
        *(f"data_batch_{n}" for n in range(1, 6)),
        "test_batch",
        "batches.meta",
    ),
)
_CIFAR100 = _Cifar("cifar100", _kept("CIFAR100", "cifar-100-python", "train", "test", "meta"))


def _find(form: _Cifar, folder: Path) -> list[Path] | None:
    kept = [folder / file for file in form.kept.files]
    if kept[0].parent.is_dir():
        return kept
    files = sorted(path for pattern in ("*.parquet", "*/*.parquet") for path in folder.glob(pattern))
    names = {path: str(path.relative_to(folder)) for path in files if not path.name.startswith(".")}
    own = [path for path, name in names.items() if re.search(rf"{form.name}(?!\d)", name, re.IGNORECASE)]
    # the hub's own layout bears the name of no data set: what it holds is checked when it is read
    return own or [path for path, name in names.items() if split_of_path(Path(name)) and "cifar" not in name] or None


def _read(form: _Cifar, files: list[Path]) -> list[Part]:
    if files[0].suffix.lower() != ".parquet":
        _check_published(form, files)
        return read_set(form.kept, files)
    splits = splits_of_files(files)
    return [
        part for file, split in zip(files, splits, strict=True) for part in table_parts(file, Columns(), split, Notes())
    ]


def _check_published(form: _Cifar, files: list[Path]) -> None:
    """Raise `BadInput` unless these are the published files: they are pickles, which run code of whoever wrote them."""
    kind = form.kept.cls
    published = [*kind.train_list, *kind.test_list, (kind.meta["filename"], kind.meta["md5"])]
    for path, (_, md5) in zip(files, published, strict=True):
        if not libraries.torchvision().datasets.utils.check_integrity(str(path), md5):
            raise BadInput(f"{path} is missing, or not the published file: fetch the data set again")


def _download(form: _Cifar, folder: Path) -> None:
    download_set(form.kept, folder)


find_cifar10, find_cifar100 = partial(_find, _CIFAR10), partial(_find, _CIFAR100)
read_cifar10, read_cifar100 = partial(_read, _CIFAR10), partial(_read, _CIFAR100)
download_cifar10, download_cifar100 = partial(_download, _CIFAR10), partial(_download, _CIFAR100)
