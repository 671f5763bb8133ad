"""How far a sweep is, read from its archive; what is done is not read again."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass, field

from ppodd.archive import Archive, Status, TrialArchive, TrialState
from ppodd.config import DistillConfig, protocols
from ppodd.errors import PpoddError
from tune.sweep_file import Sweep


@dataclass(frozen=True)
class SweepProgress:
    """Trials, stages and evaluations that there are to be, and how many of them are done.

    Trials that a scheduler `stopped` are done. Settings that a search has still to suggest count as many stages as
    those that are there.
    """

    trials: int = 0
    trials_done: int = 0
    stopped: int = 0
    stages: int = 0
    stages_done: int = 0
    evaluations: int = 0
    evaluations_done: int = 0
    seconds: float = 0.0


@dataclass
class _KnownTrial:
    """What is known of a trial: stages there, in all and evaluated; tickets of stages not yet evaluated."""

    stages: int = 0
    wanted: int = 0
    evaluations: int = 0
    protocols: int = 0
    stopped: bool = False
    waiting: dict[int, set[str]] = field(default_factory=dict)

    @property
    def over(self) -> bool:
        return self.stages >= self.wanted > 0


class ProgressReader:
    """Reads a sweep's progress, again and again."""

    def __init__(self, sweep: Sweep, archive: Archive):
        self._sweep, self._archive, self._started = sweep, archive, time.time()
        self._trials: dict[str, _KnownTrial] = {}

    def __call__(self) -> SweepProgress:
        """How far the sweep is now; what was complete before is not read again."""
        found = self._archive.states(self._sweep.name)
        for name, config in list(self._sweep.trials.items()):
            known = self._trials.setdefault(name, _KnownTrial())
            if not known.over or known.waiting:
                with contextlib.suppress(PpoddError):  # it only informs; the trial or the evaluators will say
                    self._read(
                        known, self._archive.trial(self._sweep.name, name), found.get(name, TrialState()), config
                    )
        trials = list(self._trials.values())
        stages = sum(trial.wanted for trial in trials)
        evaluations = sum(trial.wanted * trial.protocols for trial in trials)
        more = self._sweep.wanted / len(trials) if trials else 1
        return SweepProgress(
            trials=self._sweep.wanted,
            trials_done=sum(trial.over for trial in trials),
            stopped=sum(trial.stopped for trial in trials),
            stages=round(stages * more),
            stages_done=sum(trial.stages for trial in trials),
            evaluations=round(evaluations * more),
            evaluations_done=sum(trial.evaluations for trial in trials),
            seconds=time.time() - self._started,
        )

    def _read(self, known: _KnownTrial, trial: TrialArchive, state: TrialState, config: DistillConfig) -> None:
        asked = protocols(self._sweep.evaluations, config)
        known.protocols = len(asked)
        if not known.over:
            known.stopped = state.status(config.num_stages) is Status.STOPPED
            for stage in state.stages[known.stages :]:
                known.waiting[stage] = set(trial.tickets(stage, asked))
            known.stages = len(state.stages)
            known.wanted = known.stages if known.stopped else config.num_stages
        for stage, tickets in list(known.waiting.items()):
            found = tickets & state.evaluations(stage)
            known.evaluations += len(found)
            tickets -= found
            if not tickets:
                del known.waiting[stage]
