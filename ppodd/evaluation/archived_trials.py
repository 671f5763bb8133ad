"""What is asked of archived trials is evaluated by one process at a time in each, as far as it is not there yet."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from ppodd.archive import EVALUATOR, EvaluationRecord, TrialArchive
from ppodd.config import EvaluationConfig
from ppodd.errors import CorruptArchive, LaterVersion
from ppodd.evaluation.archived_stages import evaluate_archived
from ppodd.evaluation.plug_ins import try_works
from ppodd.evaluation.work_items import Work, works
from ppodd.files import Say, only_writer, read_mark

_log = logging.getLogger(__name__)


class Evaluated(NamedTuple):
    """A work item of a trial, and its record."""

    trial: TrialArchive
    work: Work
    record: EvaluationRecord


def evaluate_trials(
    targets: Iterable[tuple[TrialArchive, list[int]]],
    evaluation: EvaluationConfig,
    device: str = "auto",
    dataset: str = "",
    root: str = "",
    say: Say = _log.info,
) -> Iterator[Evaluated]:
    """Evaluate these stages of trials, on the data at its place or at these; yields what was there already, too.

    Raises:
        BadInput: what is asked for of a user's own cannot work, or the data is not that of the distillation, or another
            process is evaluating the trial.
        StorageError: the archive cannot be written, which is found before anything is computed.
    """
    asked = [
        (trial, [work for stage in stages for work in works(trial, stage, [evaluation])]) for trial, stages in targets
    ]
    to_do = [[work for work in wanted if not _is_done(trial, work)] for trial, wanted in asked]
    try_works([work for each in to_do for work in each])  # before the first of them is begun
    for (trial, wanted), undone in zip(asked, to_do, strict=True):
        left = _was_left(trial)
        if not left and not undone:
            only: contextlib.AbstractContextManager[object] = contextlib.nullcontext()  # it need not be writable
        else:
            busy = f"{trial.url} is being evaluated by another process"
            only = only_writer(trial.folder, EVALUATOR, busy, "evaluate again", say)
        with only:
            if left:
                trial.folder.remove_temporaries()
            for work in wanted:
                yield Evaluated(trial, work, evaluate_archived(work, device, dataset, root))


def _was_left(trial: TrialArchive) -> bool:
    """Whether a process at this trial was killed, and left its mark or something half-written."""
    mark = read_mark(trial.folder, EVALUATOR)
    return bool(mark and mark.ended_here) or bool(trial.folder.stale_temporaries())


def _is_done(trial: TrialArchive, work: Work) -> bool:
    """Whether the evaluation is there and whole."""
    try:
        return trial.has_evaluation(work.stage, work.ticket) and bool(trial.evaluation(work.stage, work.ticket))
    except LaterVersion:
        return True  # which is said once it is read
    except CorruptArchive:
        return False
