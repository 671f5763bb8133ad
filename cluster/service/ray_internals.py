"""All that is used of Ray beyond its documented API, each with what is done where another Ray does not offer it."""

from __future__ import annotations

import os
from typing import Any

import ray

CHANGED = (ImportError, AttributeError, TypeError)  # what a name or a signature raises that Ray has changed


class InternalStore:
    """Ray's own key-value store, which `open_store` replaces where there is none."""

    def __init__(self, namespace: str):
        self._namespace = namespace.encode()

    def get(self, key: str) -> bytes | None:
        """See `KeyValueStore`."""
        from ray.experimental import internal_kv

        return internal_kv._internal_kv_get(_key(key), namespace=self._namespace)

    def put(self, key: str, value: bytes) -> None:
        """See `KeyValueStore`."""
        from ray.experimental import internal_kv

        internal_kv._internal_kv_put(_key(key), value, overwrite=True, namespace=self._namespace)

    def delete(self, key: str) -> None:
        """See `KeyValueStore`."""
        from ray.experimental import internal_kv

        internal_kv._internal_kv_del(_key(key), namespace=self._namespace)


def _key(key: str) -> bytes:
    return f"ppodd/{key}".encode()


def dead_processes() -> list[str]:
    """Processes of a Ray that lives in this process that have ended.

    Ray's public calls say it half a minute later; they are what is left where a version of Ray has this no more.
    """
    try:
        from ray._private.worker import _global_node as node

        ended: set[str] = {name for name, _ in node.dead_processes()} if node else set()
    except CHANGED:
        return []
    return sorted(ended & {"raylet", "gcs_server"})


def init_alone(memory_bytes: int, folder: str, **options: Any) -> None:
    """Start a Ray in this process that counts on so much memory, and keeps its sockets and logs in this folder.

    A Ray that does not take these options counts the memory by itself, and is told the folder by its variable.
    """
    try:
        ray.init("local", _memory=memory_bytes, _temp_dir=folder, **options)
    except (RuntimeError, *CHANGED):  # the first is what it raises for an unknown keyword
        if ray.is_initialized():
            raise
        os.environ["RAY_TMPDIR"] = folder
        ray.init("local", **options)
