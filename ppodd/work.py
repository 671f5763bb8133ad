"""Which evaluations are to be done: stages that are present whose evaluation is absent. Light: needs no torch."""

from __future__ import annotations

from typing import NamedTuple

from ppodd.archive import TrialArchive
from ppodd.config import EvaluationConfig, Protocol


class Work(NamedTuple):
    """An evaluation to be done: one archived stage under one protocol."""

    trial_url: str
    stage: int
    protocol: Protocol
    ticket: str


def pending(trial: TrialArchive, evaluation: EvaluationConfig) -> list[Work]:
    """Evaluations that are absent of stages that are present, oldest stage first."""
    stages = trial.stages()
    protocols = evaluation.protocols(trial.config()) if stages else []
    works = [Work(trial.url, stage, p, trial.ticket(stage, p)) for stage in stages for p in protocols]
    return [work for work in works if not trial.has_evaluation(work.stage, work.ticket)]
