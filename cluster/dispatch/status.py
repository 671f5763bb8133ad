"""What the dispatcher says of itself: counts, sweeps, evaluators, what failed. Plain values, for tables and tests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypedDict

from cluster.dispatch.assignments import Assignments, EvaluatorLocation, number_of
from cluster.dispatch.backlog import RunningTrial, describe
from cluster.dispatch.pool_request import Pool
from cluster.dispatch.served_sweep import ServedSweep
from cluster.dispatch.worker_pool import WorkerPool


class SweepStatus(TypedDict):
    """One sweep's counts of evaluations; `failed` says why, by the works' keys or by what cannot be read.

    `away` and `sync_error` say why its archive or its MLflow store does not answer; empty where they do.
    """

    archive_url: str
    sweep: str
    pending: int
    running: int
    done: int
    failed: dict[str, str]
    away: str
    sync_error: str


class Overview(TypedDict):
    """What all sweeps have in common."""

    done: int
    failed: dict[str, str]
    sync_error: str
    trouble: list[str]


class PoolStatus(TypedDict):
    """How large a pool may be, and what each of its evaluators reserves."""

    count: int
    cpus: float
    gpus: float
    idle_s: float


class EvaluatorStatus(EvaluatorLocation):
    """The current work of an evaluator, for how many seconds, and how much it has done."""

    name: str
    at: str
    seconds: float
    done: int
    failed: int


class WorkStatus(TypedDict):
    """How much work there is, and who does it."""

    pending: int
    running: int
    per_minute: float
    pools: list[PoolStatus]
    evaluators: list[EvaluatorStatus]


class DispatcherStatus(WorkStatus, Overview):
    """All that the dispatcher says of itself."""

    sweeps: list[SweepStatus]
    trials: list[RunningTrial]


class Log(TypedDict):
    """Where a process writes its log lines."""

    node: str
    log_file: str


class ServiceStatus(DispatcherStatus):
    """And of the coordinator's process."""

    version: str
    log: Log


def overview(sweeps: Sequence[SweepStatus]) -> Overview:
    """What all sweeps have in common: evaluations done and failed, archives that are away, stores that lag."""
    trouble = [f"{sweep['archive_url']}: {sweep['away']}" for sweep in sweeps if sweep["away"]]
    lags = [f"{sweep['sweep']}: {sweep['sync_error']}" for sweep in sweeps if sweep["sync_error"]]
    return {
        "done": sum(sweep["done"] for sweep in sweeps),
        "failed": {key: why for sweep in sweeps for key, why in sweep["failed"].items()},
        "sync_error": "; ".join(lags),
        "trouble": list(dict.fromkeys(trouble)),
    }


def sweep_status(sweep: ServedSweep, assignments: Assignments, unrecorded: Mapping[str, str]) -> SweepStatus:
    """One sweep's counts, and what went wrong with it."""
    return {
        "archive_url": sweep.key.archive_url,
        "sweep": sweep.key.sweep,
        "pending": assignments.pending(sweep.key),
        "running": assignments.running(sweep.key),
        "done": sweep.found.done,
        "failed": {**sweep.found.given_up, **unrecorded, **sweep.found.unreadable},
        "away": sweep.away,
        "sync_error": sweep.sync_error,
    }


def work_status(assignments: Assignments, asked: Sequence[Pool]) -> WorkStatus:
    """How much work there is, who does it, and how large the pools may be."""
    pools = [(workers, workers.pool(asked)) for workers in assignments]
    evaluators = [_evaluator_status(assignments, workers, name) for workers in assignments for name in workers.known]
    return {
        "pending": assignments.pending(),
        "running": len(assignments.leases()),
        "per_minute": sum(workers.queue.per_minute() for workers in assignments),
        "pools": [_pool_status(pool) for workers, pool in pools if pool.count or workers.known],
        "evaluators": sorted(evaluators, key=lambda one: number_of(one["name"])),
    }


def _pool_status(pool: Pool) -> PoolStatus:
    return {"count": pool.count, "cpus": pool.cpus, "gpus": pool.gpus, "idle_s": pool.idle_s}


def _evaluator_status(assignments: Assignments, workers: WorkerPool, name: str) -> EvaluatorStatus:
    stats, where = workers.queue.evaluators.get(name), assignments.where(name)
    at = [(describe(lease.work), workers.queue.now() - lease.since) for lease in workers.queue.leases(name)]
    what, seconds = at[0] if at else ("idle" if where or stats else "waits for its place", workers.idle_s(name))
    done, failed = (stats.done, stats.failed) if stats else (0, 0)
    return {"name": name, **where, "at": what, "seconds": seconds, "done": done, "failed": failed}
