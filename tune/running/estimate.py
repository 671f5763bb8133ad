"""What a sweep will cost: budgets counted from its settings, hours from meta-steps and training steps timed here."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from ppodd.archive import drawn_posters
from ppodd.config import DistillConfig, EvaluationConfig, EvaluationProtocol, known_poster_ipc, protocols
from ppodd.machine import cores
from ppodd.posters import evaluation_weights
from tune.sweep_file import Resources, Sweep

if TYPE_CHECKING:
    from ppodd.datasets import Dataset
    from ppodd.distillation import Distillation

_CLASSES_OF_A_SEARCH = 6  # kinds of settings that are timed of a space that no one knows the trials of
_META_STEPS, _TRAINING_STEPS = 2, 10  # timed, after one that is not
# Fields that a meta-step's time does not depend on.
_TIMELESS = frozenset(
    {"name", "seed", "num_stages", "epochs", "start_epoch", "stage_start", "blend", "blend_boost", "blend_decay",
     "blend_floor", "lr", "outer_decay", "label_lr_scale", "eps", "wd", "clip_coef", "inner_lr", "checkpoint_every",
     "print_freq", "test_freq", "load_poster_run_name", "update_steps", "batch_update_steps"}
)  # fmt: skip


@dataclass(frozen=True)
class Budget:
    """What a setting spends, once for each of its `seeds`.

    Attributes:
        setting: its trials' name without the seed.
        cumulative_ipc: of all posters that its last stage's blend draws on.
        meta_steps: `None` where the number of training images is not known.
        evaluation_steps: training steps of all networks that evaluate its stages.
    """

    setting: str
    seeds: list[int]
    stages: int
    poster_ipc: float | None
    cumulative_ipc: float | None
    meta_steps: int | None
    evaluation_steps: int


@dataclass(frozen=True)
class Hours:
    """Estimated time: seconds of computing of all trials and of all evaluations, and of the whole by the clock."""

    trials_s: float
    evaluations_s: float
    wall_s: float
    at_once: int
    timed: int


def budgets(sweep: Sweep, images: dict[str, int] | None = None) -> list[Budget]:
    """The budget of each setting; `images` are the numbers of training images, by `data_key`."""
    settings: dict[str, list[DistillConfig]] = {}
    for config in sweep.trials.values():
        key = config.model_copy(update={"seed": 0, "name": ""}).model_dump_json()
        settings.setdefault(key, []).append(config)
    return [_budget(sweep, configs, images or {}) for configs in settings.values()]


def _budget(sweep: Sweep, configs: Sequence[DistillConfig], images: dict[str, int]) -> Budget:
    config = configs[0]
    ipc = known_poster_ipc(config)
    asked = protocols(sweep.evaluations, config)
    drawn = max(_drawn(config, protocol.mode) for protocol in asked)
    steps = config.num_stages * sum(protocol.nets * protocol.budgets[-1] for protocol in asked)
    return Budget(
        setting=config.name.removesuffix(f"seed={config.seed}").rstrip(",") or config.name,
        seeds=[c.seed for c in configs],
        stages=config.num_stages,
        poster_ipc=ipc,
        cumulative_ipc=ipc and ipc * drawn,
        meta_steps=_meta_steps(config, images.get(data_key(config))),
        evaluation_steps=steps,
    )


def _drawn(config: DistillConfig, mode: str) -> int:
    """Posters that the last stage's evaluation draws on."""
    if mode == "latest":
        return 1
    accuracies = [50.0] * (config.num_stages - 1)
    return drawn_posters(evaluation_weights(config.blend, accuracies, config.blend_parameters))


def _meta_steps(config: DistillConfig, images: int | None) -> int | None:
    if not (images or config.steps_per_epoch):
        return None
    return config.meta_steps(images or 0)


def data_key(config: DistillConfig) -> str:
    """Tells trials apart that read different data."""
    return f"{config.dataset}|{config.root}|{config.image_size}|{config.validation}"


class _Place(NamedTuple):
    """Where work is timed: as trials or evaluators do it."""

    device: str
    threads: int

    @classmethod
    def of(cls, reserved: Resources) -> _Place:
        import torch

        device = "cuda" if reserved.gpus and torch.cuda.is_available() else "cpu"
        return cls(device, max(1, min(int(reserved.cpus), cores())))


class Timer:
    """Times meta-steps and evaluations, each kind once, on the device and with the threads of who does them.

    Making one raises `BadInput` where the data is not on this machine.

    Attributes:
        images: training images of each data set, by `data_key`.
        no_gpu: who wants a GPU where there is none here, so that timing would say nothing.
    """

    def __init__(self, sweep: Sweep):
        self._sweep = sweep
        reserved = {"trials": sweep.file.resources, "evaluators": sweep.file.evaluators}
        places = {who: _Place.of(resources) for who, resources in reserved.items()}
        self.trials, self.evaluators = places["trials"], places["evaluators"]
        self.no_gpu = [who for who in places if reserved[who].gpus and places[who].device == "cpu"]
        self._known: dict[tuple[_Place, str], float] = {}
        different = {data_key(config): config for config in sweep.examples}
        self.images = {key: len(_load(config, self.trials).train.y) for key, config in different.items()}

    def hours(self) -> Hours:
        """The estimate for the whole sweep; of a searched one, from some settings of its space."""
        sweep = self._sweep
        configs = list(sweep.trials.values()) or _different(sweep.examples)[:_CLASSES_OF_A_SEARCH]
        share = sweep.wanted / len(configs)
        trials = [self._trial_s(config) for config in configs]
        evaluations = [
            config.num_stages * self._evaluation_s(config, protocol, self.evaluators)
            for config in configs
            for protocol in protocols(sweep.evaluations, config)
        ]
        at_once = _at_once(sweep)
        trials_s, evaluations_s = share * sum(trials), share * sum(evaluations)
        apart = sweep.file.evaluators.cpus or sweep.file.evaluators.gpus
        beside = evaluations_s / sweep.file.evaluators.count
        wall = max(trials_s / at_once, max(trials))
        wall = max(wall, beside) if apart else wall + evaluations_s / at_once
        return Hours(trials_s, evaluations_s, wall, at_once, len(self._known))

    def _trial_s(self, config: DistillConfig) -> float:
        """Meta-steps and stage accuracies of a trial, which waits for these where evaluators measure them."""
        steps = _meta_steps(config, self.images[data_key(config)]) or 0
        meta_step = 0.0
        if steps:
            meta_step = self._once(self.trials, _time_key(config), lambda: _meta_step_s(config, self.trials))
        stage = EvaluationConfig(arch=(config.arch,), nets=config.stage_nets, budgets=(config.stage_steps,))
        place = self.trials if self._sweep.file.stage_accuracy == "trial" else self.evaluators
        return steps * meta_step + config.num_stages * self._evaluation_s(config, stage.protocols(config)[0], place)

    def _evaluation_s(self, config: DistillConfig, protocol: EvaluationProtocol, place: _Place) -> float:
        """One stage under one protocol: training steps, and judging at each budget."""
        kind = protocol.model_copy(update={"budgets": (), "seed": 0, "inner_lr": None}).model_dump_json()

        def seconds(steps: int) -> float:
            key = f"{_time_key(config)} {kind} {steps}"
            return self._once(place, key, lambda: _train_s(config, protocol, steps, place))

        first = seconds(1)
        step = max(0.0, seconds(1 + _TRAINING_STEPS) - first) / _TRAINING_STEPS
        return protocol.budgets[-1] * step + len(protocol.budgets) * max(0.0, first - step)

    def _once(self, place: _Place, key: str, measure: Callable[[], float]) -> float:
        import torch

        if (place, key) not in self._known:
            torch.set_num_threads(place.threads)
            self._known[place, key] = measure()
        return self._known[place, key]


def _load(config: DistillConfig, place: _Place) -> Dataset:
    import torch

    from ppodd.evaluation import data_of

    return data_of(config, torch.device(place.device))


def _train_s(config: DistillConfig, protocol: EvaluationProtocol, steps: int, place: _Place) -> float:
    from ppodd.evaluation import evaluate
    from ppodd.methods import trained_on

    dataset = _load(config, place)
    run = _distillation(config, dataset)
    posters, layout = trained_on(config, dataset, [run.poster_file(run.first_state())])
    short = protocol.model_copy(update={"budgets": (steps,)})
    return _seconds(lambda: evaluate(posters, [1.0], layout, short, dataset.test), 1)


def _meta_step_s(config: DistillConfig, place: _Place) -> float:
    from ppodd.training import choose_compiled

    choose_compiled(config.compile)
    run = _distillation(_typical(config), _load(config, place))
    position, problem = run.first_state(), run.problems([])
    return _seconds(lambda: run.meta_step(position, problem, [1.0]), _META_STEPS)


def _distillation(config: DistillConfig, dataset: Dataset) -> Distillation:
    from ppodd.distillation import Distillation, load_poster

    initial = load_poster(config.load_poster_run_name) if config.load_poster_run_name else None
    return Distillation(config, dataset, initial)


def _seconds(task: Callable[[], Any], times: int) -> float:
    """Seconds of one call, the mean of some after one that is not counted."""
    task()
    started = time.perf_counter()
    for _ in range(times):
        task()
    return (time.perf_counter() - started) / times


def _typical(config: DistillConfig) -> DistillConfig:
    """The same distillation, every meta-step of the mean length."""
    from ppodd.distillation import mean_steps

    plain, window = map(round, mean_steps(config))
    return config.model_copy(
        update={"cctype": 0, "ddtype": "curriculum", "window": window, "totwindow": plain + window}
    )


def _time_key(config: DistillConfig) -> str:
    return config.model_dump_json(exclude=set(_TIMELESS))


def _different(configs: Iterable[DistillConfig]) -> list[DistillConfig]:
    return list({_time_key(config): config for config in configs}.values())


def _at_once(sweep: Sweep) -> int:
    """Trials that run side by side on this machine, as the file reserves for them."""
    resources = sweep.file.resources
    fits = [sweep.file.max_concurrent or sweep.wanted, sweep.wanted]
    if resources.cpus:
        fits.append(int(cores() / resources.cpus))
    if resources.gpus:
        import torch

        fits.append(int(max(1, torch.cuda.device_count()) / resources.gpus))
    return max(1, min(fits))
