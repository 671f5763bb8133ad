"""A stage accuracy from the pool: what a trial calls, that waits with its own device idle meanwhile."""

from __future__ import annotations

import time
import uuid
from typing import cast

import ray

from cluster.dispatch import MeasurementState, ServiceTimings
from cluster.service.ray_runtime import COORDINATOR, NAMESPACE

_TIMINGS = ServiceTimings()


def measure(
    trial_url: str, stage: int, nets: int, patience_s: float = _TIMINGS.measure_patience_s
) -> list[float] | None:
    """Accuracies (percent) of the networks on the stage's candidate, from the evaluators.

    `None` where no evaluator has lived for `patience_s` seconds or it fails there: the trial then measures by itself,
    so that trials that fill a cluster never wait for evaluators that find no place in it.
    """
    name = f"{trial_url}/stage-{stage:02d} {uuid.uuid4().hex[:8]}"
    waiting_since, pause = time.monotonic(), _TIMINGS.measure_poll_s
    while True:
        try:
            coordinator = ray.get_actor(COORDINATOR, NAMESPACE)
            answer = cast(
                "MeasurementState",
                ray.get(coordinator.measure.remote(name, trial_url, stage, nets), timeout=_TIMINGS.brief_answer_s),
            )
            if answer.values or answer.failed:
                return answer.values
            if answer.in_progress:
                waiting_since = time.monotonic()
            elif time.monotonic() - waiting_since > patience_s:
                ray.get(coordinator.forget.remote(name), timeout=_TIMINGS.brief_answer_s)
                return None
        except (ray.exceptions.RayError, ValueError):  # the coordinator is gone or being restarted
            if time.monotonic() - waiting_since > patience_s:
                return None
        time.sleep(pause)
        pause = min(1.5 * pause, _TIMINGS.measure_poll_at_most_s)
