"""Class folders: a tree with one folder of pictures a class, split or not, in the order of their names."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import MappingProxyType

from ppodd.datasets.parts import TEST, TRAIN, VALIDATION, Notes, Part, files_part
from ppodd.datasets.splits import are_split, is_only_split, split_of, words_of
from ppodd.errors import BadInput
from ppodd.words import counted

# A picture's file and the folders it lies in, below the folder that is looked at.
Row = tuple[Path, tuple[str, ...]]
_MASKS = frozenset({"mask", "masks"})
# What folders of pictures, and of what is drawn on them, are called: no classes.
_OF_PICTURES = frozenset({"images", "image", "imgs", "img", "pictures", "photos", "jpegimages"})
_DRAWN = frozenset(
    {"masks", "mask", "labels", "label", "annotations", "annotation", "annots", "trimaps", "trimap", "gt"}
    | {"groundtruth", "segmentation", "segmentations", "segmentationclass", "segmentationobject"}
)
_WRAPPERS = frozenset({"images", "imgs", "img", "data", "pictures"})
_UNLABELLED = frozenset({"unlabeled", "unlabelled", "unsup", "unknown"})
_LOOSE = "pictures beside the class folders"
# Numbered like this, folders are pieces of one set: `HAM10000_images_part_1`, `shard-00000`, `fold2`.
_PIECE = re.compile(r"(?<![a-z])(part|shard|chunk|batch|fold)[\W_]?\d+(?!\d)")


def class_folders(
    place: Path,
    pictures: list[Path],
    notes: Notes,
    beside: Callable[[], str] = str,
    unread: Mapping[Path, tuple[str, bool]] = MappingProxyType({}),
) -> list[Part]:
    """The parts of a tree of pictures.

    A class is the outermost folder below its split's. Folders are splits only as a level of the tree: a folder that is
    called `train` among class folders is a class.

    Args:
        beside: says what else lies there that may tell the classes, for the refusal.
        unread: folders of files that are not read, and why; whether they were to hold pictures.

    Raises:
        BadInput: pictures lie in no class folders, or a class folder holds none that is read.
    """
    rows = [(path, path.relative_to(place).parts[:-1]) for path in pictures]
    rows = _unwrapped(rows, lambda name: not split_of(name), notes)
    splits = _by_split(rows, notes)
    if flat := _all_in(splits):
        raise BadInput(
            f"{place} holds {len(pictures):,} pictures, but no class folders{flat}: put each class in one of its own"
            f"{beside()}"
        )
    _note_masks(rows, notes)
    parts = []
    trained = splits.get(TRAIN, splits.get("", []))
    classes = {folders[0] for _, folders in trained if folders}
    if what := _no_classes(classes):
        raise BadInput(
            f"{place} has the folders {_few(classes)}, which are no classes, but {what}: put each class in one of its "
            f"own{beside()}"
        )
    _check_none_empty(place, trained, unread, notes)
    if unlabelled := sorted(name for name in classes if name.lower() in _UNLABELLED):
        notes.warnings.append(f"class folder {unlabelled[0]} is one of the classes: take it out, were it none")
    if called := sorted(filter(is_only_split, classes)):
        notes.warnings.append(f"class folder {', '.join(called)} beside others: were it a split, move it beside theirs")
    for split, there in splits.items():
        named = f"{place} ({split or 'in no split'})" if len(splits) > 1 or split else str(place)
        is_used = bool(split) or TRAIN not in splits
        parts.append(_part(named, split, there, classes, notes if is_used else Notes()))
    return parts


def has_classes(place: Path, pictures: list[Path]) -> bool:
    """Whether pictures lie in class folders, rather than all together or by split alone."""
    try:
        parts = class_folders(place, pictures, Notes())
    except BadInput:
        return False
    return len({label for part in parts for label in part.labels}) > 1


def _all_in(splits: dict[str, list[Row]]) -> str:
    """Where all the pictures are, in words, where these are no class folders: in one place, or in one of each split."""
    inside = {folders for there in splits.values() for _, folders in there if folders}
    if any(len(folders) > 1 for folders in inside):
        return ""
    names = {folders[0] for folders in inside}
    are_splits = all(split_of(name) for name in names) and len({split_of(name) for name in names}) > 1
    return f" (all are in {_few(names) or 'one place'})" if len(names) < 2 or are_splits else ""


def _no_classes(names: set[str]) -> str:
    """What folders of these names are, where they are no classes."""
    plain = {"".join(filter(str.isalpha, name.lower())) for name in names}
    if plain & _OF_PICTURES and plain & _DRAWN and plain <= _OF_PICTURES | _DRAWN:
        return "pictures and what is drawn on them"
    pieces = [_PIECE.subn("", name.lower()) for name in names]
    are_pieces = len(names) > 1 and len({*pieces}) == 1 and pieces[0][1] > 0
    return "parts of one set (were they classes: rename them)" if are_pieces else ""


def _check_none_empty(place: Path, rows: list[Row], unread: Mapping[Path, tuple[str, bool]], notes: Notes) -> None:
    """Refuse a folder beside class folders from which nothing is read, since it says that there is such a class.

    One that holds something else is warned of.
    """
    levels: dict[Path, set[str]] = {}
    for holds, folders in {(path.parent, folders) for path, folders in rows if folders}:
        level = holds.parents[len(folders) - 1]
        if holds.relative_to(level).parts[:1] == folders[:1]:  # else the splits lie in the classes
            levels.setdefault(level, set()).add(folders[0])
    beside: dict[Path, list[tuple[str, bool]]] = {}
    for folder, why in unread.items():
        for level in {*levels} & {*folder.parents}:
            if (name := folder.relative_to(level).parts[0]) not in levels[level]:
                beside.setdefault(level / name, []).append(why)
        if split_of(folder.name) and not {*levels} & {folder, *folder.parents}:
            notes.warnings.append(f"{folder.relative_to(place)} holds no picture that is read ({why[0]})")
    for folder, whys in beside.items():
        nothing = f"holds no picture that is read ({whys[0][0]})"
        if all(declared for _, declared in whys) and not split_of(folder.name):
            raise BadInput(f"{folder} {nothing}: put pictures of its class there, as .png or .jpg, or remove it")
        notes.warnings.append(f"folder {folder.name} {nothing}, so that it is no class")


def _part(place: str, split: str, rows: list[Row], classes: set[str], notes: Notes) -> Part:
    """A split's pictures by class; all without labels where it has no class folders."""
    found = {folders[0] for _, folders in rows if folders}
    loose = [path for path, folders in rows if not folders]
    if not found or (split in (TEST, VALIDATION) and classes and len(found) == 1 and not found & classes):
        return files_part(place, [(path, None) for path, _ in rows], split)
    if loose:
        notes.skip(_LOOSE, len(loose))
    ordered = sorted(found)
    _note_inside(rows, notes)
    index = {name: number for number, name in enumerate(ordered)}
    labelled = sorted((index[folders[0]], path) for path, folders in rows if folders)
    return files_part(place, [(path, ordered[label]) for label, path in labelled], split)


def _note_masks(rows: list[Row], notes: Notes) -> None:
    """Warn of some among the pictures that are called masks, as segmentations beside what they are of are."""
    masks = [
        path for path, folders in rows if _MASKS & words_of(path.stem) and not _MASKS & words_of(" ".join(folders))
    ]
    if 0 < len(masks) < len(rows):
        are = "is" if len(masks) == 1 else "are"
        notes.warnings.append(
            f"{counted(len(masks), 'picture')} called mask {are} read as any other: take out what is a segmentation"
        )


def _note_inside(rows: list[Row], notes: Notes) -> None:
    """Warn where classes hold several folders: the inner ones may be what is meant, and the outer groups or folds."""
    inside: dict[str, set[str]] = {}
    for _, folders in rows:
        inner = [name for name in folders[1:] if name.lower() not in _WRAPPERS]
        if folders:
            inside.setdefault(folders[0], set()).update(inner[:1])
    several = {name: inner for name, inner in inside.items() if len(inner) > 1}
    if not several:
        return
    first = next(iter(several.values()))
    if len(several) == len(inside) > 1 and all(inner == first for inner in several.values()):
        said = f"all classes ({_few(inside)}) hold the same folders ({_few(first)})"
    else:
        said = f"classes ({_few(several)}) hold folders ({_few(set().union(*several.values()))})"
    notes.warnings.append(f"{said}: the outer are the classes")


def _by_split(rows: list[Row], notes: Notes) -> dict[str, list[Row]]:
    """The rows of each split, their folders below it; all under `""` where the tree has no splits."""
    if _is_split_level(rows):
        outer = sorted({folders[0] for _, folders in rows if folders})
        for split in (TRAIN, VALIDATION, TEST):
            if len(one := [name for name in outer if split_of(name) == split]) > 1:
                notes.notes.append(f"folders {', '.join(one)} are all of the {split} split")
        return _grouped((split_of(folders[0]) if folders else "", path, folders[1:]) for path, folders in rows)
    classes = ["".join(folders[:1]) for _, folders in rows]
    inside = [split_of("".join(folders[1:2])) for _, folders in rows]
    if are_split(inside, classes, "folders in class folders", notes):
        return _grouped(
            (split, path, (folders[0], *folders[2:]) if split else folders)
            for split, (path, folders) in zip(inside, rows, strict=True)
        )
    stems = [split_of(path.stem) for path, _ in rows]
    if are_split(stems, classes, "names", notes):
        return _grouped((split, *row) for split, row in zip(stems, rows, strict=True))
    return {"": rows}


def _is_split_level(rows: list[Row]) -> bool:
    """Whether the outermost folders are splits: one of them that is so named has class folders in it."""
    inside: dict[str, set[str]] = {}
    for _, folders in rows:
        if folders and split_of(folders[0]):
            inside.setdefault(folders[0], set()).update(folders[1:2])
    several = len({split_of(name) for name in inside}) > 1
    return any(len(classes) > 1 or (classes and several) for classes in inside.values())


def _grouped(rows: Iterable[tuple[str, Path, tuple[str, ...]]]) -> dict[str, list[Row]]:
    groups: dict[str, list[Row]] = {}
    for split, path, folders in rows:
        groups.setdefault(split, []).append((path, folders))
    return {
        split: _unwrapped(there, lambda name: bool(split_of(name)) or name.lower() in _WRAPPERS, Notes())
        for split, there in groups.items()
    }


def _unwrapped(rows: list[Row], wraps: Callable[[str], bool], notes: Notes) -> list[Row]:
    """Without a folder that holds all the others; pictures beside it are left out."""
    while True:
        outer = {folders[0] for _, folders in rows if folders}
        if len(outer) != 1 or not wraps(*outer) or not any(len(folders) > 1 for _, folders in rows):
            return rows
        inside = [(path, folders[1:]) for path, folders in rows if folders]
        if len(rows) > len(inside):
            notes.skip(_LOOSE, len(rows) - len(inside))
        rows = inside


def _few(names: Iterable[str]) -> str:
    ordered = sorted(names)
    return ", ".join(ordered[:3]) + ", …" * (len(ordered) > 3)
