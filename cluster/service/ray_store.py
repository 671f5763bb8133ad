"""A few bytes that outlive the coordinator's process, not the cluster: the archive says the rest.

Ray has a key-value store of its own, which its documentation leaves out. Where another Ray does not offer it, detached
actors on the head keep what it would: a process more for each key, and lost with their node.
"""

from __future__ import annotations

import contextlib
from typing import Any

import ray

from cluster.dispatch import KeyValueStore, ServiceTimings
from cluster.service.ray_adapter import kill, on_the_head
from cluster.service.ray_internals import CHANGED, InternalStore
from cluster.service.ray_runtime import NAMESPACE


def open_store() -> KeyValueStore:
    """Ray's own store, or actors where this Ray offers none."""
    store = InternalStore(NAMESPACE)
    try:
        store.get("ppodd")
    except CHANGED:
        return ActorStore()
    return store


class ActorStore:
    """A detached actor for each key, by Ray's documented API."""

    def get(self, key: str) -> bytes | None:
        """See `KeyValueStore`."""
        with contextlib.suppress(ValueError, ray.exceptions.RayActorError):  # there is none; its node was lost
            kept: Any = ray.get_actor(_name(key), NAMESPACE)
            return bytes(_told(kept.value.remote()))
        return None

    def put(self, key: str, value: bytes) -> None:
        """See `KeyValueStore`."""
        options = {"num_cpus": 0, "lifetime": "detached", "get_if_exists": True, **on_the_head()}
        actor: Any = ray.remote(_Kept)
        kept = actor.options(name=_name(key), namespace=NAMESPACE, **options).remote()
        _told(kept.keep.remote(value))

    def delete(self, key: str) -> None:
        """See `KeyValueStore`."""
        kill(_name(key))


def _told(reference: Any) -> Any:
    """What an actor of a key answers. Raises `GetTimeoutError`: who asks is begun anew by Ray, and asks again."""
    return ray.get(reference, timeout=ServiceTimings().brief_answer_s)


class _Kept:
    """The actor of one key."""

    def __init__(self) -> None:
        self._value = b""

    def keep(self, value: bytes) -> None:
        self._value = value

    def value(self) -> bytes:
        return self._value


def _name(key: str) -> str:
    return f"kept-{key}"
