"""The archives as the dispatcher reads and marks them: without waiting long for one that does not answer."""

from __future__ import annotations

from collections.abc import Callable

from cluster.dispatch.backlog import Backlog
from cluster.dispatch.leases import FailedWork
from ppodd.archive import Archive, EvaluationFailureRecord, TrialArchive
from ppodd.evaluation import Work


class Archives:
    """Archives by their URLs, each given so many seconds to answer; `now` gives seconds since the epoch."""

    def __init__(self, patience_s: float, now: Callable[[], float]):
        self._patience_s, self._now = patience_s, now

    def holds(self, archive_url: str, sweep: str) -> bool:
        """Whether the archive has a sweep of this name."""
        return Archive(archive_url, self._patience_s).holds(sweep)

    def backlog(self, archive_url: str, sweep: str) -> Backlog:
        """A view of what is open of a sweep."""
        return Backlog(archive_url, sweep, self._patience_s)

    def record(self, failure: FailedWork) -> None:
        """Write down that an evaluation is given up, and why."""
        work = failure.work
        assert isinstance(work, Work)
        what = {"ticket": work.ticket, "stage": work.stage, "protocol": work.protocol, "attempts": failure.attempts}
        why = failure.failure.model_dump(exclude_unset=True)
        record = EvaluationFailureRecord(**{"failed_at": self._now(), **why, **what})
        TrialArchive(work.trial_url, self._patience_s).write_evaluation_failure(record)
