"""The coordinator: one detached, named actor that hands out evaluations and is the one writer of MLflow."""

from __future__ import annotations

import os
import socket
import time
from typing import Any

import ray

from cluster.dispatch import Archives, Dispatcher, Log, ServiceStatus, ServiceTimings
from cluster.service.evaluator import Evaluator
from cluster.service.periodic import PeriodicTask
from cluster.service.ray_adapter import RayEvaluators
from cluster.service.ray_store import open_store
from ppodd import __version__, logs
from ppodd.machine import return_freed_memory
from results.reporting import publish
from results.tracking import Syncer


class Coordinator(Dispatcher):
    """A dispatcher on Ray, and the threads that have it look, scale and sync."""

    def __init__(self, evaluator: type = Evaluator):
        """Evaluators are actors of the class that is named."""
        logs.start_worker()
        timings = ServiceTimings()
        super().__init__(
            RayEvaluators(evaluator),
            Archives(timings.archive_patience_s, time.time),
            lambda archive_url, tracking_uri: Syncer(archive_url, tracking_uri, publish),
            open_store(),
            time.monotonic,
            timings,
        )
        self._tasks = [
            PeriodicTask(self.look, timings.look),
            PeriodicTask(self.scale, timings.scale),
            PeriodicTask(self.sync, timings.sync),
            PeriodicTask(self.release_lost, timings.nodes),
            PeriodicTask(return_freed_memory, timings.memory),
        ]
        for task in self._tasks:
            task.start()

    def version(self) -> str:
        """The version of ppodd that it runs."""
        return __version__

    def code(self) -> str:
        """The digest of the code that the job shipped which began this; empty where it shipped none."""
        return os.environ.get("PPODD_CODE", "")

    def status(self, fresh: bool = False, only: tuple[str, str] | None = None) -> ServiceStatus:
        """The dispatcher's status, and how this process does."""
        status = super().status(fresh, only)
        troubles = [task.trouble for task in self._tasks if task.trouble]
        log: Log = {"node": socket.gethostname(), "log_file": logs.log_file()}
        return {**status, "version": __version__, "log": log, "trouble": [*status["trouble"], *troubles]}


_OPTIONS: dict[str, Any] = {"num_cpus": 0, "max_restarts": -1, "max_task_retries": -1, "max_concurrency": 64}
CoordinatorActor: Any = ray.remote(**_OPTIONS)(Coordinator)
