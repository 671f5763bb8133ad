"""The evaluator: a detached, named actor that takes work from the coordinator until it is told to stop."""

from __future__ import annotations

import threading
import time

import ray

from cluster.coordinator import NAME as COORDINATOR
from cluster.ray_runtime import NAMESPACE, limit_threads
from ppodd.errors import one_line
from ppodd.work import Work

_IDLE_S, _BEAT_S = 0.5, 10.0


class Evaluator:
    """Works in a thread of its own from its first moment on, so that Ray's restart of a dead one is all it takes."""

    def __init__(self, name: str, cpus: float, device: str):
        self._name, self._device, self._cpus = name, device, cpus
        for task in (self._work_forever, self._beat_forever):
            threading.Thread(target=task, daemon=True).start()

    def _work_forever(self) -> None:
        limit_threads(self._cpus)
        coordinator = ray.get_actor(COORDINATOR, NAMESPACE)
        ray.get(coordinator.hello.remote(self._name))
        while True:
            work = _answer(coordinator.lease.remote(self._name))
            if work is None:
                time.sleep(_IDLE_S)
                continue
            error = self._evaluate(Work(*work))
            _answer(coordinator.finish.remote(work.ticket, error))

    def _evaluate(self, work: Work) -> str:
        """Carry the work out; why it failed, if it did."""
        from ppodd.evaluate import evaluate_archived  # brings torch, which whoever only starts evaluators does not need

        try:
            evaluate_archived(work, self._device)
        except Exception as error:
            return one_line(error)
        return ""

    def _beat_forever(self) -> None:
        coordinator = ray.get_actor(COORDINATOR, NAMESPACE)
        while True:
            _answer(coordinator.beat.remote(self._name))
            time.sleep(_BEAT_S)


def _answer(reference: ray.ObjectRef) -> Work | None:
    """What the coordinator answers; nothing while it is being restarted, or where it fails."""
    try:
        return ray.get(reference)
    except ray.exceptions.RayError:
        time.sleep(_IDLE_S)
        return None


EvaluatorActor = ray.remote(max_restarts=-1)(Evaluator)
