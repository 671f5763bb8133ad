"""CIFAR-10 and CIFAR-100: torchvision's folders, parquet files that bear their name, downloads."""

from __future__ import annotations

import io
import pickle
import re
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from ppodd.datasets.parts import TEST, TRAIN, Part, arrays_part
from ppodd.datasets.sources import Columns
from ppodd.datasets.splits import split_of_path, splits_of_files
from ppodd.datasets.tables import table_parts
from ppodd.datasets.torchvision_sets import download
from ppodd.errors import BadInput


class _Form(NamedTuple):
    """What torchvision's folder of one of them holds."""

    name: str
    folder: str
    train: tuple[str, ...]
    test: str
    labels: bytes
    meta: str
    names: bytes
    torchvision: str


_CIFAR10 = _Form(
    "cifar10",
    "cifar-10-batches-py",
    tuple(f"data_batch_{n}" for n in range(1, 6)),
    "test_batch",
    b"labels",
    "batches.meta",
    b"label_names",
    "CIFAR10",
)
_CIFAR100 = _Form(
    "cifar100", "cifar-100-python", ("train",), "test", b"fine_labels", "meta", b"fine_label_names", "CIFAR100"
)


def _find(form: _Form, folder: Path) -> list[Path] | None:
    batches = folder / form.folder
    if batches.is_dir():
        return [batches / name for name in (*form.train, form.test, form.meta)]
    files = sorted(path for pattern in ("*.parquet", "*/*.parquet") for path in folder.glob(pattern))
    names = {path: str(path.relative_to(folder)) for path in files if not path.name.startswith(".")}
    own = [path for path, name in names.items() if re.search(rf"{form.name}(?!\d)", name, re.IGNORECASE)]
    # the hub's own layout bears the name of no data set: what it holds is checked when it is read
    return own or [path for path, name in names.items() if split_of_path(Path(name)) and "cifar" not in name] or None


def _read(form: _Form, files: list[Path]) -> list[Part]:
    if files[0].suffix.lower() == ".parquet":
        splits = splits_of_files(files)
        return [part for file, split in zip(files, splits, strict=True) for part in table_parts(file, Columns(), split)]
    folder = files[0].parent
    names = tuple(name.decode() for name in _batch(folder / form.meta)[form.names])
    parts = []
    for name in (*form.train, form.test):
        batch = _batch(folder / name)
        pixels = batch[b"data"].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
        split = TEST if name == form.test else TRAIN
        parts.append(arrays_part(str(folder / name), pixels, list(batch[form.labels]), split, names))
    return parts


def _download(form: _Form, folder: Path) -> None:
    download(form.torchvision, folder)


class _ArraysOnly(pickle.Unpickler):
    """torchvision keeps CIFAR as pickles: admit numpy arrays and byte strings, refuse everything else."""

    _ADMITTED = frozenset(
        {
            ("numpy.core.multiarray", "_reconstruct"),
            ("numpy._core.multiarray", "_reconstruct"),
            ("numpy", "ndarray"),
            ("numpy", "dtype"),
            ("_codecs", "encode"),
        }
    )

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self._ADMITTED:
            raise pickle.UnpicklingError(f"refused: {module}.{name}")
        return super().find_class(module.replace("numpy.core", "numpy._core"), name)


def _batch(path: Path) -> dict[bytes, Any]:
    try:
        batch: dict[bytes, Any] = _ArraysOnly(io.BytesIO(path.read_bytes()), encoding="bytes").load()
    except (OSError, pickle.UnpicklingError, EOFError, ValueError, IndexError) as error:
        raise BadInput(f"{path} is missing or damaged ({error}): fetch the data set again") from None
    return batch


find_cifar10, find_cifar100 = partial(_find, _CIFAR10), partial(_find, _CIFAR100)
read_cifar10, read_cifar100 = partial(_read, _CIFAR10), partial(_read, _CIFAR100)
download_cifar10, download_cifar100 = partial(_download, _CIFAR10), partial(_download, _CIFAR100)
