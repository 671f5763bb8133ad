"""Labels as people have them, mapped to classes 0, 1, …; what is no single class is refused by what it is.

A class is named by text or by a number. Numbers need not start at 0 nor be without gaps; where a file tells what its
numbers stand for, the names count, so that files that number the same classes differently agree.
"""

from __future__ import annotations

import math
import numbers
import os
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ppodd.datasets.parts import Part
from ppodd.errors import BadInput, near_miss

Key = str | int | None  # a class's name, or its number where it has none


def keyed(part: Part) -> Part:
    """The part with each label as the name or number of its class, `None` where there is none.

    Raises:
        BadInput: a label is no single class.
    """
    part = replace(part, names=_distinct(part.names))
    keys = [_key(value, part, row) for row, value in enumerate(_single(part))]
    missing = next((row for row, key in enumerate(keys) if key is None), None)
    if missing is not None and any(key is not None for key in keys):
        raise BadInput(
            f"{part.place} row {missing} has no label ({part.labels[missing]!r}), others have: "
            f"label it, or move it to a split of its own"
        )
    kinds = {type(key) for key in keys} - {type(None)}
    if kinds == {int, str}:
        raise BadInput(f"{part.place}: some labels are numbers and some are text: write them alike")
    return replace(part, labels=keys)


def numbered(parts: dict[str, list[Part]], where: str) -> tuple[dict[str, np.ndarray], tuple[str, ...], list[str]]:
    """Labels `[N]` of each split, the names of the classes, and what to note of them.

    Raises:
        BadInput: files disagree on whether classes have names, or a class has no training picture.
    """
    every = [part for split in parts.values() for part in split]
    named = next((part for part in every if part.names), None)
    by_split = {split: [key for part in there for key in _named_alike(part, named)] for split, there in parts.items()}
    used = {key for keys in by_split.values() for key in keys}
    if {type(key) for key in used} == {int, str}:
        raise BadInput(f"{where}: some files label by number and some by name: write them alike")
    order: list[Key] = list(dict.fromkeys(name for part in every for name in part.names))
    order += sorted(used - set(order), key=_in_order)
    unused = [key for key in order if key not in used]
    classes = [key for key in order if key in used]
    _check_trained(classes, set(by_split["train"]), by_split, where)
    index = {key: number for number, key in enumerate(classes)}
    labels = {split: np.array([index[key] for key in keys], np.int64) for split, keys in by_split.items()}
    return labels, tuple(map(str, classes)), [f"no picture is of class {_few(unused)}: left out"] if unused else []


def _named_alike(part: Part, named: Part | None) -> Sequence[Key]:
    """The part's keys; numbers without names are read by the names that another file gives."""
    if named is None or part.names or not any(isinstance(key, int) for key in part.labels):
        return part.labels
    return [_name(key, named.names, part, row) for row, key in enumerate(part.labels)]


def _in_order(key: Key) -> tuple[int, str]:
    """Numbers count up, names stand in the order of their letters."""
    return (key, "") if isinstance(key, int) else (0, str(key))


def _check_trained(classes: list[Key], trained: set[Key], by_split: dict[str, list[Key]], where: str) -> None:
    for key in classes:
        if key not in trained:
            split = next(split for split, keys in by_split.items() if key in keys)
            near = near_miss(key, [str(name) for name in trained])
            raise BadInput(
                f"{where}: class {str(key)!r} of the {split} split has no training image{near}: "
                f"add some or remove the class"
            )


def _key(value: Any, part: Part, row: int) -> Key:
    if isinstance(value, bytes):
        value = value.decode(errors="backslashreplace")
    if value is None or value == "" or (isinstance(value, float) and math.isnan(value)):
        return None
    if isinstance(value, str):
        value = os.fsencode(value).decode(errors="backslashreplace")  # the name of a folder need not be UTF-8
        return unicodedata.normalize("NFC", value)  # macOS writes names of files otherwise than others do
    if not isinstance(value, numbers.Real) or not float(value).is_integer():
        raise BadInput(
            f"{part.place} row {row}: label {value!r} is no class: a number from 0 or a name is; "
            f"choose the column by --label_column"
        )
    number = int(float(value))
    if number == -1:
        return None
    if number < 0:
        raise BadInput(f"{part.place} row {row}: label {number} is out of range: numbers count from 0, -1 is no label")
    return _name(number, part.names, part, row) if part.names else number


def _name(number: Any, names: tuple[str, ...], part: Part, row: int) -> Key:
    if isinstance(number, int) and not number < len(names):
        raise BadInput(
            f"{part.place}: label {number} of row {row} is out of range (0 to {len(names) - 1}): "
            f"mend the labels or the class names"
        )
    return names[number] if isinstance(number, int) else number


def _single(part: Part) -> Iterator[Any]:
    """The labels; of each list, its only element, or the place of the 1 in a one-hot row."""
    lengths = {len(value) for value in part.labels if isinstance(value, (list, tuple))}
    for row, value in enumerate(part.labels):
        if not isinstance(value, (list, tuple)):
            yield value
        elif lengths == {1}:
            yield value[0]
        elif len(lengths) == 1 and sorted(map(float, value)) == [0.0] * (len(value) - 1) + [1.0]:
            yield value.index(1)
        elif len(lengths) == 1 and any(isinstance(x, float) for x in value) and abs(sum(value) - 1) < 1e-3:
            raise BadInput(f"{part.place} row {row}: label {_few(value)} is soft: give each picture one class")
        else:
            raise BadInput(
                f"{part.place} row {row}: label [{_few(value)}] may name several classes (multi-label): "
                f"give each picture one"
            )


def check_single_names(labels: Sequence[Any], place: str) -> list[str]:
    """Refuse names that list several classes: `cat;dog`, `cat|dog`, `cat, dog` or `cat dog`.

    What the marks part has to be found in other names, too: `crane, bird` is one class. A comma and a space are in
    names of one class more often: beside `cat, dog` one of the two has to be a class by itself, beside `cat dog` both,
    and there have to be two such names: a single one, as `sea lion` beside `sea` and `lion`, is warned of.

    Returns:
        the warnings.

    Raises:
        BadInput: one does.
    """
    texts = Counter(label for label in labels if isinstance(label, str))
    for mark in (";", "|", ",", " "):
        parts = {text: [part.strip(" []'\"") for part in text.split(mark)] for text in texts}
        within = Counter(part for found in parts.values() for part in set(found))
        whole = {found[0] for found in parts.values() if len(found) == 1}
        several = []
        for text, found in parts.items():
            alone = 0 if all(map(str.isdecimal, found)) else {" ": len(found), ",": 1}.get(mark, 0)
            if len(found) > 1 and all(within[part] > 1 for part in found) and len(whole & {*found}) >= alone:
                several.append(text)
        if mark == " " and len(several) == 1 and not several[0].replace(" ", "").isdecimal():
            return [f"label {several[0]!r} is read as one class beside {' and '.join(parts[several[0]][:3])}"]
        for text in several[:1]:
            raise BadInput(
                f"{place} row {list(labels).index(text)}: label {text!r} names several classes (multi-label), "
                f"{' and '.join(parts[text][:3])}: give each picture one, or write one class without {mark!r}"
            )
    return []


def _distinct(names: tuple[str, ...]) -> tuple[str, ...]:
    """Names that stand for several numbers, told apart by them: ImageNet has two classes called crane."""
    counts = Counter(names)
    return tuple(f"{name} ({number})" if counts[name] > 1 else name for number, name in enumerate(names))


def _few(values: Sequence[Any], most: int = 6) -> str:
    text = ", ".join(map(str, values[:most]))
    return f"{text}, … ({len(values)})" if len(values) > most else text
