"""The pool of evaluators from outside: start, status, wait, scale, stop."""

from __future__ import annotations

import contextlib
import math
import os
import time
from collections.abc import Callable
from typing import Any, cast

import ray

from cluster.dispatch import DispatcherStatus, EvaluatorStatus, Pool, ServiceStatus, ServiceTimings, SweepStatus
from cluster.service.coordinator import CoordinatorActor
from cluster.service.ray_adapter import answer, kill, on_the_head
from cluster.service.ray_runtime import COORDINATOR, NAMESPACE, named_evaluators
from ppodd import __version__
from ppodd.errors import BadInput, PpoddError

_TIMINGS = ServiceTimings()


def start(archive_url: str, sweep: str, tracking_uri: str, pool: Pool, begin: bool = True) -> Any:
    """Serve a sweep with a pool of detached evaluators; returns the coordinator's handle.

    With `begin` all of them are started at once, to take their place before anything else does; else as there is work.

    Evaluators keep the code and environment of the job that began them. Those that do not fit this one are replaced
    where they have nothing else to do.

    Raises:
        PpoddError: the cluster's evaluators are of another ppodd version, or have other code or an environment that
            cannot read the archive, and work for other sweeps.
    """
    end, ended = time.monotonic() + _TIMINGS.replace_s, False
    while time.monotonic() < end:
        with contextlib.suppress(ray.exceptions.RayActorError):  # another job has just ended it
            coordinator = _coordinator()
            why = _unfit(coordinator, archive_url, sweep)
            if why and ended:
                raise PpoddError(f"evaluators of this job {why}")
            if why:
                ended = _end_idle(coordinator, archive_url, sweep, why)
            elif answer(coordinator.serve.remote(archive_url, sweep, tracking_uri, pool, begin)):
                return coordinator
        time.sleep(_TIMINGS.poll_s)  # another job is replacing it
    raise PpoddError(
        "the cluster's evaluators are being ended by another job: `ppodd evaluators stop`, then go on with --resume"
    )


def _coordinator() -> Any:
    """The cluster's coordinator, begun where there is none. Raises `PpoddError`: it is of another version."""
    # on the head: no node that an autoscaler added, or that may be taken away, is kept for it
    coordinator = CoordinatorActor.options(
        name=COORDINATOR, namespace=NAMESPACE, lifetime="detached", get_if_exists=True, **on_the_head()
    ).remote()
    running = answer(coordinator.version.remote(), _TIMINGS.start_s)
    if running != __version__:
        raise PpoddError(
            f"the cluster's evaluators are ppodd {running}, this is ppodd {__version__}: use that version, or end "
            f"them with its `ppodd evaluators stop` when they are done"
        )
    return coordinator


def _unfit(coordinator: Any, archive_url: str, sweep: str) -> str:
    """Why the evaluators there are cannot serve this process's sweep, if so."""
    code = os.environ.get("PPODD_CODE")  # which only a submitted job has
    if code is not None and answer(coordinator.code.remote()) != code:
        return "run other code than this job's"
    why = answer(coordinator.why_not.remote(archive_url, sweep))
    return f"cannot read {archive_url}: {why}" if why else ""


def _end_idle(coordinator: Any, archive_url: str, sweep: str, why: str) -> bool:
    """End evaluators that are unfit and serve no other sweep; whether it was done: another job may be doing it."""
    others = answer(coordinator.retire.remote((archive_url, sweep)))
    if others:
        raise PpoddError(
            f"the cluster's evaluators {why}; they keep the code and environment of the job that began them, and serve "
            f"{', '.join(others)}: wait until these are over, or end them with `ppodd evaluators stop`; then go on "
            f"with --resume"
        )
    if others is not None:
        stop()
    return others is not None


def find() -> Any:
    """The coordinator of the cluster. Raises `BadInput` where there is none."""
    try:
        return ray.get_actor(COORDINATOR, NAMESPACE)
    except ValueError:
        raise BadInput(
            "no evaluators on this cluster: `ppodd evaluators start --archive …` or a sweep starts them"
        ) from None


def serving(archive_url: str, sweep: str) -> tuple[str, Pool] | None:
    """The MLflow store that the cluster's coordinator logs this sweep to, and its pool, if there is one that does."""
    try:
        coordinator: Any = ray.get_actor(COORDINATOR, NAMESPACE)
        return cast("tuple[str, Pool] | None", answer(coordinator.serving.remote(archive_url, sweep)))
    except ValueError:
        return None


def wait(
    coordinator: Any,
    sweep: tuple[str, str] | None = None,
    show: Callable[[ServiceStatus], None] | None = None,
    answer: Callable[[Any], Any] = answer,
) -> ServiceStatus:
    """Wait until nothing is pending or running, then bring MLflow up to date. Returns the last status.

    `sweep` (an archive's URL and a name) is all that is waited for, if it is given; `answer` is what resolves a remote
    call.

    Raises:
        PpoddError: that sweep is not served any more.
    """
    idle = 0
    while True:
        status = answer(coordinator.status.remote(fresh=True, only=sweep))
        if sweep and not sweeps_in(status, sweep):
            raise PpoddError(
                f"the evaluators no longer serve sweep {sweep[1]!r} of {sweep[0]}: another job ended them, or their "
                f"node was lost; what is archived stays, and the same command with --resume has the rest evaluated"
            )
        if show:
            show(status)
        idle = idle + 1 if is_idle(status, sweep) else 0
        if idle == 2:  # what was given up before the first look is on record at the second
            answer(coordinator.sync.remote(every=True, only=sweep))
            return answer(coordinator.status.remote())
        time.sleep(_TIMINGS.poll_s)


def is_idle(status: DispatcherStatus, sweep: tuple[str, str] | None) -> bool:
    """Whether nothing of a sweep (or of all) is pending or running, as far as the archives can be read."""
    of = sweeps_in(status, sweep)
    waiting = status["pending"] or status["running"] if sweep is None else False
    return not waiting and not any(one["pending"] or one["running"] or one["away"] for one in of)


class EvaluatorsNow:
    """What a coordinator's evaluators are at, asked now and then; none where it has not answered for some seconds."""

    def __init__(self, coordinator: Any):
        self._coordinator = coordinator
        self._asked = self._answered = -math.inf
        self._known = list[EvaluatorStatus]()

    def __call__(self) -> list[EvaluatorStatus]:
        """They, as of some seconds ago."""
        if time.monotonic() - self._asked >= _TIMINGS.shown_s:
            with contextlib.suppress(PpoddError, ray.exceptions.RayError):  # it only informs; others watch for a loss
                self._known = answer(self._coordinator.status.remote(), _TIMINGS.shown_s)["evaluators"]
                self._answered = time.monotonic()
            self._asked = time.monotonic()
        return self._known if time.monotonic() - self._answered < _TIMINGS.stale_s else []


def sweeps_in(status: DispatcherStatus, sweep: tuple[str, str] | None) -> list[SweepStatus]:
    """What a status says of one sweep (an archive's URL and a name), or of each."""
    return [one for one in status["sweeps"] if sweep in (None, (one["archive_url"], one["sweep"]))]


def stop() -> None:
    """End the coordinator and every evaluator; what they had leased is open again for the next ones."""
    with contextlib.suppress(ValueError, PpoddError, ray.exceptions.RayError):
        answer(ray.get_actor(COORDINATOR, NAMESPACE).forget_all.remote(), _TIMINGS.end_s)
    kill(COORDINATOR)  # first, so that it starts no others
    end = time.monotonic() + _TIMINGS.end_s
    # wait until they are gone, so that a restart does not reuse them
    while (left := named_evaluators()) and time.monotonic() < end:
        for name in left:
            kill(name)
        time.sleep(_TIMINGS.end_poll_s)
