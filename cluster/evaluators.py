"""The pool of evaluators from outside: start, status, wait, stop."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from typing import Any

import ray

from cluster.coordinator import NAME as COORDINATOR
from cluster.coordinator import CoordinatorActor
from cluster.evaluator import EvaluatorActor
from cluster.ray_runtime import NAMESPACE
from ppodd import __version__
from ppodd.config import EvaluationConfig
from ppodd.errors import PpoddError

_POLL_S = 0.5


def start(
    archive_url: str,
    sweep: str,
    evaluation: EvaluationConfig,
    tracking_uri: str,
    count: int = 1,
    cpus: float = 1,
    gpus: float = 0,
) -> Any:
    """Serve a sweep with at least `count` detached evaluators; returns the coordinator's handle.

    Raises:
        PpoddError: the cluster runs evaluators of another ppodd version.
    """
    arguments = (archive_url, sweep, evaluation.model_dump(mode="json"), tracking_uri)
    detached = {"namespace": NAMESPACE, "lifetime": "detached", "get_if_exists": True}
    coordinator = CoordinatorActor.options(name=COORDINATOR, **detached).remote(*arguments)
    running = ray.get(coordinator.version.remote())
    if running != __version__:
        raise PpoddError(
            f"the cluster's evaluators are ppodd {running}, this is ppodd {__version__}: "
            f"use that version, or stop that cluster when they are done"
        )
    ray.get(coordinator.serve.remote(*arguments))
    for number in range(count):
        name = f"evaluator-{number}"
        options = {"name": name, "num_cpus": cpus, "num_gpus": gpus, **detached}
        EvaluatorActor.options(**options).remote(name, cpus, "cuda" if gpus else "cpu")
    return coordinator


def running() -> list[str]:
    """Names of the evaluators that exist, idle or not."""
    actors = ray.util.list_named_actors(all_namespaces=True)
    names = [actor["name"] for actor in actors if actor["namespace"] == NAMESPACE]
    return sorted(name for name in names if name.startswith("evaluator-"))


def wait(coordinator: Any, show: Callable[[dict[str, Any]], None] | None = None) -> dict[str, Any]:
    """Wait until nothing is pending or running, then bring MLflow up to date. Returns the last status."""
    while True:
        status = ray.get(coordinator.status.remote())
        if show:
            show(status)
        if not status["pending"] and not status["running"]:
            ray.get(coordinator.sync.remote())
            return status
        time.sleep(_POLL_S)


def stop() -> None:
    """End the coordinator and every evaluator; what they were at is open again for the next ones."""
    for name in [*running(), COORDINATOR]:
        with contextlib.suppress(ValueError):
            ray.kill(ray.get_actor(name, NAMESPACE), no_restart=True)
