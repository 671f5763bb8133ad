"""Which evaluations are to be done: stages that are present whose evaluation is absent. Light: needs no torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from ppodd.archive import TrialArchive
from ppodd.config import EvaluationConfig, EvaluationProtocol, protocols


class Work(NamedTuple):
    """An evaluation to be done: one archived stage under one protocol."""

    trial_url: str
    stage: int
    protocol: EvaluationProtocol
    ticket: str

    @property
    def key(self) -> str:
        """The name of this work item; trials whose first posters are equal share tickets."""
        return f"{self.trial_url}/{self.stage}/{self.ticket}"


def works(trial: TrialArchive, stage: int, evaluations: Sequence[EvaluationConfig]) -> list[Work]:
    """Every evaluation that these ask for of an archived stage, done or not."""
    asked = protocols(evaluations, trial.config())
    tickets = trial.tickets(stage, asked)
    return [Work(trial.url, stage, protocol, ticket) for protocol, ticket in zip(asked, tickets, strict=True)]
