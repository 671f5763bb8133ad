"""Which evaluator does which work: a worker pool for each share that sweeps ask for, and what trials wait for.

Its owner holds a lock around every call.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import NotRequired, TypedDict

from cluster.dispatch.candidate_measurements import Measurement, Measurements, MeasurementState
from cluster.dispatch.leases import FailedWork, Lease, Queue, WorkItem
from cluster.dispatch.pool_request import Pool, ResourceShare
from cluster.dispatch.ports import Clock
from cluster.dispatch.served_sweep import SweepKey
from cluster.dispatch.timings import ServiceTimings
from cluster.dispatch.worker_pool import WorkerPool
from ppodd.archive import FailureRecord
from ppodd.evaluation import Work

_NAME = "evaluator-"


class EvaluatorLocation(TypedDict):
    """Where an evaluator runs; it does not say while it waits for its place."""

    node: NotRequired[str]
    node_id: NotRequired[str]
    pid: NotRequired[int]
    device: NotRequired[str]
    log_file: NotRequired[str]


class Assignments:
    """The worker pools, who belongs to which, where each evaluator runs, and the measurements that were asked for."""

    def __init__(self, clock: Clock, timings: ServiceTimings):
        self._clock, self._timings = clock, timings
        self._worker_pools: dict[ResourceShare, WorkerPool] = {}
        self._shares: dict[str, ResourceShare] = {}  # of evaluators, by their names
        self._where: dict[str, EvaluatorLocation] = {}  # node, process and device of each evaluator
        self._next = 0  # number of an evaluator: no name is used twice
        self._measurements = Measurements()

    # Worker pools

    def worker_pool(self, share: ResourceShare) -> WorkerPool:
        """The pool for a share, created on first use."""
        return self._worker_pools.setdefault(share, WorkerPool(share, Queue(self._clock, self._timings)))

    def worker_pool_of(self, evaluator: str) -> WorkerPool | None:
        """The pool that an evaluator belongs to, if it is known."""
        return self._worker_pools.get(self._shares[evaluator]) if evaluator in self._shares else None

    def __iter__(self) -> Iterator[WorkerPool]:
        return iter(self._worker_pools.values())

    @property
    def shares(self) -> Mapping[str, ResourceShare]:
        """What each evaluator reserves, by its name."""
        return self._shares

    # Evaluators

    def new_names(self, count: int) -> list[str]:
        """Names that no evaluator had before."""
        self._next += count
        return [f"{_NAME}{number}" for number in range(self._next - count, self._next)]

    def add(self, evaluator: str, share: ResourceShare) -> None:
        """It belongs to the pool of this share from now on."""
        self._shares[evaluator] = share
        self.worker_pool(share).known[evaluator] = self._clock()

    def use_no_name_of(self, evaluators: Collection[str]) -> None:
        """An earlier dispatcher gave these names away."""
        self._next = max(self._next, 1 + max(map(number_of, evaluators), default=-1))

    def drop(self, evaluator: str) -> None:
        """The evaluator was ended, or is gone for good."""
        if workers := self.worker_pool_of(evaluator):
            del workers.known[evaluator], self._shares[evaluator]
            workers.queue.gone(evaluator)
        self._where.pop(evaluator, None)

    def lost(self, existing: Collection[str]) -> list[str]:
        """Evaluators that should be there by now and are not."""
        overdue = self._clock() - self._timings.listed_s
        known = (item for workers in self for item in workers.known.items())
        return [name for name, since in known if name not in existing and since < overdue]

    def register(self, evaluator: str, where: EvaluatorLocation) -> None:
        """A new process of this name starts: work leased to the one before it is open again."""
        before = self.where(evaluator)
        self._where[evaluator] = where
        if workers := self.worker_pool_of(evaluator):
            died = {key: before[key] for key in ("node", "pid", "log_file") if key in before}
            workers.queue.drop(evaluator, FailureRecord(error="its evaluator's process died", **died))
            workers.queue.heartbeat(evaluator)

    def is_known(self, evaluator: str) -> bool:
        """Whether a process of this name has registered."""
        return evaluator in self._where

    def where(self, evaluator: str) -> EvaluatorLocation:
        """Where an evaluator runs; empty while it waits for its place."""
        return self._where.get(evaluator, {})

    def heartbeat(self, evaluator: str, at: WorkItem | None, where: EvaluatorLocation) -> None:
        """An evaluator is alive, and works on this item."""
        self._where.setdefault(evaluator, where)  # after a restart of the dispatcher no evaluator registers again
        if workers := self.worker_pool_of(evaluator):
            workers.queue.heartbeat(evaluator, at)

    def release_lost(self, living_nodes: Collection[str]) -> None:
        """Release the leases of evaluators whose node is lost; that does not count as an attempt."""
        for name, where in self._where.items():
            if where["node_id"] not in living_nodes and (workers := self.worker_pool_of(name)):
                workers.queue.release(name)

    # Work

    def offer(self, sweep: SweepKey, share: ResourceShare, works: Iterable[Work], as_of: float) -> None:
        """Offer a sweep's open work to the pool of this share, without what another has leased or just finished."""
        workers = self.worker_pool(share)
        for other in self:
            if other is not workers:
                theirs = {lease.work.key for lease in other.queue.leases()}
                works = [w for w in works if w.key not in theirs and not other.queue.closed_since(w.key, as_of)]
        workers.queue.offer(sweep, list(works), as_of)

    def withdraw(self, sweep: SweepKey) -> None:
        """Forget what is open of a sweep, and that works of it failed."""
        for workers in self:
            workers.queue.withdraw(sweep)

    def finish(
        self, key: str, evaluator: str, failure: FailureRecord | None, values: list[float] | None
    ) -> list[SweepKey]:
        """The work is done, or failed, unless its lease was lost meanwhile. Returns the sweeps that were offered it."""
        workers = self.worker_pool_of(evaluator)
        if workers is None:
            return []
        sweeps = workers.queue.sources_of(key)
        workers.queue.finish(key, evaluator, failure)
        if values is not None:
            self._measurements.finish(key, values)
        return sweeps

    def take_given_up(self) -> list[FailedWork]:
        """Evaluations that were given up since the last time; a measurement that was has failed."""
        given_up = [failure for workers in self for failure in workers.queue.take_given_up()]
        for failure in given_up:
            if isinstance(failure.work, Measurement):
                self._measurements.finish(failure.work.key, None)
        return [failure for failure in given_up if not isinstance(failure.work, Measurement)]

    # Waiting trials

    def measure(self, name: str, trial_url: str, stage: int, nets: int, pool: Pool) -> MeasurementState:
        """How the measurement of this name stands; the first time, it is asked of the pool's evaluators."""
        queue = self.worker_pool(pool.share).queue
        self._measurements.ask(name, trial_url, stage, nets, pool.count, self._clock())
        answer = self._measurements.answer(name)
        items = self._measurements.open(name)
        leased = {lease.work.key for lease in self.leases()}
        waiting = [item for item in items if item.key not in leased]
        self._take_back(waiting)  # the sweep's share may have changed since it was asked for first
        queue.urge(waiting)
        # urgent work is the next that an evaluator takes
        in_progress = len(waiting) < len(items) or all(queue.may_come_to(item.key) for item in items)
        return answer._replace(in_progress=in_progress)

    def forget(self, name: str) -> None:
        """Nobody waits for this measurement any more."""
        self._take_back(self._measurements.open(name))
        self._measurements.forget(name)

    def forget_silent(self) -> None:
        """Drop measurements whose trial has stopped polling."""
        for name in self._measurements.silent(self._clock() - self._timings.silent_s):
            self.forget(name)

    def _take_back(self, items: Sequence[WorkItem]) -> None:
        for item in items:
            for workers in self:
                workers.queue.take_back(item.key)

    # Counts

    def leases(self) -> list[Lease]:
        """All leases, of every worker pool."""
        return [lease for workers in self for lease in workers.queue.leases()]

    def pending(self, sweep: SweepKey | None = None) -> int:
        """How many evaluations wait, of a sweep or of all."""
        return sum(workers.queue.pending(sweep) for workers in self)

    def running(self, sweep: SweepKey) -> int:
        """How many evaluations of a sweep are being done."""
        return sum(workers.queue.running(sweep) for workers in self)


def number_of(evaluator: str) -> int:
    """The number in an evaluator's name."""
    return int(evaluator.removeprefix(_NAME))
