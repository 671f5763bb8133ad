"""The evaluator: a detached, named actor that takes work from the coordinator until it is stopped."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import ray

from cluster.dispatch import Measurement, ServiceTimings
from cluster.service.ray_runtime import COORDINATOR, NAMESPACE, limit_gpu_memory, yield_cores
from ppodd import logs
from ppodd.archive import FailureRecord
from ppodd.machine import DeviceError, device_error, limit_threads

_log = logging.getLogger(__name__)
_TIMINGS = ServiceTimings()


class _Done(NamedTuple):
    """The result of a work item: the values of a measurement, or why it failed and whether the device was lost."""

    values: list[float] | None
    failure: FailureRecord | None = None
    lost_device: bool = False


class Evaluator:
    """Works in a thread of its own from its first moment on, so that Ray's restart of a dead one is all it takes."""

    def __init__(self, name: str, cpus: float, gpus: float):
        self._name, self._cpus, self._gpus = name, cpus, gpus
        self._device = "cuda" if gpus else "cpu"
        node, node_id = ray.util.get_node_ip_address(), ray.get_runtime_context().get_node_id()
        self._where = {"node": node, "node_id": node_id, "pid": os.getpid(), "device": self._device}
        self._where["log_file"] = logs.log_file()
        self._current: Any = None
        for task in (self._work_forever, self._heartbeat_forever):
            threading.Thread(target=_or_die, args=(task,), daemon=True).start()

    def _work_forever(self) -> None:
        import torch

        logs.start_worker()
        limit_threads(self._cpus)
        limit_gpu_memory(self._gpus)
        if self._cpus == 0:
            yield_cores()
        while not _answer("register", self._name, self._where):
            continue  # the coordinator is being restarted
        pause = _TIMINGS.idle_s
        while True:
            self._current = _answer("lease", self._name)
            if self._current is None:
                torch.cuda.empty_cache()  # trials beside it may need what it holds
                time.sleep(_TIMINGS.idle_s)
                continue
            done = self._carry_out(self._current)
            key, self._current = self._current.key, None
            _answer("finish", key, self._name, done.failure, done.values)
            if done.lost_device:
                return  # and so ends the process: the next one may have a device again
            # one that can do nothing does not race through everything there is
            pause = min(2 * pause, _TIMINGS.failing_s) if done.failure else _TIMINGS.idle_s
            if done.failure:
                time.sleep(pause)

    def _carry_out(self, work: Any) -> _Done:
        about = work.trial_url.rsplit("/", 2)
        ticket = {} if isinstance(work, Measurement) else {"ticket": work.ticket}
        with logs.about(evaluator=self._name, sweep=about[-2], trial=about[-1], stage=work.stage, **ticket):
            _log.info("begins %s", work.key)
            try:
                values = self._values(work)
            except Exception as error:
                _log.error("failed", exc_info=True)
                return _Done(None, FailureRecord.of(error), device_error(error) is DeviceError.LOST)
            _log.info("done")
            return _Done(values)

    def _values(self, work: Any) -> list[float] | None:
        """Do the work; the values of a measurement, for an evaluation is written to the archive."""
        # imports torch, which a command that only starts evaluators does not need
        from ppodd.evaluation import evaluate_archived, measure_candidate

        if isinstance(work, Measurement):
            return measure_candidate(work.trial_url, work.stage, work.first, work.last, self._device)
        evaluate_archived(work, self._device)
        return None

    def _heartbeat_forever(self) -> None:
        while True:
            _answer("heartbeat", self._name, self._current, self._where)
            time.sleep(_TIMINGS.heartbeat_s)


def _or_die(task: Callable[[], None]) -> None:
    """End the process with the task, so that Ray restarts it.

    A process that only sends heartbeats would hold its lease for ever.
    """
    try:
        task()
    finally:
        os._exit(1)


def _answer(method: str, *arguments: Any) -> Any:
    """What the coordinator answers; nothing while it is being restarted, or where it fails."""
    try:
        coordinator = ray.get_actor(COORDINATOR, NAMESPACE)
        return ray.get(getattr(coordinator, method).remote(*arguments), timeout=_TIMINGS.brief_answer_s)
    except (ray.exceptions.RayError, ValueError):
        time.sleep(_TIMINGS.idle_s)
        return None
