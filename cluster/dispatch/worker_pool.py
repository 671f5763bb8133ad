"""A worker pool: the evaluators of one share, and the queue of the sweeps that requested this share. No Ray here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from cluster.dispatch.leases import Queue
from cluster.dispatch.pool_request import Pool, ResourceShare

_MOMENT_S = 0.001  # the least time without work: 0 says that there is a lease


@dataclass
class WorkerPool:
    """Evaluators of one share by name, since when each is known, and the work that they take."""

    share: ResourceShare
    queue: Queue
    known: dict[str, float] = field(default_factory=dict)

    def pool(self, asked: Sequence[Pool]) -> Pool:
        """What serves everybody who asked for this share: the largest of each number. Nobody did: no evaluator."""
        mine = [pool for pool in asked if pool.share == self.share]
        count = max((pool.count for pool in mine), default=0)
        return Pool(count, *self.share, idle_s=max((pool.idle_s for pool in mine), default=0))

    def idle_s(self, evaluator: str, work_to_come: bool = False) -> float:
        """How long an evaluator has been without work; 0 while it has a lease."""
        if self.queue.leases(evaluator):
            return 0.0
        stats = self.queue.evaluators.get(evaluator)
        if stats is None and work_to_come:
            return _MOMENT_S  # it waits for its place
        return max(_MOMENT_S, self.queue.now() - max(self.known[evaluator], stats.busy_until if stats else 0.0))

    def plan(self, pool: Pool, work_to_come: bool) -> tuple[int, list[str]]:
        """How many evaluators to start, and which to stop."""
        return pool.plan({name: self.idle_s(name, work_to_come) for name in self.known}, self.queue.pending())
