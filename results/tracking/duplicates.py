"""Runs that stand for one trial twice: how that is detected, so that reading counts one and a sync merges them.

An SQLite store has one writer at a time. A server has no lock to take: two syncs that begin in one moment may each
create a trial's run, as may those of an older version.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Protocol, TypeVar

from results.tracking import schema


class Tagged(Protocol):
    """Anything with a run's id and tags."""

    @property
    def id(self) -> str:
        """The run's id."""

    @property
    def tags(self) -> Mapping[str, str]:
        """The run's tags."""


R = TypeVar("R", bound=Tagged)


def told_apart(runs: Iterable[R]) -> tuple[dict[str, R], list[R]]:
    """One run per key, and the duplicates: the run with most logged is kept, of equal ones that of the lowest id.

    Every process makes the same choice.
    """
    kept: dict[str, R] = {}
    most_first = sorted(runs, key=lambda run: (-len(run.tags.get(schema.LOGGED, "")), run.id))
    besides = [run for run in most_first if kept.setdefault(run.tags[schema.KEY], run) is not run]
    return kept, besides
