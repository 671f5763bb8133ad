"""Evaluations that were given up whose record the archive has not taken yet: shown as failed, and not begun again."""

from __future__ import annotations

import threading
from collections.abc import Collection

from cluster.dispatch.archives import Archives
from cluster.dispatch.backlog import describe
from cluster.dispatch.leases import FailedWork
from cluster.dispatch.served_sweep import SweepKey
from ppodd.evaluation import Work


class PendingFailureRecords:
    """They are added as they are given up, and written to their archives when these answer."""

    def __init__(self, archives: Archives):
        self._archives = archives
        self._failures: dict[str, FailedWork] = {}
        self._writing = threading.Lock()

    def __contains__(self, key: str) -> bool:
        return key in self._failures

    def add(self, failure: FailedWork) -> None:
        """Keep a failure until it can be recorded."""
        self._failures[failure.work.key] = failure

    def record(self, away: Collection[str]) -> None:
        """Write down what can be; archives that are `away` (their URLs) are not asked."""
        with self._writing:
            silent = set(away)
            for key, failure in list(self._failures.items()):
                archive_url = _sweep(failure).archive_url
                if archive_url in silent:
                    continue
                try:
                    self._archives.record(failure)
                except Exception:  # shown by `status`, and tried again
                    silent.add(archive_url)
                    continue
                self._failures.pop(key, None)

    def forget(self, sweep: SweepKey) -> None:
        """They are to be tried again."""
        for key in self.of(sweep):
            self._failures.pop(key, None)

    def of(self, sweep: SweepKey) -> dict[str, str]:
        """What failed of a sweep and why, in words, by the works' keys."""
        found = [failure for failure in list(self._failures.values()) if _sweep(failure) == sweep]
        return {failure.work.key: f"{describe(failure.work)}: {failure.failure.error}" for failure in found}


def _sweep(failure: FailedWork) -> SweepKey:
    assert isinstance(failure.work, Work)
    return SweepKey.of_trial(failure.work.trial_url)
