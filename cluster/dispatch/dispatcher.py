"""The dispatcher: which sweeps are served, who evaluates what of them, how many evaluators there should be.

It knows no Ray: clock, evaluators' processes, archives, MLflow and memory are given to it, and its owner calls
`look`, `scale`, `sync` and `release_lost` again and again.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from dataclasses import replace

from cluster.dispatch.archives import Archives
from cluster.dispatch.assignments import Assignments, EvaluatorLocation
from cluster.dispatch.backlog import RunningTrial
from cluster.dispatch.candidate_measurements import MeasurementState
from cluster.dispatch.leases import WorkItem
from cluster.dispatch.pending_failures import PendingFailureRecords
from cluster.dispatch.pool_request import Pool, ResourceShare
from cluster.dispatch.ports import Clock, EvaluatorProcesses, KeyValueStore, OpenSyncer
from cluster.dispatch.saved_state import SavedState, ServedRequest
from cluster.dispatch.served_sweep import ServedSweep, SweepKey
from cluster.dispatch.status import DispatcherStatus, overview, sweep_status, work_status
from cluster.dispatch.timings import ServiceTimings
from ppodd.archive import FailureRecord
from ppodd.errors import one_line

_log = logging.getLogger(__name__)


class Dispatcher:
    """Serves sweeps; evaluators call `register`, `lease`, `heartbeat` and `finish`, waiting trials `measure`.

    Any thread may call any method. One lock is around what is decided here, and no archive, MLflow store, evaluator's
    process or key-value store is asked under it, for heartbeats need it; a sweep is looked at by one thread at a time,
    and MLflow has one writer. Restarted, it takes up what it served; which work is open it reads from the archives.
    """

    def __init__(
        self,
        evaluators: EvaluatorProcesses,
        archives: Archives,
        open_syncer: OpenSyncer,
        store: KeyValueStore,
        clock: Clock,
        timings: ServiceTimings,
    ):
        self._evaluators, self._archives, self._open_syncer, self._store = evaluators, archives, open_syncer, store
        self._clock, self._timings = clock, timings
        self._lock, self._syncing, self._saving = threading.RLock(), threading.Lock(), threading.Lock()
        self._sweeps: dict[SweepKey, ServedSweep] = {}
        self._assignments = Assignments(clock, timings)
        self._unrecorded = PendingFailureRecords(archives)
        self._retired = False  # others take over; nothing is started or saved any more
        self._lease_from = 0.0
        if saved := SavedState.read(store):
            self._take_up(saved)

    def _take_up(self, saved: SavedState) -> None:
        """Serve what a dispatcher before this one did, with the evaluators that it began and that still are there."""
        for sweep, tracking_uri, pool in saved.served:
            self._sweeps[sweep] = self._served(sweep, tracking_uri, pool)
        self._assignments.use_no_name_of(saved.shares.keys())
        for name in saved.shares.keys() & set(self._evaluators.names()):
            self._assignments.add(name, saved.shares[name])
        self._lease_from = self._clock() + self._timings.recovery_s

    def _served(self, sweep: SweepKey, tracking_uri: str, pool: Pool) -> ServedSweep:
        return ServedSweep(sweep, self._archives.backlog(*sweep), tracking_uri, pool, self._clock, self._timings)

    @property
    def _recovering(self) -> bool:
        """Whether evaluators may not have sent a heartbeat yet since a restart."""
        return self._clock() < self._lease_from

    # What is served

    def why_not(self, archive_url: str, sweep: str) -> str:
        """Why this sweep's archive cannot be read from here, if so.

        The coordinator has the environment of the job that started it.
        """
        try:
            there = self._archives.holds(archive_url, sweep)
        except Exception as error:
            return one_line(error)
        return "" if there else f"it holds no sweep {sweep!r} as the coordinator sees it"

    def serve(self, archive_url: str, sweep: str, tracking_uri: str, pool: Pool, begin: bool) -> bool:
        """Evaluate and log this sweep from now on. Calling it again rereads the archive. Returns whether it is served.

        With `begin` all evaluators that its pool may have are started, before there is work: so they take their place
        before trials do.
        """
        key = SweepKey(archive_url, sweep)
        with self._lock:
            served = self._sweeps.get(key) or self._served(key, tracking_uri, pool)
        with served.looking:
            with self._lock:
                if self._retired:
                    return False
                _log.info("serves it in %s: %s", archive_url, pool, extra={"sweep": sweep})
                self._sweeps.setdefault(key, served).serve_anew(tracking_uri, pool)
                self._unrecorded.forget(key)
                self._assignments.withdraw(key)
                workers = self._assignments.worker_pool(pool.share)
                missing = workers.pool(self._pools()).count - len(workers.known)
                new = self._added(pool.share, missing if begin else 0)
            self._start(new)
            return True

    def retire(self, besides: tuple[str, str]) -> list[str] | None:
        """Stop serving, for another to take over. Returns the sweeps that still need it; retires if there are none.

        A sweep needs it that is not over, or not yet in MLflow; the one in `besides` (an archive's URL and a sweep) is
        not counted. `None`: it has already retired for another.
        """
        self.look(every=True)
        self.sync(every=True)
        with self._lock:
            if self._retired:
                return None
            needed = [key.sweep for key, sweep in self._sweeps.items() if key != besides and sweep.needed]
            self._retired = not needed
            return needed

    def serving(self, archive_url: str, sweep: str) -> tuple[str, Pool] | None:
        """The MLflow store that shows a sweep, and its pool; `None` where it is not served."""
        served = self._sweeps.get(SweepKey(archive_url, sweep))
        return (served.tracking_uri, served.pool) if served else None

    def resize(self, count: int) -> None:
        """Have at most `count` evaluators of each share; those too many stop when they have nothing to do."""
        with self._lock:
            for sweep in self._sweeps.values():
                sweep.pool = replace(sweep.pool, count=count)
        self._save()

    def forget_all(self) -> None:
        """What is served is not to be remembered: it is about to be stopped."""
        with self._lock:
            self._retired = True
        with self._saving:
            SavedState.forget(self._store)

    def _save(self) -> None:
        """Write down what is served now, one thread after the other: the last writes what is newest."""
        with self._saving:
            with self._lock:
                if self._retired:
                    return
                served = [ServedRequest(key, sweep.tracking_uri, sweep.pool) for key, sweep in self._sweeps.items()]
                state = SavedState(served, dict(self._assignments.shares))
            state.write(self._store)

    def _pools(self) -> list[Pool]:
        return [sweep.pool for sweep in self._sweeps.values()]

    # Evaluators and trials call these

    def register(self, evaluator: str, where: EvaluatorLocation) -> bool:
        """A new process of this name starts: work leased to the one before it is open again."""
        if self._assignments.is_known(evaluator):
            self.release_lost()
        with self._lock:
            self._assignments.register(evaluator, where)
        return True

    def lease(self, evaluator: str) -> WorkItem | None:
        """The next work item for an evaluator, if there is any now."""
        with self._lock:
            workers = self._assignments.worker_pool_of(evaluator)
            return None if workers is None or self._recovering else workers.queue.lease(evaluator)

    def heartbeat(self, evaluator: str, at: WorkItem | None, where: EvaluatorLocation) -> None:
        """The evaluator is alive, and does this work: its lease is extended."""
        with self._lock:
            self._assignments.heartbeat(evaluator, at if self._recovering else None, where)

    def finish(
        self, key: str, evaluator: str, failure: FailureRecord | None = None, values: list[float] | None = None
    ) -> None:
        """Record that the evaluator has finished this work, or failed."""
        if failure:
            _log.warning("failed at %s: %s", key, failure.error, extra={"evaluator": evaluator})
        with self._lock:
            for sweep in self._assignments.finish(key, evaluator, failure, values):
                self._sweeps[sweep].found.done += not failure  # until the next look counts again

    def measure(self, name: str, trial_url: str, stage: int, nets: int) -> MeasurementState:
        """How the measurement of this name stands; the first time, it is asked for."""
        with self._lock:
            sweep = self._sweeps.get(SweepKey.of_trial(trial_url))
            return self._assignments.measure(name, trial_url, stage, nets, sweep.pool) if sweep else MeasurementState()

    def forget(self, name: str) -> None:
        """Nobody waits for this measurement any more."""
        with self._lock:
            self._assignments.forget(name)

    # Called again and again

    def look(self, every: bool = False, only: tuple[str, str] | None = None) -> None:
        """Scan the served archives (or `only` one): all if `every`, else those that are due."""
        self._record_given_up()
        for key, sweep in self._selected(only):
            with sweep.looking:  # a new `serve` waits until its work is offered
                as_of = self._clock()
                if sweep.look(every):
                    with self._lock:
                        works = [work for work in sweep.found.open if work.key not in self._unrecorded]
                        self._assignments.offer(key, sweep.pool.share, works, as_of)

    def _record_given_up(self) -> None:
        with self._lock:
            for failure in self._assignments.take_given_up():
                why, attempt = failure.failure.error, {"attempt": failure.attempts}
                _log.error("given up: %s: %s", failure.work.key, why, extra=attempt)
                self._unrecorded.add(failure)
        self._unrecorded.record({key.archive_url for key, sweep in self._selected() if sweep.away})

    def scale(self) -> None:
        """Start and stop evaluators as the pools' plans say."""
        existing = set(self._evaluators.names())
        with self._lock:
            if self._recovering:
                return
            stopped, new = self._scaled(existing)
        for name in stopped:
            self._evaluators.stop(name)
        if new:
            self._start(new)

    def _scaled(self, existing: set[str]) -> tuple[list[str], dict[str, ResourceShare]]:
        """Count evaluators as the plans say. Returns those to stop, and those to start with their shares."""
        self._assignments.forget_silent()
        stopped = sorted(existing - self._assignments.shares.keys())  # given up as lost, and there after all
        for name in self._assignments.lost(existing):
            self._assignments.drop(name)
        new: dict[str, ResourceShare] = {}
        for workers in list(self._assignments):
            settled = all(s.backlog.settled for s in self._sweeps.values() if s.pool.share == workers.share)
            missing, idle = workers.plan(workers.pool(self._pools()), not settled)
            for name in idle:
                _log.info("stops it: it has nothing to do", extra={"evaluator": name})
                self._assignments.drop(name)
            stopped += idle
            new |= self._added(workers.share, missing)
        return stopped, new

    def _added(self, share: ResourceShare, count: int) -> dict[str, ResourceShare]:
        """So many evaluators of this share, which belong to their pool from now on; `_start` starts them."""
        names = [] if self._retired else self._assignments.new_names(max(0, count))
        for name in names:
            self._assignments.add(name, share)
        return dict.fromkeys(names, share)

    def _start(self, new: Mapping[str, ResourceShare]) -> None:
        self._save()  # before they are there
        for name, share in new.items():
            _log.info("starts it", extra={"evaluator": name})
            self._evaluators.start(name, share)

    def sync(self, every: bool = False, only: tuple[str, str] | None = None) -> str:
        """Bring MLflow up to date with the served sweeps (or `only` one), with `every` one or where it is time.

        Returns what could not be, as `status` says it too.
        """
        with self._syncing:
            for _, sweep in self._selected(only):
                sweep.sync(self._open_syncer, every)
        return "; ".join(sweep.trouble for _, sweep in self._selected(only) if sweep.trouble)

    def release_lost(self) -> None:
        """Release the leases of evaluators whose node is lost."""
        alive = self._evaluators.living_nodes()
        with self._lock:
            self._assignments.release_lost(alive)

    def _selected(self, only: tuple[str, str] | None = None) -> list[tuple[SweepKey, ServedSweep]]:
        """All that is served as it is now, or `only` one (an archive's URL and a sweep)."""
        return [(key, sweep) for key, sweep in list(self._sweeps.items()) if only in (None, key)]

    # Status

    def status(self, fresh: bool = False, only: tuple[str, str] | None = None) -> DispatcherStatus:
        """Counts of evaluations, evaluators, running trials, what went wrong; `fresh`: read the archives first.

        `only` an archive's URL and a sweep: only that one is read.
        """
        if fresh:
            self.look(every=True, only=only)
        with self._lock:
            sweeps = [sweep_status(one, self._assignments, self._unrecorded.of(key)) for key, one in self._selected()]
            work = work_status(self._assignments, self._pools())
        return {**work, **overview(sweeps), "sweeps": sweeps, "trials": self._running_trials()}

    def _running_trials(self) -> list[RunningTrial]:
        """Where the trials are that have stages to come; read from their archives."""
        return [one for _, sweep in self._selected() if not sweep.away for one in sweep.backlog.progress()]
