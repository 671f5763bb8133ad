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


def splits_of_files(files: Sequence[PurePath]) -> list[str]:
    """The split of each file, by its name and the folders below the one that holds them all."""
    folder = PurePath(os.path.commonpath([path.parent for path in files]))
    return [split_of_path(path.relative_to(folder)) for path in files]


def _splits(name: str) -> set[str]:
    return {_WORDS[word.lower()] for word in _WORD.findall(name) if word.lower() in _WORDS}


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
