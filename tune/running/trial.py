"""One trial: a whole multi-stage distillation in its archive folder, each stage reported to Tune."""

from __future__ import annotations

import contextlib
import gc
import json
import logging
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ray import tune

from cluster.service import limit_gpu_memory, measure
from ppodd import logs
from ppodd.archive import FailureRecord, StageRecord, TrialArchive
from ppodd.config import DistillConfig, build
from ppodd.distillation import OutOfMemory, halved
from ppodd.errors import BadInput, CorruptArchive, StorageError
from ppodd.files import is_remote
from ppodd.machine import DeviceError, device_error, limit_threads
from tune.running.stopping import NO_STORAGE, when_told

if TYPE_CHECKING:
    from ppodd.distillation import MeasureCandidate

_log = logging.getLogger(__name__)


def trial(spec: dict[str, Any], notice: Any = None) -> None:
    """Tune's trainable.

    `spec["trial"]` holds `url`, `config` (fields), the reserved `cpus` and `gpus`, by whom the `stage_accuracy` is
    measured, and `halve_chunk`: whether to go on with half the `real_chunk` where memory runs out.

    It goes on from its own archive, whatever Tune remembers; the checkpoint is only a pointer there. What fails is said
    in the archive and over for Tune, which begins again only what loses its process, node or device. Where the driver
    gives `notice` that it ends, so does the trial, with a checkpoint.
    """
    logs.start_worker()
    archive = TrialArchive(spec["trial"]["url"])
    stop = when_told(notice).is_set if notice else None
    with logs.about(sweep=archive.sweep, trial=archive.trial):
        try:
            _run(spec["trial"], archive, stop)
        except KeyboardInterrupt:
            _log.info("stopped, as its driver is; the checkpoint is archived")
    # the error and all that its frames held are gone here, before this process goes on with another trial
    _free_memory()


def _run(job: dict[str, Any], archive: TrialArchive, stop: Callable[[], bool] | None) -> None:
    """Run the trial to its end, and archive why it failed if it did; raise what Tune is to know of."""
    limit_threads(job["cpus"])
    limit_gpu_memory(job["gpus"])
    config = build(DistillConfig, job["config"])
    try:
        archive.clear_failure()
        if config.device == "auto":
            config = config.model_copy(update={"device": "cuda" if job["gpus"] else "cpu"})
        elsewhere = measure if job["stage_accuracy"] == "evaluators" else None
        smaller: DistillConfig | None = config
        while smaller:
            config, smaller = smaller, _distil(smaller, archive, job["halve_chunk"], elsewhere, stop)
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
) -> DistillConfig | None:
    """Run to the end. Where memory runs out: the config to go on with from the last checkpoint, if there may be one."""
    from ppodd.distillation import run  # in the trial's process alone: a driver does without torch

    try:
        for record in run(config, archive, resume=True, measure=measure, alone=False, stop=stop):
            _report(archive, record)
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
