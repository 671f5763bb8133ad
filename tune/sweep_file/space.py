"""What a sweep varies: grids, samples, and those of them that hold only where another field has a value.

A space is a list of sections, gone through in order: the file's own `grid` and `sample`, which always hold, then each
entry of `when`. Light: needs neither torch nor Ray.
"""

from __future__ import annotations

import hashlib
import itertools
import random
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from ppodd.config import IPC, DistillConfig, shortened
from ppodd.errors import BadInput, unknown
from tune.sweep_file.distributions import DISTRIBUTIONS, Family

_LONGEST_NAME, _LONGEST_NAME_BYTES = 120, 240
# What a sweep may set or vary: the config's fields, and by what their layout is chosen.
FIELDS = (*DistillConfig.model_fields, IPC)
Path_ = tuple[str, ...]
Point = dict[str, Any]  # values of the fields that vary


class SweepFileError(BadInput):
    """What is wrong at a key of the sweep file; `path` leads to it."""

    def __init__(self, path: Path_, message: str):
        super().__init__(message)
        self.path = path


class Distribution(NamedTuple):
    """What one draw of `fields` is taken from: a `kind` of `DISTRIBUTIONS` with its `values`."""

    fields: list[str]
    kind: str
    values: list[Any]

    @property
    def family(self) -> Family:
        """What its kind is."""
        return DISTRIBUTIONS.get(self.kind)

    def draw(self, source: random.Random) -> Point:
        """One draw: values of all its fields."""
        return self.point(self.family(source, self.values))

    def domain(self) -> Any:
        """What Ray's searchers know as this distribution."""
        assert self.family.domain  # else the sweep file was refused
        return self.family.domain(self.values)

    def point(self, value: Any) -> Point:
        """A drawn value as values of the fields."""
        return dict(zip(self.fields, [value] if len(self.fields) == 1 else value, strict=True))


@dataclass(frozen=True)
class Section:
    """One part of a space: `grid` and `sample` where every field of `condition` has one of its values.

    Attributes:
        path: where the file says it: `()` or `("when", "0")`.
        grid: points of each axis.
        sample: distributions by their key in the file.
    """

    path: Path_
    condition: dict[str, list[Any]]
    grid: list[list[Point]]
    sample: dict[str, Distribution]

    @classmethod
    def of(
        cls, path: Path_, condition: Mapping[str, Any], grid: Mapping[str, Any], sample: Mapping[str, Any]
    ) -> Section:
        """A section as the file writes it. Raises `SweepFileError` at what cannot be read."""
        for place, joints in (("if", condition), ("grid", grid), ("sample", sample)):
            for joint in joints:
                for key in keys(joint):
                    check_field(key, (*path, place, joint), joints[joint])
        for joint in grid:
            if both := set(keys(joint)) & {key for drawn in sample for key in keys(drawn)}:
                raise SweepFileError(
                    (*path, "sample"), f"{', '.join(both)} is both in grid and in sample: vary it in one place"
                )
        return cls(
            path,
            {key: value if isinstance(value, list) else [value] for key, value in condition.items()},
            [_axis((*path, "grid", joint), joint, values) for joint, values in grid.items()],
            {joint: _distribution((*path, "sample", joint), joint, how) for joint, how in sample.items()},
        )

    @property
    def fields(self) -> list[str]:
        """The fields that it varies."""
        drawn = [key for distribution in self.sample.values() for key in distribution.fields]
        return [key for axis in self.grid for key in axis[0]] + drawn

    def holds(self, values: Mapping[str, Any]) -> bool:
        """Whether these values fulfil its condition."""
        return all(values[key] in accepted for key, accepted in self.condition.items())


def check_field(key: str, path: Path_, value: Any) -> None:
    """Raise `SweepFileError` where a sweep file may not set or vary `key`: it is no field, or the sweep sets it."""
    if key not in FIELDS:
        raise SweepFileError(path, str(unknown("config field", key, FIELDS, DistillConfig.listed)))
    if key == "seed":
        raise SweepFileError(path, f"a sweep repeats every setting by its seeds: write seeds: {_as_seeds(value)}")
    if key == "name":
        raise SweepFileError(
            path, "trials are named after what varies: leave it out; the sweep's own name is the key name"
        )


def _as_seeds(value: Any) -> list[int]:
    """What was meant by a value of `seed`, or an example where it is none."""
    seeds = value if isinstance(value, list) else [value]
    return seeds if all(isinstance(seed, int) for seed in seeds) else [0, 1, 2]


def check_conditions(sections: Sequence[Section], fixed: Mapping[str, Any], overridden: Sequence[str] = ()) -> None:
    """Raise `SweepFileError` at a condition that can never hold, or that asks for what is varied only after it.

    Args:
        fixed: values of the fields that do not vary.
        overridden: fields whose condition may never hold: a user set them for this once.
    """
    for number, section in enumerate(sections):
        for key, accepted in section.condition.items():
            path = (*section.path, "if", key)
            if any(key in later.fields for later in sections[number:]):
                raise SweepFileError(
                    path, f"{key} is varied only here or further down: put the entry that varies it first"
                )
            there = _possible(key, sections[:number], fixed)
            if there is None or key in overridden or any(value in there for value in accepted):
                continue
            wanted, found = (", ".join(map(str, values)) for values in (accepted, there))
            raise SweepFileError(path, f"{key} is never {wanted}: here it is {found}")


def _possible(key: str, sections: Sequence[Section], fixed: Mapping[str, Any]) -> list[Any] | None:
    """Every value that a field takes; `None` where they cannot be listed."""
    found = [point[key] for section in sections for axis in section.grid for point in axis if key in point]
    for distribution in (d for section in sections for d in section.sample.values() if key in d.fields):
        if not distribution.family.listed:
            return None
        found += [distribution.point(value)[key] for value in distribution.values]
    always = any(key in section.fields for section in sections if not section.condition)
    return found if always else [*found, fixed[key]]


def points(
    sections: Sequence[Section], fixed: Mapping[str, Any], num_samples: int, source: random.Random
) -> Iterator[Point]:
    """Every grid point, `num_samples` times where something is drawn there; a section's draws differ at each point."""

    def expand(point: Point, left: Sequence[Section], samples: int) -> Iterator[Point]:
        if not left:
            yield point
            return
        section, *rest = left
        if not section.holds({**fixed, **point}):
            yield from expand(point, rest, samples)
            return
        _check_new(section, point)
        for parts in itertools.product(*section.grid):
            for _ in range(samples if section.sample else 1):
                drawn = [distribution.draw(source) for distribution in section.sample.values()]
                yield from expand(_merged(point, *parts, *drawn), rest, 1 if section.sample else samples)

    yield from expand({}, sections, num_samples)


def _check_new(section: Section, point: Point) -> None:
    for key in section.fields:
        if key in point:
            raise SweepFileError(section.path, f"{key} is varied already where this holds: vary it in one place")


def suggested_point(sections: Sequence[Section], fixed: Mapping[str, Any], values: Mapping[str, Any]) -> Point:
    """The point that a searcher's values, named as by `parameters`, stand for: those of the sections that hold."""
    point: Point = {}
    for section in sections:
        if section.holds({**fixed, **point}):
            _check_new(section, point)
            drawn = [d.point(values[parameter(section, joint)]) for joint, d in section.sample.items()]
            point = _merged(point, *drawn)
    return point


def parameter(section: Section, joint: str) -> str:
    """What a searcher calls a distribution: its key in the file, after the entry of `when` that it stands in."""
    return " ".join([*section.path, joint])


def parameters(sections: Sequence[Section]) -> dict[str, Distribution]:
    """All distributions of a space by the names that a searcher knows them by."""
    return {parameter(section, joint): d for section in sections for joint, d in section.sample.items()}


def varied(sections: Sequence[Section]) -> list[str]:
    """The fields that vary, each once, in the file's order."""
    return list(dict.fromkeys(key for section in sections for key in section.fields))


def keys(joint: str) -> list[str]:
    """`poster_width, poster_height` names two fields that vary together."""
    return [key.strip() for key in joint.split(",")]


def name(point: Point, digits: int = 3) -> str:
    """A short, path-safe name of what a trial varies; floats to so many digits."""

    def text(value: Any) -> str:
        return re.sub(r"[^\w.+-]", "-", f"{value:.{digits}g}" if isinstance(value, float) else str(value))

    whole = ",".join(f"{key}={text(value)}" for key, value in point.items())
    if len(whole) <= _LONGEST_NAME and len(whole.encode()) <= _LONGEST_NAME_BYTES:
        return whole
    return marked(whole, whole)


def marked(called: str, of: str) -> str:
    """A name that tells what it is of by a digest; its beginning, where it is long."""
    start = shortened(called[: _LONGEST_NAME - 13], _LONGEST_NAME_BYTES - 13)
    return start.rstrip(",") + "," + hashlib.sha256(of.encode()).hexdigest()[:12]


def _merged(*parts: Point) -> Point:
    return {key: value for part in parts for key, value in part.items()}


def _axis(path: Path_, joint: str, values: list[Any]) -> list[Point]:
    fields = keys(joint)
    if len(fields) == 1:
        return [{fields[0]: value} for value in values]
    return [dict(zip(fields, value, strict=True)) for value in _joint(path, fields, values)]


def _joint(path: Path_, fields: list[str], values: list[Any]) -> list[Any]:
    for value in values:
        if not isinstance(value, list) or len(value) != len(fields):
            raise SweepFileError(path, f"{value!r} must be a list of {len(fields)} values, for {', '.join(fields)}")
    return values


def _distribution(path: Path_, joint: str, how: Mapping[str, Any]) -> Distribution:
    """As the file writes it, such as `{loguniform: [1e-4, 1e-2]}`."""
    if len(how) != 1:
        raise SweepFileError(path, f"{how!r} must name one of {DISTRIBUTIONS.listing}")
    ((kind, values),) = how.items()
    try:
        family = DISTRIBUTIONS.get(kind)
    except BadInput as error:
        raise SweepFileError(path, str(error)) from None
    fields = keys(joint)
    if len(fields) > 1 and not family.listed:
        raise SweepFileError(path, f"{joint} vary together: draw them by choice, not {kind}")
    try:
        read = family.read(values)
    except (TypeError, ValueError):
        raise SweepFileError(path, f"{kind}: {values!r} must be {family.written}") from None
    return Distribution(fields, kind, _joint(path, fields, read) if len(fields) > 1 else read)
