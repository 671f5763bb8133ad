"""A trial, or several in lockstep: whole multi-stage distillations, each in its archive folder, reported to Tune."""

from __future__ import annotations

import contextlib
import gc
import json
import logging
import tempfile
from collections.abc import Callable, Generator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ray import tune

from cluster.service import limit_gpu_memory, measure
from ppodd import logs
from ppodd.archive import FailureRecord, StageRecord, TrialArchive
from ppodd.config import DistillConfig, EvaluationConfig, build, protocols
from ppodd.distillation import OutOfMemory, halved
from ppodd.errors import BadInput, CorruptArchive, StorageError
from ppodd.files import is_remote
from ppodd.machine import DeviceError, device_error, limit_threads
from tune.running.data import check_alike, try_own
from tune.running.job import TrialJob, job_in
from tune.running.limits import TrialClock
from tune.running.stopping import NO_STORAGE, StopSignal, is_over, when_told

if TYPE_CHECKING:
    from ppodd.datasets import Dataset
    from ppodd.distillation import DistillationSteps, MeasureCandidate

_log = logging.getLogger(__name__)


def trial(spec: dict[str, Any], notice: Any = None) -> None:
    """Tune's trainable: one trial of the sweep, or several in lockstep.

    A trial resumes from its own archive, whatever Tune remembers; the checkpoint is only a pointer there. What fails is
    said in the archive and over for Tune, which begins again only what loses its process, node or device. Where the
    driver gives `notice` that it ends, so does the trial, with a checkpoint.
    """
    logs.start_worker()
    if notice and is_over(notice):  # the sweep is over, and Tune begins what waited
        return
    with contextlib.suppress(KeyboardInterrupt):  # as its driver is
        _run(job_in(spec), when_told(notice) if notice else None)
    # the error and all that its frames held are gone here, before this process starts another trial
    _free_memory()


def _run(job: TrialJob, told: StopSignal | None = None) -> None:
    """Run the trials to their ends, reporting each stage; raise what Tune is to know of."""
    from ppodd.distillation import Lockstep  # in the trial's process alone: a driver does without torch

    limit_threads(job["cpus"])
    limit_gpu_memory(job["gpus"])
    told = told or StopSignal()  # of a process that nobody tells
    archives = [TrialArchive(one["url"]) for one in job["trials"]]
    pairs = zip(job["trials"], archives, strict=True)
    trials = [_one(job, one["config"], archive, told) for one, archive in pairs]
    group = Lockstep(trials, exact=job["exact"])
    for member, record in group:
        archive = archives[member]
        with logs.about(sweep=archive.sweep, trial=archive.trial):
            _report(archive, record)
            if len(archives) > 1 and archive.stopped():  # by the scheduler, which has seen the report
                group.drop(member)


def _one(
    job: TrialJob, fields: dict[str, Any], archive: TrialArchive, told: StopSignal
) -> DistillationSteps[StageRecord]:
    """One trial to its end or that of its hours; archive why it failed if it did, raise what Tune is to know of."""
    config = build(DistillConfig, fields)
    clock = TrialClock(archive, job["hours"])
    with logs.about(sweep=archive.sweep, trial=archive.trial):
        try:
            archive.clear_failure()
            if config.device == "auto":
                config = config.model_copy(update={"device": "cuda" if job["gpus"] else "cpu"})
            elsewhere = measure if job["stage_accuracy"] == "evaluators" else None

            def stop() -> bool:
                return told.is_set() or clock.is_over()

            def check(dataset: Dataset, config: DistillConfig = config) -> None:
                check_alike(archive, config, dataset.digest)
                asked = [build(EvaluationConfig, evaluation) for evaluation in job["evaluations"]]
                try_own(protocols(asked, config), dataset.spec)

            smaller: DistillConfig | None = config
            while smaller:
                once = _distil(smaller, archive, job["halve_chunk"], elsewhere, stop, check)
                config, smaller = smaller, (yield from once)
        except KeyboardInterrupt:
            if clock.stop(told.why) and not told.is_set():
                return
            _log.info("interrupted, as its driver is; the checkpoint is archived")
            raise
        except Exception as error:
            _log.error("failed", exc_info=True)
            _archive_failure(archive, config, error)
            if device_error(error) is DeviceError.LOST:
                raise


def _archive_failure(archive: TrialArchive, config: DistillConfig, error: Exception) -> None:
    """Record why the trial failed; where the archive takes no record either, have the driver end the sweep by that.

    What failed before anything of it was archived gets its config too: without one it is no trial that is listed.
    """
    try:
        with contextlib.suppress(BadInput, CorruptArchive):  # what is there already stays, whatever it is
            archive.create(config, resume=True)
        archive.write_failure(FailureRecord.of(error))
    except StorageError as no_record:
        first = error if isinstance(error, StorageError) else no_record
        tune.report({NO_STORAGE: str(first)})


def _distil(
    config: DistillConfig,
    archive: TrialArchive,
    may_halve: bool,
    measure: MeasureCandidate | None,
    stop: Callable[[], bool] | None,
    check: Callable[[Dataset], None],
) -> Generator[Any, Any, DistillConfig | None]:
    """Run to the end. Where memory runs out: the config to go on with from the last checkpoint, if there may be one."""
    from ppodd.distillation import distillation_steps

    try:
        how: dict[str, Any] = {"measure": measure, "stop": stop, "check_dataset": check}
        yield from distillation_steps(config, archive, resume=True, alone=False, **how)
        return None
    except OutOfMemory:
        smaller = halved(config) if may_halve else None
        if smaller is None:
            raise
    _free_memory()  # as are the error and all that its frames held
    _log.warning("out of memory: goes on with real_chunk %d", smaller.real_chunk)
    return smaller


def _free_memory() -> None:
    import torch

    gc.collect()
    torch.cuda.empty_cache()


def _report(archive: TrialArchive, record: StageRecord) -> None:
    metrics = {
        "trial": archive.trial,
        "stage": record.stage,
        "stage_accuracy": record.stage_accuracy.mean,
        "meta_loss": record.meta_loss.last,
        "meta_steps": record.budgets.meta_steps,
        "poster_ipc": record.budgets.poster_ipc,
        "cumulative_ipc": record.budgets.cumulative_ipc,
    }
    if is_remote(archive.url):  # Tune's folder is on the driver's disk then, which a trial elsewhere cannot write to
        tune.report(metrics)
        return
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "archive.json").write_text(json.dumps({"url": archive.url, "stage": record.stage}))
        tune.report(metrics, checkpoint=tune.Checkpoint.from_directory(folder))
