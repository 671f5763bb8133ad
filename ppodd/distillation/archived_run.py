"""A distillation in its archive folder: stages, progress and resume checkpoints written as they come."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch

from ppodd.archive import (
    SCHEMA,
    WRITER,
    CandidateRecord,
    Data,
    DataDigest,
    Digests,
    PosterFile,
    ProgressRecord,
    StageBudget,
    StageRecord,
    TrialArchive,
)
from ppodd.config import DistillConfig, EvaluationProtocol
from ppodd.datasets import Dataset
from ppodd.distillation.cost import warning
from ppodd.distillation.initial import load_poster
from ppodd.distillation.meta_steps import DistillationSteps, mapped, one_by_one
from ppodd.distillation.out_of_memory import explained
from ppodd.distillation.stages import Accuracies, Distillation, Finished, MetaStepProgress, StageResult, TrainingState
from ppodd.errors import CorruptArchive, PpoddError, under_way
from ppodd.evaluation import check_data, data_of, keep_data, pixel_budget, versions
from ppodd.failures import this_process
from ppodd.files import Say, only_writer
from ppodd.machine import keep_freed_memory, resolve_device
from ppodd.methods import layout_of, trained_on
from ppodd.posters import BLENDS, Layout, render
from ppodd.training import Precision, choose_compiled
from ppodd.words import counted

_log = logging.getLogger(__name__)
_REPAIR = "have `ppodd archive repair` remove what is to be distilled anew, then go on with --resume"

MeasureCandidate = Callable[[str, int, int], list[float] | None]


def run(config: DistillConfig, trial: TrialArchive, **how: Any) -> Iterator[StageRecord]:
    """Distil into the folder of `trial`; yields the record of each stage, first of those archived already."""
    return one_by_one(distillation_steps(config, trial, **how))


@explained
def distillation_steps(
    config: DistillConfig,
    trial: TrialArchive,
    *,
    resume: bool = False,
    progress: Callable[[MetaStepProgress], None] | None = None,
    measure: MeasureCandidate | None = None,
    alone: bool = True,
    say: Say | None = None,
    stop: Callable[[], bool] | None = None,
    check_dataset: Callable[[Dataset], None] | None = None,
) -> DistillationSteps[StageRecord]:
    """Distil into the trial's folder, asking for each meta-step; yields stages' records, first those archived already.

    `measure(trial_url, stage, nets)` may have others measure a candidate, by `measure_candidate`: it returns the
    accuracy of each of the networks, or `None` to have them measured here.

    With `alone`, no other process may write to the folder meanwhile; `say` receives a line when it has to wait to be
    sure of that. A sweep's trials need no such check: their driver is the only one. `say` also receives the report of
    the data, and `check_dataset` the data itself, to refuse what the sweep's other trials or evaluations do not fit.

    An interrupt, and `stop` where it says so before a meta-step, archives a checkpoint and raises `KeyboardInterrupt`.

    Raises:
        BadInput: the data or device is not there, the data is not that of the archived stages, or the folder holds
            another run, or this one and `resume` is off, or another process writes it.
        CorruptArchive: a file needed to resume is missing or damaged.
        NonFinite: a meta-step failed; the archive stays as it was.
        OutOfMemory: it does not fit; which setting to lower is said.
    """
    keep_freed_memory()
    choose_compiled(config.compile)
    device = resolve_device(config.device)
    Precision.read(config.precision).check_device(device)
    trial.check_free(config, resume)  # before the data is read, which may take a while
    dataset = data_of(config, device, say or _log.info)
    if check_dataset:
        check_dataset(dataset)
    initial = load_poster(config.load_poster_run_name) if config.load_poster_run_name else None
    distillation = Distillation(config, dataset, initial)  # refuses what cannot work before anything is written
    if say and (long := warning(config, dataset.spec, len(dataset.train.y), device)):
        say(long)
    busy = f"{trial.url} is being distilled by another process"
    only = only_writer(trial.folder, WRITER, busy, "go on with --resume", say) if alone else contextlib.nullcontext()
    with only as taken_over:
        trial.create(config, resume, dataset.digest)
        keep_data(trial, config, dataset)
        trial.folder.remove_temporaries()
        yield from _stages(distillation, trial, progress, measure, stop, taken_over or threading.Event())


def _stages(
    distillation: Distillation,
    trial: TrialArchive,
    progress: Callable[[MetaStepProgress], None] | None,
    measure: MeasureCandidate | None,
    stop: Callable[[], bool] | None,
    taken_over: threading.Event,
) -> DistillationSteps[StageRecord]:
    """The records of the stages that are archived, then of those that are distilled now.

    Nothing is checkpointed any more once another process has taken the trial over.
    """
    config, dataset = distillation.config, distillation.dataset
    stages = trial.stages()
    records = [trial.stage(stage) for stage in stages]
    for record in records:
        check_data(record.data.digest, dataset, trial)
    yield from records
    if len(records) >= config.num_stages:
        return
    finished = [Finished(trial.poster(s), r.stage_accuracy.mean) for s, r in zip(stages, records, strict=True)]
    frozen = [f.poster for f in finished]

    def on_progress(now: MetaStepProgress) -> None:
        with contextlib.suppress(OSError, PpoddError):  # it only informs: an archive that is away ends no trial by it
            trial.write_progress(ProgressRecord(**now._asdict(), **this_process(), updated_at=time.time()))
        if progress:
            progress(now)

    def on_checkpoint(state: TrainingState) -> None:
        if taken_over.is_set():
            return
        trial.write_resume(*state.to_arrays())
        _log.debug("checkpoint at meta-step %d", state.step, extra={"stage": state.stage})

    def elsewhere(
        posters: Sequence[PosterFile], blend: Sequence[float], protocol: EvaluationProtocol, split: str
    ) -> Accuracies:
        assert measure
        candidate = CandidateRecord(
            protocol=protocol,
            blend=tuple(blend),
            split=split,
            data=DataDigest(digest=dataset.digest),
            digest=posters[-1].digest,
        )
        trial.write_candidate(len(posters), candidate, posters[-1])
        return measure(trial.url, len(posters), protocol.nets) or distillation.measure(posters, blend, protocol, split)

    stage_results = distillation.stages(
        _resumed(trial, distillation, finished, stages),
        finished,
        measure=elsewhere if measure else None,
        on_progress=on_progress,
        on_checkpoint=on_checkpoint,
        stop=stop,
    )

    def archived(result: StageResult) -> StageRecord:
        frozen.append(result.poster)
        return write_stage(trial, config, dataset, frozen, result)

    with under_way():
        yield from mapped(stage_results, archived)


def write_stage(
    trial: TrialArchive,
    config: DistillConfig,
    dataset: Dataset,
    posters: Sequence[PosterFile],
    result: StageResult,
    leaks_test_set: bool | None = None,
) -> StageRecord:
    """Archive a finished stage, the last of these posters; returns its record.

    Whether its accuracies leak the test set follows from the blend strategy, unless it is said.
    """
    spec = dataset.spec
    png = _drawn(result.poster, layout_of(config, spec, result.poster.class_order), dataset)
    drawn, its_layout = trained_on(config, dataset, posters)
    pixels = pixel_budget(drawn, result.evaluation_blend, its_layout)
    record = StageRecord(
        schema=SCHEMA,
        stage=result.stage,
        num_stages=config.num_stages,
        blend_strategy=config.blend,
        blend=tuple(result.blend),
        evaluation_blend=tuple(result.evaluation_blend),
        stage_accuracy=result.accuracy,
        leaks_test_set=BLENDS.get(config.blend).leaks if leaks_test_set is None else leaks_test_set,
        meta_loss=result.meta_loss,
        data=Data(
            name=dataset.name,
            digest=dataset.digest,
            classes=tuple(dataset.classes),
            shape=(spec.channels, spec.height, spec.width),
            images={s: len(getattr(dataset, s).y) for s in ("train", "validation", "test")},
        ),
        versions=versions(),
        device=str(dataset.train.x.device),
        real_chunk=config.real_chunk,
        finished_at=time.time(),
        budgets=StageBudget(**dict(pixels), meta_steps=result.meta_steps, seconds=result.seconds),
        digests=Digests.of(result.poster.digest, png),
    )
    trial.write_stage(record, result.poster, png)
    accuracy = record.stage_accuracy
    _log.info("archived, %s accuracy %.1f %%", accuracy.split, accuracy.mean, extra={"stage": record.stage})
    return record


def picture(trial: TrialArchive, stage: int) -> bytes:
    """The picture of an archived stage's poster, drawn again.

    Raises:
        BadInput: the data set is not here, or is another.
        CorruptArchive: what it is drawn from is missing or damaged.
    """
    config, poster = trial.config(), trial.poster(stage)
    dataset = data_of(config, torch.device("cpu"))
    check_data(trial.stage(stage).data.digest, dataset, trial)
    return _drawn(poster, layout_of(config, dataset.spec, poster.class_order), dataset)


def _drawn(poster: PosterFile, layout: Layout, dataset: Dataset) -> bytes:
    return render(torch.from_numpy(poster.poster), layout, dataset.whitening)


def _resumed(
    trial: TrialArchive, distillation: Distillation, finished: Sequence[Finished], stages: Sequence[int]
) -> TrainingState | None:
    """The archived state, or `None` to start from the beginning; where an archived stage is trained again, it is said.

    Raises:
        CorruptArchive: a stage is missing, or the checkpoint does not follow from the archived stages.
    """
    done = len(stages)
    if list(stages) != list(range(1, done + 1)):
        missing = min(set(range(1, stages[-1])) - set(stages))
        raise CorruptArchive(
            f"{trial.url} holds stages {list(stages)}: stage {missing} is missing, so the run cannot go on as it would "
            f"have: put it back from a copy, or {_REPAIR}"
        )
    if not distillation.stage_meta_steps:  # nothing is trained: what a stage holds follows from the config
        return None
    saved = trial.resume()
    state = distillation.laid_out(TrainingState.from_arrays(*saved, distillation.device)) if saved else None
    where = f"the checkpoint in {trial.url} (stage {state.stage}, meta-step {state.step})" if state else ""
    if state and (reason := _does_not_follow(state, distillation, finished)):
        raise CorruptArchive(f"{where} {reason}: {_REPAIR}")
    stage, step = (state.stage, state.step) if state else (1, 0)
    if stage < done or (stage == done and step < distillation.stage_meta_steps):
        since = f"{where} is from before the end of stage {done}" if state else f"{trial.url} has no checkpoint"
        if distillation.device.type != "cpu":
            raise CorruptArchive(
                f"{since}, which only a CPU can train again bit for bit: put resume/ back from a copy, or {_REPAIR}"
            )
        _log.warning("%s: what is between is trained again and must come to the archived posters", since)
    _log.info("begins after meta-step %d", step, extra={"stage": stage})
    return state


def _does_not_follow(state: TrainingState, distillation: Distillation, finished: Sequence[Finished]) -> str:
    """Why the state cannot be one of the run that archived these stages; empty where it can."""
    if state.stage > len(finished) + 1:
        return f"is of a later stage than the one after the {counted(len(finished), 'archived stage')}"
    expected = (state.stage - 1) * distillation.stage_meta_steps + state.step
    if state.meta_steps != expected:
        return f"counts {state.meta_steps} meta-steps where {expected} belong"
    if state.follows and state.follows != finished[state.stage - 2].poster.digest:
        return f"follows another poster of stage {state.stage - 1} than the archived one"
    return ""
