"""Class folders: a tree with one folder of pictures a class, split or not, in the order of their names."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

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


def class_folders(place: Path, pictures: list[Path], notes: Notes, beside: Callable[[], str] = str) -> list[Part]:
    """The parts of a tree of pictures.

    A class is the outermost folder below its split's. Folders are splits only as a level of the tree: a folder that is
    called `train` among class folders is a class.

    Args:
        beside: says what else lies there that may tell the classes, for the refusal.

    Raises:
        BadInput: pictures lie in no class folders.
    """
    rows = [(path, path.relative_to(place).parts[:-1]) for path in pictures]
    rows = _unwrapped(rows, lambda name: not split_of(name))
    splits = _by_split(rows, notes)
    if _are_flat(splits):
        raise BadInput(
            f"{place} holds {len(pictures):,} pictures, but no class folders: put each class in one of its own"
            f"{beside()}"
        )
    _note_masks(rows, notes)
    parts = []
    classes = {folders[0] for _, folders in splits.get(TRAIN, splits.get("", [])) if folders}
    plain = {"".join(filter(str.isalpha, name.lower())) for name in classes}
    if plain & _OF_PICTURES and plain & _DRAWN and plain <= _OF_PICTURES | _DRAWN:
        raise BadInput(
            f"{place} has the folders {', '.join(sorted(classes))}, which are no classes, but pictures and what is "
            f"drawn on them: put each class in one of its own{beside()}"
        )
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


def _are_flat(splits: dict[str, list[Row]]) -> bool:
    """Whether there are no class folders: at most the splits, or one for all the pictures of each."""
    inside = {folders for there in splits.values() for _, folders in there if folders}
    if any(len(folders) > 1 for folders in inside):
        return False
    names = {folders[0] for folders in inside}
    named = {split_of(name) for name in names}
    is_one = len(names) < 2 and ("" not in named or names <= _WRAPPERS)
    return is_one or (len(named) > 1 and "" not in named)


def _part(place: str, split: str, rows: list[Row], classes: set[str], notes: Notes) -> Part:
    """A split's pictures by class; all without labels where it has no class folders."""
    found = {folders[0] for _, folders in rows if folders}
    loose = [path for path, folders in rows if not folders]
    if not found or (split in (TEST, VALIDATION) and classes and len(found) == 1 and not found & classes):
        return files_part(place, [(path, None) for path, _ in rows], split)
    if loose:
        notes.skip(f"pictures beside the class folders of {place}", len(loose))
    ordered = sorted(found)
    _note_same_inside(rows, notes)
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


def _note_same_inside(rows: list[Row], notes: Notes) -> None:
    """Warn where every class holds the same folders: they may be folds or sets, and the inner ones what is meant."""
    inside: dict[str, set[str]] = {}
    for _, folders in rows:
        if folders:
            inside.setdefault(folders[0], set()).update(folders[1:2])
    first, *others = inside.values()
    if others and len(first) > 1 and all(there == first for there in others):
        outer, inner = (", ".join(sorted(names)[:3]) + ", …" * (len(names) > 3) for names in (inside, first))
        notes.warnings.append(f"all classes ({outer}) hold the same folders ({inner}): the outer are the classes")


def _by_split(rows: list[Row], notes: Notes) -> dict[str, list[Row]]:
    """The rows of each split, their folders below it; all under `""` where the tree has no splits."""
    if _is_split_level(rows):
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
        split: _unwrapped(there, lambda name: bool(split_of(name)) or name.lower() in _WRAPPERS)
        for split, there in groups.items()
    }


def _unwrapped(rows: list[Row], wraps: Callable[[str], bool]) -> list[Row]:
    """Without a folder that holds all the others."""
    while len({folders[:1] for _, folders in rows}) == 1:
        if not all(folders and wraps(folders[0]) for _, folders in rows) or not all(len(f) > 1 for _, f in rows):
            break
        rows = [(path, folders[1:]) for path, folders in rows]
    return rows
