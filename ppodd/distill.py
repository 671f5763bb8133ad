"""Multi-stage distillation: the meta-step, the stage, and the loop over stages (P-PoDD on RaT-BPTT).

`distill` is a generator of stage results; the command line, a sweep's trial and a test all drive this one loop.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch

from ppodd import augment
from ppodd.archive import PosterFile, summary
from ppodd.blend import LEAKING, blend_weights, evaluation_weights
from ppodd.class_order import class_order
from ppodd.config import DistillConfig, Protocol
from ppodd.datasets import Dataset, Split
from ppodd.errors import NonFinite
from ppodd.evaluate import evaluate, stack
from ppodd.geometry import Layout
from ppodd.initial import InitialPoster
from ppodd.inner_loop import InnerLoop, Posters, State
from ppodd.labels import LabelWindows, fixed_labels, initial_label_array, label_array_shape
from ppodd.meta_gradient import Learned, Problem, meta_gradient, real_loss
from ppodd.networks import fresh_network
from ppodd.poster import Patches, initial_poster
from ppodd.seeding import derived_seed, generator

_CLIP = 2.0  # times the average norm
_PATIENCE = 200  # epochs without a better validation loss before cctype 1 grows


class Finished(NamedTuple):
    """An archived stage, as later stages need it: its poster and its accuracy (percent)."""

    poster: PosterFile
    accuracy: float


@dataclass(frozen=True)
class StageResult:
    """A finished stage.

    Attributes:
        blend: π that the stage was trained under, oldest poster first.
        evaluation_blend: π to evaluate it with.
        accuracy: mean, std, values (percent) of the stage's networks; `split` says on which images.
        meta_loss: first, last and mean meta-loss of the stage.
        meta_steps, seconds: spent on this and all earlier stages.
    """

    stage: int
    poster: PosterFile
    blend: list[float]
    evaluation_blend: list[float]
    accuracy: dict[str, Any]
    meta_loss: dict[str, float]
    meta_steps: int
    seconds: float


class Progress(NamedTuple):
    """Where a distillation is: after meta-step `meta_step` of `meta_steps` of a stage."""

    stage: int
    num_stages: int
    meta_step: int
    meta_steps: int
    meta_loss: float
    seconds_per_meta_step: float
    seconds_left: float


@dataclass
class Position:
    """Everything a resumed run needs beside the archived stages; `step` meta-steps of `stage` are done.

    Attributes:
        learned: poster `[C, H, W]`, and label array and log inner learning rate where they are learned.
        moments: the outer Adam's two moments for each entry of `learned`.
        adam_steps: outer steps taken since Adam's start.
        norm_average: running average of the poster gradient's norm, 0 before the stage's first meta-step.
        curriculum, best_loss, best_epoch: state of cctype 1.
    """

    learned: Learned
    moments: dict[str, tuple[torch.Tensor, torch.Tensor]]
    stage: int = 1
    step: int = 0
    adam_steps: int = 0
    norm_average: float = 0.0
    curriculum: int = 0
    best_loss: float = math.inf
    best_epoch: int = 0
    meta_steps: int = 0
    seconds: float = 0.0
    loss: dict[str, float] = field(default_factory=lambda: {"first": 0.0, "last": 0.0, "sum": 0.0})

    def to_arrays(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Arrays and a JSON-able position, for the archive."""
        arrays = {f"learned.{name}": tensor.cpu().numpy() for name, tensor in self.learned.items()}
        for name, moments in self.moments.items():
            arrays |= {f"moment{i}.{name}": moment.cpu().numpy() for i, moment in enumerate(moments)}
        rest = {k: v for k, v in vars(self).items() if k not in ("learned", "moments")}
        return arrays, {**rest, "best_loss": None if math.isinf(self.best_loss) else self.best_loss}

    @classmethod
    def from_arrays(cls, arrays: dict[str, np.ndarray], rest: dict[str, Any], device: torch.device) -> Position:
        tensors = {k: torch.from_numpy(v.copy()).to(device) for k, v in arrays.items()}
        names = [k.removeprefix("learned.") for k in tensors if k.startswith("learned.")]
        best = math.inf if rest["best_loss"] is None else rest["best_loss"]
        return cls(
            {n: tensors[f"learned.{n}"] for n in names},
            {n: (tensors[f"moment0.{n}"], tensors[f"moment1.{n}"]) for n in names},
            **{**rest, "best_loss": best},
        )


def distill(
    config: DistillConfig,
    dataset: Dataset,
    *,
    position: Position | None = None,
    finished: Sequence[Finished] = (),
    initial: InitialPoster | None = None,
    on_progress: Callable[[Progress], None] | None = None,
    on_checkpoint: Callable[[Position], None] | None = None,
) -> Iterator[StageResult]:
    """Distil `dataset` in stages, yielding each as it is finished.

    Args:
        position, finished: where to resume, and the stages already archived (not yielded again).
        initial: a poster to start from instead of a random one.
        on_progress: called every `config.print_freq` meta-steps.
        on_checkpoint: called every `config.checkpoint_every` meta-steps and when a stage's last one is done; it must
            copy what it keeps.

    Raises:
        NonFinite: a loss or gradient is no number; the poster is untouched and stage and meta-step are named.
        BadInput: the initial poster does not fit the config.
    """
    return Distillation(config, dataset, initial).stages(
        position, finished, on_progress=on_progress, on_checkpoint=on_checkpoint
    )


class Distillation:
    """The fixed parts of a run: layout, patches, labels, inner loop, and the steps that use them.

    Making one refuses, with `BadInput`, a class order, network or initial poster that cannot work.
    """

    def __init__(self, config: DistillConfig, dataset: Dataset, initial: InitialPoster | None):
        self.config, self.dataset = config, dataset
        self.device, self.dtype = dataset.train.x.device, dataset.train.x.dtype
        rows, columns = config.poster_class_num_y, config.poster_class_num_x
        if initial is not None:
            initial.check(config, dataset.spec)
        known = initial.class_order if initial else None
        order = class_order(config.class_order, dataset, rows, columns) if known is None else known
        self.layout = Layout.of(config, dataset.spec, order)
        self.patches = Patches(self.layout, self.device)
        self.inner = InnerLoop(
            self.patches,
            config.inner_optim,
            config.distill_batch_size,
            config.syn_strategy,
            config.comp_aug,
            config.decay,
        )
        fresh_network(config.arch, dataset.spec, config.width, 0, torch.device("cpu"))
        self.fixed_labels = fixed_labels(self.layout, self.dtype)
        self.label_shape = label_array_shape(self.layout, config.comp_ipc)
        self.initial = initial
        if initial is not None and initial.label_array is not None:
            self.label_shape = initial.label_array.shape[1:]
        images = len(dataset.train.y)
        self.epoch_steps = config.steps_per_epoch or math.ceil(images / config.batch_size)
        self.stage_steps = config.stage_epochs * self.epoch_steps

    def stages(
        self,
        position: Position | None = None,
        finished: Sequence[Finished] = (),
        *,
        on_progress: Callable[[Progress], None] | None = None,
        on_checkpoint: Callable[[Position], None] | None = None,
    ) -> Iterator[StageResult]:
        """The loop over stages; arguments and errors as for `distill`."""
        config = self.config
        position = position or self.first_position()
        archived = list(finished)
        for stage in range(position.stage, config.num_stages + 1):
            accuracies = [f.accuracy for f in archived[: stage - 1]]
            blend = blend_weights(config.blend, accuracies, config.blend_parameters)
            frozen = [f.poster for f in archived[: stage - 1]]
            if stage > len(archived):
                self.train_stage(position, frozen, blend, on_progress, on_checkpoint)
                weights = evaluation_weights(config.blend, accuracies, config.blend_parameters)
                result = self.result(position, frozen, blend, weights)
                archived.append(Finished(result.poster, result.accuracy["mean"]))
                yield result
            position = self.next_position(position)

    # Positions

    def first_position(self) -> Position:
        return self._fresh(stage=1)

    def next_position(self, done: Position) -> Position:
        """The next stage's start: the poster and Adam as they are (warm), or anew (fresh)."""
        if self.config.stage_start == "fresh":
            start = self._fresh(done.stage + 1)
        else:
            start = Position(done.learned, done.moments, done.stage + 1, adam_steps=done.adam_steps)
            start.curriculum, start.best_loss = done.curriculum, done.best_loss
        start.meta_steps, start.seconds = done.meta_steps, done.seconds
        return start

    def _fresh(self, stage: int) -> Position:
        learned = {name: t.to(self.device, self.dtype) for name, t in self._initial_learned(stage).items()}
        moments = {name: (torch.zeros_like(t), torch.zeros_like(t)) for name, t in learned.items()}
        return Position(learned, moments, stage, curriculum=self.config.minwindow)

    def _initial_learned(self, stage: int) -> Learned:
        config = self.config
        if self.initial is not None:
            learned = {"poster": torch.from_numpy(self.initial.poster)}
            if self.initial.label_array is not None:
                learned["label_array"] = torch.from_numpy(self.initial.label_array)
        else:
            start = generator(config.seed, "initial poster", stage)
            learned = {"poster": initial_poster(self.layout, start, self.dtype)}
            if config.train_y:
                learned["label_array"] = initial_label_array(self.layout, config.comp_ipc, self.dtype)
        if config.train_lr:
            learned["log_inner_lr"] = torch.tensor(math.log(config.inner_lr), dtype=self.dtype)
        return learned

    # A stage

    def train_stage(
        self,
        position: Position,
        frozen: Sequence[PosterFile],
        blend: Sequence[float],
        on_progress: Callable[[Progress], None] | None,
        on_checkpoint: Callable[[Position], None] | None,
    ) -> None:
        """Take the stage's remaining meta-steps, changing `position` in place."""
        config = self.config
        problem_of = self.problems(frozen)
        before, started = position.seconds, time.perf_counter()
        first_step = position.step
        while position.step < self.stage_steps:
            loss = self.meta_step(position, problem_of, blend)
            position.seconds = before + time.perf_counter() - started
            done = position.step - first_step
            if on_progress and (position.step % config.print_freq == 0 or position.step == self.stage_steps):
                rate = (position.seconds - before) / done
                left = rate * (
                    self.stage_steps - position.step + self.stage_steps * (config.num_stages - position.stage)
                )
                on_progress(
                    Progress(position.stage, config.num_stages, position.step, self.stage_steps, loss, rate, left)
                )
            if config.cctype == 1 and position.step % (self.epoch_steps * config.test_freq) == 0:
                self._grow_curriculum(position, problem_of, blend)
            if on_checkpoint and (position.step % config.checkpoint_every == 0 or position.step == self.stage_steps):
                on_checkpoint(position)

    def problems(self, frozen: Sequence[PosterFile]) -> Callable[[int], Problem]:
        """A function from a seed to the meta-gradient's problem with a fresh network of that seed."""
        config = self.config
        past = stack(frozen, self.layout, self.device, self.dtype) if frozen else None
        fixed = self.fixed_labels.to(self.device)
        windows = LabelWindows(self.layout, self.label_shape, self.device) if config.train_y else None

        def posters(learned: Learned) -> Posters:
            labels = windows.labels(learned["label_array"]) if windows else fixed
            images, labels = learned["poster"][None], labels[None]
            if past is None:
                return Posters(images, labels)
            return Posters(torch.cat([past.images, images]), torch.cat([past.labels, labels]))

        def lr(learned: Learned) -> float | torch.Tensor:
            return learned["log_inner_lr"].exp() if config.train_lr else config.inner_lr

        def problem(seed: int) -> Problem:
            network = fresh_network(config.arch, self.layout.spec, config.width, seed, self.device, self.dtype)
            return Problem(self.inner, network, posters, lr)

        return problem

    def meta_step(self, position: Position, problem_of: Callable[[int], Problem], blend: Sequence[float]) -> float:
        """One meta-step: plain steps, the window, the real batch, the clipped outer step. Returns the meta-loss."""
        config = self.config
        key = (config.seed, "meta-step", position.stage, position.step)
        plain, window = self._curriculum(position)
        problem = problem_of(derived_seed(*key))
        draws = list(self.inner.draws(blend, plain + window, key, config.totwindow, self.dataset.train.x))
        state = State.start(problem.network.theta)
        if plain:
            with torch.no_grad():
                constant, lr = problem.posters(position.learned), problem.lr(position.learned)
            state = self.inner.train(problem.network, state, constant, draws[:plain], lr)
        real = self._real_batch(position)
        loss, gradients = meta_gradient(
            problem, position.learned, state, draws[plain:], real, config.real_chunk, config.engine
        )
        self._outer_step(position, loss, gradients)
        return position.loss["last"]

    def _curriculum(self, position: Position) -> tuple[int, int]:
        """Plain steps and window of this meta-step; random ones are drawn once an epoch."""
        config = self.config
        if config.ddtype == "standard":
            return 0, config.window
        draw = generator(config.seed, "curriculum", position.stage, position.step // self.epoch_steps)

        def uniform(low: int, high: int) -> int:
            return int(torch.randint(low, high + 1, (), generator=draw))

        if config.cctype == 0:
            return config.totwindow - config.window, config.window
        if config.cctype == 1:
            return position.curriculum, config.window
        if config.cctype == 2:
            return uniform(config.minwindow, config.totwindow - config.window), config.window
        return 0, uniform(config.window, config.totwindow)

    def _grow_curriculum(
        self, position: Position, problem_of: Callable[[int], Problem], blend: Sequence[float]
    ) -> None:
        """cctype 1: another window of plain steps when the held-out loss has not improved for `_PATIENCE` epochs."""
        config = self.config
        epoch = position.step // self.epoch_steps
        key = (config.seed, "validation loss", position.stage, position.step)
        problem = problem_of(derived_seed(*key))
        posters, lr = problem.posters(position.learned), problem.lr(position.learned)
        draws = list(self.inner.draws(blend, config.totwindow, key, config.totwindow, self.dataset.train.x))
        end = self.inner.train(problem.network, State.start(problem.network.theta), posters, draws, lr)
        held_out = self._choice_split()
        loss = float(real_loss(problem.network, end.theta, (held_out.x, held_out.y), config.real_chunk)[0])
        if loss < position.best_loss:
            position.best_loss, position.best_epoch = loss, epoch
        elif epoch >= position.best_epoch + _PATIENCE:
            position.best_epoch = epoch
            position.curriculum = min(position.curriculum + config.window, config.totwindow - config.window)

    def _real_batch(self, position: Position) -> tuple[torch.Tensor, torch.Tensor]:
        """The next real images of the epoch's own permutation, augmented."""
        config, train = self.config, self.dataset.train
        epoch, step = divmod(position.step, self.epoch_steps)
        images = len(train.y)
        order = torch.randperm(images, generator=generator(config.seed, "epoch", position.stage, epoch))
        wanted = torch.arange(step * config.batch_size, (step + 1) * config.batch_size)
        # one pass ends with a shorter batch; a chosen number of steps goes round
        wanted = wanted % images if config.steps_per_epoch else wanted[wanted < images]
        picks = order[wanted].to(train.x.device)
        how = generator(config.seed, "real augmentation", position.stage, position.step)
        augmentation = augment.draw(config.real_strategy, config.comp_aug_real, len(picks), how)
        return augmentation.to(self.device, self.dtype)(train.x[picks]), train.y[picks]

    def _outer_step(self, position: Position, loss: torch.Tensor, gradients: Learned) -> None:
        """Clip the poster's gradient to twice its running norm, take Adam's step, clip labels at 0 from below."""
        config = self.config
        norm = gradients["poster"].norm()
        sums = torch.stack([loss, norm, *(g.sum() for name, g in gradients.items() if name != "poster")])
        values = sums.tolist()  # the meta-step's one wait for the device
        if not all(map(math.isfinite, values)):
            what = "meta-loss" if not math.isfinite(values[0]) else "meta-gradient"
            raise NonFinite(
                f"{what} is {values[0] if what == 'meta-loss' else values[1]} at stage {position.stage}, meta-step "
                f"{position.step + 1}: the poster is as it was before; lower lr or inner_lr, or shorten window"
            )
        average = position.norm_average or values[1]
        average = config.clip_coef * average + (1 - config.clip_coef) * values[1]
        gradients["poster"] = gradients["poster"] * min(1.0, _CLIP * average / max(values[1], 1e-30))
        position.norm_average = average
        self._adam(position, gradients)
        if "label_array" in position.learned:
            position.learned["label_array"].clamp_(min=0)
        position.step += 1
        position.meta_steps += 1
        if position.step == 1:
            position.loss = {"first": values[0], "last": values[0], "sum": 0.0}
        position.loss["last"] = values[0]
        position.loss["sum"] += values[0]

    def _adam(self, position: Position, gradients: Learned) -> None:
        """The outer optimiser, torch's own, its state taken from and given back to the position."""
        config = self.config
        rates = {"label_array": config.lr / config.label_lr_scale}
        groups = []
        for name, tensor in position.learned.items():
            tensor.grad = gradients[name]
            groups.append({"params": [tensor], "lr": rates.get(name, config.lr)})
        adam = torch.optim.Adam(groups, lr=config.lr, eps=config.eps, weight_decay=config.wd)
        for name, tensor in position.learned.items():
            first, second = position.moments[name]
            step = torch.tensor(float(position.adam_steps))
            adam.state[tensor] = {"step": step, "exp_avg": first, "exp_avg_sq": second}
        adam.step()
        for tensor in position.learned.values():
            tensor.grad = None
        position.adam_steps += 1

    # A stage's end

    def _choice_split(self) -> Split:
        """The images that choices are made by: held out of the training set; the test set only for `released`."""
        return self.dataset.test if self.config.blend in LEAKING else self.dataset.validation

    def poster_file(self, position: Position) -> PosterFile:
        learned = {name: tensor.cpu().numpy().copy() for name, tensor in position.learned.items()}
        labels = learned["label_array"] if self.config.train_y else self.fixed_labels.numpy()
        rate = math.exp(learned["log_inner_lr"]) if self.config.train_lr else None
        return PosterFile(learned["poster"], labels, self.layout.class_order, rate)

    def result(
        self, position: Position, frozen: Sequence[PosterFile], blend: list[float], evaluation_blend: list[float]
    ) -> StageResult:
        config = self.config
        poster = self.poster_file(position)
        protocol = Protocol(
            arch=config.arch,
            mode="blend",
            budgets=(config.stage_steps,),
            nets=config.stage_nets,
            seed=derived_seed(config.seed, "stage accuracy", position.stage),
            width=config.width,
            batch=config.distill_batch_size,
            optim=config.inner_optim,
            inner_lr=None if config.train_lr else config.inner_lr,
            decay=config.decay,
            strategy=config.syn_strategy,
            comp_aug=config.comp_aug,
        )
        values = evaluate([*frozen, poster], blend, self.layout, protocol, self._choice_split())[config.stage_steps]
        split = "test" if config.blend in LEAKING else "validation"
        return StageResult(
            stage=position.stage,
            poster=poster,
            blend=blend,
            evaluation_blend=evaluation_blend,
            accuracy={**summary(values), "split": split, "steps": config.stage_steps, "nets": config.stage_nets},
            meta_loss={
                "first": position.loss["first"],
                "last": position.loss["last"],
                "mean": position.loss["sum"] / self.stage_steps,
            },
            meta_steps=position.meta_steps,
            seconds=position.seconds,
        )
