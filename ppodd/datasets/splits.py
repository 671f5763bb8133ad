"""Which split a file or folder belongs to, by one rule: the whole words of its name, in any case."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import PurePath

from ppodd.datasets.parts import TEST, TRAIN, VALIDATION, Notes, Part
from ppodd.errors import BadInput

_WORDS = {
    **dict.fromkeys(("train", "training"), TRAIN),
    **dict.fromkeys(("val", "valid", "validation", "dev"), VALIDATION),
    **dict.fromkeys(("test", "testing", "eval", "evaluation"), TEST),
}
# Words end where letters end, and at a capital: `cifar10-test`, `seg_train`, `Train2017`, `TestImages`.
_WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])")


def split_of(name: str) -> str:
    """The split that the words of a name stand for; `""` where none does, or where they stand for several."""
    named = _splits(name)
    return named.pop() if len(named) == 1 else ""


def split_of_path(path: PurePath) -> str:
    """The split that the folders and the file of a relative path name.

    Raises:
        BadInput: they name several.
    """
    named = set().union(*(_splits(part) for part in (*path.parent.parts, path.stem)))
    if len(named) > 1:
        raise BadInput(f"{path} names {' and '.join(sorted(named))}: name it after the one split that it holds")
    return named.pop() if named else ""


def split_along(path: PurePath) -> str:
    """The split that the outermost folder which names one stands for, else the file; `""` where none does."""
    return next((split for part in (*path.parent.parts, path.stem) if (split := split_of(part))), "")


def are_split(splits: Sequence[str], labels: Sequence[str], what: str, notes: Notes) -> bool:
    """Whether the splits that pictures are named after are theirs: training pictures and others, of the same classes.

    Most have to be so named; the others then belong to no split. Where only some are, that they are all one set is
    warned of.

    Args:
        splits, labels: of each picture, `""` where it has none.
        what: where the names stand.
    """
    classes: dict[str, set[str]] = {}
    for split, label in zip(splits, labels, strict=True):
        classes.setdefault(split, set()).update([label] if label else [])
    named = sum(map(bool, splits))
    trained = classes.get(TRAIN, set())
    others = [split for split in classes if split not in ("", TRAIN)]
    apart = set().union(*(classes[split] for split in others))
    if not others or (trained and apart and not trained & apart) or (named == len(splits) and not trained):
        return False
    if TRAIN in classes and 2 * named > len(splits):
        return True
    if TRAIN in classes or apart == set(labels) - {""}:  # else it is how pictures of some classes are called
        notes.warnings.append(
            f"{what} say {' and '.join(sorted(set(splits) - {''}))}, but only of {named:,} of {len(splits):,} "
            f"pictures: these are not split by that"
        )
    return False


def splits_of_files(files: Sequence[PurePath]) -> list[str]:
    """The split of each file, by its name and the folders below the one that holds them all."""
    folder = PurePath(os.path.commonpath([path.parent for path in files]))
    return [split_of_path(path.relative_to(folder)) for path in files]


def is_only_split(name: str) -> bool:
    """Whether a name is nothing but the word for a split: `test`."""
    return name.lower() in _WORDS


def words_of(name: str) -> set[str]:
    """The words of a name, in small letters."""
    return {word.lower() for word in _WORD.findall(name)}


def _splits(name: str) -> set[str]:
    return {_WORDS[word] for word in words_of(name) if word in _WORDS}


def assigned(parts: Sequence[Part], where: str, notes: Notes) -> tuple[dict[str, list[Part]], str]:
    """The parts of each split that is used, and where the test set comes from.

    A labelled test split tests; else a labelled validation split does; else the test set is cut off the training set.
    Validation pictures never train: beside a test split, they join those that choices are made by. Parts that name no
    split train where none is named `train`; else they are left out, as are parts without labels.

    Raises:
        BadInput: nothing is left to train on.
    """
    labelled = []
    for part in parts:
        if part.labels and all(label is None for label in part.labels):
            notes.notes.append(f"{part.place} has no labels: its {len(part.labels):,} pictures are left out")
        elif part.labels:
            labelled.append(part)
    by_split = {split: [part for part in labelled if part.split == split] for split in (TRAIN, VALIDATION, TEST, "")}
    unnamed = by_split.pop("")
    if by_split[TRAIN]:
        for part in unnamed:
            notes.notes.append(f"{part.place} belongs to no split: its {len(part.labels):,} pictures are left out")
    else:
        by_split[TRAIN] = unnamed
        if unnamed and (by_split[TEST] or by_split[VALIDATION]):
            trains = ", ".join(part.place for part in unnamed[:3]) + ", …" * (len(unnamed) > 3)
            notes.warnings.append(f"no split is called train, another is named: {trains} trains")
    if not by_split[TRAIN]:
        found = ", ".join(split for split, there in by_split.items() if there) or "nothing that has labels"
        raise BadInput(f"{where} has no labelled training split (found: {found}): name its file or folder train")
    if by_split[TEST]:
        if by_split[VALIDATION]:
            notes.notes.append("the validation split joins the pictures that choices are made by; it does not train")
        return by_split, "the test split"
    if by_split[VALIDATION]:
        return {**by_split, TEST: by_split[VALIDATION], VALIDATION: []}, "the validation split"
    return by_split, ""
