"""Data by its path: which form of data set lies there, and what of it is read."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import filterfalse
from pathlib import Path, PurePath

from ppodd.datasets.arrays import npz_parts
from ppodd.datasets.cub import find_cub, read_cub
from ppodd.datasets.folders import class_folders, has_classes
from ppodd.datasets.listing import files_below, is_other_picture, is_picture, note_others, other_forms
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
_HOLD_PICTURES = (".parquet", ".arrow")
_PACKED = (".tar", ".npz", (".zip", ".tgz", ".tar.gz"))
_LISTS = (".txt", ".json", ".lst")  # that may say which picture is of which split
_LIST_HEAD = 4096  # bytes of a list that are looked at
_BESIDE = ("metadata.csv", "metadata.tsv", "metadata.jsonl")  # that say what the pictures beside them are
_PIXELS = 48  # columns at least that hold a pixel each


@dataclass
class DataLocation:
    """Where a data set lies: the files it is read from (the cache's key), and how it is read."""

    place: str
    files: list[Path] | None  # None: not known, so that nothing is cached
    read: Callable[[], list[Part]]
    notes: Notes = field(default_factory=Notes)
    also: set[Path] = field(default_factory=set)  # files that were met only while it was read


def find_at(
    path: Path, columns: Columns, notes: Notes | None = None, tables_outside: Sequence[Path] = ()
) -> DataLocation | None:
    """Whatever form of data set lies at `path`; `None` where nothing readable does.

    Args:
        notes: what is to be known of the whole that it is a file of.
        tables_outside: beside the archive that was unpacked here.

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
    packed = [file for file in files if _is(file, *_PACKED) and file not in data]
    notes.warnings += _not_read(path, packed, "" if data else ", since the folders tell the classes")
    if data:
        notes.beside += [file for file in files if is_picture(file) and data[0].suffix.lower() in TABLES]
        tables = [file for file in files if file.suffix.lower() in TABLES and file not in data]
        note_others(files, {*data, *tables, *packed, *notes.beside}, notes)
        may_be = [table for table in tables if split_of(table.stem)]
        notes.notes += _not_read(path, [table for table in tables if table not in may_be], "")
        notes.warnings += _not_read(path, may_be, f", since {data[0].name} is: write all splits in one form")
        notes.warnings += [*_configurations(path, data), *_shards_missing(path, data)]
        return _together(
            path, [_in_file(file, columns, split_of_path(file.relative_to(path)), notes) for file in data], notes
        )
    pictures = [file for file in files if is_picture(file)]
    tables = [file for file in files if file.suffix.lower() in TABLES]
    note_others(files, {*pictures, *tables, *packed}, notes)
    if tables and not pictures:
        raise BadInput(f"{path} holds no pictures{_columns(tables)}{other_forms(files)}")
    if not pictures:
        return None
    names = {name for picture in pictures for name in (picture.name, picture.stem)}
    lists = [file for file in files if _is(file, *_LISTS) and split_of(file.stem) and _lists(file, names)]
    notes.warnings += _not_read(
        path, lists, ": if splits are meant by that, lay the pictures of each in a folder of its own"
    )
    notes.warnings += _not_read(
        path, tables, ", since the folders tell the classes (else: --image_column, --label_column)"
    )
    unread = dict.fromkeys(notes.empty, ("it is empty", True))
    for file in sorted({*files} - {*pictures}, key=is_other_picture):
        unread[file.parent] = (f"{file.suffix or 'such'} files are not read", is_other_picture(file))

    def beside() -> str:
        unpack = "".join(f"; unpack it beside {table}, should that tell them" for table in tables_outside[:1])
        return f"{_columns(tables)}{unpack}{other_forms(files)}"

    read = partial(class_folders, path, pictures, notes, beside, unread)
    return DataLocation(str(path), [*pictures, *notes.empty], read, notes)


def _is(file: Path, *kinds: str | tuple[str, ...]) -> bool:
    return any(file.name.lower().endswith(kind) for kind in kinds)


def _lists(file: Path, names: set[str]) -> bool:
    """Whether a text names one of these pictures where it begins, or may, since it cannot be read."""
    try:
        with file.open("rb") as opened:
            words = re.split(r"[\s,;\"']+", opened.read(_LIST_HEAD).decode(errors="replace"))
    except OSError:
        return True
    return not names.isdisjoint(PurePath(word).name for word in words)


def _columns(tables: list[Path]) -> str:
    """What the columns of a table are that might tell the classes, did one know which."""
    tables = list(filterfalse(_is_form, tables))
    if not tables:
        return ""
    first = min(tables, key=lambda table: split_of(table.stem) != TRAIN)
    said, count = columns_said(first)
    if count > _PIXELS:
        return f"; {said}: columns of pixels are not read, write an .npz file of x and y"
    return f"; {said}: name those of the images and labels by --image_column and --label_column"


def _is_form(table: Path) -> bool:
    """Whether a table is a form to fill in, whose labels are none."""
    return "submission" in words_of(table.stem)


def _not_read(place: Path, tables: list[Path], why: str) -> list[str]:
    """What is to be said of tables that lie there."""
    named = ", ".join(str(table.relative_to(place)) for table in tables[:3])
    more = f", … ({len(tables):,} in all)" if len(tables) > 3 else ""
    return [f"{named}{more} {'is' if len(tables) == 1 else 'are'} not read{why}"] if tables else []


def _data_files(place: Path, files: list[Path], columns: Columns) -> list[Path]:
    """The files that are the data set: none where class folders are; archives where no table tells of pictures."""

    def of(*kinds: str | tuple[str, ...]) -> list[Path]:
        every = ([file for file in files if _is(file, kind) and not _kept_by_library(file)] for kind in kinds)
        return next(filter(None, every), [])

    pictures = [file for file in files if is_picture(file)]
    if found := of(*_HOLD_PICTURES) or [file for file in files if file.name.lower() in _BESIDE]:
        return found
    if not any(columns) and has_classes(place, pictures):
        return []
    packed = of(*_PACKED)
    if packed and not pictures:
        return packed
    tables = [file for file in files if _is(file, *TABLES) and holds_pictures(file, columns)]
    return list(filterfalse(_is_form, tables)) or packed or tables


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
    """The warning for what may be forms of one data set: folders with a training split each, files of arrays."""
    inside = [file.relative_to(place) for file in files]
    trained = sorted({path.parts[0] for path in inside if len(path.parts) > 2 and split_of_path(path) == TRAIN})
    whole = [str(path) for path in inside if path.suffix.lower() == ".npz" and not split_of_path(path)]
    forms = trained if trained[1:] else whole if whole[1:] else []
    return [f"{', '.join(forms)} are read as one: were they forms of it, give the path of one"] if forms else []


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
    raise BadInput(
        f"{path} is of no kind that is read: a folder of class folders is, or a file of {', '.join(FILES)}"
        f"{other_forms([path])}"
    )


def _in_archive(path: Path, columns: Columns, split: str, notes: Notes) -> DataLocation:
    tables = [table for table in sorted(path.parent.iterdir()) if _is(table, *TABLES) and not _is_form(table)]
    with _called(path):
        found = find_at(unpacked(path), columns, notes, tables)
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
