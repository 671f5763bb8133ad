"""What the dispatcher asks of the world around it. The service gives it Ray and MLflow; tests, what they like."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from cluster.dispatch.pool_request import ResourceShare

Clock = Callable[[], float]  # seconds, never running backwards


class EvaluatorProcesses(Protocol):
    """The processes that evaluate, by their names."""

    def start(self, name: str, share: ResourceShare) -> None:
        """Begin one, which reserves this share of a node; it may have to wait for its place."""

    def stop(self, name: str) -> None:
        """End one, if it is there."""

    def names(self) -> list[str]:
        """Those that exist: working, idle or waiting for a place."""

    def living_nodes(self) -> set[str]:
        """The ids of the nodes that live."""


class KeyValueStore(Protocol):
    """A few bytes that outlive the dispatcher's process."""

    def get(self, key: str) -> bytes | None:
        """The value of a key, if it has one."""

    def put(self, key: str, value: bytes) -> None:
        """Give a key this value."""

    def delete(self, key: str) -> None:
        """Take a key away, if it is there."""


class SyncResult(Protocol):
    """What a sync says."""

    problems: list[str]


class StoreSyncer(Protocol):
    """Brings one MLflow store up to date with one archive."""

    def sync(self, sweeps: list[str] | None = None) -> SyncResult:
        """Do it, for these sweeps or all."""


OpenSyncer = Callable[[str, str], StoreSyncer]  # of an archive's URL and a tracking URI
