"""The sweep file: YAML to an explicit, validated list of trials. Light: needs neither torch nor Ray."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pydantic

from ppodd.config import DistillConfig, EvaluationConfig, build, check_evaluation, preset, protocols, said
from ppodd.errors import BadInput, unknown
from ppodd.posters import BLENDS
from tune.sweep_file.document import Document
from tune.sweep_file.lockstep import check_lockstep
from tune.sweep_file.overrides import apply_override
from tune.sweep_file.schema import NESTED, SweepFile
from tune.sweep_file.space import Path_, Section, SweepFileError, check_conditions, check_field, keys
from tune.sweep_file.sweep import Sweep
from tune.sweep_file.trials import example_trials, fixed, listed_trials, shape_here

SWEEPS = Path(__file__).parents[1] / "sweeps"
_NEEDED = {"name": "name: my-sweep", "if": "if: {blend: latest}"}  # keys that may not be left out


def find_sweep_file(name: str) -> Path:
    """A sweep file by its path, or one that ships with ppodd by its name.

    Raises:
        BadInput: neither is there.
    """
    shipped = {path.stem: path for path in sorted(SWEEPS.glob("*.yaml"))}
    if name in shipped:
        return shipped[name]
    if os.path.isfile(name):  # which says no of what can be no path
        return Path(name)
    if name.endswith((".yaml", ".yml")) or "/" in name:
        raise BadInput(f"no sweep file {name!r} (shipped by name: {', '.join(shipped)})")
    raise unknown("sweep", name, shipped)


def load_sweep(path_or_name: str, overrides: Sequence[str] = ()) -> Sweep:
    """The sweep of a file (or shipped name) with `key=value` overrides, every trial validated.

    Raises:
        BadInput: one line naming file, line and key.
    """
    document = Document(find_sweep_file(path_or_name))
    values = dict(document.values)
    fields = [apply_override(values, override, document) for override in overrides]
    try:
        return _sweep(_file(values), [key for key in fields if key])
    except SweepFileError as error:
        raise document.error(error.path, str(error)) from None


def sweep_of(values: Mapping[str, Any] | SweepFile) -> Sweep:
    """The sweep of a file's content, every trial validated.

    Raises:
        BadInput: one line naming the key.
    """
    if isinstance(values, SweepFile):
        values = values.model_dump(mode="json", by_alias=True, exclude_unset=True)
    try:
        return _sweep(_file(dict(values)), [])
    except SweepFileError as error:
        raise BadInput(
            f"sweep, {'.'.join(map(str, error.path))}: {error}" if error.path else f"sweep: {error}"
        ) from None


def _file(values: dict[str, Any]) -> SweepFile:
    """The file's values, validated. Raises `SweepFileError`."""
    _check_keys(values, SweepFile, "key", ())
    try:
        with _at():
            return SweepFile.model_validate(values)
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        path = tuple(map(str, first["loc"]))
        if first["type"] == "extra_forbidden":
            known = [f.alias or key for key, f in NESTED[path[0]].model_fields.items()]
            raise SweepFileError(path, str(unknown(f"{path[0]} key", path[-1], known))) from None
        if first["type"] == "missing":
            raise SweepFileError(path, f"{'.'.join(path)} is missing: write {_NEEDED[path[-1]]}") from None
        raise SweepFileError(path, said(first)) from None


def _sweep(file: SweepFile, overridden: Sequence[str]) -> Sweep:
    """The sweep of a validated file. Raises `SweepFileError`."""
    shape_here.cache_clear()  # the data may be others than when the last file was read
    for key, value in file.config.items():
        check_field(key, ("config", key), value)
    with _at("preset"):
        base = {**preset(file.preset), **file.config}
    sections = [Section.of((), {}, file.grid, file.sample)]
    for key in sections[0].fields:
        if key in file.config:
            raise SweepFileError(("config", key), f"{key} varies under grid or sample: remove it there, or from config")
    for number, when in enumerate(file.when):
        sections.append(Section.of(("when", str(number)), when.condition, when.grid, when.sample))
    check_conditions(sections, fixed(base), overridden)
    evaluations = tuple(_evaluation(number, values) for number, values in enumerate(file.evaluation))
    if file.search:
        examples = list(example_trials(file, base, sections).values())
        trials: dict[str, DistillConfig] = {}
    else:
        trials = listed_trials(file, base, sections)
        examples = list(trials.values())
    with _at("evaluation"):
        for config in examples:
            protocols(evaluations, config)
    for number, evaluation in enumerate(evaluations):
        with _at("evaluation", str(number)):
            for dataset, image_size in {(config.dataset, config.image_size) for config in examples}:
                check_evaluation(evaluation, dataset, image_size)
    _check_choices(file, examples)
    _check_device(file, examples)
    check_lockstep(file, trials)
    return Sweep(file, evaluations, base, sections, examples, trials)


def _check_device(file: SweepFile, examples: Sequence[DistillConfig]) -> None:
    """Raise `SweepFileError` where a trial is to compute on what it will not see: Ray shows it its own GPU alone."""
    for device in {config.device: None for config in examples}:
        if device in ("auto", "cpu") or (file.resources.gpus and device in ("cuda", "cuda:0")):
            continue
        if not device.startswith("cuda"):
            what = "accepted are auto, cpu and cuda"
        elif file.resources.gpus:
            what = "a trial sees the one GPU that it reserves; write cuda, or leave device out"
        else:
            what = "trials reserve no GPU; write resources: {gpus: 1} or a fraction, or leave device out"
        key = next((joint for joint in file.grid if "device" in keys(joint)), "")
        raise SweepFileError(("grid", key) if key else ("config", "device"), f"device {device}: {what}")


def _check_choices(file: SweepFile, examples: Sequence[DistillConfig]) -> None:
    """Raise `SweepFileError` where a searcher or scheduler would choose by the test set, or has nothing to go by."""
    section = "search" if file.search else "scheduler"
    if not (file.search or file.scheduler):
        return
    leaking = {config.blend for config in examples if BLENDS.known(config.blend).leaks}
    if file.objective == "stage_accuracy" and leaking:
        raise SweepFileError(
            (section,),
            f"blend {', '.join(sorted(leaking))} measures its stage accuracy on the test set, which no {section} may "
            f"choose by: leave that blend out",
        )
    if file.scheduler:
        untrained = sorted({config.method for config in examples if not config.learns})
        if untrained:
            raise SweepFileError(
                ("scheduler",),
                f"method {', '.join(untrained)} learns nothing, so it has no course to be compared along: leave it "
                f"out, or the scheduler",
            )
        grace = file.scheduler.grace_stages
        longest = max(min(grace, config.num_stages) * config.stage_epochs for config in examples)
        if file.scheduler.compare_at == "epochs" and all(c.num_stages * c.stage_epochs <= longest for c in examples):
            few = min(config.num_stages for config in examples)
            raise SweepFileError(
                ("scheduler",),
                f"nothing can be stopped: a trial of {few} stages is first compared after {longest} epochs "
                f"(grace_stages: {grace}), when every trial is at its end; leave out few stages, or the scheduler",
            )


def _evaluation(number: int, values: dict[str, Any]) -> EvaluationConfig:
    place = ("evaluation", str(number))
    _check_keys(values, EvaluationConfig, "config field", place)
    with _at(*place):
        return build(EvaluationConfig, values)


class _at:
    """Gives the `BadInput` raised inside the place of a key of the file, or of its field below that."""

    def __init__(self, *path: str):
        self.path = path

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, BadInput) and not isinstance(error, SweepFileError):
            raise SweepFileError((*self.path, *filter(None, [error.field])), str(error)) from None


def _check_keys(values: Mapping[str, Any], kind: Any, what: str, path: Path_) -> None:
    for key in values:
        if key not in kind.model_fields:
            raise SweepFileError((*path, str(key)), str(unknown(what, key, kind.model_fields, kind.listed)))
