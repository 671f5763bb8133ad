"""What the dispatcher asks of Ray: processes that evaluate, and a few bytes that outlive the coordinator's process."""

from __future__ import annotations

import contextlib
from typing import Any

import ray
from ray.experimental import internal_kv

from cluster.dispatch import Share
from cluster.service.ray_runtime import NAMESPACE, named_evaluators


class RayEvaluators:
    """Detached, named actors of this class, which Ray starts again when their process dies."""

    def __init__(self, evaluator: type):
        self._actor: Any = ray.remote(max_restarts=-1)(evaluator)

    def start(self, name: str, share: Share) -> None:
        """See `Evaluators`; one of this name that is there stays."""
        options = {"name": name, "num_cpus": share.cpus, "num_gpus": share.gpus}
        actor = self._actor.options(namespace=NAMESPACE, lifetime="detached", get_if_exists=True, **options)
        actor.remote(name, *share)

    def stop(self, name: str) -> None:
        """See `Evaluators`."""
        kill(name)

    def names(self) -> list[str]:
        """See `Evaluators`."""
        return named_evaluators()

    def living_nodes(self) -> set[str]:
        """See `Evaluators`."""
        return {node["NodeID"] for node in ray.nodes() if node["Alive"]}


class RayStore:
    """Ray's own key-value store: it survives the coordinator, not the cluster."""

    def get(self, key: str) -> bytes | None:
        """See `KeyValueStore`."""
        return internal_kv._internal_kv_get(_key(key), namespace=NAMESPACE.encode())

    def put(self, key: str, value: bytes) -> None:
        """See `KeyValueStore`."""
        internal_kv._internal_kv_put(_key(key), value, overwrite=True, namespace=NAMESPACE.encode())

    def delete(self, key: str) -> None:
        """See `KeyValueStore`."""
        internal_kv._internal_kv_del(_key(key), namespace=NAMESPACE.encode())


def _key(key: str) -> bytes:
    return f"ppodd/{key}".encode()


def kill(name: str) -> None:
    """End an actor of ours for good, if it is there."""
    with contextlib.suppress(ValueError):
        ray.kill(ray.get_actor(name, NAMESPACE), no_restart=True)
