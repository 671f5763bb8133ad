"""Tables of pictures and labels, as Hugging Face's `datasets` reads them: parquet, Arrow, CSV, JSON lines, webdataset.

Each file is read for itself, so that files that number their classes differently are not taken for one another. A cell
holds a picture's bytes, its pixels, or the path of its file beside the table.
"""

from __future__ import annotations

import contextlib
import csv
import glob
import json
import logging
import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import compress
from pathlib import Path, PurePath
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

import numpy as np

from ppodd.datasets.labels import check_single_names
from ppodd.datasets.listing import PICTURES, files_below, is_lfs_pointer, is_picture
from ppodd.datasets.parts import TEST, TRAIN, VALIDATION, Notes, Part, Picture
from ppodd.datasets.sources import Columns
from ppodd.datasets.splits import are_split, split_along, split_of, words_of
from ppodd.errors import BadInput, one_line

_IMAGES = (
    "img",
    "image",
    "images",
    "picture",
    "photo",
    "file_name",
    "filename",
    "image_path",
    "filepath",
    "path",
    "file",
    "image_name",
    "img_name",
    "image_filename",
    "img_filename",
    "img_path",
    "image_file",
    "image_id",
    "x",
)
_LABELS = ("label", "fine_label", "coarse_label", "labels", "class", "class_name", "category", "target", "cls", "y")
_SPLITS = ("split", "subset", "partition", "set", "usage")  # columns that may say which split a row is of
_FOLDS = frozenset({"fold", "folds", "set"})  # words of other columns that may
_BUILDERS = {
    ".parquet": "parquet",
    ".arrow": "arrow",
    ".csv": "csv",
    ".tsv": "csv",
    ".jsonl": "json",
    ".tar": "webdataset",
}
_ROWS = 1000  # that are held at a time
_NUMBERS = re.compile(r"\s*\d+(?:[\s,]+\d+)+\s*")  # as text: pixels
_NAME = 1000  # characters of a path at most
_SHOWN = 12  # columns that are written out


@dataclass(frozen=True)
class Table:
    """Rows in columns, as the library has opened them.

    Attributes:
        place: what people call it.
        folder: what the paths in it are seen from.
        features: the library's types of the columns; `None` where it knows none.
        cells: gives the values in a column, row by row.
        names: what the numbers in a column stand for, where a file says so in its own way.
    """

    place: str
    folder: Path
    features: dict[str, Any]
    cells: Callable[[str], Iterator[Any]]
    names: Callable[[], tuple[str, ...]] = tuple

    @property
    def columns(self) -> list[str]:
        """Its columns, but for those that pandas adds to what it writes."""
        return [name for name in self.features if not name.startswith("__")]

    @property
    def said(self) -> str:
        """Which columns it has, in words."""
        more = f" and {len(self.columns) - _SHOWN:,} more" if len(self.columns) > _SHOWN else ""
        return f"{self.place} has columns {self.columns[:_SHOWN]}{more}"

    def column(self, what: str, chosen: str) -> str:
        """The column of the images or labels; `""` where there is none. Raises `BadInput` where the chosen is not."""
        if chosen and chosen not in self.columns:
            raise BadInput(f"--{what}_column {chosen}: {self.said}")
        return chosen or next(iter(self.may_be(what)), "")

    def may_be(self, what: str) -> list[str]:
        """The columns that may be the images or labels, the likeliest first: of images those that are typed so."""
        usual = self.named(_IMAGES if what == "image" else _LABELS)
        if any(isinstance(next(self.cells(x), None), (int, float)) for x in self.named("x")):  # of a box
            usual = [name for name in usual if name.lower() not in ("x", "y")]
        typed = [name for name, feature in self.features.items() if type(feature).__name__ == "Image"]
        if what == "label" or not typed:
            return usual
        return [*(name for name in usual if name in typed), *(name for name in typed if name not in usual)]

    def named(self, usual: Sequence[str]) -> list[str]:
        """Those of these columns that are there, in any case."""
        there = {name.strip().lower(): name for name in reversed(self.columns)}
        return [there[name] for name in usual if name in there]

    def _say_choice(self, columns: Columns, notes: Notes) -> None:
        """Note which columns were taken where others may be meant, and warn of those that may say splits."""
        for what, chosen in columns._asdict().items():
            taken, *others = self.may_be(what) or [""]
            if others and not chosen:
                notes.notes.append(f"{what}s are of column {taken}, not of {', '.join(others)} (--{what}_column)")
        read = {*self.named((*_SPLITS, *_IMAGES, *_LABELS)), *columns}
        for column in self.columns:
            if column not in read and (split_of(column) or _FOLDS & words_of(column)):
                notes.warnings.append(
                    f"column {column} is not read: were splits meant by it, call it split (train, test)"
                )

    def part(self, columns: Columns, split: str, notes: Notes) -> Part:
        """The pictures and labels in it; a test or validation split may be without labels.

        Raises:
            BadInput: it lacks the columns.
        """
        image, label = self.column("image", columns.image), self.column("label", columns.label)
        if not image or (not label and split not in (TEST, VALIDATION)):
            raise BadInput(
                f"{self.said}: needed are img or image, and one of label, fine_label, coarse_label; name others by "
                f"--image_column and --label_column"
            )
        labels = list(self.cells(label)) if label else [None for _ in self.cells(image)]
        notes.warnings += check_single_names(labels, self.place)
        self._say_choice(columns, notes)
        if label and self.names_files(image):
            _check_one_label(self.cells(image), labels, self.place)
        names = getattr(self.features.get(label), "names", None) or self.names()
        return Part(self.place, labels, lambda: _pictures(self, image, split), split, tuple(map(str, names)))

    def names_files(self, column: str) -> bool:
        """Whether the pictures in a column are paths of files."""
        dtype = str(getattr(self.features[column], "dtype", "string"))
        may_be = dtype.startswith(("string", "large_string", "int", "uint"))
        return may_be and isinstance(next(self.cells(column), None), (str, int))

    @cached_property
    def pictures_below(self) -> dict[str, list[Path]]:
        """The pictures below the table's folder, by their names with and without suffix."""
        found: dict[str, list[Path]] = {}
        for path in filter(is_picture, files_below(self.folder, Notes())):
            number = {path.stem.lstrip("0") or "0"} if path.stem.isdecimal() else set()  # as tables keep 0012
            for name in {path.name, path.stem} | number:
                found.setdefault(name, []).append(path)
        return found

    @cached_property
    def folders_below(self) -> tuple[Path, ...]:
        """The folders in which these lie."""
        return tuple({path.parent for there in self.pictures_below.values() for path in there})


def _check_one_label(cells: Iterator[Any], labels: Sequence[Any], place: str) -> None:
    """Raise `BadInput` where rows name one picture with several labels: one row for each thing on it."""
    first: dict[str, tuple[int, Any]] = {}
    for row, (cell, label) in enumerate(zip(cells, labels, strict=True)):
        is_path = isinstance(cell, (str, int)) and 0 < len(str(cell)) <= _NAME and not _NUMBERS.fullmatch(str(cell))
        if not is_path or label is None or label != label:
            continue
        earlier, other = first.setdefault(str(cell), (row, label))
        if other != label:
            raise BadInput(
                f"{place} rows {earlier} and {row} name {cell} with labels {other!r} and {label!r} (multi-label): give "
                f"each picture one"
            )


def table_parts(path: Path, columns: Columns, split: str, notes: Notes) -> list[Part]:
    """The parts in a file: one, or one for each split that a column names, or that the paths of its pictures do.

    Raises:
        BadInput: it is no table, or lacks the columns.
    """
    table = _table(path)
    part = table.part(columns, split, notes)
    if label := table.column("label", columns.label):
        _check_numbers_alike(path, label)
    if split:
        return [part]
    column = next(iter(table.named(_SPLITS)), "")
    by_column = _by_column(table, part, column, notes) if column else []
    return by_column or _by_paths(table, part, columns, notes) or [part]


def _check_numbers_alike(path: Path, column: str) -> None:
    """Raise `BadInput` where a table of text writes one number in two ways, `01` and `1`: they may be two classes."""
    if _BUILDERS.get(path.suffix.lower()) != "csv":
        return
    ways: dict[float, str] = {}
    with path.open(encoding="utf-8-sig", newline="") as file, contextlib.suppress(csv.Error):  # of cells that are long
        for text in {(row.get(column) or "").strip() for row in csv.DictReader(file, delimiter=_separator(path))}:
            with contextlib.suppress(ValueError):
                if (other := ways.setdefault(float(text), text)) != text:
                    raise BadInput(
                        f"{path}: labels {min(other, text)!r} and {max(other, text)!r} are one number: write them alike"
                    )


def _by_column(table: Table, part: Part, column: str, notes: Notes) -> list[Part]:
    """A part for each split that a column names; none where it names none."""
    values = list(table.cells(column))
    named = [split_of(value) if isinstance(value, str) else "" for value in values]
    if any(named) and not all(named):
        raise BadInput(
            f"{table.place}: {column} names no split in row {named.index('')}, but in others: train, test or validation"
        )
    if not any(named):
        few = ", ".join(list(dict.fromkeys(map(str, values)))[:3])
        notes.warnings.append(f"column {column} of {table.place} names no split ({few}): it is not split by that")
        return []
    return _by_split(part, named, column)


def _by_paths(table: Table, part: Part, columns: Columns, notes: Notes) -> list[Part]:
    """A part for each split that the paths of the pictures name; none where they are no paths, or name none."""
    if not table.names_files(table.column("image", columns.image)):
        return []
    found = [(picture.data, picture.sought) for picture in part.pictures()]
    paths = [data if isinstance(data, Path) else next(iter(sought), table.folder) for data, sought in found]
    named = [split_along(path) for path in _below_one(paths, table.folder)]
    labels = ["" if label is None or label != label else str(label) for label in part.labels]
    apart = are_split(named, labels, f"the paths in {part.place}", notes)
    if not apart:
        return []
    of_any = [split or ("" if isinstance(data, Path) else TRAIN) for split, (data, _) in zip(named, found, strict=True)]
    return _by_split(part, of_any, "paths of")  # a picture that is not there is to be missed


def _below_one(paths: Sequence[Path], folder: Path) -> list[PurePath]:
    """The paths as they are seen from a folder, or from the one that holds them all where they are not below it."""
    if not all(path.is_relative_to(folder) for path in paths):
        folder = Path(os.path.commonpath([path.absolute().parent for path in paths]))
    return [path.absolute().relative_to(folder.absolute()) for path in paths]


def _by_split(part: Part, named: list[str], column: str) -> list[Part]:
    """The rows of each split."""

    def rows(split: str) -> Part:
        chosen = [name == split for name in named]
        place = f"{part.place} ({column} {split or 'no split'})"
        labels = list(compress(part.labels, chosen))
        return Part(place, labels, lambda: compress(part.pictures(), chosen), split, part.names)

    return [rows(split) for split in dict.fromkeys(named)]


def columns_said(path: Path) -> tuple[str, int]:
    """Which columns a table has, in words, and how many."""
    table = _table(path)
    return table.said, len(table.columns)


def holds_pictures(path: Path, columns: Columns) -> bool:
    """Whether a file is a table that has a column of pictures, and those columns that were chosen."""
    table = _table(path)
    if not {*columns} - {""} <= {*table.columns}:
        return False
    return bool(table.column("image", columns.image))


def arrow_cells(opened: Any, column: str) -> Iterator[Any]:
    """The values in a column of what the library has opened, encoded pictures as they are."""
    for batch in opened.with_format("arrow").iter(batch_size=_ROWS):
        yield from batch[column].to_pylist()


def _table(path: Path) -> Table:
    def cells(column: str) -> Iterator[Any]:
        try:
            yield from _cells(path, kind, whole, column)
        except Exception as error:  # whatever the library meets
            raise _unreadable(path, error) from error

    kind, whole = _BUILDERS[path.suffix.lower()], _open(path)
    features = whole.features
    if features is None:  # of a kind whose columns are known by their first row
        features = dict.fromkeys(_first_row(path, whole))
    names = partial(_names_in_schema, path) if kind == "parquet" else tuple
    return Table(str(path), path.parent, _flat(dict(features), kind), cells, names)


def _flat(row: dict[str, Any], kind: str) -> dict[str, Any]:
    """A sample of a webdataset with what its JSON says as columns, too."""
    inside = row.get("json") if kind == "webdataset" else None
    return {**inside, **row} if isinstance(inside, dict) else row


def _first_row(path: Path, whole: Any) -> Any:
    try:
        row = next(iter(whole), None)
    except Exception as error:  # whatever the library meets
        raise _unreadable(path, error) from error
    if row is None:
        raise BadInput(f"{path} holds no rows: each is a picture and its label")
    return row


def _cells(path: Path, kind: str, whole: Any, column: str) -> Iterator[Any]:
    if kind == "webdataset":  # whose samples have their columns in different orders, which Arrow does not take
        encoded = whole.decode(False)
        yield from (_flat(row, kind)[column] for row in encoded)
    elif kind != "parquet":
        yield from arrow_cells(whole, column)
    elif _rows_of_parquet(path):
        yield from arrow_cells(_open(path, [column]), column)


def _open(path: Path, columns: Sequence[str] = ()) -> Any:
    options: dict[str, Any] = {"columns": list(columns)} if columns else {}
    if _BUILDERS[path.suffix.lower()] == "csv":
        options["sep"] = _separator(path)
    files = [glob.escape(str(path))]
    try:
        return library().load_dataset(
            _BUILDERS[path.suffix.lower()], data_files=files, split="train", streaming=True, **options
        )
    except BadInput:
        raise
    except Exception as error:
        raise _unreadable(path, error) from error


def _separator(path: Path) -> str:
    """What parts the columns of a table of text: spreadsheets of some countries write `;`."""
    with path.open(encoding="utf-8", errors="replace") as file:
        header = file.readline()
    return next((mark for mark in "\t;" if mark in header), ",")


def _unreadable(path: Path, error: Exception) -> BadInput:
    cause = error.__cause__ if isinstance(error.__cause__, Exception) else error
    if isinstance(cause, UnicodeDecodeError):
        return BadInput(f"{path} is not in UTF-8 ({one_line(cause)}): write it so")
    if isinstance(cause, UnicodeEncodeError):
        return BadInput(f"{path}: its path is not in UTF-8: rename it")
    if is_lfs_pointer(path):
        return BadInput(f"{path} is a pointer of Git LFS: git lfs pull fetches the file")
    if path.suffix.lower() == ".tar" and "invalid literal for int()" in str(cause):
        # of a webdataset: the library takes labels in .cls for numbers
        return BadInput(f"{path}: its .cls files hold text: number the classes, or write names in .txt files")
    return BadInput(f"{path} is no readable {_BUILDERS[path.suffix.lower()]} file ({one_line(cause)}): fetch it again")


def _rows_of_parquet(path: Path) -> int:
    import pyarrow.parquet as pq

    rows: int = pq.read_metadata(path).num_rows
    return rows


def _names_in_schema(path: Path) -> tuple[str, ...]:
    """Class names under `class_names` in a parquet file's metadata: JSON, or separated by commas."""
    import pyarrow.parquet as pq

    text = (pq.read_schema(path).metadata or {}).get(b"class_names", b"").decode()
    return tuple(json.loads(text) if text.startswith("[") else re.split(r"\s*,\s*", text) if text else ())


def library() -> Any:
    """Hugging Face's `datasets`, which is kept from telling its maker of every local file that it opens.

    Raises:
        BadInput: it is not installed.
    """
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    try:
        import datasets
    except ImportError:
        raise BadInput("reading tables of pictures needs Hugging Face's datasets: pip install 'ppodd[data]'") from None
    datasets.config.HF_UPDATE_DOWNLOAD_COUNTS = False
    datasets.disable_progress_bars()
    for name in ("datasets", "huggingface_hub"):  # what they log of an error is raised, too
        logging.getLogger(name).setLevel(logging.CRITICAL)
    return datasets


def _pictures(table: Table, column: str, split: str) -> Iterator[Picture]:
    for row, cell in enumerate(table.cells(column)):
        where = f"{table.place} row {row}"
        try:
            yield _picture(cell, table, where, split)
        except BadInput as error:
            yield Picture(where, error)


def _picture(cell: Any, table: Table, where: str, split: str) -> Picture:
    if isinstance(cell, dict):
        cell = cell.get("bytes") or cell.get("path")
    if isinstance(cell, bytes) and cell:
        return Picture(where, cell)
    if isinstance(cell, (str, int)) and cell != "":
        return _file(str(cell), table, where, split)
    if isinstance(cell, list) and cell:
        return Picture(where, _pixels(cell, where))
    raise BadInput(f"{where} holds no image bytes: embed the images in the file")


def _file(text: str, table: Table, where: str, split: str) -> Picture:
    """The picture file that a cell names, seen from the table's folder; by its name alone, the one below it.

    Raises:
        BadInput: the name alone does not tell which file is meant, or none can be.
    """
    folder = table.folder
    if re.match(r"https?://|s3://|gs://|hf://", text):
        raise BadInput(f"{where} names {text}: fetch the pictures first, and name their files")
    if numbers := _NUMBERS.fullmatch(text):
        raise BadInput(
            f"{where} holds {len(re.findall(r'[0-9]+', numbers[0])):,} numbers as text, which are no picture: write "
            f"pictures, or an .npz file of arrays"
        )
    if len(text) > _NAME:
        raise BadInput(
            f"{where} holds {len(text):,} characters of text, which name no file (base64 is not read): write the bytes "
            f"of pictures, or name their files"
        )
    path = folder / text.removeprefix("file://")
    if text.startswith("file://") and not path.exists():
        path = Path(url2pathname(urlsplit(text).path))
    if "\\" in text and not path.exists():  # as Windows writes it
        path = folder / text.replace("\\", "/")
    if not path.exists() and Path(text).suffix.lower() not in PICTURES:
        found = sorted(filter(is_picture, path.parent.glob(f"{glob.escape(path.name)}.*")))
        if len(found) > 1:
            raise BadInput(f"{where} names {text}, as {found[0].name} and {found[1].name} are: write the suffix, too")
        path = found[0] if found else path
    sought: tuple[Path, ...] = (path, path.parent)
    if not path.exists() and not re.search(r"[/\\]", text):
        of_its_name = table.pictures_below.get(text, [])
        likely = [p for p in of_its_name if split_along(p.relative_to(folder)) in ("", split) or not split]
        if len(likely) > 1:
            places = " and ".join(str(p.relative_to(folder)) for p in likely[:2])
            raise BadInput(f"{where} names {text}, which {places} are called: write the folder, too")
        path = likely[0] if likely else path
        sought += table.folders_below
    if not path.exists():
        why = BadInput(f"{where} names {text}, which is not in {folder}: put the pictures beside the table")
        return Picture(where, why, sought)
    return Picture(f"{where} ({text})", path)


def _pixels(cell: list[Any], where: str) -> np.ndarray:
    array = np.array(cell)
    if array.ndim == 3 and array.shape[0] in (1, 3) and array.shape[2] not in (1, 3, 4):
        array = array.transpose(1, 2, 0)
    if array.dtype == np.int64 and array.size and array.min() >= 0 and array.max() < 256:
        array = array.astype(np.uint8)
    if array.ndim < 2 or array.dtype.kind not in "uif":
        raise BadInput(f"{where} is no picture: a list of shape {list(array.shape)}; [height, width] is one")
    return array
