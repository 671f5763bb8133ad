"""The pool that a sweep asks for: as many evaluators as there is work for, up to a maximum; idle ones stop."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple


class ResourceShare(NamedTuple):
    """What an evaluator reserves.

    With 0 CPUs it takes what trials leave: it runs at the lowest priority of the operating system.
    """

    cpus: float
    gpus: float


@dataclass(frozen=True)
class Pool:
    """At most `count` evaluators; each reserves `cpus` and `gpus`, and stops after `idle_s` seconds without work."""

    count: int = 1
    cpus: float = 1
    gpus: float = 0
    idle_s: float = 120

    @property
    def share(self) -> ResourceShare:
        """What each of its evaluators reserves."""
        return ResourceShare(self.cpus, self.gpus)

    def plan(self, idle_s: Mapping[str, float], pending: int) -> tuple[int, list[str]]:
        """How many evaluators to start, and which to stop.

        Args:
            idle_s: how long each existing evaluator has been without work (0: it has a lease).
            pending: work items that are not leased.
        """
        idle = sorted((name for name, seconds in idle_s.items() if seconds > 0), key=lambda name: -idle_s[name])
        surplus = idle[: max(0, len(idle_s) - self.count)]
        stop = [name for name in idle if name in surplus or (not pending and idle_s[name] > self.idle_s)]
        wanted = min(self.count, len(idle_s) - len(idle) + pending)
        return max(0, wanted - len(idle_s)), stop
