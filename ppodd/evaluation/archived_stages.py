"""Evaluations of what an archive holds: of its stages, and of a stage in the making (a candidate)."""

from __future__ import annotations

import logging
import math
import statistics
import time
from collections.abc import Mapping, Sequence
from typing import Any

from ppodd.archive import SCHEMA, Accuracy, EvaluationRecord, PosterFile, TrialArchive
from ppodd.errors import CorruptArchive, LaterVersion
from ppodd.evaluation.accuracy import ClassCounts, evaluate, judge, pixel_budget, versions
from ppodd.evaluation.data import archived_config, check_data, data_of
from ppodd.evaluation.work_items import Work
from ppodd.machine import keep_freed_memory, resolve_device
from ppodd.methods import trained_on
from ppodd.training import ARCHITECTURES

_log = logging.getLogger(__name__)


def evaluate_archived(work: Work, device: str = "auto", dataset: str = "", root: str = "") -> EvaluationRecord:
    """Carry out an evaluation, write it to the archive and return its record; if it is there already, just return it.

    One whose record is damaged is carried out again.

    Args:
        dataset, root: where the trial's data lies now, where it is not where it was.

    Raises:
        BadInput: the data here is not that of the distillation, or the network is not as it was when it was asked for.
        CorruptArchive: a poster is missing or damaged, or a later version wrote the evaluation.
    """
    trial = TrialArchive(work.trial_url)
    try:
        if trial.has_evaluation(work.stage, work.ticket):
            return trial.evaluation(work.stage, work.ticket)
    except LaterVersion:
        raise
    except CorruptArchive as error:
        _log.warning("%s; it is evaluated again", error)
    keep_freed_memory()
    ARCHITECTURES.check_source(work.protocol.arch, work.protocol.source)
    started = time.perf_counter()
    config, record = archived_config(trial, dataset, root), trial.stage(work.stage)
    data = data_of(config, resolve_device(device))
    check_data(record.data.digest, data, trial)
    posters = [trial.poster(stage) for stage in range(1, work.stage + 1)]
    drawn, layout = trained_on(config, data, posters)
    blend = record.weights(work.protocol.mode)
    judged = judge(drawn, blend, layout, work.protocol, data.test)
    evaluation = EvaluationRecord(
        schema=SCHEMA,
        ticket=work.ticket,
        stage=work.stage,
        protocol=work.protocol,
        blend=blend,
        posters=tuple(trial.stage(stage).digests.poster for stage in range(1, work.stage + 1)),
        accuracy={budget: Accuracy.of([one.accuracy for one in nets]) for budget, nets in judged.items()},
        per_class={budget: _mean_per_class(nets) for budget, nets in judged.items()},
        **_balanced(judged),
        split="test",
        leaks_test_set=record.leaks_test_set,
        budgets=pixel_budget(drawn, blend, layout),
        seconds=time.perf_counter() - started,
        device=str(data.test.x.device),
        versions=versions(),
        finished_at=time.time(),
    )
    trial.write_evaluation(evaluation)
    _log.info("evaluated in %.1f s", evaluation.seconds, extra={"stage": work.stage, "ticket": work.ticket})
    return evaluation


def _mean_per_class(nets: Sequence[ClassCounts]) -> tuple[float | None, ...]:
    """Accuracy of each class in percent, the mean over networks, to hundredths; nothing for classes without images."""
    means = (statistics.fmean(of_class) for of_class in zip(*(one.per_class for one in nets), strict=True))
    return tuple(None if math.isnan(mean) else round(mean, 2) for mean in means)


def _balanced(judged: Mapping[int, Sequence[ClassCounts]]) -> dict[str, Any]:
    """The balanced accuracies, where classes are of unequal size; elsewhere these are the accuracies."""
    if len({count for nets in judged.values() for one in nets for count in one.images}) == 1:
        return {}
    return {"balanced": {budget: Accuracy.of([one.balanced for one in nets]) for budget, nets in judged.items()}}


def measure_candidate(trial_url: str, stage: int, first: int, last: int, device: str = "auto") -> list[float]:
    """Stage accuracies (percent) of the networks `first` to `last` (excluded) on a stage that is not archived yet.

    Raises:
        BadInput: the data here is not that of the distillation.
        CorruptArchive: the stage has no candidate (any more), or a poster is missing or damaged.
    """
    trial = TrialArchive(trial_url)
    keep_freed_memory()
    dataset = data_of(archived_config(trial), resolve_device(device))
    record, candidate = trial.candidate(stage)
    check_data(record.data.digest, dataset, trial)
    posters: list[PosterFile] = [*(trial.poster(past) for past in range(1, stage)), candidate]
    drawn, layout = trained_on(trial.config(), dataset, posters)
    split = getattr(dataset, record.split)
    accuracies = evaluate(drawn, record.blend, layout, record.protocol, split, range(first, last))
    return accuracies[record.protocol.budgets[-1]]
