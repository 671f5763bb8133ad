"""The sweep file: YAML to an explicit, validated list of trials. Light: needs neither torch nor Ray."""

from __future__ import annotations

import random
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import pydantic
import yaml
from pydantic import Field

from ppodd.archive import SCHEMA, SweepRecord, SweepTrial
from ppodd.config import (
    CIRCUMSTANCES,
    LATER_STAGES,
    DistillConfig,
    EvaluationConfig,
    absolute_paths,
    build,
    check_evaluation,
    check_name,
    preset,
    protocols,
    rebuild,
    said,
)
from ppodd.errors import BadInput, unknown
from ppodd.posters import BLENDS
from tune.sweep_file.document import Document
from tune.sweep_file.space import (
    Distribution,
    Misplaced,
    Path_,
    Point,
    Section,
    check_conditions,
    check_field,
    keys,
    marked,
    name,
    parameters,
    points,
    suggested_point,
    varied,
)

SWEEPS = Path(__file__).parents[1] / "sweeps"
_EXAMPLES = 100  # settings drawn of a searched space, to check it by
_NEEDED = {"name": "name: my-sweep", "if": "if: {blend: latest}"}  # keys that may not be left out


class _Section(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(frozen=True, extra="forbid")


class Resources(_Section):
    """What a trial or an evaluator reserves; may be fractions of a CPU; of a GPU at most one, on which it computes."""

    cpus: Annotated[float, Field(ge=0)] = 1
    gpus: Annotated[float, Field(ge=0)] = 0

    @pydantic.field_validator("gpus")
    @classmethod
    def _one_gpu(cls, gpus: float) -> float:
        if gpus > 1:
            raise ValueError(
                "a trial or an evaluator computes on one GPU: write 1 or a fraction, and have more of them at once"
            )
        return gpus


class TrialResources(Resources):
    """What a trial reserves, and whether one that ran out of memory goes on with half the `real_chunk`."""

    on_out_of_memory: Literal["fail", "halve_chunk"] = "fail"


class Evaluators(Resources):
    """The pool: at most how many evaluators, what each reserves (0 CPUs: it takes what trials leave of the cores), and
    after how long without work one gives that back."""

    count: Annotated[int, Field(ge=1)] = 1
    idle_s: Annotated[float, Field(gt=0)] = 120


def _listed(value: Any) -> Any:
    return [value] if isinstance(value, dict) else value


class When(_Section):
    """What is varied only where each field of `if` has that value (or one of a list)."""

    condition: Annotated[dict[str, Any], Field(min_length=1, alias="if")]
    grid: dict[str, Annotated[list[Any], Field(min_length=1)]] = {}
    sample: dict[str, dict[str, Any]] = {}

    @pydantic.model_validator(mode="after")
    def _varies(self) -> When:
        if not self.grid and not self.sample:
            raise ValueError("name what varies there: grid or sample")
        return self


class Search(_Section):
    """Who suggests the `num_samples` settings that are tried, out of `sample`, by what came of earlier ones."""

    algorithm: Literal["optuna", "hyperopt"] = "optuna"
    seed: Annotated[int, Field(ge=0)] = 0


class Scheduler(_Section):
    """Which trials are stopped before their last stage.

    Attributes:
        kind: `asha` keeps the best 1 in `reduction_factor` at each rung, rungs lying `reduction_factor` times further
            each; `median` stops what is worse than the median of at least `min_trials` others.
        grace_stages: stages that every trial finishes.
        compare_at: the progress at which trials are compared: equal epochs, or equal (counted) compute.
    """

    kind: Literal["asha", "median"] = "asha"
    grace_stages: Annotated[int, Field(ge=1)] = 1
    reduction_factor: Annotated[float, Field(gt=1)] = 2
    min_trials: Annotated[int, Field(ge=1)] = 3
    compare_at: Literal["epochs", "compute"] = "epochs"


class SweepFile(_Section):
    """What a sweep file may say. `config`, `grid`, `sample` and `when` name fields of the distillation's config."""

    listed: ClassVar[str] = "docs/sweeps.md"

    name: Annotated[str, pydantic.AfterValidator(check_name)]
    description: str = ""
    preset: str = "digits"
    config: dict[str, Any] = {}
    grid: dict[str, Annotated[list[Any], Field(min_length=1)]] = {}
    sample: dict[str, dict[str, Any]] = {}
    when: list[When] = []
    num_samples: Annotated[int, Field(ge=1)] = 1
    seeds: Annotated[tuple[Annotated[int, Field(ge=0)], ...], Field(min_length=1)] = (0,)
    objective: Literal["stage_accuracy", "meta_loss"] = "stage_accuracy"
    search: Search | None = None
    scheduler: Scheduler | None = None
    resources: TrialResources = TrialResources()
    evaluation: Annotated[list[dict[str, Any]], pydantic.BeforeValidator(_listed), Field(min_length=1)] = [{}]
    evaluators: Evaluators = Evaluators()
    max_concurrent: Annotated[int, Field(ge=1)] | None = None
    stage_accuracy: Literal["trial", "evaluators"] = "trial"

    @property
    def mode(self) -> Literal["min", "max"]:
        """Which end of the objective is the better one."""
        return "max" if self.objective == "stage_accuracy" else "min"


_NESTED: dict[str, type[_Section]] = {
    "when": When,
    "search": Search,
    "scheduler": Scheduler,
    "resources": TrialResources,
    "evaluators": Evaluators,
}


@dataclass(frozen=True)
class Sweep:
    """A sweep ready to run: its trials' configs by name, and how they are evaluated.

    Attributes:
        trials: all of them; of a searched sweep those that were suggested so far, to which the driver adds.
        suggested: of a searched sweep, what the searcher said for each trial, by its own names.
        base: the values that every trial starts from.
        examples: configs that show what varies: the trials, or some drawn from a searched space.
    """

    file: SweepFile
    evaluations: tuple[EvaluationConfig, ...]
    base: dict[str, Any]
    sections: list[Section]
    examples: list[DistillConfig]
    trials: dict[str, DistillConfig]
    suggested: dict[str, dict[str, Any]] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.file.name

    @property
    def wanted(self) -> int:
        """How many trials there are in the end."""
        return self.file.num_samples * len(self.file.seeds) if self.file.search else len(self.trials)

    @property
    def varied(self) -> list[str]:
        return varied(self.sections) + (["seed"] if len(self.file.seeds) > 1 else [])

    @property
    def repeats(self) -> list[str]:
        """Trials that come to what an earlier one does: of one stage, apart only in what later stages depend on."""
        first: dict[str, str] = {}
        for trial, config in self.trials.items():
            honest = not BLENDS.known(config.blend).leaks  # else its stage accuracy is another
            ignored = {"name", *(LATER_STAGES if config.num_stages == 1 and honest else ())}
            first.setdefault(config.model_dump_json(exclude=ignored), trial)
        kept = set(first.values())
        return [trial for trial in self.trials if trial not in kept]

    @property
    def space(self) -> dict[str, Distribution]:
        """What a search draws from, by the names that the searcher knows."""
        return parameters(self.sections)

    def record(self) -> SweepRecord:
        """What `sweep.json` holds; equal for equal sweeps."""
        file = self.file
        chosen: dict[str, Any] = {}
        if file.search:
            space = {key: [d.kind, d.values] for key, d in self.space.items()}
            base = {key: value for key, value in self.base.items() if key not in CIRCUMSTANCES}
            when = [section.condition for section in self.sections[1:]]
            told = {"base": base, "space": space, "when": when, "seeds": list(file.seeds)}
            chosen = {"search": {**file.search.model_dump(), **told}, "wanted": self.wanted}
        if file.scheduler:
            chosen["scheduler"] = file.scheduler.model_dump()
        if file.search or file.scheduler:
            chosen["objective"] = file.objective
        return SweepRecord(
            schema=SCHEMA,
            name=file.name,
            description=file.description,
            preset=file.preset,
            varied=tuple(self.varied),
            trials=tuple(self._listed(name) for name in self.trials),
            evaluation=tuple(evaluation.model_dump(mode="json") for evaluation in self.evaluations),
            **chosen,
        )

    def _listed(self, name: str) -> SweepTrial:
        suggested = {"suggested": self.suggested[name]} if self.file.search else {}
        return SweepTrial(name=name, config=self.trials[name].model_dump(mode="json"), **suggested)

    def adopt(self, record: SweepRecord) -> None:
        """Take over the trials of a searched sweep that `sweep.json` lists."""
        for trial in record.trials if self.file.search else ():
            self.trials[trial.name] = rebuild(DistillConfig, trial.config, f"trial {trial.name} in sweep.json")
            self.suggested[trial.name] = trial.suggested or {}

    def suggestion(self, values: dict[str, Any]) -> dict[str, DistillConfig]:
        """The trials, one a seed, that a searcher's values stand for; some or all may be in `trials` already.

        Raises:
            BadInput: the values make no valid config.
        """
        return _seeded(self.file, self.base, suggested_point(self.sections, fixed(self.base), values), self.trials)


def fixed(base: Mapping[str, Any]) -> dict[str, Any]:
    """The value of every field where nothing is varied."""
    return {key: f.default for key, f in DistillConfig.model_fields.items()} | dict(base)


def find_sweep_file(name: str) -> Path:
    """A sweep file by its path, or one that ships with ppodd by its name.

    Raises:
        BadInput: neither is there.
    """
    shipped = {path.stem: path for path in sorted(SWEEPS.glob("*.yaml"))}
    if name in shipped:
        return shipped[name]
    if Path(name).is_file():
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
    fields = [_apply(values, override, document) for override in overrides]
    try:
        return _sweep(_file(values), [key for key in fields if key])
    except Misplaced as error:
        raise document.error(error.path, str(error)) from None


def _file(values: dict[str, Any]) -> SweepFile:
    """The file's values, validated. Raises `Misplaced`."""
    _check_keys(values, SweepFile, "key", ())
    try:
        with _at():
            return SweepFile.model_validate(values)
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        path = tuple(map(str, first["loc"]))
        if first["type"] == "extra_forbidden":
            known = [f.alias or key for key, f in _NESTED[path[0]].model_fields.items()]
            raise Misplaced(path, str(unknown(f"{path[0]} key", path[-1], known))) from None
        if first["type"] == "missing":
            raise Misplaced(path, f"{'.'.join(path)} is missing: write {_NEEDED[path[-1]]}") from None
        raise Misplaced(path, said(first)) from None


def _sweep(file: SweepFile, overridden: Sequence[str]) -> Sweep:
    """The sweep of a validated file. Raises `Misplaced`."""
    for key, value in file.config.items():
        check_field(key, ("config", key), value)
    with _at("preset"):
        base = {**preset(file.preset), **file.config}
    sections = [Section.of((), {}, file.grid, file.sample)]
    for key in sections[0].fields:
        if key in file.config:
            raise Misplaced(("config", key), f"{key} varies under grid or sample: remove it there, or from config")
    for number, when in enumerate(file.when):
        sections.append(Section.of(("when", str(number)), when.condition, when.grid, when.sample))
    check_conditions(sections, fixed(base), overridden)
    evaluations = tuple(_evaluation(number, values) for number, values in enumerate(file.evaluation))
    if file.search:
        examples = list(_examples(file, base, sections).values())
        trials: dict[str, DistillConfig] = {}
    else:
        trials = _trials(file, base, sections)
        examples = list(trials.values())
    with _at("evaluation"):
        for config in examples:
            protocols(evaluations, config)
    for number, evaluation in enumerate(evaluations):
        with _at("evaluation", str(number)):
            for dataset, image_size in {(config.dataset, config.image_size) for config in examples}:
                check_evaluation(evaluation, dataset, image_size)
    _check_choices(file, examples)
    return Sweep(file, evaluations, base, sections, examples, trials)


def _check_choices(file: SweepFile, examples: Sequence[DistillConfig]) -> None:
    """Raise `Misplaced` where a searcher or scheduler would choose by the test set, or has nothing to choose by."""
    section = "search" if file.search else "scheduler"
    if not (file.search or file.scheduler):
        return
    leaking = {config.blend for config in examples if BLENDS.known(config.blend).leaks}
    if file.objective == "stage_accuracy" and leaking:
        raise Misplaced(
            (section,),
            f"blend {', '.join(sorted(leaking))} measures its stage accuracy on the test set, which no {section} may "
            f"choose by: leave that blend out",
        )
    if file.scheduler:
        grace = file.scheduler.grace_stages
        longest = max(min(grace, config.num_stages) * config.stage_epochs for config in examples)
        if file.scheduler.compare_at == "epochs" and all(c.num_stages * c.stage_epochs <= longest for c in examples):
            few = min(config.num_stages for config in examples)
            raise Misplaced(
                ("scheduler",),
                f"nothing can be stopped: a trial of {few} stages is first compared after {longest} epochs "
                f"(grace_stages: {grace}), when every trial is at its end; leave out few stages, or the scheduler",
            )


def _evaluation(number: int, values: dict[str, Any]) -> EvaluationConfig:
    place = ("evaluation", str(number))
    _check_keys(values, EvaluationConfig, "config field", place)
    try:
        return build(EvaluationConfig, values)
    except BadInput as error:
        raise Misplaced((*place, str(error).partition("=")[0]), str(error)) from None


class _at:
    """Gives the `BadInput` raised inside the place of a key of the file, or of the field below that it begins with."""

    def __init__(self, *path: str):
        self.path = path

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, BadInput) and not isinstance(error, Misplaced):
            raise Misplaced((*self.path, *re.findall(r"^\w+", str(error))), str(error)) from None


def _check_keys(values: Mapping[str, Any], kind: Any, what: str, path: Path_) -> None:
    for key in values:
        if key not in kind.model_fields:
            raise Misplaced((*path, str(key)), str(unknown(what, key, kind.model_fields, kind.listed)))


def _apply(values: dict[str, Any], override: str, document: Document) -> str:
    """`key=value` on a sweep key (`num_samples`, `evaluation.nets`) or a config field, which varies no longer then.

    Returns the config field, if it is one.
    """
    key, equals, text = override.partition("=")
    if not equals:
        raise BadInput(f"--set {override!r}: write key=value, such as num_samples=2, evaluation.nets=4 or lr=0.01")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        raise BadInput(f"--set {override!r}: {text!r} is no YAML value") from None
    head, dot, tail = key.partition(".")
    if head in SweepFile.model_fields:
        if dot and isinstance(values.get(head), list):
            raise BadInput(f"--set {override!r}: {head} is a list in the file: change it there")
        document.overrides[(head, tail) if dot else (head,)] = override
        if dot:
            values[head] = {**(values.get(head) or {}), tail: value}
        else:
            values[key] = value
        return ""
    if key not in DistillConfig.model_fields:
        known = [*SweepFile.model_fields, *DistillConfig.model_fields]
        listed = f"{SweepFile.listed}, {DistillConfig.listed}"
        raise BadInput(f"--set {override!r}: {unknown('key', key, known, listed)}")
    document.overrides["config", key] = override
    values |= _without(key, values, override)
    when = [entry | _without(key, entry, override) for entry in values.get("when") or () if isinstance(entry, dict)]
    if when:
        values["when"] = [entry for entry in when if entry.get("grid") or entry.get("sample")]
    values["config"] = {**(values.get("config") or {}), key: value}
    return key


def _without(key: str, section: Mapping[str, Any], override: str) -> dict[str, Any]:
    """The grid and sample of a section without a field."""
    found = {}
    for kind in ("grid", "sample"):
        if not isinstance(section.get(kind), dict):
            continue
        found[kind] = {joint: values for joint, values in section[kind].items() if keys(joint) != [key]}
        if any(key in keys(joint) for joint in found[kind]):
            raise BadInput(f"--set {override!r}: {key} varies together with other keys in {kind}: change the file")
    return found


def _trials(file: SweepFile, base: Mapping[str, Any], sections: Sequence[Section]) -> dict[str, DistillConfig]:
    """Every grid point × sample × seed, in that order; what is drawn twice is one trial."""
    source = random.Random(f"{file.name}/{file.seeds}")
    drawn = any(section.sample for section in sections)
    trials: dict[str, DistillConfig] = {}
    there: dict[str, str] = {}
    for point in points(sections, fixed(base), file.num_samples, source):
        for called, config in _seeded(file, base, point, trials).items():
            # `1e-3` is a text in YAML and 1.0e-3 a number: one value by two names
            same = there.setdefault(config.model_dump_json(exclude={"name"}), called)
            if not drawn and (same != called or called in trials):
                raise Misplaced(("grid",), f"trial {_both(same, called)} appears twice: remove the repeated value")
            trials.setdefault(same, config)
    _check_twins(trials)
    return trials


def _both(first: str, second: str) -> str:
    return first if first == second else f"{first}, written {second} too,"


def _check_twins(trials: Iterable[str]) -> None:
    """Raise `Misplaced` where two trials' names differ in case only."""
    folded: dict[str, str] = {}
    for called in trials:
        if (other := folded.setdefault(called.casefold(), called)) != called:
            raise Misplaced(
                ("grid",),
                f"trials {other} and {called} differ in case only, and on many disks are one folder: rename a value",
            )


def _examples(file: SweepFile, base: Mapping[str, Any], sections: Sequence[Section]) -> dict[str, DistillConfig]:
    """Trials drawn at random from a searched space. Raises `Misplaced` where none of them is valid."""
    for section in sections:
        if section.grid:
            raise Misplaced(
                (*section.path, "grid"), "a searched sweep tries no grid: write sample: {field: {choice: […]}} instead"
            )
    if not sections or not parameters(sections):
        raise Misplaced(("search",), "there is nothing to search: write what varies under sample")
    if file.num_samples == 1:
        raise Misplaced(("search",), "say how many settings to try: num_samples")
    source, wrong = random.Random(file.name), None
    trials: dict[str, DistillConfig] = {}
    for point in points(sections, fixed(base), _EXAMPLES, source):
        try:
            trials |= _seeded(file, base, point, trials)
        except Misplaced as error:
            wrong = wrong or error
    if not trials:
        assert wrong
        raise wrong
    return trials


def _seeded(
    file: SweepFile, base: Mapping[str, Any], point: Point, there: Mapping[str, DistillConfig]
) -> dict[str, DistillConfig]:
    """A point's trials, one a seed. A name that is there for another config gets all its digits, or a digest.

    Raises:
        Misplaced: a value makes no valid config, or a seed appears twice.
    """
    trials: dict[str, DistillConfig] = {}
    for seed in file.seeds:
        whole = {**point, "seed": seed}
        for called in (name(whole), name(whole, digits=17), marked(name(whole), repr(whole))):
            try:
                config = build(DistillConfig, {**base, **point, "seed": seed, "name": called})
            except BadInput as error:
                raise Misplaced(_blamed(str(error), file), f"trial {called}: {error}") from None
            config = absolute_paths(config)
            if there.get(called, config) == config:
                break
        if called in trials:
            raise Misplaced(("seeds",), f"trial {called} appears twice: remove the repeated seed")
        trials[called] = config
    return trials


def _blamed(message: str, file: SweepFile) -> Path_:
    """The key of the file that sets the field which an error begins with, or else the whole grid or config."""
    found = re.match(r"\w+", message)
    sections: list[tuple[Path_, Mapping[str, Any]]] = [(("grid",), file.grid), (("sample",), file.sample)]
    for number, when in enumerate(file.when):
        sections += [(("when", str(number), kind), getattr(when, kind)) for kind in ("grid", "sample")]
    for path, joints in [*sections, (("config",), file.config)]:
        for joint in joints:
            if found and found[0] in keys(joint):
                return (*path, joint)
    return ("grid",) if file.grid else ("config",)
