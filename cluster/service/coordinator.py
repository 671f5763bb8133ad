"""The coordinator: one detached, named actor that hands out evaluations and is the one writer of MLflow."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, NamedTuple

import ray
from ray.experimental import internal_kv

from cluster.dispatch import (
    Answer,
    Backlog,
    Crew,
    GivenUp,
    Look,
    Measurement,
    Measurements,
    Piece,
    Pool,
    Share,
    describe,
)
from cluster.environment import take_shipped
from cluster.service.evaluator import BEAT_S, EvaluatorActor
from cluster.service.ray_runtime import NAMESPACE, named_evaluators
from ppodd import __version__, logs
from ppodd.archive import Archive, EvaluationFailureRecord, FailureRecord, TrialArchive
from ppodd.errors import one_line
from ppodd.evaluation import Work
from results.reporting import publish
from results.tracking import Syncer

_log = logging.getLogger(__name__)
_LOOK_S, _SCALE_S, _SYNC_S, _NODES_S = 1.0, 1.0, 2.0, 5.0  # pauses, at least
_SHARE = 0.2  # of the time goes into looks at archives, and as much into syncing: slow ones are done less often …
_LOOK_AT_MOST_S, _SYNC_AT_MOST_S = 10.0, 60.0  # … but every so many seconds
_PATIENCE_S = 5.0  # with an archive that does not answer: others wait meanwhile …
_AWAY_S = 30.0  # … and it is left alone for so long
_SETTLED_S = 60.0  # a sweep that is over is looked at, and synced, this often
_SILENT_S = 30.0  # a trial that waits asks far more often
_SHOWN = 3  # problems of a sync
_LISTED_S = 10.0  # Ray may not list at once what was started
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
    pool: Pool
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
        take_shipped()
        logs.start_worker()
        self._lock, self._look_lock, self._sync_lock = threading.RLock(), threading.Lock(), threading.Lock()
        self._measurements = Measurements()
        self._served: dict[Served, _State] = {}
        self._crews: dict[Share, Crew] = {}
        self._shares: dict[str, Share] = {}  # of evaluators, by their names
        self._where: dict[str, dict[str, Any]] = {}  # they are: node, process, device
        self._number = 0  # of the next evaluator: no name is used twice
        self._trouble: dict[str, str] = {}  # of the tasks below: what the last attempt failed by
        self._unrecorded: dict[str, GivenUp] = {}  # by key: the archive could not take their record yet
        self._retired = False  # others take over; nothing is started or remembered any more
        restarted = self._remember()
        # evaluators that are at work say so before anybody is given the same
        self._lease_from = time.monotonic() + (1.2 * BEAT_S if restarted else 0)
        tasks = {self._look: _LOOK_S, self._scale: _SCALE_S, self._sync: _SYNC_S, self._release_lost: _NODES_S}
        for task, pause in tasks.items():
            threading.Thread(target=self._forever, args=(task, pause), daemon=True).start()

    def version(self) -> str:
        return __version__

    def code(self) -> str:
        """The digest of the code that the job shipped which began this; empty where it shipped none."""
        return os.environ.get("PPODD_CODE", "")

    def _forever(self, task: Callable[[], float | None], pause: float) -> None:
        """Do it again and again, after `pause` seconds or as many as it asks for, whatever happens."""
        while True:
            try:
                rest = task() or 0.0
                self._trouble.pop(task.__name__, None)
            except Exception as error:  # of Ray while a node goes away, of a disk: the next time may do
                rest, said = pause, one_line(error)
                if self._trouble.get(task.__name__) != said:  # said once, however often it is tried
                    _log.warning("%s: %s", task.__name__, said, exc_info=True)
                self._trouble[task.__name__] = said
            time.sleep(max(pause, rest))

    # What is served

    def why_not(self, archive_url: str, sweep: str) -> str:
        """Why this sweep's archive cannot be read from here, if so: the environment is that of who began this first."""
        try:
            there = Archive(archive_url, _PATIENCE_S).holds(sweep)
        except Exception as error:
            return one_line(error)
        return "" if there else f"it holds no sweep {sweep!r} as the coordinator sees it"

    def serve(self, archive_url: str, sweep: str, tracking_uri: str, pool: Pool, begin: bool) -> bool:
        """Evaluate and log this sweep from now on; asked again, its archive is read anew. Whether it does.

        With `begin` all evaluators that its pool may have are started, before there is work: so they take their place
        before trials do.
        """
        served = Served(archive_url, sweep)
        with self._look_lock, self._lock:
            if self._retired:
                return False
            _log.info("serves it in %s: %s", archive_url, pool, extra={"sweep": sweep})
            self._take(served, tracking_uri, pool)
            state, crew = self._served[served], self._crew(pool.share)
            state.backlog.ask_again()
            self._unrecorded = {key: f for key, f in self._unrecorded.items() if key not in self._unrecorded_of(served)}
            state.look_from = state.sync_from = 0.0
            for other in self._crews.values():
                other.queue.withdraw(served)
            self._write_memory()
            if begin:
                self._start(crew, self._pool(crew).count - len(crew.known))
            return True

    def retire(self, besides: tuple[str, str]) -> list[str] | None:
        """Serve no more, for another coordinator to take over; unless it is needed by sweeps, whose names it returns.

        Those are all that are not over, or not yet in MLflow, but for one (an archive's URL and a sweep). `None`: it
        has retired for somebody else.
        """
        self._look(every=True)
        self._sync(every=True)
        with self._look_lock, self._lock:
            if self._retired:
                return None
            others = [(served, state) for served, state in self._served.items() if served != besides]
            needed = [
                served.sweep for served, state in others if not state.backlog.settled or state.away or state.sync_error
            ]
            self._retired = not needed
            return needed

    def serving(self, archive_url: str, sweep: str) -> tuple[str, Pool] | None:
        """The MLflow store that shows a sweep, and its pool; `None` where it is not served."""
        state = self._served.get(Served(archive_url, sweep))
        return (state.tracking_uri, state.pool) if state else None

    def scale(self, count: int) -> None:
        """Have at most `count` evaluators of each share; those too many stop when they have nothing to do."""
        with self._lock:
            for state in self._served.values():
                state.pool = replace(state.pool, count=count)
            self._write_memory()

    def _take(self, served: Served, tracking_uri: str, pool: Pool) -> None:
        """Know the sweep; the MLflow store that shows it and the pool, those named last."""
        self._crew(pool.share)
        state = self._served.get(served)
        if state is None:
            self._served[served] = _State(Backlog(*served, _PATIENCE_S), tracking_uri, pool)
            return
        state.pool = pool
        if state.tracking_uri != tracking_uri:
            state.tracking_uri, state.syncer, state.sync_from = tracking_uri, None, 0.0

    def _crew(self, share: Share) -> Crew:
        return self._crews.setdefault(share, Crew(share))

    def _crew_of(self, evaluator: str) -> Crew | None:
        return self._crews.get(self._shares[evaluator]) if evaluator in self._shares else None

    def _pool(self, crew: Crew) -> Pool:
        return crew.pool([state.pool for state in self._served.values()])

    def _write_memory(self) -> None:
        if self._retired:
            return
        known = [(*served, state.tracking_uri, asdict(state.pool)) for served, state in self._served.items()]
        memory = json.dumps({"served": known, "shares": self._shares})
        internal_kv._internal_kv_put(_MEMORY, memory.encode(), overwrite=True, namespace=NAMESPACE.encode())

    def _remember(self) -> bool:
        """Serve what a coordinator before this one did; whether there was one."""
        held = internal_kv._internal_kv_get(_MEMORY, namespace=NAMESPACE.encode())
        if held:
            memory = json.loads(held)
            for archive_url, sweep, tracking_uri, pool in memory["served"]:
                self._take(Served(archive_url, sweep), tracking_uri, Pool(**pool))
            self._number = 1 + max(map(_number, memory["shares"]), default=-1)
            for name in memory["shares"].keys() & set(named_evaluators()):
                self._shares[name] = Share(*memory["shares"][name])
                self._crew(self._shares[name]).known[name] = time.monotonic()
        return bool(held)

    def forget_all(self) -> None:
        """What is served is not to be remembered: the coordinator is about to be stopped."""
        with self._lock:
            self._retired = True
            internal_kv._internal_kv_del(_MEMORY, namespace=NAMESPACE.encode())

    # Evaluators

    def hello(self, evaluator: str, where: dict[str, Any]) -> bool:
        """A new evaluator of this name starts: whatever one before it had is open again."""
        if evaluator in self._where:
            self._release_lost()
        with self._lock:
            before, self._where[evaluator] = self._where.get(evaluator, {}), where
            if crew := self._crew_of(evaluator):
                crew.known.setdefault(evaluator, time.monotonic())
                died = {key: before[key] for key in ("node", "pid", "log_file") if key in before}
                crew.queue.drop(evaluator, FailureRecord(error="its evaluator died at it", **died))
                crew.queue.beat(evaluator)
            return True

    def lease(self, evaluator: str) -> Piece | None:
        with self._lock:
            crew = self._crew_of(evaluator)
            if crew is None or evaluator not in crew.known or time.monotonic() < self._lease_from:
                return None
            return crew.queue.lease(evaluator)

    def beat(self, evaluator: str, at: Piece | None, where: dict[str, Any]) -> None:
        with self._lock:
            self._where.setdefault(evaluator, where)  # a restarted coordinator hears no `hello`
            if crew := self._crew_of(evaluator):
                crew.queue.beat(evaluator, at if time.monotonic() < self._lease_from else None)

    def finish(
        self, key: str, evaluator: str, failure: FailureRecord | None = None, values: list[float] | None = None
    ) -> None:
        if failure:
            _log.warning("failed at %s: %s", key, failure.error, extra={"evaluator": evaluator})
        with self._lock:
            crew = self._crew_of(evaluator)
            if crew is None:
                return
            for served, state in self._served.items():
                state.look.done += not failure and crew.queue.offers(served, key)  # until the next look counts anew
            crew.queue.finish(key, evaluator, failure)
            if values is not None:
                self._measurements.finish(key, values)

    def _release_lost(self) -> None:
        """What evaluators had whose node is lost is open again: that was no fault of the work."""
        alive = {node["NodeID"] for node in ray.nodes() if node["Alive"]}
        with self._lock:
            for name, where in self._where.items():
                if where["node_id"] not in alive and (crew := self._crew_of(name)):
                    crew.queue.release(name)

    # Waiting trials

    def measure(self, name: str, trial_url: str, stage: int, nets: int) -> Answer:
        """How the measurement of this name stands; the first time, it is asked for."""
        with self._lock:
            state = self._served.get(_sweep_of(trial_url))
            if state is None:
                return Answer()
            queue = self._crew(state.pool.share).queue
            self._measurements.ask(name, trial_url, stage, nets, state.pool.count, time.monotonic())
            answer = self._measurements.answer(name)
            leased = {lease.work.key for crew in self._crews.values() for lease in crew.queue.leases()}
            pieces = self._measurements.open(name)
            waiting = [piece for piece in pieces if piece.key not in leased]
            self._take_back(waiting)  # from those that had the sweep's share when it was asked for first
            queue.urge(waiting)
            # who is at something else comes to it next
            at_it = len(waiting) < len(pieces) or all(queue.may_come_to(piece.key) for piece in pieces)
            return answer._replace(at_it=at_it)

    def forget(self, name: str) -> None:
        """Nobody waits for this measurement any more."""
        with self._lock:
            self._take_back(self._measurements.open(name))
            self._measurements.forget(name)

    def _take_back(self, pieces: Sequence[Piece]) -> None:
        for piece in pieces:
            for crew in self._crews.values():
                crew.queue.take_back(piece.key)

    # Looking, scaling, syncing

    def _look(self, every: bool = False, only: tuple[str, str] | None = None) -> float:
        """Look at the served archives (or `only` one), at `every` one or where it is time; how long to rest then."""
        started = time.monotonic()
        with self._look_lock:
            self._record_given_up()
            for served, state in self._states(only):
                if started < state.look_from and (state.away or not every):
                    continue
                crew = self._crew(state.pool.share)
                as_of = crew.queue.now()
                try:
                    look = state.backlog.look()
                except Exception as error:  # an archive that is away stops no other; what was open stays so
                    state.away, state.look_from = one_line(error), time.monotonic() + _AWAY_S
                    _log.warning("its archive is away: %s", state.away, extra={"sweep": served.sweep})
                    continue
                with self._lock:
                    state.look, state.away = look, ""
                    left = [w for w in look.open if w.key not in self._unrecorded]
                    for other in (other.queue for other in self._crews.values() if other is not crew):
                        theirs = {lease.work.key for lease in other.leases()}
                        left = [w for w in left if w.key not in theirs and not other.closed_since(w.key, as_of)]
                    crew.queue.offer(served, left, as_of)
                    state.look_from = started + _SETTLED_S if state.backlog.settled else 0.0
        return min(_LOOK_AT_MOST_S, (time.monotonic() - started) / _SHARE)

    def _record_given_up(self) -> None:
        with self._lock:
            for crew in self._crews.values():
                given_up, crew.queue.given_up = crew.queue.given_up, []
                for failure in given_up:
                    _log.error(
                        "given up: %s: %s", failure.work.key, failure.failure.error, extra={"attempt": failure.attempts}
                    )
                    if isinstance(failure.work, Measurement):
                        self._measurements.finish(failure.work.key, None)
                    else:
                        self._unrecorded[failure.work.key] = failure
        away = {served.archive_url for served, state in list(self._served.items()) if state.away}
        for key, failure in list(self._unrecorded.items()):
            archive_url = _sweep(failure).archive_url
            if archive_url in away:
                continue
            try:
                _record(failure)
            except Exception:  # shown by `status`, not evaluated again, and tried again
                away.add(archive_url)
                continue
            del self._unrecorded[key]

    def _scale(self) -> float:
        """Start and stop evaluators as the pools' plans say."""
        existing = named_evaluators()
        with self._lock:
            if time.monotonic() < self._lease_from:
                return 0.0  # who is at work has not said so yet
            for name in self._measurements.silent(time.monotonic() - _SILENT_S):
                self.forget(name)  # its trial is gone
            for name in set(existing) - self._shares.keys():
                _kill(name)  # it was taken for gone
            for crew in self._crews.values():
                for name, since in list(crew.known.items()):
                    if name not in existing and time.monotonic() - since > _LISTED_S:
                        self._drop(crew, name)
                mine = [state for state in self._served.values() if state.pool.share == crew.share]
                start, stop = crew.plan(self._pool(crew), not all(state.backlog.settled for state in mine))
                for name in stop:
                    _log.info("stops it: it has nothing to do", extra={"evaluator": name})
                    _kill(name)
                    self._drop(crew, name)
                self._start(crew, start)
        return 0.0

    def _drop(self, crew: Crew, name: str) -> None:
        del crew.known[name], self._shares[name]
        self._where.pop(name, None)
        crew.queue.gone(name)

    def _start(self, crew: Crew, count: int) -> None:
        if count < 1 or self._retired:
            return
        names = [f"evaluator-{number}" for number in range(self._number, self._number + count)]
        _log.info("starts %s", ", ".join(names))
        self._number += count
        self._shares |= dict.fromkeys(names, crew.share)
        self._write_memory()  # before they are there: whoever is there is known after a restart
        for name in names:
            options = {"name": name, "num_cpus": crew.share.cpus, "num_gpus": crew.share.gpus}
            actor = EvaluatorActor.options(namespace=NAMESPACE, lifetime="detached", get_if_exists=True, **options)
            actor.remote(name, *crew.share)
            crew.known[name] = time.monotonic()

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
                    state.syncer = state.syncer or Syncer(served.archive_url, state.tracking_uri, publish)
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
            crews = list(self._crews.values())
            evaluators = [self._evaluator_status(crew, name) for crew in crews for name in crew.known]
            counts = {
                "pending": sum(crew.queue.pending() for crew in crews),
                "running": sum(len(crew.queue.leases()) for crew in crews),
                "per_minute": sum(crew.queue.per_minute() for crew in crews),
            }
            pools = [asdict(pool) for crew in crews if (pool := self._pool(crew)).count or crew.known]
        trials = [now for state in list(self._served.values()) if not state.away for now in state.backlog.progress()]
        failed = {key: why for sweep in sweeps for key, why in sweep["failed"].items()}
        trouble = [f"{sweep['archive_url']}: {sweep['away']}" for sweep in sweeps if sweep["away"]]
        sync_error = "; ".join(f"{sweep['sweep']}: {sweep['sync_error']}" for sweep in sweeps if sweep["sync_error"])
        return {
            "version": __version__,
            "log": {"node": socket.gethostname(), "log_file": logs.log_file()},
            **counts,
            "done": sum(sweep["done"] for sweep in sweeps),
            "failed": failed,
            "sync_error": sync_error,
            "trouble": [*dict.fromkeys(trouble), *self._trouble.values()],
            "pools": pools,
            "sweeps": sweeps,
            "evaluators": sorted(evaluators, key=lambda one: _number(one["name"])),
            "trials": trials,
        }

    def _sweep_status(self, served: Served, state: _State) -> dict[str, Any]:
        return {
            **served._asdict(),
            "pending": sum(crew.queue.pending(served) for crew in self._crews.values()),
            "running": sum(crew.queue.running(served) for crew in self._crews.values()),
            "done": state.look.done,
            "failed": {**state.look.given_up, **self._unrecorded_of(served), **state.look.unreadable},
            "away": state.away,
            "sync_error": state.sync_error,
        }

    def _unrecorded_of(self, served: Served) -> dict[str, str]:
        found = [failure for failure in list(self._unrecorded.values()) if _sweep(failure) == served]
        return {failure.work.key: f"{describe(failure.work)}: {failure.failure.error}" for failure in found}

    def _evaluator_status(self, crew: Crew, name: str) -> dict[str, Any]:
        tally, where = crew.queue.evaluators.get(name), self._where.get(name, {})
        at = [(describe(lease.work), crew.queue.now() - lease.since) for lease in crew.queue.leases(name)]
        what, seconds = at[0] if at else ("idle" if where or tally else "waits for its place", crew.idle_s(name))
        counts = {"done": tally.done if tally else 0, "failed": tally.failed if tally else 0}
        return {"name": name, **where, "at": what, "seconds": seconds, **counts}


def _number(evaluator: str) -> int:
    return int(evaluator.rpartition("-")[2])


def _kill(evaluator: str) -> None:
    with contextlib.suppress(ValueError):  # it is gone
        ray.kill(ray.get_actor(evaluator, NAMESPACE), no_restart=True)


def _sweep(failure: GivenUp) -> Served:
    """The sweep that a given-up evaluation belongs to."""
    assert isinstance(failure.work, Work)
    return _sweep_of(failure.work.trial_url)


def _sweep_of(trial_url: str) -> Served:
    """The sweep that a trial belongs to."""
    archive_url, sweep, _ = trial_url.rsplit("/", 2)
    return Served(archive_url, sweep)


def _record(failure: GivenUp) -> None:
    """Write down in the archive that an evaluation is given up."""
    work = failure.work
    assert isinstance(work, Work)
    what = {"ticket": work.ticket, "stage": work.stage, "protocol": work.protocol, "attempts": failure.attempts}
    why = failure.failure.model_dump(exclude_unset=True)
    record = EvaluationFailureRecord(**{"failed_at": time.time(), **why, **what})
    TrialArchive(work.trial_url, _PATIENCE_S).write_evaluation_failure(record)


_OPTIONS: dict[str, Any] = {"num_cpus": 0, "max_restarts": -1, "max_task_retries": -1, "max_concurrency": 64}
CoordinatorActor: Any = ray.remote(**_OPTIONS)(Coordinator)
