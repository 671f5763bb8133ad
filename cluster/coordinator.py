"""The coordinator: one detached, named actor that hands out evaluations and is the one writer of MLflow."""

from __future__ import annotations

import threading
import time
from dataclasses import asdict
from typing import Any

import ray

from cluster.queue import Queue, Served
from ppodd import __version__
from ppodd.config import EvaluationConfig
from ppodd.errors import one_line
from ppodd.work import Work
from results.sync import Syncer

NAME = "coordinator"
_SYNC_EVERY_S = 2.0


class Coordinator:
    """Serves sweeps; evaluators call `lease`, `beat` and `finish`.

    Restarted, it reads from the archive what is open of the sweep it was made for; other sweeps are served again when
    their driver asks.
    """

    def __init__(self, archive_url: str, sweep: str, evaluation: dict[str, Any], tracking_uri: str):
        self._lock, self._sync_lock = threading.Lock(), threading.Lock()
        self._queue = Queue()
        self._syncers: dict[tuple[str, str], Syncer] = {}
        self._sweeps: list[tuple[str, str, str]] = []
        self._sync_error = ""
        self.serve(archive_url, sweep, evaluation, tracking_uri)
        threading.Thread(target=self._sync_forever, daemon=True).start()

    def version(self) -> str:
        return __version__

    def serve(self, archive_url: str, sweep: str, evaluation: dict[str, Any], tracking_uri: str) -> None:
        """Evaluate and log this sweep from now on."""
        with self._lock:
            self._queue.serve(Served(archive_url, sweep, EvaluationConfig.model_validate(evaluation)))
            if (archive_url, sweep, tracking_uri) not in self._sweeps:
                self._sweeps.append((archive_url, sweep, tracking_uri))

    def hello(self, evaluator: str) -> None:
        """A new evaluator of this name starts: whatever one before it had is open again."""
        with self._lock:
            self._queue.drop(evaluator)

    def lease(self, evaluator: str) -> Work | None:
        with self._lock:
            return self._queue.lease(evaluator)

    def beat(self, evaluator: str) -> None:
        with self._lock:
            self._queue.beat(evaluator)

    def finish(self, ticket: str, error: str = "") -> None:
        with self._lock:
            self._queue.finish(ticket, error)

    def status(self) -> dict[str, Any]:
        """Counts of evaluations, why some failed, and what keeps MLflow from being up to date."""
        with self._lock:
            return {**asdict(self._queue.status()), "sync_error": self._sync_error}

    def sync(self) -> None:
        """Bring MLflow up to date now; `status` says what could not be."""
        errors = []
        with self._sync_lock:
            for archive_url, sweep, tracking_uri in list(self._sweeps):
                key = (archive_url, tracking_uri)
                try:
                    if key not in self._syncers:
                        self._syncers[key] = Syncer(archive_url, tracking_uri)
                    self._syncers[key].sync([sweep])
                except Exception as error:  # the view may fail; the science goes on, and the next sync catches up
                    errors.append(f"{sweep}: {one_line(error)}")
        self._sync_error = "; ".join(errors)

    def _sync_forever(self) -> None:
        while True:
            self.sync()
            time.sleep(_SYNC_EVERY_S)


_OPTIONS: dict[str, Any] = {"num_cpus": 0, "max_restarts": -1, "max_task_retries": -1, "max_concurrency": 8}
CoordinatorActor: Any = ray.remote(**_OPTIONS)(Coordinator)
