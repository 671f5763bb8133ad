"""A served sweep: what is open of it, whether its archive and its MLflow store answer, when to ask them next."""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass, field
from typing import NamedTuple

from cluster.dispatch.backlog import Backlog, Snapshot
from cluster.dispatch.pool_request import Pool
from cluster.dispatch.ports import Clock, OpenSyncer, StoreSyncer
from cluster.dispatch.timings import ServiceTimings
from ppodd.errors import one_line

_log = logging.getLogger(__name__)
_SHOWN = 3  # problems of a sync


class SweepKey(NamedTuple):
    """A sweep's name for the dispatcher: sweeps of two archives may be called the same."""

    archive_url: str
    sweep: str

    @classmethod
    def of_trial(cls, trial_url: str) -> SweepKey:
        """The sweep that a trial belongs to."""
        archive_url, sweep, _ = trial_url.rsplit("/", 2)
        return cls(archive_url, sweep)


@dataclass
class ServedSweep:
    """What is known of a sweep. Whoever looks at its archive holds `looking`."""

    key: SweepKey
    backlog: Backlog
    tracking_uri: str
    pool: Pool
    clock: Clock
    timings: ServiceTimings
    looking: threading.Lock = field(default_factory=threading.Lock)
    found: Snapshot = field(default_factory=Snapshot)
    away: str = ""  # why its archive could not be looked at, the last time
    sync_error: str = ""
    _syncer: StoreSyncer | None = None
    _look_from: float = 0.0  # when to look at it again
    _sync_from: float = 0.0

    @property
    def trouble(self) -> str:
        """Why its archive or its store does not answer, if so."""
        return self.away or self.sync_error

    @property
    def needed(self) -> bool:
        """Whether it is not over, or not yet in MLflow."""
        return not self.backlog.settled or bool(self.trouble)

    def serve_anew(self, tracking_uri: str, pool: Pool) -> None:
        """Read the archive from the start, and show it in the store that was named last."""
        if self.tracking_uri != tracking_uri:
            self.tracking_uri, self._syncer = tracking_uri, None
        self.pool = pool
        self.backlog.ask_again()
        self._look_from = self._sync_from = 0.0

    def look(self, every: bool) -> bool:
        """Scan the archive if it is due or `every` one is scanned. Returns whether `found` is new.

        An unreachable archive is not retried for `away_s`, even on request; its open work stays open.
        """
        now = self.clock()
        if now < self._look_from and (self.away or not every):
            return False
        try:
            self.found = self.backlog.look()
        except Exception as error:  # it stops no other sweep
            self.away, self._look_from = one_line(error), self.clock() + self.timings.away_s
            _log.warning("its archive is away: %s", self.away, extra={"sweep": self.key.sweep})
            return False
        self.away = ""
        self._look_from = now + self.timings.settled_s if self.backlog.settled else 0.0
        return True

    def sync(self, open_syncer: OpenSyncer, every: bool) -> None:
        """Bring MLflow up to date, where it is time to or `every` one is; the archive has to answer."""
        now = self.clock()
        if self.away or (now < self._sync_from and not every):
            return
        settled = self.backlog.settled  # all that this sync is to find is there
        try:
            self._syncer = self._syncer or open_syncer(self.key.archive_url, self.tracking_uri)
            self.sync_error = "; ".join(self._syncer.sync([self.key.sweep]).problems[:_SHOWN])
        except Exception as error:  # MLflow may fail: evaluation continues, and a later sync catches up
            self.sync_error = one_line(error)
            return
        self._sync_from = now + self.timings.settled_s if settled and not self.sync_error else 0.0
