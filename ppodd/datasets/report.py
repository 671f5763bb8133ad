"""What was read of a data set, said before anything is computed: for people, and as a record."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable
from typing import Annotated, NamedTuple

import pydantic

from ppodd.datasets.sources import Spec
from ppodd.words import counted

_RARE = 5  # a class with less than 1 in so many of the largest class's pictures is rare
_NAMED = 12  # classes that are written out
_BAD = 3  # unreadable pictures that are named


def _printable(text: str) -> str:
    """A text with names of files in it, which need not be UTF-8."""
    return os.fsencode(text).decode(errors="backslashreplace")


_Text = Annotated[str, pydantic.BeforeValidator(_printable)]


class SplitReport(NamedTuple):
    """Pictures of each class in a split, and the files or folders they came from."""

    places: tuple[str, ...]
    counts: tuple[int, ...]

    @property
    def images(self) -> int:
        """How many images there are, of all classes."""
        return sum(self.counts)


class DataReport(pydantic.BaseModel):
    """What was read.

    Attributes:
        place: where the data set lies.
        splits: `train`, `validation` (only where the data set has one of its own) and `test`, as they are used.
        test_from: where the test split came from; empty where it was cut off the training set.
        shape: channels, height and width of the images.
        sizes: pictures of each size before they are resized, `width × height`; of many sizes, the most common.
        notes, warnings: what was done to them and what was left out, and why.
    """

    model_config = pydantic.ConfigDict(frozen=True)

    place: _Text
    classes: tuple[str, ...]
    splits: dict[str, SplitReport]
    test_from: str
    shape: tuple[int, int, int]
    sizes: dict[str, int]
    notes: tuple[_Text, ...] = ()
    warnings: tuple[_Text, ...] = ()

    @property
    def spec(self) -> Spec:
        """Classes and the shape of an image."""
        return Spec(len(self.classes), *self.shape)

    def lines(self) -> list[str]:
        """The block that is shown."""
        width, height = self.shape[2], self.shape[1]
        colour = "grey" if self.shape[0] == 1 else "RGB"
        return [
            f"data: {self.place}",
            *(f"  {name}: {_split(split)}" for name, split in self.splits.items()),
            f"  {counted(len(self.classes), 'class')}: {self._classes()}",
            f"  images: {colour}, {width} × {height} px{self._resized(f'{width} × {height}')}",
            *(f"  note: {note}" for note in self.notes),
            *(f"  warning: {warning}" for warning in self.all_warnings),
        ]

    @property
    def all_warnings(self) -> list[str]:
        """Those noted when it was read, and those that follow from the counts."""
        cut = [] if self.test_from else ["there is no test split: every fifth image of each class is cut off to test"]
        counts = self.splits["train"].counts
        rare = [f"{name} ({n:,})" for name, n in zip(self.classes, counts, strict=True) if n * _RARE < max(counts)]
        rarely = [f"rare classes, of {max(counts):,} images in the largest: {_few(rare)}"] if rare else []
        tested = zip(self.classes, self.splits["test"].counts, strict=True)
        untested = [name for name, count in tested if not count]
        never = [f"no test image, so nothing is known of how well they are told: {_few(untested)}"] if untested else []
        return [*cut, *rarely, *never, *self.warnings]

    def _classes(self) -> str:
        """Names with their training and test images."""
        train, test = self.splits["train"].counts, self.splits["test"].counts
        if len(set(train)) == 1 and len(set(test)) == 1:
            return f"{_few(self.classes)}; each {train[0]:,} training and {counted(test[0], 'test image')}"
        return _few([f"{name} {a:,} + {b:,}" for name, a, b in zip(self.classes, train, test, strict=True)])

    def _resized(self, now: str) -> str:
        if set(self.sizes) <= {now}:
            return ""
        stored = [size for size, _ in Counter(self.sizes).most_common()]
        return f", resized from {', '.join(stored[:4])}{', …' if len(stored) > 4 else ''}"


def of_split(places: Iterable[str], labels: Iterable[int], classes: int) -> SplitReport:
    """The report of images at these places with these labels."""
    counts = Counter(labels)
    return SplitReport(tuple(map(_printable, places)), tuple(counts[label] for label in range(classes)))


def bad_images(bad: list[str]) -> list[str]:
    """The warning for pictures that were left out since they cannot be read."""
    return [f"{counted(len(bad), 'unreadable image')} left out: {_few(bad, _BAD)}"] if bad else []


def _split(split: SplitReport) -> str:
    return f"{counted(split.images, 'image')} from {_few(split.places, 2)}"


def _few(values: Iterable[str], most: int = _NAMED) -> str:
    values = [" ".join(value.split()) for value in values]  # of a name of several lines, too
    return ", ".join(values[:most]) + (f", … ({len(values):,} in all)" if len(values) > most else "")
