"""Leases on work items: who does what, retries, turns. It knows neither Ray nor files; its time is a clock's.

Work comes from the archive (`offer`) or from a trial that waits (`urge`, served first). A lease expires unless
heartbeats of its evaluator extend it; the work is then open again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from cluster.dispatch.ports import Clock
from cluster.dispatch.timings import ServiceTimings
from ppodd.archive import FailureRecord

_DIED = FailureRecord(error="its evaluator's process died")


class WorkItem(Protocol):
    """A work item; its key is its name."""

    @property
    def key(self) -> str:
        """Tells it from all others."""


class Lease(NamedTuple):
    """A work item, which evaluator has it since when, and when it expires unless a heartbeat extends it."""

    work: WorkItem
    evaluator: str
    since: float
    expires: float


class FailedWork(NamedTuple):
    """Work that failed as often as it may."""

    work: WorkItem
    failure: FailureRecord
    attempts: int


@dataclass
class EvaluatorStats:
    """What an evaluator has done since the queue began."""

    done: int = 0
    failed: int = 0
    seen: float = 0.0
    busy_until: float = 0.0  # when it last had work


class Queue:
    """Leases on work items: urgent ones first, then the sources in turn."""

    def __init__(self, clock: Clock, timings: ServiceTimings):
        self._clock, self._timings = clock, timings
        self._open: dict[Hashable, dict[str, WorkItem]] = {}
        self._urgent: dict[str, WorkItem] = {}
        self._leases: dict[str, Lease] = {}
        self._attempts: dict[str, int] = {}
        self._failed_by: dict[str, set[str]] = {}
        self._closed: dict[str, float] = {}  # when keys were done or given up: earlier snapshots do not show it
        self._finished: deque[float] = deque()
        self._turn = 0
        self.evaluators: dict[str, EvaluatorStats] = {}
        self._given_up: list[FailedWork] = []

    def now(self) -> float:
        """The time by the clock that leases run by."""
        return self._clock()

    def offer(self, source: Hashable, works: Sequence[WorkItem], as_of: float) -> None:
        """The open work of a source, as a snapshot that was begun at `as_of` shows it."""
        self._open[source] = {w.key: w for w in works if not self.closed_since(w.key, as_of)}

    def closed_since(self, key: str, as_of: float) -> bool:
        """Whether this work was done or given up since then."""
        return self._closed.get(key, float("-inf")) >= as_of

    def withdraw(self, source: Hashable) -> None:
        """Forget a source; and that works of it failed."""
        for key in self._open.pop(source, {}):
            self._attempts.pop(key, None)
            self._failed_by.pop(key, None)

    def urge(self, works: Sequence[WorkItem]) -> None:
        """Work that a trial waits for; what is done or given up is not begun again."""
        self._urgent |= {work.key: work for work in works if work.key not in self._closed}

    def take_back(self, key: str) -> None:
        """No trial waits for this urgent work any more."""
        self._urgent.pop(key, None)

    def lease(self, evaluator: str) -> WorkItem | None:
        """The next work item for an evaluator; `None` when there is none now.

        An evaluator that has a lease and asks is given the same work: the answer was lost. Work that it failed at is
        left to others while there are any, so that one that can do nothing (no data on its node) uses up no attempts.
        """
        self._expire()
        stats = self._stats(evaluator)
        stats.seen = self.now()
        if held := self.leases(evaluator):
            return held[0].work
        work = self._next(evaluator)
        if work:
            stats.busy_until = self.now()
            self._leases[work.key] = Lease(work, evaluator, self.now(), self.now() + self._timings.lease_s)
        return work

    def _next(self, evaluator: str) -> WorkItem | None:
        living = self.living()

        def free(key: str) -> bool:
            failed = self._failed_by.get(key, set())
            return key not in self._leases and not (evaluator in failed and living - failed)

        for key, work in self._urgent.items():
            if free(key):
                return work
        sources = list(self._open)
        for offset in range(len(sources)):
            for key, work in self._open[sources[(self._turn + offset) % len(sources)]].items():
                if free(key):
                    self._turn += offset + 1
                    return work
        return None

    def living(self) -> set[str]:
        """Evaluators that sent a heartbeat within the time of a lease."""
        return {name for name, stats in self.evaluators.items() if stats.seen > self.now() - self._timings.lease_s}

    def may_come_to(self, key: str) -> bool:
        """Whether an evaluator lives that has not failed at this work."""
        return bool(self.living() - self._failed_by.get(key, set()))

    def heartbeat(self, evaluator: str, at: WorkItem | None = None) -> None:
        """The evaluator is alive and does this work: its lease is extended, or granted again after a restart."""
        if at and at.key not in self._leases and at.key not in self._closed:
            self._leases[at.key] = Lease(at, evaluator, self.now(), 0)
        self._stats(evaluator).seen = self.now()
        for key, lease in self._leases.items():
            if lease.evaluator == evaluator:
                self._leases[key] = lease._replace(expires=self.now() + self._timings.lease_s)

    def drop(self, evaluator: str, failure: FailureRecord = _DIED) -> None:
        """The evaluator's process died: what it had leased is open again, and that was an attempt."""
        for key, lease in list(self._leases.items()):
            if lease.evaluator == evaluator:
                self.finish(key, evaluator, failure)

    def release(self, evaluator: str) -> None:
        """What the evaluator had leased is open again, without an attempt being counted."""
        for lease in self.leases(evaluator):
            del self._leases[lease.work.key]

    def finish(self, key: str, evaluator: str, failure: FailureRecord | None = None) -> None:
        """The work is done, or failed: then it is open again, until it failed `max_attempts` times."""
        lease = self._leases.get(key)
        if lease is None or lease.evaluator != evaluator:
            return  # the lease expired meanwhile, and another evaluator has it
        del self._leases[key]
        stats = self._stats(evaluator)
        stats.busy_until = self.now()
        if failure:
            stats.failed += 1
            self._failed_by.setdefault(key, set()).add(evaluator)
            self._attempts[key] = self._attempts.get(key, 0) + 1
            if self._attempts[key] < self._timings.max_attempts:
                return
            self._given_up.append(FailedWork(lease.work, failure, self._attempts[key]))
        else:
            stats.done += 1
            self._finished.append(self.now())
        self._close(key)

    def _close(self, key: str) -> None:
        self._attempts.pop(key, None)
        self._failed_by.pop(key, None)
        self._closed[key] = self.now()
        self._urgent.pop(key, None)
        for works in self._open.values():
            works.pop(key, None)

    def take_given_up(self) -> list[FailedWork]:
        """What was given up since the last time, for the owner to record."""
        given_up, self._given_up = self._given_up, []
        return given_up

    def leases(self, evaluator: str | None = None) -> list[Lease]:
        """All leases, or those of one evaluator."""
        self._expire()
        return [lease for lease in self._leases.values() if evaluator in (None, lease.evaluator)]

    def pending(self, source: Hashable | None = None) -> int:
        """How much work is not leased yet: of a source, or all of it, the urgent included."""
        self._expire()
        if source is not None:
            return sum(key not in self._leases for key in self._open.get(source, {}))
        keys = {t for works in (*self._open.values(), self._urgent) for t in works}
        return len(keys - self._leases.keys())

    def sources_of(self, key: str) -> list[Any]:
        """The sources that offered this work, leased or not."""
        return [source for source, works in self._open.items() if key in works]

    def running(self, source: Hashable) -> int:
        """How much work of a source is leased."""
        return sum(key in self._leases for key in self._open.get(source, {}))

    def per_minute(self) -> float:
        """Evaluations finished per minute, over the last `rate_s` seconds."""
        while self._finished and self._finished[0] < self.now() - self._timings.rate_s:
            self._finished.popleft()
        if not self._finished:
            return 0.0
        return 60 * len(self._finished) / max(1.0, self.now() - self._finished[0])

    def gone(self, evaluator: str) -> None:
        """The evaluator was ended, and will not come back."""
        self.release(evaluator)
        self.evaluators.pop(evaluator, None)

    def _stats(self, evaluator: str) -> EvaluatorStats:
        return self.evaluators.setdefault(evaluator, EvaluatorStats(seen=self.now(), busy_until=self.now()))

    def _expire(self) -> None:
        now = self.now()
        for key, lease in list(self._leases.items()):
            if lease.expires <= now:
                silent = FailureRecord(error=f"its evaluator sent no heartbeat for {self._timings.lease_s:g} s")
                self.finish(key, lease.evaluator, silent)
