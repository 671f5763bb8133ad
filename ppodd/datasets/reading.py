"""From parts to a labelled image set: splits are chosen, labels numbered, pictures decoded alike, and all is said."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, compress
from pathlib import Path

import numpy as np

from ppodd.datasets.by_path import DataLocation
from ppodd.datasets.labels import keyed, numbered
from ppodd.datasets.listing import note_others
from ppodd.datasets.parts import TEST, TRAIN, VALIDATION, Notes, Part, Picture
from ppodd.datasets.pictures import Decoded, check_deep_colour, decode, stacked
from ppodd.datasets.report import DataReport, bad_images, of_split
from ppodd.datasets.sources import Request, Spec
from ppodd.datasets.splits import assigned, split_along
from ppodd.errors import BadInput, near_miss
from ppodd.words import counted

SPLITS = (TRAIN, TEST, VALIDATION)
_FEW = 20  # more than 1 image in so many that is there again is worth a word
_HELD_OUT = 5  # one image in five tests, where the source has no test split


@dataclass(frozen=True)
class Images:
    """Byte images `[N, C, h, w]` and labels `[N]` of each split; `validation` is the data set's own, often empty."""

    x: dict[str, np.ndarray]
    y: dict[str, np.ndarray]
    classes: tuple[str, ...]
    report: DataReport

    @property
    def spec(self) -> Spec:
        """Classes and the shape of an image."""
        return Spec(len(self.classes), *self.x[TRAIN].shape[1:])


def read(found: DataLocation, request: Request) -> Images:
    """Everything that the source holds.

    Raises:
        BadInput: it is no labelled image set; the line says which file, row or class is at fault.
    """
    notes = found.notes
    where = f"{request.dataset} in {found.place}" if Path(found.place) != Path(request.dataset) else found.place
    parts = [keyed(part) for part in found.read()]
    splits, test_from = assigned(parts, where, notes)
    labels, classes, unused = numbered(splits, where)
    notes.notes += unused
    cut = np.zeros(len(labels[TRAIN]), bool) if test_from else _every_fifth(labels[TRAIN])
    kept = _kept(labels, classes, request, cut, notes)
    cut = cut[kept[TRAIN]]
    labels, classes = _renumbered(labels, classes, kept)
    _check_classes(classes, where)
    x, y, seen = _decoded(splits, kept, labels, cut, request, where, found)
    if not (request.classes or request.per_class):  # else a table may name pictures that were not looked at
        left = [path for path in notes.beside if path not in found.also]
        note_others(left, set(), notes)
        notes.warnings += _unread_splits(left, Path(found.place), {part.split for part in parts})
    notes.warnings += [*_alike(classes), *_copies(x, y)]
    images = Images(x, y, classes, _report(found, splits, x, y, classes, test_from, seen, notes))
    _check(images, request, where)
    return images


def _decoded(
    splits: dict[str, list[Part]],
    kept: dict[str, np.ndarray],
    labels: dict[str, np.ndarray],
    cut: np.ndarray,
    request: Request,
    where: str,
    found: DataLocation,
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray], Decoded]:
    """Images and labels of each split, and what was seen of the pictures; those that are `cut` off train test."""
    seen, skip_bad, notes = Decoded(), request.on_bad_image == "skip", found.notes
    pixels = {s: decode(_pictures(splits[s], kept[s], found), request.size, skip_bad, seen) for s in SPLITS}
    check_deep_colour(seen, where)
    readable = {s: np.array([picture is not None for picture in pixels[s]], bool) for s in SPLITS}
    stacks, depth = stacked([[picture for picture in pixels[s] if picture is not None] for s in SPLITS], where)
    x, y = dict(zip(SPLITS, stacks, strict=True)), {s: labels[s][readable[s]] for s in SPLITS}
    cut = cut[readable[TRAIN]]
    if cut.any():
        x, y = ({**of, TRAIN: of[TRAIN][~cut], TEST: of[TRAIN][cut]} for of in (x, y))
    notes.notes += [depth] if depth else []
    notes.notes += _of_pictures(seen)
    notes.warnings += bad_images(seen.bad)
    return x, y, seen


def _pictures(parts: Sequence[Part], kept: np.ndarray, found: DataLocation) -> Iterator[Picture]:
    known = set(found.files or ())
    for picture in compress(chain.from_iterable(part.pictures() for part in parts), kept):
        files = (picture.data,) if isinstance(picture.data, Path) else picture.sought
        found.also.update(file for file in files if file not in known)
        yield picture


def _of_pictures(seen: Decoded) -> list[str]:
    done = {
        "turned upright as the camera noted": seen.turned,
        "with transparency laid on white": seen.flattened,
        "of several frames, of which the first is taken": seen.first_frames,
        "of 16 bits a channel in colour, of which the upper 8 are read": seen.deep_colour,
    }
    return [f"{counted(count, 'picture')} {what}" for what, count in done.items() if count]


# Which pictures are kept


def _kept(
    labels: dict[str, np.ndarray], classes: tuple[str, ...], request: Request, cut: np.ndarray, notes: Notes
) -> dict[str, np.ndarray]:
    """Which pictures of each split are kept (`[N]` bool), by the request's classes and number of each."""
    chosen = chosen_classes(request.classes, classes)
    kept = {split: np.isin(labels[split], chosen) for split in SPLITS}
    if request.per_class:
        for label in chosen:
            rows = np.flatnonzero((labels[TRAIN] == label) & ~cut)
            kept[TRAIN][rows[request.per_class :]] = False
        notes.notes.append(f"the first {counted(request.per_class, 'training image')} of each class are kept")
    if len(chosen) < len(classes):
        notes.notes.append(f"{len(chosen)} of {len(classes)} classes are kept")
    return kept


def chosen_classes(wanted: Sequence[str], classes: Sequence[str]) -> list[int]:
    """Indices of the classes that are named, by name, by number or by a range of numbers; all where none is.

    Where the names are numbers themselves, a number is the class of that name; else it counts the classes from 0.

    Raises:
        BadInput: one is no class.
    """
    if not wanted:
        return list(range(len(classes)))
    chosen: set[int] = set()
    named = all(map(str.isdecimal, classes)) and len(set(map(int, classes))) == len(classes)
    numbers = {int(name) if named else index: index for index, name in enumerate(classes)}
    for text in wanted:
        limits = re.fullmatch(r"(\d+)(?:-(\d+))?", text)
        if text in classes:
            chosen.add(classes.index(text))
        elif limits and {first := int(limits[1]), last := int(limits[2] or first)} <= numbers.keys():
            chosen.update(index for number, index in numbers.items() if first <= number <= last)
        else:
            near = near_miss(text, classes)
            raise BadInput(
                f"classes: {text!r} is no class{near}: name classes, numbers from {min(numbers)} to {max(numbers)}, "
                f"or ranges of them (0-4)"
            )
    return sorted(chosen)


def _renumbered(
    labels: dict[str, np.ndarray], classes: tuple[str, ...], kept: dict[str, np.ndarray]
) -> tuple[dict[str, np.ndarray], tuple[str, ...]]:
    """Labels of the pictures that are kept, among the classes that they have."""
    remaining = {split: labels[split][kept[split]] for split in SPLITS}
    used = np.unique(remaining[TRAIN])
    new = np.full(len(classes), -1)
    new[used] = np.arange(len(used))
    return {split: new[y] for split, y in remaining.items()}, tuple(classes[label] for label in used)


def _every_fifth(labels: np.ndarray) -> np.ndarray:
    """A fixed test split where the source has none (`[N]` bool): every fifth image of each class."""
    test = np.zeros(len(labels), bool)
    for label in np.unique(labels):
        test[np.flatnonzero(labels == label)[_HELD_OUT - 1 :: _HELD_OUT]] = True
    return test


# What can be wrong, and what is said


def _check_classes(classes: tuple[str, ...], where: str) -> None:
    if len(classes) < 2:
        named = f" ({classes[0]})" if classes else ""
        raise BadInput(f"{where} has {len(classes)} class{named}: at least 2 are needed")


def _check(images: Images, request: Request, where: str) -> None:
    if not len(images.y[TEST]):
        raise BadInput(f"{where} has no test images: give it a test split, or at least 5 images of a class")
    absent = np.setdiff1d(np.arange(len(images.classes)), images.y[TRAIN])
    if len(absent):  # since none of its pictures could be read
        raise BadInput(f"{where}: class {images.classes[absent[0]]!r} has no training image that can be read")
    for channel, pixels in enumerate(images.x[TRAIN].transpose(1, 0, 2, 3)):
        if pixels.min() == pixels.max():
            which = "they are" if images.spec.channels == 1 else f"channel {channel} of them is"
            raise BadInput(
                f"{where}: the training images have nothing to learn from: {which} {pixels.min()} everywhere; look at "
                f"the files"
            )
    expected = request.expected
    if expected and images.spec != expected:
        raise BadInput(
            f"{where} is another data set: {_said(images.spec)}, but {request.dataset} has {_said(expected)}; "
            f"give its path by --dataset"
        )


def _said(spec: Spec) -> str:
    return f"{spec.classes} classes, {spec.channels} × {spec.height} × {spec.width} (C, h, w)"


def _alike(classes: tuple[str, ...]) -> list[str]:
    """The warning for classes that may be one, written in two ways."""
    first: dict[str, str] = {}
    pairs = [(first.setdefault("".join(name.split()).casefold(), name), name) for name in classes]
    twice = [f"{one!r} and {other!r}" for one, other in pairs if one != other]
    return [f"classes that differ in capitals or spaces alone: {', '.join(twice[:3])}"] if twice else []


def _unread_splits(left: list[Path], place: Path, read: set[str]) -> list[str]:
    """The warnings for pictures in folders of a split that no table names, where none is of that split."""
    of = {split_along(path.relative_to(place)) for path in left if path.is_relative_to(place)}
    return [
        f"pictures in folders of the {split} split are not read, since tables tell what is: list them in one, too"
        for split in (TEST, VALIDATION)
        if split in of - read
    ]


def _copies(x: dict[str, np.ndarray], y: dict[str, np.ndarray]) -> list[str]:
    """The warnings for test images that train, too, and for training images that are there again."""
    first: dict[int, int] = {}
    otherwise = 0
    for image, label in zip(x[TRAIN], y[TRAIN].tolist(), strict=True):
        of_first = first.setdefault(hash(image.tobytes()), label)
        otherwise += of_first != label
    again = len(x[TRAIN]) - len(first)
    leaked = sum(hash(image.tobytes()) in first for image in x[TEST])
    counts = {
        f"{counted(leaked, 'test image')} also in the training set": leaked,
        f"{again:,} of {counted(len(y[TRAIN]), 'training image')} are copies of others": again * _FEW > len(y[TRAIN]),
        f"{otherwise:,} of {counted(len(y[TRAIN]), 'training image')} are copies of some of another class": otherwise,
    }
    return [f"{words}, pixel by pixel" for words, count in counts.items() if count]


def _report(
    found: DataLocation,
    splits: dict[str, list[Part]],
    x: dict[str, np.ndarray],
    y: dict[str, np.ndarray],
    classes: tuple[str, ...],
    test_from: str,
    seen: Decoded,
    notes: Notes,
) -> DataReport:
    origin = {**splits, TEST: splits[TEST] if test_from else splits[TRAIN]}
    shown = [split for split in (TRAIN, VALIDATION, TEST) if split != VALIDATION or len(y[VALIDATION])]
    skipped = [f"left out: {_counts(notes.skipped)}"] if notes.skipped else []
    return DataReport(
        place=found.place,
        classes=classes,
        splits={s: of_split((part.place for part in origin[s]), y[s].tolist(), len(classes)) for s in shown},
        test_from=test_from,
        shape=x[TRAIN].shape[1:],
        sizes={f"{width} × {height}": count for (width, height), count in Counter(seen.sizes).most_common(20)},
        notes=(*dict.fromkeys(notes.notes), *skipped),
        warnings=tuple(dict.fromkeys(notes.warnings)),
    )


def _counts(skipped: dict[str, int]) -> str:
    return ", ".join(f"{count:,} {why}" for why, count in skipped.items())
