"""Which evaluator is at which work: a crew for each share that sweeps ask for, and what trials wait for.

Its owner holds a lock around every call.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

from cluster.dispatch.candidate_measurements import Answer, Measurement, Measurements
from cluster.dispatch.leases import GivenUp, Lease, Piece, Queue
from cluster.dispatch.pool import Pool, Share
from cluster.dispatch.ports import Clock
from cluster.dispatch.served_sweep import SweepKey
from cluster.dispatch.timings import ServiceTimings
from cluster.dispatch.workers import Crew
from ppodd.archive import FailureRecord
from ppodd.evaluation import Work

_NAME = "evaluator-"


class Assignments:
    """The crews, who belongs to which, where each evaluator runs, and the measurements that were asked for."""

    def __init__(self, clock: Clock, timings: ServiceTimings):
        self._clock, self._timings = clock, timings
        self._crews: dict[Share, Crew] = {}
        self._shares: dict[str, Share] = {}  # of evaluators, by their names
        self._where: dict[str, dict[str, Any]] = {}  # they are: node, process, device
        self._next = 0  # number of an evaluator: no name is used twice
        self._measurements = Measurements()

    # Crews

    def crew(self, share: Share) -> Crew:
        """The crew of a share; there is one from the first time on that it is asked for."""
        return self._crews.setdefault(share, Crew(share, Queue(self._timings.lease_s, self._clock)))

    def crew_of(self, evaluator: str) -> Crew | None:
        return self._crews.get(self._shares[evaluator]) if evaluator in self._shares else None

    def __iter__(self) -> Iterator[Crew]:
        return iter(self._crews.values())

    @property
    def shares(self) -> Mapping[str, Share]:
        """What each evaluator reserves, by its name."""
        return self._shares

    # Evaluators

    def new_names(self, count: int) -> list[str]:
        """Names that no evaluator had before."""
        self._next += count
        return [f"{_NAME}{number}" for number in range(self._next - count, self._next)]

    def add(self, evaluator: str, share: Share) -> None:
        """It belongs to the crew of this share from now on."""
        self._shares[evaluator] = share
        self.crew(share).known[evaluator] = self._clock()

    def use_no_name_of(self, evaluators: Collection[str]) -> None:
        """An earlier dispatcher gave these names away."""
        self._next = max(self._next, 1 + max(map(number_of, evaluators), default=-1))

    def drop(self, evaluator: str) -> None:
        """The evaluator was ended, or is gone for good."""
        if crew := self.crew_of(evaluator):
            del crew.known[evaluator], self._shares[evaluator]
            crew.queue.gone(evaluator)
        self._where.pop(evaluator, None)

    def lost(self, existing: Collection[str]) -> list[str]:
        """Evaluators that should be there by now and are not."""
        overdue = self._clock() - self._timings.listed_s
        known = (item for crew in self for item in crew.known.items())
        return [name for name, since in known if name not in existing and since < overdue]

    def hello(self, evaluator: str, where: dict[str, Any]) -> None:
        """A new process of this name starts: whatever one before it had is open again."""
        before = self.where(evaluator)
        self._where[evaluator] = where
        if crew := self.crew_of(evaluator):
            died = {key: before[key] for key in ("node", "pid", "log_file") if key in before}
            crew.queue.drop(evaluator, FailureRecord(error="its evaluator died at it", **died))
            crew.queue.beat(evaluator)

    def is_known(self, evaluator: str) -> bool:
        """Whether a process of this name has been heard of."""
        return evaluator in self._where

    def where(self, evaluator: str) -> dict[str, Any]:
        """Where an evaluator runs; empty while it waits for its place."""
        return self._where.get(evaluator, {})

    def beat(self, evaluator: str, at: Piece | None, where: dict[str, Any]) -> None:
        self._where.setdefault(evaluator, where)  # a restarted dispatcher hears no `hello`
        if crew := self.crew_of(evaluator):
            crew.queue.beat(evaluator, at)

    def release_lost(self, living_nodes: Collection[str]) -> None:
        """What evaluators had whose node is lost is open again: that was no fault of the work."""
        for name, where in self._where.items():
            if where["node_id"] not in living_nodes and (crew := self.crew_of(name)):
                crew.queue.release(name)

    # Work

    def offer(self, sweep: SweepKey, share: Share, works: Iterable[Work], as_of: float) -> None:
        """The open works of a sweep for the crew of this share, but for what another crew is at or has just ended."""
        crew = self.crew(share)
        for other in self:
            if other is not crew:
                theirs = {lease.work.key for lease in other.queue.leases()}
                works = [w for w in works if w.key not in theirs and not other.queue.closed_since(w.key, as_of)]
        crew.queue.offer(sweep, list(works), as_of)

    def withdraw(self, sweep: SweepKey) -> None:
        """Forget what is open of a sweep, and that works of it failed."""
        for crew in self:
            crew.queue.withdraw(sweep)

    def finish(
        self, key: str, evaluator: str, failure: FailureRecord | None, values: list[float] | None
    ) -> list[SweepKey]:
        """The work is done, or failed, unless it went back meanwhile. Returns the sweeps that were offered it."""
        crew = self.crew_of(evaluator)
        if crew is None:
            return []
        sweeps = crew.queue.sources_of(key)
        crew.queue.finish(key, evaluator, failure)
        if values is not None:
            self._measurements.finish(key, values)
        return sweeps

    def take_given_up(self) -> list[GivenUp]:
        """Evaluations that were given up since the last time; a measurement that was has failed."""
        given_up = [failure for crew in self for failure in crew.queue.take_given_up()]
        for failure in given_up:
            if isinstance(failure.work, Measurement):
                self._measurements.finish(failure.work.key, None)
        return [failure for failure in given_up if not isinstance(failure.work, Measurement)]

    # Waiting trials

    def measure(self, name: str, trial_url: str, stage: int, nets: int, pool: Pool) -> Answer:
        """How the measurement of this name stands; the first time, it is asked for of the pool's crew."""
        queue = self.crew(pool.share).queue
        self._measurements.ask(name, trial_url, stage, nets, pool.count, self._clock())
        answer = self._measurements.answer(name)
        pieces = self._measurements.open(name)
        leased = {lease.work.key for lease in self.leases()}
        waiting = [piece for piece in pieces if piece.key not in leased]
        self._take_back(waiting)  # from those that had the sweep's share when it was asked for first
        queue.urge(waiting)
        # who is at something else comes to it next
        at_it = len(waiting) < len(pieces) or all(queue.may_come_to(piece.key) for piece in pieces)
        return answer._replace(at_it=at_it)

    def forget(self, name: str) -> None:
        """Nobody waits for this measurement any more."""
        self._take_back(self._measurements.open(name))
        self._measurements.forget(name)

    def forget_silent(self) -> None:
        """Trials that have not asked for long are gone, and nobody waits for what they asked for."""
        for name in self._measurements.silent(self._clock() - self._timings.silent_s):
            self.forget(name)

    def _take_back(self, pieces: Sequence[Piece]) -> None:
        for piece in pieces:
            for crew in self:
                crew.queue.take_back(piece.key)

    # Counts

    def leases(self) -> list[Lease]:
        return [lease for crew in self for lease in crew.queue.leases()]

    def pending(self, sweep: SweepKey | None = None) -> int:
        return sum(crew.queue.pending(sweep) for crew in self)

    def running(self, sweep: SweepKey) -> int:
        return sum(crew.queue.running(sweep) for crew in self)


def number_of(evaluator: str) -> int:
    """The number in an evaluator's name."""
    return int(evaluator.removeprefix(_NAME))
