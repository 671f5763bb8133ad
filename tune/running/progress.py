"""How far a sweep is, read from its archive; what is done is not read again."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from ppodd.archive import Archive, ProgressRecord, StageAccuracy, Status, TrialArchive, TrialState
from ppodd.config import DistillConfig, protocols
from ppodd.errors import PpoddError
from tune.running.time_left import TimeLeft
from tune.sweep_file import Sweep

if TYPE_CHECKING:
    from cluster.dispatch import EvaluatorStatus


class FinishedStage(NamedTuple):
    """A stage that was finished while the sweep was watched."""

    trial: str
    stage: int
    num_stages: int
    accuracy: StageAccuracy


@dataclass(frozen=True)
class SweepProgress:
    """Trials, stages and evaluations that there are to be, and how many of them are done.

    Trials that a scheduler `stopped` are done. Settings that a search has still to suggest count as many stages as
    those that are there.

    Attributes:
        waiting: evaluations of stages that are there.
        share: of all meta-steps, those of stages under way too.
        running: how far the trials are that have told so lately, by name.
        evaluators: asks what those of the pool are at, which may work for other sweeps too.
        finished: stages that are new since the last look.
        best: of those seen so far, the one of the highest accuracy on validation images.
        seconds_left: `None` where that is not known yet.
    """

    trials: int = 0
    trials_done: int = 0
    stopped: int = 0
    stages: int = 0
    stages_done: int = 0
    evaluations: int = 0
    evaluations_done: int = 0
    seconds: float = 0.0
    waiting: int = 0
    share: float = 0.0
    running: dict[str, ProgressRecord] = field(default_factory=dict)
    evaluators: Callable[[], Sequence[EvaluatorStatus]] = tuple
    finished: tuple[FinishedStage, ...] = ()
    best: FinishedStage | None = None
    seconds_left: float | None = None


@dataclass
class _KnownTrial:
    """What is known of a trial: stages there, in all and evaluated; tickets of stages not yet evaluated."""

    stages: int = 0
    wanted: int = 0
    evaluations: int = 0
    protocols: int = 0
    status: Status = Status.GOING
    meta_steps: int = 0  # of a stage; relative to those of other trials where the data is not read
    now: ProgressRecord | None = None
    waiting: dict[int, set[str]] = field(default_factory=dict)

    @property
    def over(self) -> bool:
        """Whether no stage is to come."""
        return self.status.is_over

    @property
    def done(self) -> float:
        """Meta-steps that it has taken."""
        inside = self.now.meta_step / self.now.meta_steps if self.now and self.now.stage == self.stages + 1 else 0.0
        return self.meta_steps * (self.stages + inside)


class ProgressReader:
    """Reads a sweep's progress, again and again."""

    def __init__(self, sweep: Sweep, archive: Archive, evaluators: Callable[[], Sequence[EvaluatorStatus]] = tuple):
        """`evaluators` tells what those of the pool are at."""
        self._sweep, self._archive, self._started = sweep, archive, time.monotonic()
        self._evaluators = evaluators
        self._trials: dict[str, _KnownTrial] = {}
        self._looked = False
        self._finished: list[FinishedStage] = []
        self._best: FinishedStage | None = None
        self._left = TimeLeft()

    def __call__(self) -> SweepProgress:
        """How far the sweep is now; what was complete before is not read again."""
        found, now, clock = self._archive.states(self._sweep.name), time.monotonic(), time.time()
        self._finished = []
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
        self._looked = True
        self._best = max([*filter(None, [self._best]), *self._finished], key=_by_validation, default=None)
        share = _share(sum(trial.done for trial in trials), more * sum(t.meta_steps * t.wanted for t in trials))
        evaluated = sum(trial.evaluations for trial in trials)
        waiting = sum(len(tickets) for trial in trials for tickets in trial.waiting.values())
        return SweepProgress(
            trials=self._sweep.wanted,
            trials_done=sum(trial.over for trial in trials),
            stopped=sum(trial.status is Status.STOPPED for trial in trials),
            stages=round(stages * more),
            stages_done=sum(trial.stages for trial in trials),
            evaluations=round(evaluations * more),
            evaluations_done=evaluated,
            seconds=now - self._started,
            waiting=waiting,
            share=share,
            running={name: t.now for name, t in self._trials.items() if t.now and not t.over and t.now.is_fresh(clock)},
            evaluators=self._evaluators,
            finished=tuple(self._finished),
            best=self._best,
            seconds_left=self._left(now, share, _share(evaluated, evaluations * more), waiting > 0),
        )

    def _read(self, known: _KnownTrial, trial: TrialArchive, state: TrialState, config: DistillConfig) -> None:
        asked = protocols(self._sweep.evaluations, config)
        known.protocols = len(asked)
        if not known.over:
            known.status = state.status(config.num_stages)
            for stage in state.stages[known.stages :]:
                known.waiting[stage] = set(trial.tickets(stage, asked))
                if self._looked:
                    accuracy = trial.stage(stage).stage_accuracy
                    self._finished.append(FinishedStage(trial.trial, stage, config.num_stages, accuracy))
            known.stages = len(state.stages)
            known.wanted = known.stages if known.status is Status.STOPPED else config.num_stages
            known.meta_steps = config.stage_epochs * (config.steps_per_epoch or 1)
            known.now = trial.progress() if state.told_progress else None
        for stage, tickets in list(known.waiting.items()):
            found = tickets & state.evaluations(stage)
            known.evaluations += len(found)
            tickets -= found
            if not tickets:
                del known.waiting[stage]


def _by_validation(stage: FinishedStage) -> tuple[bool, float]:
    return stage.accuracy.split == "validation", stage.accuracy.mean


def _share(done: float, wanted: float) -> float:
    return min(1.0, done / wanted) if wanted else 0.0
