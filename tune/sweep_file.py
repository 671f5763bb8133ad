"""The sweep file: YAML to an explicit, validated list of trials. Light: needs neither torch nor Ray."""

from __future__ import annotations

import hashlib
import itertools
import math
import random
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import pydantic
import yaml
from pydantic import Field

from ppodd.config import DistillConfig, EvaluationConfig, absolute_paths, build
from ppodd.errors import BadInput, unknown
from ppodd.presets import preset
from ppodd.work import protocols

SWEEPS = Path(__file__).parent / "sweeps"
_LONGEST_NAME = 120
Path_ = tuple[str, ...]


class _Section(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(frozen=True, extra="forbid")


class Resources(_Section):
    """What a trial or an evaluator reserves; may be fractions of a CPU, of one GPU, or several whole GPUs."""

    cpus: Annotated[float, Field(ge=0)] = 1
    gpus: Annotated[float, Field(ge=0)] = 0

    @pydantic.field_validator("gpus")
    @classmethod
    def _whole_or_a_fraction(cls, gpus: float) -> float:
        if gpus > 1 and gpus != int(gpus):
            raise ValueError("use a fraction below 1, or a whole number of GPUs")
        return gpus


class Evaluators(Resources):
    """The pool: at most how many evaluators, what each reserves (0 CPUs: it takes what trials leave of the cores), and
    after how long without work one gives that back."""

    count: Annotated[int, Field(ge=1)] = 1
    idle_s: Annotated[float, Field(gt=0)] = 120


def _listed(value: Any) -> Any:
    return [value] if isinstance(value, dict) else value


class SweepFile(_Section):
    """What a sweep file may say. `config`, `grid` and `sample` name fields of the distillation's config."""

    name: Annotated[str, Field(pattern=r"^[\w.-]+$")]
    description: str = ""
    preset: str = "digits"
    config: dict[str, Any] = {}
    grid: dict[str, Annotated[list[Any], Field(min_length=1)]] = {}
    sample: dict[str, dict[str, Any]] = {}
    num_samples: Annotated[int, Field(ge=1)] = 1
    seeds: Annotated[tuple[Annotated[int, Field(ge=0)], ...], Field(min_length=1)] = (0,)
    resources: Resources = Resources()
    evaluation: Annotated[list[dict[str, Any]], pydantic.BeforeValidator(_listed), Field(min_length=1)] = [{}]
    evaluators: Evaluators = Evaluators()
    max_concurrent: Annotated[int, Field(ge=1)] | None = None
    stage_accuracy: Literal["trial", "evaluators"] = "trial"


@dataclass(frozen=True)
class Sweep:
    """A sweep ready to run: its trials' configs by name, and how they are evaluated."""

    file: SweepFile
    evaluations: tuple[EvaluationConfig, ...]
    trials: dict[str, DistillConfig]
    varied: list[str]

    @property
    def name(self) -> str:
        return self.file.name

    def record(self) -> dict[str, Any]:
        """What `sweep.json` holds; equal for equal sweeps."""
        return {
            "schema": 1,
            "name": self.file.name,
            "description": self.file.description,
            "preset": self.file.preset,
            "varied": self.varied,
            "trials": [{"name": n, "config": c.model_dump(mode="json")} for n, c in self.trials.items()],
            "evaluation": [evaluation.model_dump(mode="json") for evaluation in self.evaluations],
        }


class _Lines:
    """A YAML document's values and the line of each key, for errors."""

    def __init__(self, path: Path):
        self.path = path
        self.lines: dict[Path_, int] = {}
        try:
            node = yaml.compose(path.read_text(), Loader=yaml.SafeLoader)
            self.values = yaml.safe_load(path.read_text())
        except OSError as error:
            raise BadInput(f"cannot read sweep file {path}: {error.strerror}") from None
        except UnicodeDecodeError:
            raise BadInput(f"sweep file {path} is no UTF-8 text") from None
        except yaml.YAMLError as error:
            mark = getattr(error, "problem_mark", None)
            where = f" line {mark.line + 1}" if mark else ""
            raise BadInput(f"{path}{where}: no valid YAML: {getattr(error, 'problem', error)}") from None
        if not isinstance(self.values, dict):
            raise BadInput(f"{path}: a sweep file is a mapping of keys such as name, preset, grid, seeds")
        self._visit(node, ())

    def _visit(self, node: Any, path: Path_) -> None:
        if isinstance(node, yaml.SequenceNode):
            for number, item in enumerate(node.value):
                self.lines[(*path, str(number))] = item.start_mark.line + 1
                self._visit(item, (*path, str(number)))
        if isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                here = (*path, str(key.value))
                if here in self.lines:
                    raise BadInput(f"{self.path} line {key.start_mark.line + 1}: key {key.value!r} appears twice")
                self.lines[here] = key.start_mark.line + 1
                self._visit(value, here)

    def error(self, path: Sequence[Any], message: str) -> BadInput:
        """The error at the deepest key of `path` that has a line."""
        keys = tuple(map(str, path))
        while keys and keys not in self.lines:
            keys = keys[:-1]
        line = f" line {self.lines[keys]}" if keys else ""
        return BadInput(f"{self.path}{line}: {message}")


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


def load_sweep(name: str, overrides: Sequence[str] = ()) -> Sweep:
    """The sweep of a file (or shipped name) with `key=value` overrides, every trial validated.

    Raises:
        BadInput: one line naming file, line and key.
    """
    document = _Lines(find_sweep_file(name))
    values = dict(document.values)
    for override in overrides:
        _apply(values, override)
    _check_keys(values, SweepFile.model_fields, "key", document, ())
    try:
        file = SweepFile.model_validate(values)
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        raise document.error(first["loc"], f"{key}={first['input']!r}: {first['msg']}") from None
    _check_keys(file.config, DistillConfig.model_fields, "config field", document, ("config",))
    for number, evaluation in enumerate(file.evaluation):
        place = ("evaluation", str(number)) if isinstance(values.get("evaluation"), list) else ("evaluation",)
        _check_keys(evaluation, EvaluationConfig.model_fields, "config field", document, place)
    for section in ("grid", "sample"):
        for joint in getattr(file, section):
            for key in _keys(joint):
                if key not in DistillConfig.model_fields:
                    message = str(unknown("config field", key, DistillConfig.model_fields))
                    raise document.error((section, joint), message)
    with _at(document, ("evaluation",)):
        evaluations = tuple(build(EvaluationConfig, evaluation) for evaluation in file.evaluation)
    trials = _trials(file, document)
    for trial in trials.values():
        with _at(document, ("evaluation",)):
            protocols(evaluations, trial)
    varied = [key for section in (file.grid, file.sample) for joint in section for key in _keys(joint)]
    return Sweep(file, evaluations, trials, varied + (["seed"] if len(file.seeds) > 1 else []))


class _at:
    """Gives the `BadInput` raised inside the place of a key of the file."""

    def __init__(self, document: _Lines, path: Path_):
        self.document, self.path = document, path

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, BadInput):
            raise self.document.error(self.path, str(error)) from None


def _check_keys(values: Mapping[str, Any], known: Any, what: str, document: _Lines, path: Path_) -> None:
    for key in values:
        if key not in known:
            raise document.error((*path, str(key)), str(unknown(what, key, known)))


def _apply(values: dict[str, Any], override: str) -> None:
    """`key=value` on a sweep key (`num_samples`, `evaluation.nets`) or a config field, which leaves the grid then."""
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
        if dot:
            values[head] = {**(values.get(head) or {}), tail: value}
        else:
            values[key] = value
        return
    if key not in DistillConfig.model_fields:
        raise BadInput(
            f"--set {override!r}: {unknown('key', key, [*SweepFile.model_fields, *DistillConfig.model_fields])}"
        )
    for section in ("grid", "sample"):
        rest = {k: v for k, v in (values.get(section) or {}).items() if _keys(k) != [key]}
        if any(key in _keys(k) for k in rest):
            raise BadInput(f"--set {override!r}: {key} varies together with other keys in {section}: change the file")
        values[section] = rest
    values["config"] = {**(values.get("config") or {}), key: value}


def _keys(joint: str) -> list[str]:
    """`poster_width, poster_height` names two fields that vary together."""
    return [key.strip() for key in joint.split(",")]


def _trials(file: SweepFile, document: _Lines) -> dict[str, DistillConfig]:
    """Every grid point × sample × seed, in that order."""
    with _at(document, ("preset",)):
        base = {**preset(file.preset), **file.config}
    axes = [_axis(joint, values, document) for joint, values in file.grid.items()]
    draw = random.Random(f"{file.name}/{file.seeds}")
    trials: dict[str, DistillConfig] = {}
    for point in itertools.product(*axes):
        for _ in range(file.num_samples if file.sample else 1):
            drawn = {key: _draw(key, how, draw, document) for key, how in file.sample.items()}
            chosen = {**{k: v for part in point for k, v in part.items()}, **drawn}
            for seed in file.seeds:
                name = _name({**chosen, "seed": seed})
                try:
                    config = build(DistillConfig, {**base, **chosen, "seed": seed, "name": name})
                except BadInput as error:
                    raise document.error(_blamed(str(error), file), f"trial {name}: {error}") from None
                if name in trials:
                    raise document.error(("grid",), f"trial {name} appears twice: remove the repeated value")
                trials[name] = absolute_paths(config)
    return trials


def _blamed(message: str, file: SweepFile) -> tuple[str, ...]:
    """The key of the file that sets the field which an error begins with, or else the whole grid or config."""
    field = re.match(r"\w+", message)
    for section in ("grid", "sample", "config"):
        for joint in getattr(file, section):
            if field and field[0] in _keys(joint):
                return (section, joint)
    return ("grid",) if file.grid else ("config",)


def _axis(joint: str, values: list[Any], document: _Lines) -> list[dict[str, Any]]:
    keys = _keys(joint)
    if len(keys) == 1:
        return [{keys[0]: value} for value in values]
    for value in values:
        if not isinstance(value, list) or len(value) != len(keys):
            raise document.error(("grid", joint), f"{value!r} must be a list of {len(keys)} values, for {joint}")
    return [dict(zip(keys, value, strict=True)) for value in values]


_DISTRIBUTIONS: dict[str, Callable[[random.Random, list[Any]], Any]] = {
    "choice": lambda draw, values: draw.choice(values),
    "uniform": lambda draw, values: draw.uniform(*values),
    "loguniform": lambda draw, values: math.exp(draw.uniform(math.log(values[0]), math.log(values[1]))),
    "randint": lambda draw, values: draw.randint(*values),
}


def _draw(key: str, how: dict[str, Any], draw: random.Random, document: _Lines) -> Any:
    """One value, such as `{loguniform: [1e-4, 1e-2]}`; both ends of `randint` are included."""
    if len(how) != 1:
        raise document.error(("sample", key), f"{how!r} must name one of {', '.join(_DISTRIBUTIONS)}")
    ((kind, values),) = how.items()
    if kind not in _DISTRIBUTIONS:
        raise document.error(("sample", key), str(unknown("distribution", kind, _DISTRIBUTIONS)))
    try:
        numbers = values if kind == "choice" else [int(v) if kind == "randint" else float(v) for v in values]
        if kind != "choice" and (len(numbers) != 2 or numbers[0] > numbers[1]):
            raise ValueError
        return _DISTRIBUTIONS[kind](draw, numbers)
    except (TypeError, ValueError, IndexError):
        wanted = (
            "a list of values" if kind == "choice" else "[low, high]" + (", above 0" if kind == "loguniform" else "")
        )
        raise document.error(("sample", key), f"{kind}: {values!r} must be {wanted}") from None


def _name(chosen: dict[str, Any]) -> str:
    """A short, path-safe name of what a trial varies."""

    def text(value: Any) -> str:
        return re.sub(r"[^\w.+-]", "-", f"{value:.3g}" if isinstance(value, float) else str(value))

    name = ",".join(f"{key}={text(value)}" for key, value in chosen.items())
    if len(name) <= _LONGEST_NAME:
        return name
    return name[: _LONGEST_NAME - 13].rstrip(",") + "," + hashlib.sha256(name.encode()).hexdigest()[:12]
