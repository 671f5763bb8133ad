"""The open evaluations of a sweep, read from its archive. The archive is the durable queue; this is a view of it.

*Stage present, evaluation absent* is work to do. What is finished is not read again.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from ppodd.archive import Archive, ProgressRecord, Status, TrialArchive, TrialState
from ppodd.config import EvaluationConfig
from ppodd.errors import one_line
from ppodd.evaluation import Work, works
from ppodd.files import PATIENCE_S


class RunningTrial(NamedTuple):
    """A trial that has stages to come, and how far it is."""

    sweep: str
    trial: str
    now: ProgressRecord


@dataclass
class Snapshot:
    """A sweep at one moment: open evaluations (a trial's oldest stage first), counts, and what went wrong."""

    open: list[Work] = field(default_factory=list)
    done: int = 0
    given_up: dict[str, str] = field(default_factory=dict)  # work's key → reason
    unreadable: dict[str, str] = field(default_factory=dict)  # trial's URL, or what cannot be read → reason


class Backlog:
    """Reads one sweep's archive again and again; what is finished is remembered."""

    def __init__(self, archive_url: str, sweep: str, patience_s: float = PATIENCE_S):
        self.archive, self.sweep = Archive(archive_url, patience_s), sweep
        self._evaluations: list[EvaluationConfig] = []
        self._works: dict[tuple[str, int], list[Work]] = {}  # of archived stages, which never change
        self._wanted: dict[str, int] = {}  # stages of each trial
        self._over: dict[
            str, tuple[int, dict[str, str]]
        ] = {}  # trials that are not read again: evaluations done, given up
        self._trials = 0  # that the sweep is to have, as its record says
        self._unreadable: dict[str, str] = {}  # evaluations that were asked for: reason → reason
        self.going: list[str] = []  # trials with stages to come
        self.settled = False  # nothing is open, and nothing is to come

    def ask_again(self) -> None:
        """Reread everything: evaluations were added, or what was given up is to be retried."""
        self._evaluations, self._works, self._wanted, self._over, self.settled = [], {}, {}, {}, False

    def look(self) -> Snapshot:
        """What is open now. A trial that cannot be read is reported and does not hide the others."""
        snapshot, going = Snapshot(), []
        found = self.archive.states(self.sweep)
        if not self._evaluations or len(found) < self._trials:
            self._read()
        snapshot.unreadable |= self._unreadable
        for name, state in found.items():
            trial = self.archive.trial(self.sweep, name)
            if name in self._over:
                done, given_up = self._over[name]
                snapshot.done += done
                snapshot.given_up |= given_up
                continue
            try:
                if not self._look_at(trial, state, snapshot):
                    going.append(name)
            except Exception as error:  # damaged, of another shape, not ours to read
                snapshot.unreadable[trial.url] = one_line(error)
        self.going = going
        self.settled = not (going or snapshot.open or snapshot.unreadable) and len(found) >= self._trials
        return snapshot

    def _read(self) -> None:
        record = self.archive.sweep(self.sweep)
        if not self._evaluations:
            problems: list[str] = []
            self._evaluations = self.archive.evaluations(self.sweep, record, problems)
            self._unreadable = dict(zip(problems, problems, strict=True))
        self._trials = record.trials_wanted if record else 0

    def _look_at(self, trial: TrialArchive, state: TrialState, snapshot: Snapshot) -> bool:
        """Add what is open of a trial; whether no stage of it is to come: all are there, it was stopped, it failed."""
        status = state.status(self._stages_wanted(trial))
        done, given_up, left = 0, {}, []
        for stage in state.stages:
            for work in self._works_of(trial, stage):
                if work.ticket in state.evaluations(stage):
                    done += 1
                elif work.ticket in state.given_up(stage):
                    given_up[work.key] = self._reason(trial, work)
                else:
                    left.append(work)
        snapshot.open += left
        snapshot.done += done
        snapshot.given_up |= given_up
        if status.is_over and not left:
            self._over[trial.trial] = done, given_up
        return status is not Status.GOING

    def _stages_wanted(self, trial: TrialArchive) -> int:
        if trial.trial not in self._wanted:
            self._wanted[trial.trial] = trial.config().num_stages
        return self._wanted[trial.trial]

    def _works_of(self, trial: TrialArchive, stage: int) -> list[Work]:
        key = (trial.url, stage)
        if key not in self._works:
            self._works[key] = works(trial, stage, self._evaluations)
        return self._works[key]

    def _reason(self, trial: TrialArchive, work: Work) -> str:
        record = trial.evaluation_failure(work.stage, work.ticket)
        error = record.error if record else "unknown"
        return f"{trial.trial} stage {work.stage}, {work.protocol.mode}, {work.protocol.arch}: {error}"

    def progress(self) -> list[RunningTrial]:
        """Where the trials are that have stages to come."""
        found = []
        for name in self.going:
            trial = self.archive.trial(self.sweep, name)
            with contextlib.suppress(Exception):  # it only informs
                if now := trial.progress():
                    found.append(RunningTrial(self.sweep, name, now))
        return found


def describe(work: Any) -> str:
    """A work item in a few words: its sweep, trial, stage, and what is done with it."""
    *_, sweep, trial = work.trial_url.rsplit("/", 2)
    what = f"{work.protocol.mode}, {work.protocol.arch}" if isinstance(work, Work) else "its trial waits"
    return f"{sweep}/{trial} stage {work.stage} ({what})"
