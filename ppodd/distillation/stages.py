"""Multi-stage distillation: the meta-step, the stage, and the loop over stages (P-PoDD on RaT-BPTT).

`distill` is a generator of stage results; the command line, a sweep's trial and a test all drive this one loop.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import torch

from ppodd import signals
from ppodd.archive import Accuracy, MetaLoss, PosterFile, StageAccuracy
from ppodd.config import METHODS, DistillConfig, EvaluationProtocol
from ppodd.datasets import Dataset
from ppodd.distillation import curriculum
from ppodd.distillation.initial import InitialPoster
from ppodd.distillation.joined_meta_steps import can_be_joined, meta_gradients
from ppodd.distillation.meta_steps import DistillationSteps, MetaStep, Prepared, StageTrained, one_by_one
from ppodd.distillation.outer_step import outer_step
from ppodd.distillation.plug_ins import try_plug_ins
from ppodd.distillation.training_state import TrainingState
from ppodd.errors import CorruptArchive
from ppodd.evaluation import evaluate, stack
from ppodd.machine import derived_seed, generator, seeded
from ppodd.methods import layout_of, start_poster, trained_on
from ppodd.posters import (
    BLENDS,
    LabelWindows,
    Patches,
    arrange_classes,
    blend_weights,
    evaluation_weights,
    fixed_labels,
    initial_label_array,
    label_array_shape,
)
from ppodd.training import (
    InnerLoop,
    Learned,
    Posters,
    Precision,
    Problem,
    State,
    augment,
    fresh_network,
    meta_gradient,
    real_loss,
)


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
        accuracy: of the stage's networks.
        meta_loss: of the stage; empty where it was not trained here.
        meta_steps, seconds: spent on this and all earlier stages; `seconds` is `None` where nobody took the time.
    """

    stage: int
    poster: PosterFile
    blend: list[float]
    evaluation_blend: list[float]
    accuracy: StageAccuracy
    meta_loss: MetaLoss
    meta_steps: int
    seconds: float | None


Accuracies = list[float]  # percent, one a network
MeasureAccuracies = Callable[
    [Sequence[PosterFile], Sequence[float], EvaluationProtocol, str], Accuracies
]  # as `Distillation.measure`


class MetaStepProgress(NamedTuple):
    """Where a distillation is: after meta-step `meta_step` of `meta_steps` of a stage."""

    stage: int
    num_stages: int
    meta_step: int
    meta_steps: int
    meta_loss: float
    seconds_per_meta_step: float
    seconds_left: float


def distill(
    config: DistillConfig,
    dataset: Dataset,
    *,
    state: TrainingState | None = None,
    finished: Sequence[Finished] = (),
    initial: InitialPoster | None = None,
    on_progress: Callable[[MetaStepProgress], None] | None = None,
    on_checkpoint: Callable[[TrainingState], None] | None = None,
) -> Iterator[StageResult]:
    """Distil `dataset` in stages, yielding each as it is finished.

    Args:
        state, finished: where to resume, and the stages already archived (not yielded again).
        initial: a poster to start from instead of a random one.
        on_progress: called every `config.print_freq` meta-steps.
        on_checkpoint: called every `config.checkpoint_every` meta-steps and when a stage's last one is done; it must
            copy what it keeps.

    Raises:
        NonFinite: a loss or gradient is no number; the poster is untouched and stage and meta-step are named.
        BadInput: the initial poster does not fit the config.
    """
    return one_by_one(
        Distillation(config, dataset, initial).stages(
            state, finished, on_progress=on_progress, on_checkpoint=on_checkpoint
        )
    )


def _laps() -> Callable[[], float]:
    """A stopwatch, each call of which gives the seconds since the one before."""
    last = time.perf_counter()

    def lap() -> float:
        nonlocal last
        before, last = last, time.perf_counter()
        return last - before

    return lap


class Distillation:
    """The fixed parts of a run: layout, patches, labels, inner loop, and the steps that use them.

    Making one refuses, with `BadInput`, an initial poster or anything of a user's own that cannot work.
    """

    def __init__(self, config: DistillConfig, dataset: Dataset, initial: InitialPoster | None):
        self.config, self.dataset, self.method = config, dataset, METHODS.get(config.method)
        self.device, self.dtype = dataset.train.x.device, dataset.train.x.dtype
        self.precision = Precision.read(config.precision)
        self.precision.check_device(self.device)
        rows, columns = config.poster_class_num_y, config.poster_class_num_x
        if initial is not None:
            initial.check(config, dataset.spec)
        known = initial.class_order if initial else None
        order = arrange_classes(config.class_order, dataset, rows, columns) if known is None else known
        self.layout = layout_of(config, dataset.spec, order)
        self.patches = Patches(self.layout, self.device)
        self.inner = InnerLoop(
            self.patches,
            config.inner_optim,
            min(config.distill_batch_size, self.patches.count),  # of a method whose patches are whole images, fewer
            config.syn_strategy,
            config.comp_aug,
            config.decay,
        )
        try_plug_ins(config, dataset, self.layout)
        self.fixed_labels = fixed_labels(self.layout, self.dtype)
        self.cells = config.comp_ipc, config.label_cells == "released"
        self.label_shape = label_array_shape(self.layout, *self.cells) if config.train_y else ()
        self.initial = initial
        if initial is not None and initial.label_array is not None:
            self.label_shape = initial.label_array.shape[1:]
        self.epoch_steps = config.epoch_steps(len(dataset.train.y))
        self.stage_meta_steps = config.stage_epochs * self.epoch_steps

    def stages(
        self,
        state: TrainingState | None = None,
        finished: Sequence[Finished] = (),
        *,
        measure: MeasureAccuracies | None = None,
        on_progress: Callable[[MetaStepProgress], None] | None = None,
        on_checkpoint: Callable[[TrainingState], None] | None = None,
        stop: Callable[[], bool] | None = None,
    ) -> DistillationSteps[StageResult]:
        """The loop over stages; arguments and errors as for `distill`. `measure` stands in for `self.measure`.

        Where `stop`, asked before every meta-step, says so, it is interrupted as by Ctrl-C.

        Where `state` is from before the end of an archived stage, the rest of that stage is trained again, and must
        give the archived poster: only then may the next stage start from that state.

        Raises:
            CorruptArchive: `state` does not lead to the archived posters.
        """
        config, measure = self.config, measure or self.measure
        state = state or self.first_state()
        archived = list(finished)
        for stage in range(state.stage, config.num_stages + 1):
            past = archived[: stage - 1]
            yield from self.train_stage(
                state, [f.poster for f in past], self.blend(past), on_progress, on_checkpoint, stop
            )
            yield StageTrained()
            poster = self.poster_file(state)
            if stage > len(archived):
                loss = self._meta_loss(state)
                result = self.result(poster, archived, measure, loss, state.meta_steps, state.seconds)
                archived.append(Finished(result.poster, result.accuracy.mean))
                yield result
            elif poster.digest != archived[stage - 1].poster.digest:
                raise CorruptArchive(
                    f"the checkpoint leads to another poster of stage {stage} than the archived one, so it is from "
                    f"another run or device: choose another --name, or remove resume/ and the stages from {stage} on "
                    f"to distil them anew"
                )
            state = self.next_state(state, poster)

    def _meta_loss(self, state: TrainingState) -> MetaLoss:
        if not self.stage_meta_steps:
            return MetaLoss()
        mean = state.loss.sum / self.stage_meta_steps
        return MetaLoss(first=state.loss.first, last=state.loss.last, mean=mean)

    # Training states

    def first_state(self) -> TrainingState:
        """The start of the first stage."""
        return self._fresh(stage=1)

    def next_state(self, done: TrainingState, poster: PosterFile) -> TrainingState:
        """The start of the stage after that of `poster`: poster and Adam as they are (warm), or new ones (fresh)."""
        if self.config.stage_start == "fresh" or self.method.learns != "all":
            start = self._fresh(done.stage + 1)
        else:
            start = TrainingState(done.learned, done.moments, done.stage + 1, adam_steps=done.adam_steps)
            start.curriculum, start.best_loss = done.curriculum, done.best_loss
            start.best_epoch = done.best_epoch - self.config.stage_epochs  # epochs count from the stage's first
        start.meta_steps, start.seconds = done.meta_steps, done.seconds
        start.follows = poster.digest
        return start

    def _fresh(self, stage: int) -> TrainingState:
        learned = {name: t.to(self.device, self.dtype) for name, t in self._initial_learned(stage).items()}
        moments = {name: (torch.zeros_like(t), torch.zeros_like(t)) for name, t in learned.items()}
        return TrainingState(learned, moments, stage, curriculum=self.config.minwindow)

    def laid_out(self, state: TrainingState) -> TrainingState:
        """A state that was read, its tensors laid out in memory as a run's own are: sums are taken in that order."""
        own = self._initial_learned(state.stage)

        def as_own(name: str, tensor: torch.Tensor) -> torch.Tensor:
            like = own[name]
            laid = torch.empty_strided(like.shape, like.stride(), dtype=tensor.dtype, device=tensor.device)
            return laid.copy_(tensor)

        state.moments = {n: (as_own(n, first), as_own(n, second)) for n, (first, second) in state.moments.items()}
        state.learned = {name: as_own(name, tensor) for name, tensor in state.learned.items()}
        return state

    def _initial_learned(self, stage: int) -> Learned:
        config = self.config
        if self.initial is not None:
            learned = {"poster": torch.tensor(self.initial.poster)}  # a copy: steps are taken in place
            if self.initial.label_array is not None:
                learned["label_array"] = torch.tensor(self.initial.label_array)
        else:
            learned = {"poster": start_poster(config, self.dataset, self.layout, stage)}
            if config.train_y:
                learned["label_array"] = initial_label_array(self.layout, *self.cells, self.dtype)
        if config.train_lr:
            learned["log_inner_lr"] = torch.tensor(math.log(config.inner_lr), dtype=self.dtype)
        return learned

    # A stage

    def blend(self, archived: Sequence[Finished]) -> list[float]:
        """π that the stage after the archived ones trains under."""
        return blend_weights(self.config.blend, [f.accuracy for f in archived], self.config.blend_parameters)

    def train_stage(
        self,
        state: TrainingState,
        frozen: Sequence[PosterFile],
        blend: Sequence[float],
        on_progress: Callable[[MetaStepProgress], None] | None,
        on_checkpoint: Callable[[TrainingState], None] | None,
        stop: Callable[[], bool] | None = None,
    ) -> Generator[MetaStep, float, None]:
        """Ask for the stage's remaining meta-steps, which change `state` in place; an interrupt leaves a checkpoint."""
        config = self.config
        problem_of = self.problems(frozen)
        how = (state, problem_of, blend)
        first_step, started, lap = state.step, time.perf_counter(), _laps()

        def interrupt() -> None:
            if state.whole:  # half an outer step could not be checkpointed: it is finished first
                signals.interrupt()

        try:
            with signals.reacting(interrupt):
                while state.step < self.stage_meta_steps:
                    if stop and stop():
                        raise KeyboardInterrupt
                    rate = self.rate(state)
                    state.seconds += lap()
                    yield MetaStep(config, state, rate, partial(self._prepare, *how), partial(self._take, *how))
                    lap()  # who takes the meta-step counts its seconds
                    if config.cctype == 1 and state.step % (self.epoch_steps * config.test_freq) == 0:
                        held_out = self._held_out_loss(state, problem_of, blend)
                        curriculum.grow(config, state, state.step // self.epoch_steps, held_out)
                    state.seconds += lap()
                    state.whole = True
                    last = state.step == self.stage_meta_steps
                    if on_progress and (state.step % config.print_freq == 0 or last):
                        each = (time.perf_counter() - started) / (state.step - first_step)
                        on_progress(self._progress(state, each))
                    if on_checkpoint and (state.step % config.checkpoint_every == 0 or last):
                        on_checkpoint(state)
                    if signals.came().is_set():
                        signals.interrupt()
        except KeyboardInterrupt:
            if on_checkpoint and state.whole:
                on_checkpoint(state)
            raise

    def _progress(self, state: TrainingState, seconds_per_meta_step: float) -> MetaStepProgress:
        """How far it is, and how long the rest takes at this rate."""
        later = self.stage_meta_steps * (self.config.num_stages - state.stage)
        return MetaStepProgress(
            stage=state.stage,
            num_stages=self.config.num_stages,
            meta_step=state.step,
            meta_steps=self.stage_meta_steps,
            meta_loss=state.loss.last,
            seconds_per_meta_step=seconds_per_meta_step,
            seconds_left=seconds_per_meta_step * (self.stage_meta_steps - state.step + later),
        )

    def rate(self, state: TrainingState) -> float:
        """The factor of the outer learning rate at the stage's next meta-step."""
        done = state.step / self.stage_meta_steps
        return (1 + math.cos(math.pi * done)) / 2 if self.config.outer_decay else 1.0

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
            return Problem(self.inner, network, posters, lr, precision=self.precision)

        return problem

    def meta_step(self, state: TrainingState, problem_of: Callable[[int], Problem], blend: Sequence[float]) -> float:
        """One meta-step: the meta-gradient and the clipped outer step along it. Returns the meta-loss."""
        outer_step(self.config, state, *self._meta_gradient(state, problem_of, blend), self.rate(state))
        return state.loss.last

    def _take(self, state: TrainingState, problem_of: Callable[[int], Problem], blend: Sequence[float]) -> float:
        """A meta-step by itself, seeded, so that repeating the step repeats the network's random draws."""
        with self._seeded(state):
            return self.meta_step(state, problem_of, blend)

    def _prepare(self, state: TrainingState, problem_of: Callable[[int], Problem], blend: Sequence[float]) -> Prepared:
        """What comes of `prepare` in a meta-step by itself, where a user's augmentation may draw too."""
        with self._seeded(state):
            return self.prepare(state, problem_of, blend)

    def _seeded(self, state: TrainingState) -> contextlib.AbstractContextManager[None]:
        return seeded(self.device, self.config.seed, "dropout", state.stage, state.step)

    def _meta_gradient(
        self, state: TrainingState, problem_of: Callable[[int], Problem], blend: Sequence[float]
    ) -> tuple[torch.Tensor, Learned]:
        """Plain steps, the window, the real batch: the meta-loss and its gradients; `state` stays as it is."""
        config = self.config
        prepared = self.prepare(state, problem_of, blend)
        # on a GPU, where company changes the last digits anyway, one network alone takes fewer operations
        if self.device.type == "cpu" and can_be_joined(config, [prepared]):
            (found,) = meta_gradients(config, [prepared], [state.learned])
            return found
        problem, plain, window, real = prepared
        inner_state = State.start(problem.network.theta)
        if plain:
            with torch.no_grad():
                constant, lr = problem.posters(state.learned), problem.lr(state.learned)
            inner_state = self.inner.train(
                problem.network, inner_state, constant, plain, lr, precision=self.precision.plain
            )
        return meta_gradient(
            problem, state.learned, inner_state, window, real, config.real_chunk, config.engine, config.offload
        )

    def prepare(self, state: TrainingState, problem_of: Callable[[int], Problem], blend: Sequence[float]) -> Prepared:
        """All that a meta-step draws at random, and its problem with a fresh network."""
        config = self.config
        key = (config.seed, "meta-step", state.stage, state.step)
        plain, window = curriculum.steps(config, state, state.step // self.epoch_steps)
        problem = problem_of(derived_seed(*key))
        draws = list(self.inner.draws(blend, plain + window, key, config.totwindow, self.dataset.train.x))
        # copied before the device has work to do
        return Prepared(problem, draws[:plain], draws[plain:], self._real_batch(state))

    def _held_out_loss(
        self, state: TrainingState, problem_of: Callable[[int], Problem], blend: Sequence[float]
    ) -> float:
        """Loss on the held-out images after a whole training on the posters (cctype 1 decides by it)."""
        config = self.config
        key = (config.seed, "validation loss", state.stage, state.step)
        problem = problem_of(derived_seed(*key))
        posters, lr = problem.posters(state.learned), problem.lr(state.learned)
        draws = list(self.inner.draws(blend, config.totwindow, key, config.totwindow, self.dataset.train.x))
        start, precision = State.start(problem.network.theta), self.precision
        end = self.inner.train(problem.network, start, posters, draws, lr, precision=precision.plain)
        images = getattr(self.dataset, self._choice_split())
        return float(real_loss(problem.network, end.theta, images, config.real_chunk, precision.real)[0])

    def _real_batch(self, state: TrainingState) -> tuple[torch.Tensor, torch.Tensor]:
        """The next real images of the epoch's own permutation, augmented."""
        config, train = self.config, self.dataset.train
        epoch, step = divmod(state.step, self.epoch_steps)
        images = len(train.y)
        order = torch.randperm(images, generator=generator(config.seed, "epoch", state.stage, epoch))
        wanted = torch.arange(step * config.batch_size, (step + 1) * config.batch_size)
        # one pass ends with a shorter batch; a chosen number of steps goes round
        wanted = wanted % images if config.steps_per_epoch else wanted[wanted < images]
        picks = order[wanted].to(train.x.device)
        how = generator(config.seed, "real augmentation", state.stage, state.step)
        augmentation = augment.draw(config.real_strategy, config.comp_aug_real, len(picks), how)
        return augmentation.to(self.device, self.dtype)(train.x[picks]), train.y[picks]

    # A stage's end

    def _choice_split(self) -> str:
        """The images that choices are made by: held out of the training set; the test set only for `released`."""
        return "test" if BLENDS.get(self.config.blend).leaks else "validation"

    def measure(
        self, posters: Sequence[PosterFile], blend: Sequence[float], protocol: EvaluationProtocol, split: str
    ) -> Accuracies:
        """Accuracy (percent) of each of the protocol's networks after its last budget."""
        posters, layout = trained_on(self.config, self.dataset, posters)
        return evaluate(posters, blend, layout, protocol, getattr(self.dataset, split))[protocol.budgets[-1]]

    def poster_file(self, state: TrainingState) -> PosterFile:
        """What a training state has learned, as it is archived."""
        learned = {name: tensor.cpu().numpy().copy() for name, tensor in state.learned.items()}
        labels = learned["label_array"] if self.config.train_y else self.fixed_labels.numpy()
        rate = math.exp(learned["log_inner_lr"]) if self.config.train_lr else None
        return PosterFile(learned["poster"], labels, self.layout.class_order, rate)

    def result(
        self,
        poster: PosterFile,
        archived: Sequence[Finished],
        measure: MeasureAccuracies,
        meta_loss: MetaLoss,
        meta_steps: int,
        seconds: float | None,
    ) -> StageResult:
        """Measure the poster of the stage after the archived ones; what training it took is given."""
        config, stage = self.config, len(archived) + 1
        blend = self.blend(archived)
        evaluation_blend = evaluation_weights(config.blend, [f.accuracy for f in archived], config.blend_parameters)
        protocol = EvaluationProtocol(
            arch=config.arch,
            mode="blend",
            budgets=(config.stage_steps,),
            nets=config.stage_nets,
            seed=derived_seed(config.seed, "stage accuracy", stage),
            width=config.width,
            batch=config.distill_batch_size,
            optim=config.inner_optim,
            inner_lr=None if config.train_lr else config.inner_lr,
            decay=config.decay,
            strategy=config.syn_strategy,
            comp_aug=config.comp_aug,
        )
        # the published code chose π by accuracies on the mixture that it evaluated
        drawn = evaluation_blend if BLENDS.get(config.blend).leaks else blend
        split = self._choice_split()
        values = measure([*(f.poster for f in archived), poster], drawn, protocol, split)
        return StageResult(
            stage=stage,
            poster=poster,
            blend=blend,
            evaluation_blend=evaluation_blend,
            accuracy=StageAccuracy(
                **dict(Accuracy.of(values)), split=split, steps=config.stage_steps, nets=config.stage_nets
            ),
            meta_loss=meta_loss,
            meta_steps=meta_steps,
            seconds=seconds,
        )
