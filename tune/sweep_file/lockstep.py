"""Which trials of a sweep share a process, their meta-steps taken together. Light: needs neither torch nor Ray."""

from __future__ import annotations

import math
from collections.abc import Mapping

from ppodd.config import DistillConfig
from ppodd.datasets import Spec, known_spec
from ppodd.training import AUGMENTATIONS, FLOAT32, OPTIMISERS, first_padding, same_in_company, written_out
from tune.sweep_file.schema import SweepFile
from tune.sweep_file.space import SweepFileError

# Fields that trials in lockstep may differ in: each has its own draws, rates, blend, stages and accuracies.
OWN = frozenset(
    {"name", "seed", "lr", "outer_decay", "label_lr_scale", "eps", "wd", "clip_coef", "inner_lr", "blend",
     "blend_boost", "blend_decay", "blend_floor", "stage_start", "stage_nets", "stage_steps", "num_train_eval",
     "budgets", "print_freq"}
)  # fmt: skip
_MOST = 8  # trials that `auto` puts together
_BYTES = 2**20  # of their first maps: more keep a core busy without company; measured on a CPU


def groups(file: SweepFile, trials: Mapping[str, DistillConfig], at_once: int | None) -> list[list[str]]:
    """The trials' names, those side by side that share a process; `at_once` processes run at a time.

    Which they are does not depend on what is done already: an interrupted group resumes with the same members.
    """
    alike: dict[str, list[str]] = {}
    costly = sum(config.learns for config in trials.values())
    for name, config in trials.items():
        alike.setdefault(name if unfit(config) else _shape(config), []).append(name)
    found = []
    for names in alike.values():
        size = _size(file, trials[names[0]], costly, at_once)
        found += [names[first : first + size] for first in range(0, len(names), size)]
    return found


def _size(file: SweepFile, config: DistillConfig, costly: int, at_once: int | None) -> int:
    """How many trials like this one share a process: with `auto`, as many as pay."""
    asked = file.resources.lockstep
    if isinstance(asked, int):
        return asked
    if asked == "off" or file.search or file.resources.gpus or not at_once:
        return 1
    if file.limits.trial_hours:  # which are by the clock, and would be shared
        return 1
    if file.resources.cpus >= 2:  # several threads add up one network's numbers in other parts than several's
        return 1
    # no process is to have nothing to do
    return max(1, min(_MOST, _pay(config), math.ceil(costly / at_once)))


def _pay(config: DistillConfig) -> int:
    """How many like this one are faster together, by the convolutions of one alone; 0 where that is not known."""
    spec = known_spec(config.dataset, config.image_size)
    augmented = set(AUGMENTATIONS.within(config.syn_strategy)) <= set(AUGMENTATIONS.own)  # a user's may mix images
    if not spec or config.compile == "off" or config.precision != FLOAT32 or not augmented:
        return 0
    return _BYTES // _first_map_bytes(config, spec) if same_in_company(config.arch, config.width, spec) else 0


def _first_map_bytes(config: DistillConfig, spec: Spec) -> int:
    """Of the first block's output in an inner step, the largest."""
    more = 2 * first_padding(spec) - 2
    return 4 * config.distill_batch_size * config.width * (spec.height + more) * (spec.width + more)


def unfit(config: DistillConfig) -> str:
    """The setting that lets a trial share its meta-steps with no other; empty where it can."""
    if not config.learns:
        return f"method={config.method}, which takes no meta-steps"
    if not written_out(config.arch):
        return f"arch={config.arch} (needed is a ConvNet with instance norm)"
    if config.inner_optim not in OPTIMISERS.own:
        return f"inner_optim={config.inner_optim} (needed is one of {', '.join(OPTIMISERS.own)})"
    if config.engine != "recomputed":
        return f"engine={config.engine} (needed is recomputed)"
    if config.ddtype == "curriculum" and config.cctype == 3:
        return "cctype=3, whose windows differ in length"
    return ""


def _shape(config: DistillConfig) -> str:
    return config.model_dump_json(exclude=set(OWN))


def check_lockstep(file: SweepFile, trials: Mapping[str, DistillConfig]) -> None:
    """Raise `SweepFileError` where a file forces a lockstep that a trial finds no company for."""
    if not isinstance(file.resources.lockstep, int):
        return
    place, forced = ("resources", "lockstep"), f"lockstep: {file.resources.lockstep}"
    if file.search:
        raise SweepFileError(place, f"{forced}: a search suggests one setting after another: leave it out")
    trials = {name: config for name, config in trials.items() if config.learns}
    shapes = [_shape(config) for config in trials.values()]
    for (name, config), shape in zip(trials.items(), shapes, strict=True):
        if why := unfit(config):
            raise SweepFileError(place, f"{forced}: trial {name} cannot share its meta-steps: {why}; write auto")
        if shapes.count(shape) == 1 and len(trials) > 1:
            other, field = _nearest(name, trials)
            raise SweepFileError(
                place,
                f"{forced}: trial {name} has no company: its {field}={getattr(config, field)!r} is "
                f"{getattr(trials[other], field)!r} in {other}; write auto, or keep {field} the same",
            )


def _nearest(name: str, trials: Mapping[str, DistillConfig]) -> tuple[str, str]:
    """The trial that differs in the fewest fields that may not, and the first of them."""

    def apart(other: str) -> list[str]:
        fields = [field for field in DistillConfig.model_fields if field not in OWN]
        return [field for field in fields if getattr(trials[name], field) != getattr(trials[other], field)]

    nearest = min((other for other in trials if other != name), key=lambda other: len(apart(other)))
    return nearest, apart(nearest)[0]
