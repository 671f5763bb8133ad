"""What the dispatcher says of itself: counts, sweeps, evaluators, what failed. Plain values, for tables and tests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from cluster.dispatch.assignments import Assignments, number_of
from cluster.dispatch.backlog import describe
from cluster.dispatch.pool_request import Pool
from cluster.dispatch.served_sweep import ServedSweep
from cluster.dispatch.worker_pool import WorkerPool


def overview(sweeps: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """What all sweeps have in common: evaluations done and failed, archives that are away, stores that lag."""
    trouble = [f"{sweep['archive_url']}: {sweep['away']}" for sweep in sweeps if sweep["away"]]
    lags = [f"{sweep['sweep']}: {sweep['sync_error']}" for sweep in sweeps if sweep["sync_error"]]
    return {
        "done": sum(sweep["done"] for sweep in sweeps),
        "failed": {key: why for sweep in sweeps for key, why in sweep["failed"].items()},
        "sync_error": "; ".join(lags),
        "trouble": list(dict.fromkeys(trouble)),
    }


def sweep_status(sweep: ServedSweep, assignments: Assignments, unrecorded: Mapping[str, str]) -> dict[str, Any]:
    """One sweep's counts, and what went wrong with it."""
    return {
        **sweep.key._asdict(),
        "pending": assignments.pending(sweep.key),
        "running": assignments.running(sweep.key),
        "done": sweep.found.done,
        "failed": {**sweep.found.given_up, **unrecorded, **sweep.found.unreadable},
        "away": sweep.away,
        "sync_error": sweep.sync_error,
    }


def work_status(assignments: Assignments, asked: Sequence[Pool]) -> dict[str, Any]:
    """How much work there is, who does it, and how large the pools may be."""
    pools = [(workers, workers.pool(asked)) for workers in assignments]
    evaluators = [_evaluator_status(assignments, workers, name) for workers in assignments for name in workers.known]
    return {
        "pending": assignments.pending(),
        "running": len(assignments.leases()),
        "per_minute": sum(workers.queue.per_minute() for workers in assignments),
        "pools": [asdict(pool) for workers, pool in pools if pool.count or workers.known],
        "evaluators": sorted(evaluators, key=lambda one: number_of(one["name"])),
    }


def _evaluator_status(assignments: Assignments, workers: WorkerPool, name: str) -> dict[str, Any]:
    stats, where = workers.queue.evaluators.get(name), assignments.where(name)
    at = [(describe(lease.work), workers.queue.now() - lease.since) for lease in workers.queue.leases(name)]
    what, seconds = at[0] if at else ("idle" if where or stats else "waits for its place", workers.idle_s(name))
    counts = {"done": stats.done if stats else 0, "failed": stats.failed if stats else 0}
    return {"name": name, **where, "at": what, "seconds": seconds, **counts}
