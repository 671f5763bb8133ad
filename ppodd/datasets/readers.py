"""Readers: each turns one kind of source into labelled byte images. Add one by a function and a line in `READERS`."""

from __future__ import annotations

import importlib.util
import io
import json
import pickle
import re
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, UnidentifiedImageError

from ppodd.config import DEFAULT_ROOT
from ppodd.datasets.specs import SPECS
from ppodd.errors import BadInput

IMAGES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".gif", ".tif", ".tiff")
_LABELS = ("label", "fine_label", "coarse_label", "labels")
_HELD_OUT = 5  # one image in five tests, where the source has no test split


class Raw(NamedTuple):
    """Byte images `[N, C, h, w]` and labels `[N]` for training and test, as stored."""

    train_x: np.ndarray
    train_y: np.ndarray
    test_x: np.ndarray
    test_y: np.ndarray
    classes: tuple[str, ...]


class Source(NamedTuple):
    """Where a data set lies: the files it is read from (for the cache's key) and how to read it."""

    files: list[Path]
    read: Callable[[], Raw]


# Images


def _decode(data: bytes, where: str, size: int, mode: str | None) -> np.ndarray:
    """One picture as bytes `[h, w]` or `[h, w, 3]`."""
    try:
        with Image.open(io.BytesIO(data)) as file:
            image = file.convert(mode or ("L" if file.mode in ("1", "L", "I", "I;16", "F") else "RGB"))
            if size:
                image = image.resize((size, size), Image.Resampling.BILINEAR)
            return np.asarray(image)
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError) as error:
        raise BadInput(f"{where} is no readable image ({error}): replace or remove it") from None


def _stack(parts: Iterable[tuple[bytes, str]], size: int) -> np.ndarray:
    """Decode pictures, in threads, to `[N, C, h, w]`; all grey only if the first is."""
    parts = iter(parts)
    first_data, first_where = next(parts)
    first = _decode(first_data, first_where, size, None)
    mode = "L" if first.ndim == 2 else "RGB"

    def one(part: tuple[bytes, str]) -> np.ndarray:
        image = _decode(*part, size, mode)
        if image.shape != first.shape:
            raise BadInput(
                f"{part[1]} is {image.shape[1]} × {image.shape[0]} px, the first image is {first.shape[1]} × "
                f"{first.shape[0]}: set --image_size to resize them all"
            )
        return image

    with ThreadPoolExecutor() as pool:
        images = np.stack([first, *pool.map(one, parts)])
    return images[:, None] if images.ndim == 3 else np.ascontiguousarray(images.transpose(0, 3, 1, 2))


def _file_images(paths: list[Path], size: int) -> np.ndarray:
    return _stack(((path.read_bytes(), str(path)) for path in paths), size)


def _split_off(x: np.ndarray, y: np.ndarray, classes: tuple[str, ...]) -> Raw:
    """A fixed split where the source has none: every fifth image of each class tests."""
    test = np.zeros(len(y), bool)
    for label in np.unique(y):
        test[np.flatnonzero(y == label)[_HELD_OUT - 1 :: _HELD_OUT]] = True
    return Raw(x[~test], y[~test], x[test], y[test], classes)


# Formats


def digits() -> Raw:
    """scikit-learn's embedded scans: 1,797 images of 8 × 8 grey levels from 0 to 16."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    x = np.round(bunch.images * (255 / 16)).astype(np.uint8)[:, None]
    return _split_off(x, bunch.target.astype(np.int64), tuple(str(d) for d in range(10)))


def _digits_files() -> list[Path]:
    """Where scikit-learn keeps them, found without importing it, which takes seconds; none if it is elsewhere now."""
    package = importlib.util.find_spec("sklearn")
    file = Path(package.origin).parent / "datasets/data/digits.csv.gz" if package and package.origin else None
    return [file] if file and file.is_file() else []


def parquet(train: list[Path], test: list[Path], size: int) -> Raw:
    """Hugging Face-style parquet: `img` or `image` (bytes, or a struct of bytes and path) and a label column."""
    train_x, train_y, names = _parquet_split(train, size)
    if not test:
        return _split_off(train_x, train_y, _names(names, train_y))
    test_x, test_y, _ = _parquet_split(test, size)
    return Raw(train_x, train_y, test_x, test_y, _names(names, np.concatenate([train_y, test_y])))


def _names(names: tuple[str, ...], labels: np.ndarray) -> tuple[str, ...]:
    return names or tuple(str(label) for label in range(int(labels.max()) + 1))


def _parquet_split(paths: list[Path], size: int) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        raise BadInput("reading parquet needs pyarrow: pip install 'ppodd[parquet]'") from None
    names: tuple[str, ...] = ()
    images, labels = [], []
    for path in paths:
        try:
            table = pq.read_table(path)
        except (pa.ArrowInvalid, OSError) as error:
            raise BadInput(f"{path} is no readable parquet file ({error}): fetch it again") from None
        columns = table.column_names
        image = next((name for name in ("img", "image") if name in columns), None)
        label = next((name for name in _LABELS if name in columns), None)
        if image is None or label is None:
            raise BadInput(f"{path} has columns {columns}: needed are img or image, and one of {', '.join(_LABELS)}")
        cells = table[image].to_pylist()
        data = [cell["bytes"] if isinstance(cell, dict) else cell for cell in cells]
        missing = next((row for row, cell in enumerate(data) if not cell), None)
        if missing is not None:
            raise BadInput(f"{path} row {missing} holds no image bytes: embed the images in the file")
        images.append(_stack(((cell, f"{path} row {row}") for row, cell in enumerate(data)), size))
        labels.append(np.asarray(table[label].to_pylist(), dtype=np.int64))
        names = names or _parquet_names(table.schema.metadata or {}, label)
    if len({part.shape[1:] for part in images}) > 1:
        raise BadInput(f"{paths[0].parent}: files hold images of different shapes: set --image_size")
    return np.concatenate(images), np.concatenate(labels), names


def _parquet_names(metadata: dict[bytes, bytes], label: str) -> tuple[str, ...]:
    """Class names from the schema's metadata: `class_names`, or Hugging Face's features."""
    try:
        if b"class_names" in metadata:
            text = metadata[b"class_names"].decode()
            return tuple(json.loads(text) if text.startswith("[") else re.split(r"\s*,\s*", text))
        if b"huggingface" in metadata:
            return tuple(json.loads(metadata[b"huggingface"])["info"]["features"][label]["names"])
    except (ValueError, KeyError, TypeError):
        pass
    return ()


def class_folders(train: Path, test: Path | None, size: int) -> Raw:
    """A tree with one folder of images a class, in the order of their names."""
    classes = tuple(p.name for p in sorted(train.iterdir()) if p.is_dir())

    def read(tree: Path) -> tuple[np.ndarray, np.ndarray]:
        paths = [(path, label) for label, name in enumerate(classes) for path in _images(tree / name)]
        if not paths:
            raise BadInput(f"{tree} holds no images in class folders ({', '.join(IMAGES)})")
        return _file_images([p for p, _ in paths], size), np.array([label for _, label in paths], np.int64)

    x, y = read(train)
    return Raw(x, y, *read(test), classes) if test else _split_off(x, y, classes)


def _images(folder: Path) -> Iterator[Path]:
    return iter(sorted(p for p in folder.rglob("*") if p.suffix.lower() in IMAGES))


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


def torchvision_cifar(folder: Path, fine: bool) -> Raw:
    """The python-version folders `cifar-10-batches-py` and `cifar-100-python`."""
    key = b"fine_labels" if fine else b"labels"
    train = ["train"] if fine else [f"data_batch_{n}" for n in range(1, 6)]
    meta, name_key = ("meta", b"fine_label_names") if fine else ("batches.meta", b"label_names")

    def batch(name: str) -> dict[bytes, Any]:
        try:
            return _ArraysOnly(io.BytesIO((folder / name).read_bytes()), encoding="bytes").load()
        except (OSError, pickle.UnpicklingError, EOFError, ValueError, IndexError) as error:
            raise BadInput(f"{folder / name} is missing or damaged ({error}): fetch the data set again") from None

    def images(names: list[str]) -> tuple[np.ndarray, np.ndarray]:
        batches = [batch(name) for name in names]
        x = np.concatenate([b[b"data"].reshape(-1, 3, 32, 32) for b in batches])
        return x, np.concatenate([np.asarray(b[key], np.int64) for b in batches])

    classes = tuple(name.decode() for name in batch(meta)[name_key])
    return Raw(*images(train), *images(["test" if fine else "test_batch"]), classes)


def tiny_imagenet(folder: Path, size: int) -> Raw:
    """Tiny-ImageNet's own layout: `train/<id>/images`, `val/val_annotations.txt`; `val` is the test split."""
    ids = [p.name for p in sorted((folder / "train").iterdir()) if p.is_dir()]
    words = dict(line.split("\t", 1) for line in _lines(folder / "words.txt") if "\t" in line)
    train = [(path, label) for label, wnid in enumerate(ids) for path in _images(folder / "train" / wnid)]
    annotations = [line.split("\t")[:2] for line in _lines(folder / "val" / "val_annotations.txt")]
    unknown = next((wnid for _, wnid in annotations if wnid not in ids), None)
    if unknown:
        raise BadInput(
            f"{folder / 'val' / 'val_annotations.txt'} names class {unknown!r}, which has no training images"
        )
    test = [(folder / "val" / "images" / name, ids.index(wnid)) for name, wnid in annotations]
    classes = tuple(words.get(wnid, wnid).split(",")[0].strip() for wnid in ids)
    return Raw(*_listed(train, size), *_listed(test, size), classes)


def cub_200(folder: Path, size: int) -> Raw:
    """CUB-200-2011's own layout: `images.txt`, `image_class_labels.txt`, `train_test_split.txt`, `classes.txt`."""

    def table(name: str) -> dict[str, str]:
        return dict(line.split(" ", 1) for line in _lines(folder / name))

    names, labels = table("images.txt"), table("image_class_labels.txt")
    trains, classes = table("train_test_split.txt"), table("classes.txt")
    try:
        rows = [(folder / "images" / names[i], int(labels[i]) - 1, trains[i] == "1") for i in names]
    except KeyError as error:
        raise BadInput(
            f"{folder}: image {error} is in images.txt but not in every list: fetch the data set again"
        ) from None
    train = [(path, label) for path, label, training in rows if training]
    test = [(path, label) for path, label, training in rows if not training]
    titles = tuple(classes[i].split(".", 1)[-1] for i in sorted(classes, key=int))
    return Raw(*_listed(train, size), *_listed(test, size), titles)


def _lines(path: Path) -> list[str]:
    try:
        return [line for line in path.read_text().splitlines() if line.strip()]
    except OSError as error:
        raise BadInput(f"{path}: {error.strerror}; fetch the data set again") from None


def _listed(rows: list[tuple[Path, int]], size: int) -> tuple[np.ndarray, np.ndarray]:
    missing = next((path for path, _ in rows if not path.is_file()), None)
    if missing:
        raise BadInput(f"{missing} is missing: fetch the data set again")
    return _file_images([path for path, _ in rows], size), np.array([label for _, label in rows], np.int64)


# Finding a data set


def find(dataset: str, root: str, image_size: int) -> Source:
    """The source of a known data set below `root`, or of the file or folder that `dataset` names.

    Raises:
        BadInput: nothing readable is there; the message says what was looked for and where.
    """
    if dataset == "digits":
        return Source(_digits_files(), digits)
    if dataset not in SPECS:
        path = Path(root, dataset).expanduser()
        if not path.exists():
            raise BadInput(f"dataset {dataset!r}: {path} does not exist; name a parquet file or a class-folder tree")
        return _at(path, image_size) or _nothing(dataset, [path])
    size = image_size or (SPECS[dataset].width if dataset == "cub-200" else 0)
    base = Path(root or DEFAULT_ROOT).expanduser()
    places = [base, base / dataset]
    for place in places:
        source = _known(dataset, place, size) or (_at(place, size) if place.name == dataset else None)
        if source:
            return source
    if dataset in ("cifar10", "cifar100") and _download(dataset, places[1]):
        return _known(dataset, places[1], size) or _nothing(dataset, places)
    return _nothing(dataset, places)


def _nothing(dataset: str, places: list[Path]) -> Any:
    looked = " and ".join(str(place) for place in places)
    forms = {
        "cifar10": "*cifar10*train*.parquet and *test*.parquet, or cifar-10-batches-py",
        "cifar100": "*cifar100*train*.parquet and *test*.parquet, or cifar-100-python",
        "tiny-imagenet-200": "tiny-imagenet-200/train and val/val_annotations.txt",
        "cub-200": "CUB_200_2011/images.txt",
    }.get(dataset, "parquet files, or folders of images, one a class")
    how = ", or pip install torchvision to have it downloaded" if dataset.startswith("cifar") else ""
    raise BadInput(f"no {dataset} in {looked} (looked for {forms}): point --root to the folder that holds it{how}")


def _download(dataset: str, folder: Path) -> bool:
    try:
        import torchvision.datasets as tv
    except ImportError:
        return False
    kind = tv.CIFAR10 if dataset == "cifar10" else tv.CIFAR100
    try:
        kind(str(folder), download=True)
    except Exception as error:  # whatever the network or the disk says
        raise BadInput(f"torchvision could not download {dataset} to {folder}: {error}; fetch it by hand") from None
    return True


def _known(dataset: str, place: Path, size: int) -> Source | None:
    """The data set's own forms at `place`."""
    if dataset in ("cifar10", "cifar100"):
        fine = dataset == "cifar100"
        folder = place / ("cifar-100-python" if fine else "cifar-10-batches-py")
        if folder.is_dir():
            return Source(sorted(folder.iterdir()), lambda: torchvision_cifar(folder, fine))
        files = [p for p in sorted(place.glob("*.parquet")) if re.search(rf"{dataset}(?!\d)", p.name)]
        return _parquets(files, size)
    if dataset == "tiny-imagenet-200":
        for folder in (place, place / "tiny-imagenet-200"):
            if (folder / "val" / "val_annotations.txt").is_file():
                return Source(list(_images(folder)), partial(tiny_imagenet, folder, size))
    if dataset == "cub-200":
        for folder in (place, place / "CUB_200_2011"):
            if (folder / "train_test_split.txt").is_file():
                return Source(sorted(folder.glob("*.txt")), partial(cub_200, folder, size))
    return None


def _parquets(files: list[Path], size: int) -> Source | None:
    test = [p for p in files if re.search(r"test|val", p.name)]
    train = [p for p in files if p not in test]
    return Source(files, lambda: parquet(train, test, size)) if train else None


def _at(path: Path, size: int) -> Source | None:
    """Whatever form of data set lies at `path`: a parquet file, a folder of them, or class folders."""
    if path.is_file():
        return Source([path], lambda: parquet([path], [], size))
    source = _parquets(sorted(path.rglob("*.parquet")), size) if path.is_dir() else None
    if source or not path.is_dir():
        return source
    train = path / "train" if (path / "train").is_dir() else path
    test = next((path / name for name in ("test", "val") if (path / name).is_dir()), None) if train != path else None
    files = list(_images(path))
    return Source(files, lambda: class_folders(train, test, size)) if files else None
