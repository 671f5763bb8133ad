"""The trials of a sweep file: every grid point, sample and seed as a validated config."""

from __future__ import annotations

import contextlib
import functools
import math
import random
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from ppodd.config import (
    IPC,
    METHODS,
    P_PODD,
    DistillConfig,
    absolute_paths,
    build,
    laid_out,
    preset,
    shape_of,
)
from ppodd.datasets import Request, Spec
from ppodd.errors import BadInput
from ppodd.posters import Geometry
from tune.sweep_file.distributions import DISTRIBUTIONS
from tune.sweep_file.schema import SweepFile
from tune.sweep_file.space import Path_, Point, Section, SweepFileError, keys, marked, name, parameters, points

_EXAMPLES = 100  # settings drawn of a searched space, to check it by
_MOST_TRIALS = 100_000


def fixed(base: Mapping[str, Any]) -> dict[str, Any]:
    """The value of every field where nothing is varied."""
    return {IPC: None} | {key: f.default for key, f in DistillConfig.model_fields.items()} | dict(base)


@functools.lru_cache(maxsize=32)
def shape_here(request: Request) -> Spec:
    """The shape of data, read once for all the trials of a file. Raises `BadInput` where it is not on this machine."""
    try:
        return shape_of(request)
    except BadInput as error:
        raise BadInput(f"{error}; where the data is on a cluster alone, write its layout out instead of ipc") from None


def is_meant_for(file: SweepFile, dataset: str, given: Collection[str]) -> bool:
    """Whether the preset's layout and schedule are for the data, or the file says what is."""
    its_own = "preset" in file.model_fields_set or dataset == preset(file.preset)["dataset"]
    return its_own or bool(set(Geometry._fields) & set(given))


def listed_trials(file: SweepFile, base: Mapping[str, Any], sections: Sequence[Section]) -> dict[str, DistillConfig]:
    """Every grid point × sample × seed, in that order; what is drawn twice is one trial.

    So are points of a baseline that differ in what plays no part in it.
    """
    _check_number(file, sections[0])
    source = random.Random(f"{file.name}/{file.seeds}")
    drawn = any(section.sample for section in sections)
    trials: dict[str, DistillConfig] = {}
    there: dict[str, str] = {}
    for point in points(sections, fixed(base), file.num_samples, source):
        for called, config in seeded(file, base, point, trials).items():
            # `1e-3` is a text in YAML and 1.0e-3 a number: one value by two names
            baseline = config.method != P_PODD
            ignored = {"name", *(config.idle if baseline else ())}
            same = there.setdefault(config.model_dump_json(exclude=ignored), called)
            if not drawn and (called in trials or (same != called and not baseline)):
                raise SweepFileError(("grid",), f"trial {_both(same, called)} appears twice: remove the repeated value")
            trials.setdefault(same, config)
    _check_twins(trials)
    return trials


def _check_number(file: SweepFile, always: Section) -> None:
    """Raise `SweepFileError` where there are more trials than anyone means, before they are made."""
    axes = [len(axis) for axis in always.grid]
    trials = math.prod(axes) * (file.num_samples if always.sample else 1) * len(file.seeds)
    if trials > _MOST_TRIALS:
        longest = "num_samples" if always.sample and file.num_samples > max(axes, default=1) else "grid"
        raise SweepFileError((longest,), f"{trials:,} trials, of at most {_MOST_TRIALS:,}: vary less, or search")


def _both(first: str, second: str) -> str:
    return first if first == second else f"{first}, written {second} too,"


def _check_twins(trials: Iterable[str]) -> None:
    """Raise `SweepFileError` where two trials' names differ in case only."""
    folded: dict[str, str] = {}
    for called in trials:
        if (other := folded.setdefault(called.casefold(), called)) != called:
            raise SweepFileError(
                ("grid",),
                f"trials {other} and {called} differ in case only, and on many disks are one folder: rename a value",
            )


def example_trials(file: SweepFile, base: Mapping[str, Any], sections: Sequence[Section]) -> dict[str, DistillConfig]:
    """Trials drawn at random from a searched space. Raises `SweepFileError` where none of them is valid."""
    for section in sections:
        if section.grid:
            raise SweepFileError(
                (*section.path, "grid"), "a searched sweep tries no grid: write sample: {field: {choice: […]}} instead"
            )
        for joint, distribution in section.sample.items():
            if distribution.family.domain is None:
                raise SweepFileError(
                    (*section.path, "sample", joint),
                    f"no search knows {distribution.kind}: register a Family whose domain returns what Ray's searchers "
                    f"take for it, or leave search out",
                )
    if not sections or not parameters(sections):
        raise SweepFileError(("search",), "there is nothing to search: write what varies under sample")
    if file.num_samples == 1:
        raise SweepFileError(("search",), "say how many settings to try: num_samples")
    source, wrong = random.Random(file.name), None
    trials: dict[str, DistillConfig] = {}
    for point in points(sections, fixed(base), _EXAMPLES, source):
        try:
            trials |= seeded(file, base, point, trials)
        except SweepFileError as error:
            wrong = wrong or error
    if not trials:
        assert wrong
        raise wrong
    return trials


def seeded(
    file: SweepFile, base: Mapping[str, Any], point: Point, there: Mapping[str, DistillConfig]
) -> dict[str, DistillConfig]:
    """A point's trials, one a seed. A name that is there for another config gets all its digits, or a digest.

    Raises:
        SweepFileError: a value makes no valid config, or a seed appears twice.
    """
    trials: dict[str, DistillConfig] = {}
    values = _laid_out(file, base, point)
    for seed in file.seeds:
        whole = _decided(values, {**point, "seed": seed})
        for called in (name(whole), name(whole, digits=17), marked(name(whole), repr(whole))):
            try:
                config = build(DistillConfig, {**values, "seed": seed, "name": called})
            except BadInput as error:
                place = _blamed(error.field, file)
                raise SweepFileError(place, f"trial {called}: {error}{_drawn_by(place, file)}") from None
            config = absolute_paths(config)
            if there.get(called, config) == config:
                break
        if called in trials:
            raise SweepFileError(("seeds",), f"trial {called} appears twice: remove the repeated seed")
        trials[called] = config
    return trials


def _laid_out(file: SweepFile, base: Mapping[str, Any], point: Point) -> dict[str, Any]:
    """A point's config values, with a layout that is chosen for its data where one is to be."""
    values, given = {**base, **point}, {*file.config, *point}
    try:
        return laid_out(values, given, is_meant_for(file, values["dataset"], given), shape_here).values
    except BadInput as error:
        raise SweepFileError(_blamed(error.field, file), str(error)) from None


def _decided(values: Mapping[str, Any], point: Point) -> Point:
    """The point with what its method decides of it; as it is where it makes no valid config."""
    with contextlib.suppress(BadInput):
        config = build(DistillConfig, dict(values))
        decided = METHODS.known(config.method).settles(config)
        return {key: decided.get(key, value) for key, value in point.items()}
    return point


def _drawn_by(place: Path_, file: SweepFile) -> str:
    """Whose value it is, where a distribution of the user's own drew it."""
    if "sample" not in place:
        return ""
    sample = file.when[int(place[1])].sample if place[0] == "when" else file.sample
    distribution = sample[place[-1]]
    kinds = distribution if isinstance(distribution, dict) else {}
    own = [kind for kind in kinds if kind not in DISTRIBUTIONS.own]
    return f", drawn by {own[0]!r}; accepted is {DISTRIBUTIONS.accepted}" if own else ""


def _blamed(field: str, file: SweepFile) -> Path_:
    """The key of the file that sets a field, or else the whole grid or config."""
    sections: list[tuple[Path_, Mapping[str, Any]]] = [(("grid",), file.grid), (("sample",), file.sample)]
    for number, when in enumerate(file.when):
        sections += [(("when", str(number), kind), getattr(when, kind)) for kind in ("grid", "sample")]
    for path, joints in [*sections, (("config",), file.config)]:
        for joint in joints:
            if field in keys(joint):
                return (*path, joint)
    return ("grid",) if file.grid else ("config",)
