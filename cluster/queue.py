"""Which evaluations are to be done, and who is at them. The archive is the queue; this is only a view of it.

*Stage present, evaluation absent* is work to do. A lease says who does it; it is lost with its evaluator.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

from ppodd.archive import Archive, TrialArchive
from ppodd.config import EvaluationConfig
from ppodd.errors import one_line
from ppodd.work import Work, pending

MAX_ATTEMPTS = 3


class Lease(NamedTuple):
    """A piece of work, who has it, and when it goes back unless the evaluator is heard of."""

    work: Work
    evaluator: str
    expires: float


class Served(NamedTuple):
    """A sweep to evaluate."""

    archive_url: str
    sweep: str
    evaluation: EvaluationConfig


@dataclass
class Status:
    """Counts of evaluations: `done` since the queue began; `failed` maps tickets (or trials) to reasons."""

    pending: int = 0
    running: int = 0
    done: int = 0
    failed: dict[str, str] = field(default_factory=dict)


class Queue:
    """Leases on the archive's open evaluations, served in turn over sweeps."""

    def __init__(self, lease_s: float = 60.0, clock: Callable[[], float] = time.monotonic):
        self._lease_s, self._clock = lease_s, clock
        self._served: dict[tuple[str, str], Served] = {}
        self._leases: dict[str, Lease] = {}
        self._attempts: dict[str, int] = {}
        self._failed: dict[str, str] = {}
        self._finished: set[tuple[str, int]] = set()  # stages with nothing left to do
        self._done = 0
        self._turn = 0

    def serve(self, sweep: Served) -> None:
        """Evaluate this sweep too (again: with this evaluation)."""
        known = self._served.get((sweep.archive_url, sweep.sweep))
        if known != sweep:
            self._served[sweep.archive_url, sweep.sweep] = sweep
            self._finished.clear()
        # asked for again, what failed is tried again
        self._failed.clear()
        self._attempts.clear()

    def lease(self, evaluator: str) -> Work | None:
        """The next piece of work for an evaluator, sweeps in turn; `None` when there is none now."""
        self._expire()
        sweeps = list(self._served.values())
        for offset in range(len(sweeps)):
            sweep = sweeps[(self._turn + offset) % len(sweeps)]
            for work in self._open(sweep):
                self._turn += offset + 1
                self._leases[work.ticket] = Lease(work, evaluator, self._clock() + self._lease_s)
                return work
        return None

    def beat(self, evaluator: str) -> None:
        """The evaluator is alive: its leases are extended."""
        for ticket, lease in self._leases.items():
            if lease.evaluator == evaluator:
                self._leases[ticket] = lease._replace(expires=self._clock() + self._lease_s)

    def drop(self, evaluator: str) -> None:
        """The evaluator is new or gone: what it had is open again."""
        self._leases = {t: lease for t, lease in self._leases.items() if lease.evaluator != evaluator}

    def finish(self, ticket: str, error: str = "") -> None:
        """The work is done, or failed: then it is tried again, `MAX_ATTEMPTS` times in all."""
        self._leases.pop(ticket, None)
        if not error:
            self._done += 1
            return
        self._attempts[ticket] = self._attempts.get(ticket, 0) + 1
        if self._attempts[ticket] >= MAX_ATTEMPTS:
            self._failed[ticket] = error

    def status(self) -> Status:
        """Counts over all served sweeps."""
        self._expire()
        open_works = [work for sweep in self._served.values() for work in self._open(sweep)]
        return Status(len(open_works), len(self._leases), self._done, dict(self._failed))

    def _expire(self) -> None:
        now = self._clock()
        self._leases = {t: lease for t, lease in self._leases.items() if lease.expires > now}

    def _open(self, sweep: Served) -> list[Work]:
        works = []
        archive = Archive(sweep.archive_url)
        for name in archive.trials(sweep.sweep):
            trial = archive.trial(sweep.sweep, name)
            try:
                works += self._open_of(trial, sweep.evaluation)
                self._failed.pop(trial.url, None)
            except Exception as error:  # one unreadable trial does not stop the rest
                self._failed[trial.url] = one_line(error)
        return works

    def _open_of(self, trial: TrialArchive, evaluation: EvaluationConfig) -> list[Work]:
        stages = trial.stages()
        if all((trial.url, stage) in self._finished for stage in stages):
            return []
        works = pending(trial, evaluation)
        self._finished |= {(trial.url, stage) for stage in set(stages) - {work.stage for work in works}}
        return [work for work in works if work.ticket not in self._leases and work.ticket not in self._failed]
