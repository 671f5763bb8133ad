"""Ray, set up in one place: namespace, authentication, quiet logs, threads."""

from __future__ import annotations

import logging
import os
from typing import Any

from ppodd.errors import BadInput

NAMESPACE = "ppodd"
_ENVIRONMENT = {
    "RAY_AUTH_MODE": "token",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
}
_OBJECT_STORE_BYTES = 200_000_000  # paths and small records travel, not data


def connect(address: str | None = None, cpus: int | None = None) -> bool:
    """Join the cluster at `address`, or start one in this process; whether it lives in this process.

    Raises:
        BadInput: no cluster answers at `address`.
    """
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    import ray

    if ray.is_initialized():
        return address is None
    options: dict[str, Any] = {"namespace": NAMESPACE, "log_to_driver": False, "logging_level": logging.ERROR}
    if address is None:
        ray.init(num_cpus=cpus, include_dashboard=False, object_store_memory=_OBJECT_STORE_BYTES, **options)
        return True
    try:
        ray.init(address=address, **options)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise BadInput(
            f"no Ray cluster at {address!r}: {str(error).splitlines()[0]}; start one with `ray start --head`, "
            f"set RAY_AUTH_MODE alike everywhere, or leave --ray-address out to run on this machine"
        ) from None
    return False


def limit_threads(cpus: float) -> None:
    """Let torch use as many threads as cores are reserved, at least one."""
    import torch

    torch.set_num_threads(max(1, int(cpus)))
