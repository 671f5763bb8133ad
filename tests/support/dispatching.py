"""What a dispatcher is given in tests: a clock that is set, evaluators that are names, archives that can be in trouble.

Archives and MLflow are real ones; what fails in them does so because a test says that it does.
"""

from __future__ import annotations

from cluster.dispatch.archives import Archives
from cluster.dispatch.backlog import Backlog
from cluster.dispatch.dispatcher import Dispatcher
from cluster.dispatch.timings import ServiceTimings
from results.tracking.syncing import Syncer

NODE = "node"
HERE = {"node_id": NODE}
FAILED_AT = 1_700_000_000.0  # by the clock on the wall


class Clock:
    def __init__(self, now=1000.0):
        self.now = now

    def __call__(self):
        return self.now


class NamedEvaluators:
    """Evaluators that were started and not stopped, with their shares; and the nodes that live."""

    def __init__(self):
        self.there = {}
        self.nodes = {NODE}

    def start(self, name, share):
        self.there[name] = share

    def stop(self, name):
        self.there.pop(name, None)

    def names(self):
        return list(self.there)

    def living_nodes(self):
        return self.nodes


class Memory(dict):
    """A key-value store."""

    put = dict.__setitem__
    delete = dict.pop


class TroubledArchives(Archives):
    """Real archives. `looks` names the sweeps that were looked at; `away`, those that do not answer."""

    def __init__(self):
        super().__init__(patience_s=0.0, now=lambda: FAILED_AT)
        self.looks, self.away = [], set()
        self.full = False  # they take no record
        self.closed = False  # to whoever asks for a sweep
        self.after_look = None  # is called when an archive was read, before anything is made of it

    def backlog(self, archive_url, sweep):
        return _Backlog(self, archive_url, sweep)

    def holds(self, archive_url, sweep):
        if self.closed:
            raise PermissionError("access denied")
        return super().holds(archive_url, sweep)

    def record(self, failure):
        if self.full:
            raise OSError("disk full")
        super().record(failure)


class _Backlog(Backlog):
    def __init__(self, archives, archive_url, sweep):
        super().__init__(archive_url, sweep, 0.0)
        self._of = archives

    def look(self):
        self._of.looks.append(self.sweep)
        if self.sweep in self._of.away:
            raise OSError("no route to host")
        found = super().look()
        if self._of.after_look:
            self._of.after_look()
        return found


class CountedSyncers:
    """Opens real syncers; `syncs` names the sweeps that were synced."""

    def __init__(self):
        self.syncs = []

    def __call__(self, archive_url, tracking_uri):
        return _Syncer(self.syncs, Syncer(archive_url, tracking_uri))


class _Syncer:
    def __init__(self, syncs, syncer):
        self._syncs, self._syncer = syncs, syncer

    def sync(self, sweeps=None):
        self._syncs += sweeps
        return self._syncer.sync(sweeps)


class World:
    """Everything around a dispatcher, and dispatchers in it."""

    def __init__(self):
        self.clock, self.evaluators, self.store = Clock(), NamedEvaluators(), Memory()
        self.archives, self.syncers = TroubledArchives(), CountedSyncers()
        self.timings = ServiceTimings()

    def dispatcher(self):
        return Dispatcher(self.evaluators, self.archives, self.syncers, self.store, self.clock, self.timings)
