"""The evaluator: a detached, named actor that takes work from the coordinator until it is told to stop."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable
from typing import Any

import ray

from cluster.dispatch import Measurement
from cluster.environment import take_shipped
from cluster.service.ray_runtime import COORDINATOR, NAMESPACE, limit_gpu_memory, limit_threads, yield_cores
from ppodd import logs
from ppodd.failures import said_with_place
from ppodd.machine import DeviceError, device_error

_log = logging.getLogger(__name__)
_IDLE_S, BEAT_S, _PAUSE_S = 0.5, 5.0, 30.0


class Evaluator:
    """Works in a thread of its own from its first moment on, so that Ray's restart of a dead one is all it takes."""

    def __init__(self, name: str, cpus: float, gpus: float):
        take_shipped()
        self._name, self._cpus, self._gpus = name, cpus, gpus
        self._device = "cuda" if gpus else "cpu"
        node, node_id = ray.util.get_node_ip_address(), ray.get_runtime_context().get_node_id()
        self._where = {"node": node, "node_id": node_id, "pid": os.getpid(), "device": self._device}
        self._at: Any = None
        for task in (self._work_forever, self._beat_forever):
            threading.Thread(target=_or_die, args=(task,), daemon=True).start()

    def _work_forever(self) -> None:
        import torch

        logs.start_worker()
        limit_threads(self._cpus)
        limit_gpu_memory(self._gpus)
        if self._cpus == 0:
            yield_cores()
        while not _answer("hello", self._name, self._where):
            continue  # the coordinator is being restarted
        pause = _IDLE_S
        while True:
            self._at = _answer("lease", self._name)
            if self._at is None:
                torch.cuda.empty_cache()  # trials beside it may need what it holds
                time.sleep(_IDLE_S)
                continue
            values, error, lost = self._carry_out(self._at)
            key, self._at = self._at.key, None
            _answer("finish", key, self._name, error, values)
            if lost:
                return  # and so ends the process: the next one may have a device again
            # one that can do nothing does not race through everything there is
            pause = min(2 * pause, _PAUSE_S) if error else _IDLE_S
            if error:
                time.sleep(pause)

    def _carry_out(self, work: Any) -> tuple[list[float] | None, str, bool]:
        """Do the work: the values of a measurement, why it failed, if it did, and whether the device was lost by it."""
        try:
            # brings torch, which whoever only starts evaluators does not need
            from ppodd.evaluation import evaluate_archived, measure_candidate

            if isinstance(work, Measurement):
                return measure_candidate(work.trial_url, work.stage, work.first, work.last, self._device), "", False
            evaluate_archived(work, self._device)
        except Exception as error:
            _log.error("failed at %s", work.key, exc_info=True)
            return None, said_with_place(error), device_error(error) is DeviceError.LOST
        return None, "", False

    def _beat_forever(self) -> None:
        while True:
            _answer("beat", self._name, self._at, self._where)
            time.sleep(BEAT_S)


def _or_die(task: Callable[[], None]) -> None:
    """Whatever ends a task ends the process, and Ray starts another; one that only beats would keep its work."""
    try:
        task()
    finally:
        os._exit(1)


def _answer(method: str, *arguments: Any) -> Any:
    """What the coordinator answers; nothing while it is being restarted, or where it fails."""
    try:
        coordinator = ray.get_actor(COORDINATOR, NAMESPACE)
        return ray.get(getattr(coordinator, method).remote(*arguments))
    except (ray.exceptions.RayError, ValueError):
        time.sleep(_IDLE_S)
        return None


EvaluatorActor = ray.remote(max_restarts=-1)(Evaluator)
