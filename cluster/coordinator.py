"""The coordinator: one detached, named actor that hands out evaluations and is the one writer of MLflow."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field, replace
from typing import Any, NamedTuple

import ray
from ray.experimental import internal_kv

from cluster.backlog import Backlog, Look, describe
from cluster.evaluator import BEAT_S, EvaluatorActor
from cluster.measurements import Answer, Measurement, Measurements
from cluster.pool import Pool
from cluster.queue import GivenUp, Piece, Queue
from cluster.ray_runtime import NAMESPACE, named_evaluators
from ppodd import __version__
from ppodd.archive import Archive, TrialArchive
from ppodd.errors import one_line
from ppodd.work import Work
from results.sync import Syncer

_LOOK_S, _SCALE_S, _SYNC_S = 1.0, 1.0, 2.0  # pauses, at least
_SHARE = 0.2  # of the time goes into looks at archives, and as much into syncing: slow ones are done less often …
_LOOK_AT_MOST_S, _SYNC_AT_MOST_S = 10.0, 60.0  # … but every so many seconds
_PATIENCE_S = 5.0  # with an archive that does not answer: others wait meanwhile …
_AWAY_S = 30.0  # … and it is left alone for so long
_SETTLED_S = 60.0  # a sweep that is over is looked at, and synced, this often
_MOMENT_S = 0.001
_SILENT_S = 30.0  # a trial that waits asks far more often
_SHOWN = 3  # problems of a sync
_MEMORY = b"ppodd/served"  # survives the coordinator, not the cluster: the archive says the rest


class Served(NamedTuple):
    """A sweep to evaluate."""

    archive_url: str
    sweep: str


@dataclass
class _State:
    """What is known of a served sweep."""

    backlog: Backlog
    tracking_uri: str
    look: Look = field(default_factory=Look)
    away: str = ""  # why its archive could not be looked at, the last time
    syncer: Syncer | None = None
    sync_error: str = ""
    look_from: float = 0.0  # when to look at it again
    sync_from: float = 0.0


class Coordinator:
    """Serves sweeps; evaluators call `hello`, `lease`, `beat` and `finish`, waiting trials `measure`.

    Restarted, it remembers what it served; which work is open it reads from the archives.
    """

    def __init__(self) -> None:
        self._lock, self._look_lock, self._sync_lock = threading.RLock(), threading.Lock(), threading.Lock()
        self._queue, self._measurements = Queue(), Measurements()
        self._pool = Pool(count=0, idle_s=0)
        self._served: dict[Served, _State] = {}
        self._where: dict[str, dict[str, Any]] = {}  # of evaluators: node, pid, device
        self._known: dict[str, float] = {}  # of evaluators: since when
        self._number = 0
        self._trouble: dict[str, str] = {}  # of the tasks below: what the last attempt failed by
        self._unrecorded: dict[str, GivenUp] = {}  # by key: the archive could not take their record yet
        restarted = self._remember()
        # evaluators that are at work say so before anybody is given the same
        self._lease_from = time.monotonic() + (1.2 * BEAT_S if restarted else 0)
        for task, pause in ((self._look, _LOOK_S), (self._scale, _SCALE_S), (self._sync, _SYNC_S)):
            threading.Thread(target=self._forever, args=(task, pause), daemon=True).start()

    def version(self) -> str:
        return __version__

    def _forever(self, task: Callable[[], float], pause: float) -> None:
        """Do it again and again, after `pause` seconds or as many as it asks for, whatever happens."""
        while True:
            try:
                rest = task()
                self._trouble.pop(task.__name__, None)
            except Exception as error:  # of Ray while a node goes away, of a disk: the next time may do
                rest, self._trouble[task.__name__] = pause, one_line(error)
            time.sleep(max(pause, rest))

    # What is served

    def why_not(self, archive_url: str, sweep: str) -> str:
        """Why this sweep's archive cannot be read from here, if so: the environment is that of who began this first."""
        try:
            there = Archive(archive_url, _PATIENCE_S).holds(sweep)
        except Exception as error:
            return one_line(error)
        return "" if there else f"it holds no sweep {sweep!r} as the coordinator sees it"

    def serve(self, archive_url: str, sweep: str, tracking_uri: str, pool: Pool) -> None:
        """Evaluate and log this sweep from now on, with at least this pool; asked again, its archive is read anew."""
        served = Served(archive_url, sweep)
        with self._look_lock, self._lock:
            self._take(served, tracking_uri)
            state = self._served[served]
            state.backlog.ask_again()
            self._unrecorded = {key: f for key, f in self._unrecorded.items() if key not in self._unrecorded_of(served)}
            state.look_from = state.sync_from = 0.0
            self._queue.withdraw(served)
            before, self._pool = self._pool, self._pool.joined(pool)
            heard = time.monotonic() >= self._lease_from
            if heard and (before.cpus, before.gpus) != (self._pool.cpus, self._pool.gpus):
                self._stop(set(self._known) - self._queue.evaluators.keys())  # they wait for another share
            self._write_memory()

    def shown_in(self, archive_url: str, sweep: str) -> str | None:
        """The MLflow store that shows a sweep; `None` where it is not served."""
        state = self._served.get(Served(archive_url, sweep))
        return state.tracking_uri if state else None

    def scale(self, count: int) -> None:
        """Have at most `count` evaluators; those too many stop when they have nothing to do."""
        with self._lock:
            self._pool = replace(self._pool, count=count)
            self._write_memory()

    def start_evaluators(self) -> None:
        """Start all that the pool may have, before there is work: so they take their place before trials do."""
        with self._lock:
            self._start(self._pool.count - len(self._known))

    def _take(self, served: Served, tracking_uri: str) -> None:
        """Know the sweep; and the MLflow store that shows it, the one named last."""
        state = self._served.get(served)
        if state is None:
            self._served[served] = _State(Backlog(*served, _PATIENCE_S), tracking_uri)
        elif state.tracking_uri != tracking_uri:
            state.tracking_uri, state.syncer, state.sync_from = tracking_uri, None, 0.0

    def _write_memory(self) -> None:
        known = [(*served, state.tracking_uri) for served, state in self._served.items()]
        memory = json.dumps({"served": known, "pool": asdict(self._pool)})
        internal_kv._internal_kv_put(_MEMORY, memory.encode(), overwrite=True, namespace=NAMESPACE.encode())

    def _remember(self) -> bool:
        """Serve what a coordinator before this one did; whether there was one."""
        held = internal_kv._internal_kv_get(_MEMORY, namespace=NAMESPACE.encode())
        if held:
            memory = json.loads(held)
            self._pool = Pool(**memory["pool"])
            for archive_url, sweep, tracking_uri in memory["served"]:
                self._take(Served(archive_url, sweep), tracking_uri)
        self._known = dict.fromkeys(named_evaluators(), time.monotonic())
        return bool(held)

    def forget_all(self) -> None:
        """What is served is not to be remembered: the coordinator is about to be stopped."""
        internal_kv._internal_kv_del(_MEMORY, namespace=NAMESPACE.encode())

    # Evaluators

    def hello(self, evaluator: str, where: dict[str, Any]) -> bool:
        """A new evaluator of this name starts: whatever one before it had is open again."""
        with self._lock:
            self._where[evaluator] = where
            self._known.setdefault(evaluator, time.monotonic())
            self._queue.drop(evaluator)
            self._queue.beat(evaluator)
            return True

    def lease(self, evaluator: str) -> Piece | None:
        with self._lock:
            if evaluator not in self._known or time.monotonic() < self._lease_from:
                return None
            return self._queue.lease(evaluator)

    def beat(self, evaluator: str, at: Piece | None) -> None:
        with self._lock:
            self._queue.beat(evaluator, at if time.monotonic() < self._lease_from else None)

    def finish(self, key: str, evaluator: str, error: str = "", values: list[float] | None = None) -> None:
        with self._lock:
            for served, state in self._served.items():
                state.look.done += not error and self._queue.offers(served, key)  # until the next look counts anew
            self._queue.finish(key, evaluator, error)
            if values is not None:
                self._measurements.finish(key, values)

    # Waiting trials

    def measure(self, name: str, trial_url: str, stage: int, nets: int) -> Answer:
        """How the measurement of this name stands; the first time, it is asked for."""
        with self._lock:
            self._queue.urge(self._measurements.ask(name, trial_url, stage, nets, self._pool.count, time.monotonic()))
            leased = {lease.work.key for lease in self._queue.leases()}
            answer = self._measurements.answer(name)
            # who is at something else comes to it next
            pieces = self._measurements.open(name)
            at_it = any(key in leased for key in pieces) or all(map(self._queue.may_come_to, pieces))
            return answer._replace(at_it=at_it)

    def forget(self, name: str) -> None:
        """Nobody waits for this measurement any more."""
        with self._lock:
            for key in self._measurements.open(name):
                self._queue.take_back(key)
            self._measurements.forget(name)

    # Looking, scaling, syncing

    def _look(self, every: bool = False, only: tuple[str, str] | None = None) -> float:
        """Look at the served archives (or `only` one), at `every` one or where it is time; how long to rest then."""
        started = time.monotonic()
        with self._look_lock:
            as_of = self._queue.now()
            self._record_given_up()
            for served, state in self._states(only):
                if started < state.look_from and (state.away or not every):
                    continue
                try:
                    look = state.backlog.look()
                except Exception as error:  # an archive that is away stops no other; what was open stays so
                    state.away, state.look_from = one_line(error), time.monotonic() + _AWAY_S
                    continue
                with self._lock:
                    state.look, state.away = look, ""
                    self._queue.offer(served, [w for w in look.open if w.key not in self._unrecorded], as_of)
                    state.look_from = started + _SETTLED_S if state.backlog.settled else 0.0
        return min(_LOOK_AT_MOST_S, (time.monotonic() - started) / _SHARE)

    def _record_given_up(self) -> None:
        with self._lock:
            given_up, self._queue.given_up = self._queue.given_up, []
            for failure in given_up:
                if isinstance(failure.work, Measurement):
                    self._measurements.finish(failure.work.key, None)
                else:
                    self._unrecorded[failure.work.key] = failure
        away = {served.archive_url for served, state in list(self._served.items()) if state.away}
        for key, failure in list(self._unrecorded.items()):
            archive_url = _served(failure).archive_url
            if archive_url in away:
                continue
            try:
                _record(failure)
            except Exception:  # shown by `status`, not evaluated again, and tried again
                away.add(archive_url)
                continue
            del self._unrecorded[key]

    def _scale(self) -> float:
        """Start and stop evaluators as the pool's plan says."""
        existing = named_evaluators()
        with self._lock:
            if time.monotonic() < self._lease_from:
                return 0.0  # who is at work has not said so yet
            for name in self._measurements.silent(time.monotonic() - _SILENT_S):
                self.forget(name)  # its trial is gone
            now = time.monotonic()
            for name in set(self._known) - set(existing):
                if now - self._known[name] > 10:  # Ray may not list what was started a moment ago
                    self._known.pop(name)
                    self._queue.gone(name)
            start, stop = self._pool.plan({name: self._idle_s(name) for name in self._known}, self._queue.pending())
            self._stop(stop)
            self._start(start)
        return 0.0

    def _stop(self, names: Iterable[str]) -> None:
        for name in names:
            with contextlib.suppress(ValueError):  # it is gone
                ray.kill(ray.get_actor(name, NAMESPACE), no_restart=True)
            self._known.pop(name)
            self._queue.gone(name)

    def _idle_s(self, evaluator: str) -> float:
        if self._queue.leases(evaluator):
            return 0.0
        tally = self._queue.evaluators.get(evaluator)
        if tally is None and not all(state.backlog.settled for state in self._served.values()):
            return _MOMENT_S  # it waits for its place while there is work to come
        return max(_MOMENT_S, time.monotonic() - max(self._known[evaluator], tally.busy_until if tally else 0.0))

    def _start(self, count: int) -> None:
        taken = [int(name.rpartition("-")[2]) for name in self._known]
        self._number = max([self._number, *(number + 1 for number in taken)])
        for number in range(self._number, self._number + max(0, count)):
            name = f"evaluator-{number}"
            options = {"name": name, "num_cpus": self._pool.cpus, "num_gpus": self._pool.gpus}
            actor = EvaluatorActor.options(namespace=NAMESPACE, lifetime="detached", get_if_exists=True, **options)
            actor.remote(name, self._pool.cpus, self._pool.gpus)
            self._known[name] = time.monotonic()
        self._number += max(0, count)

    def sync(self, only: tuple[str, str] | None = None) -> str:
        """Bring MLflow up to date now, with all or `only` one sweep; what could not be, as `status` says it too."""
        self._sync(every=True, only=only)
        return "; ".join(filter(None, (state.away or state.sync_error for _, state in self._states(only))))

    def _states(self, only: tuple[str, str] | None) -> list[tuple[Served, _State]]:
        """All that is served as it is now, or `only` one (an archive's URL and a sweep)."""
        return [(served, state) for served, state in list(self._served.items()) if only in (None, served)]

    def _sync(self, every: bool = False, only: tuple[str, str] | None = None) -> float:
        started = time.monotonic()
        with self._sync_lock:
            for served, state in self._states(only):
                if (started < state.sync_from and not every) or state.away:
                    continue
                settled = state.backlog.settled  # all that this sync is to find is there
                try:
                    state.syncer = state.syncer or Syncer(served.archive_url, state.tracking_uri)
                    state.sync_error = "; ".join(state.syncer.sync([served.sweep]).problems[:_SHOWN])
                    state.sync_from = started + _SETTLED_S if settled and not state.sync_error else 0.0
                except Exception as error:  # the view may fail; the science goes on, and a later sync catches up
                    state.sync_error = one_line(error)
        return min(_SYNC_AT_MOST_S, (time.monotonic() - started) / _SHARE)

    # Status

    def status(self, fresh: bool = False, only: tuple[str, str] | None = None) -> dict[str, Any]:
        """Counts of evaluations, evaluators, running trials, what went wrong; `fresh`: after a look at the archives.

        `only` an archive's URL and a sweep: that one is looked at.
        """
        if fresh:
            self._look(every=True, only=only)
        with self._lock:
            sweeps = [self._sweep_status(served, state) for served, state in self._served.items()]
            evaluators = [self._evaluator_status(name) for name in sorted(self._known)]
            running = len(self._queue.leases())
            counts = {"pending": self._queue.pending(), "running": running, "per_minute": self._queue.per_minute()}
            pool = asdict(self._pool)
        trials = [now for state in list(self._served.values()) if not state.away for now in state.backlog.progress()]
        failed = {key: why for sweep in sweeps for key, why in sweep["failed"].items()}
        trouble = [f"{sweep['archive_url']}: {sweep['away']}" for sweep in sweeps if sweep["away"]]
        sync_error = "; ".join(f"{sweep['sweep']}: {sweep['sync_error']}" for sweep in sweeps if sweep["sync_error"])
        return {
            "version": __version__,
            **counts,
            "done": sum(sweep["done"] for sweep in sweeps),
            "failed": failed,
            "sync_error": sync_error,
            "trouble": [*dict.fromkeys(trouble), *self._trouble.values()],
            "pool": pool,
            "sweeps": sweeps,
            "evaluators": evaluators,
            "trials": trials,
        }

    def _sweep_status(self, served: Served, state: _State) -> dict[str, Any]:
        return {
            **served._asdict(),
            "pending": self._queue.pending(served),
            "running": self._queue.running(served),
            "done": state.look.done,
            "failed": {**state.look.given_up, **self._unrecorded_of(served), **state.look.unreadable},
            "away": state.away,
            "sync_error": state.sync_error,
        }

    def _unrecorded_of(self, served: Served) -> dict[str, str]:
        found = [failure for failure in list(self._unrecorded.values()) if _served(failure) == served]
        return {failure.work.key: f"{describe(failure.work)}: {failure.error}" for failure in found}

    def _evaluator_status(self, name: str) -> dict[str, Any]:
        tally, where = self._queue.evaluators.get(name), self._where.get(name, {})
        at = [(describe(lease.work), self._queue.now() - lease.since) for lease in self._queue.leases(name)]
        what, seconds = at[0] if at else ("idle" if where or tally else "waits for its place", self._idle_s(name))
        counts = {"done": tally.done if tally else 0, "failed": tally.failed if tally else 0}
        return {"name": name, **where, "at": what, "seconds": seconds, **counts}


def _served(failure: GivenUp) -> Served:
    """The sweep that a given-up evaluation belongs to."""
    assert isinstance(failure.work, Work)
    archive_url, sweep, _ = failure.work.trial_url.rsplit("/", 2)
    return Served(archive_url, sweep)


def _record(failure: GivenUp) -> None:
    """Write down in the archive that an evaluation is given up."""
    work = failure.work
    assert isinstance(work, Work)
    record = {
        "ticket": work.ticket,
        "stage": work.stage,
        "protocol": work.protocol.model_dump(mode="json"),
        "error": failure.error,
        "attempts": failure.attempts,
        "failed_at": time.time(),
    }
    TrialArchive(work.trial_url, _PATIENCE_S).write_evaluation_failure(work.stage, record)


_OPTIONS: dict[str, Any] = {"num_cpus": 0, "max_restarts": -1, "max_task_retries": -1, "max_concurrency": 64}
CoordinatorActor: Any = ray.remote(**_OPTIONS)(Coordinator)
