"""Data by its path: which form of data set lies there, and what of it is read."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from ppodd.datasets.arrays import npz_parts
from ppodd.datasets.cub import find_cub, read_cub
from ppodd.datasets.folders import class_folders, has_classes
from ppodd.datasets.listing import files_below, is_picture, note_others
from ppodd.datasets.parts import TRAIN, Notes, Part
from ppodd.datasets.sources import FILES, TABLES, Columns
from ppodd.datasets.splits import split_of, split_of_path, words_of
from ppodd.datasets.tables import columns_said, holds_pictures, table_parts
from ppodd.datasets.tiny_imagenet import find_tiny_imagenet, read_tiny_imagenet
from ppodd.datasets.unpacking import is_archive, unpacked
from ppodd.errors import BadInput
from ppodd.words import counted

# Layouts of data sets that are recognised under any name.
_OWN_LAYOUTS = ((find_tiny_imagenet, read_tiny_imagenet), (find_cub, read_cub))
# Where a folder holds several kinds of files, the first of these is the data set.
_KINDS = (".parquet", ".arrow", ".tar", ".npz", ".zip", ".tgz", ".gz")
_LISTS = (".txt", ".json", ".lst")  # that may say which picture is of which split
_BESIDE = ("metadata.csv", "metadata.tsv", "metadata.jsonl")  # that say what the pictures beside them are


@dataclass
class DataLocation:
    """Where a data set lies: the files it is read from (the cache's key), and how it is read."""

    place: str
    files: list[Path] | None  # None: not known, so that nothing is cached
    read: Callable[[], list[Part]]
    notes: Notes = field(default_factory=Notes)
    also: set[Path] = field(default_factory=set)  # files that were met only while it was read


def find_at(path: Path, columns: Columns, notes: Notes | None = None) -> DataLocation | None:
    """Whatever form of data set lies at `path`; `None` where nothing readable does.

    Args:
        notes: what is to be known of the whole that it is a file of.

    Raises:
        BadInput: what lies there is of no form that is read, or its names contradict each other.
    """
    notes = notes or Notes()
    if path.is_file():
        return _in_file(path, columns, "", notes)
    for look, read in _OWN_LAYOUTS:
        listed = look(path)
        if listed:
            return DataLocation(str(path), listed, partial(read, listed), notes)
    files = files_below(path, notes) if path.is_dir() else []
    data = _data_files(path, files, columns)
    if data:
        notes.beside += [file for file in files if is_picture(file) and data[0].suffix.lower() in TABLES]
        tables = [file for file in files if file.suffix.lower() in TABLES and file not in data]
        note_others(files, {*data, *tables, *notes.beside}, notes)
        notes.notes += _not_read(path, tables, "")
        notes.warnings += [*_configurations(path, data), *_shards_missing(path, data)]
        return _together(
            path, [_in_file(file, columns, split_of_path(file.relative_to(path)), notes) for file in data], notes
        )
    pictures = [file for file in files if is_picture(file)]
    tables = [file for file in files if file.suffix.lower() in TABLES]
    note_others(files, {*pictures, *tables}, notes)
    if tables and not pictures:
        raise BadInput(f"{path} holds no pictures{_columns(tables)}")
    if not pictures:
        return None
    lists = [file for file in files if file.suffix.lower() in _LISTS and split_of(file.stem)]
    notes.warnings += _not_read(
        path, lists, ": if splits are meant by that, lay the pictures of each in a folder of its own"
    )
    notes.warnings += _not_read(
        path, tables, ", since the folders tell the classes (else: --image_column, --label_column)"
    )
    read = partial(class_folders, path, pictures, notes, partial(_columns, tables))
    return DataLocation(str(path), pictures, read, notes)


def _columns(tables: list[Path]) -> str:
    """What the columns of a table are that might tell the classes, did one know which."""
    if not tables:
        return ""
    first = min(tables, key=lambda table: split_of(table.stem) != TRAIN)
    return f"; {columns_said(first)}: name those of the images and labels by --image_column and --label_column"


def _not_read(place: Path, tables: list[Path], why: str) -> list[str]:
    """What is to be said of tables that lie there."""
    named = ", ".join(str(table.relative_to(place)) for table in tables[:3])
    more = f", … ({len(tables):,} in all)" if len(tables) > 3 else ""
    return [f"{named}{more} {'is' if len(tables) == 1 else 'are'} not read{why}"] if tables else []


def _data_files(place: Path, files: list[Path], columns: Columns) -> list[Path]:
    """The files of the first kind that is there; tables of pictures where these lie in no class folders."""
    for suffix in _KINDS:
        found = [file for file in files if file.suffix.lower() == suffix and not _kept_by_library(file)]
        if found:
            return found
    beside = [file for file in files if file.name.lower() in _BESIDE]
    if beside:
        return beside
    if not any(columns) and has_classes(place, [file for file in files if is_picture(file)]):
        return []
    tables = [file for file in files if file.suffix.lower() in TABLES and holds_pictures(file, columns)]
    labelled = [table for table in tables if "submission" not in words_of(table.stem)]  # a form to fill in
    return labelled or tables


def _shards_missing(place: Path, files: list[Path]) -> list[str]:
    """The warnings for files that say how many there are of them (`train-00000-of-00002`) and are not all there."""
    there: dict[tuple[str, int], set[str]] = {}
    for file in files:
        if found := re.fullmatch(r"(.*?)-?(\d{5})-of-(\d{5})(.*)", str(file.relative_to(place))):
            there.setdefault((found[1], int(found[3])), set()).add(found[2])
    return [
        f"{name}: {counted(len(numbers), 'file')} of the {of:,} that the names tell of"
        for (name, of), numbers in there.items()
        if len(numbers) < of
    ]


def _configurations(place: Path, files: list[Path]) -> list[str]:
    """The warning for folders that each hold a training split: the hub keeps several forms of a data set like that."""
    inside = [file.relative_to(place) for file in files]
    trained = sorted({path.parts[0] for path in inside if len(path.parts) > 2 and split_of_path(path) == TRAIN})
    return [f"{', '.join(trained)} are read as one: were they forms of it, give the path of one"] if trained[1:] else []


def _kept_by_library(path: Path) -> bool:
    """Whether it is a file in which `datasets` keeps what it computed."""
    return path.suffix == ".arrow" and path.name.startswith("cache-")


def _in_file(path: Path, columns: Columns, split: str, notes: Notes) -> DataLocation:
    name = path.name.lower()
    if is_archive(path):
        return _in_archive(path, columns, split, notes)
    if name.endswith(".npz"):
        return DataLocation(str(path), [path], lambda: npz_parts(path, split), notes)
    if name.endswith((*TABLES, ".tar")):
        return DataLocation(str(path), [path], lambda: table_parts(path, columns, split, notes), notes)
    raise BadInput(f"{path} is of no kind that is read: a folder of class folders is, or a file of {', '.join(FILES)}")


def _in_archive(path: Path, columns: Columns, split: str, notes: Notes) -> DataLocation:
    with _called(path):
        found = find_at(unpacked(path), columns, notes)
    if found is None:
        raise BadInput(f"{path} holds no data set: class folders of pictures, or tables of them")

    def read() -> list[Part]:
        with _called(path):
            parts = found.read()
        return [replace(part, place=_inside(path, part), split=part.split or split) for part in parts]

    return DataLocation(str(path), found.files, read, notes)


@contextlib.contextmanager
def _called(path: Path) -> Iterator[None]:
    """What is refused of an archive is called by its name, not by where it was unpacked."""
    try:
        yield
    except BadInput as error:
        raise BadInput(str(error).replace(str(unpacked(path)), str(path))) from None


def _inside(path: Path, part: Part) -> str:
    """What an archive's part is called: by the archive's name, not by where it was unpacked."""
    return part.place.replace(str(unpacked(path)), str(path))


def _together(path: Path, found: list[DataLocation], notes: Notes) -> DataLocation:
    """Several files as one data set."""
    files = [file for each in found for file in each.files or ()]
    return DataLocation(str(path), files, lambda: [part for each in found for part in each.read()], notes)
