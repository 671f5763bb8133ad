"""When the coordinator looks at archives and syncs them: its tasks called by hand, without a cluster."""

import pytest
from archives import write_stage

from cluster import coordinator as module
from cluster.backlog import Backlog
from cluster.coordinator import Coordinator
from cluster.pool import Pool
from ppodd.archive import Archive
from ppodd.config import DistillConfig, build
from results.store import default_tracking_uri
from results.sync import Syncer


@pytest.fixture
def coordinator(monkeypatch):
    class Still:
        def __init__(self, **_):
            pass

        def start(self):
            pass

    class Memory:
        _internal_kv_get = staticmethod(lambda *_, **__: None)
        _internal_kv_put = staticmethod(lambda *_, **__: None)

    monkeypatch.setattr(module.threading, "Thread", Still)
    monkeypatch.setattr(module, "internal_kv", Memory)
    monkeypatch.setattr(module, "named_evaluators", list)
    return Coordinator()


@pytest.fixture
def calls(monkeypatch):
    """How often an archive was looked at, and synced."""
    counts = {"look": 0, "sync": 0}

    def counted(name, method):
        def call(*args, **kwargs):
            counts[name] += 1
            return method(*args, **kwargs)

        return call

    monkeypatch.setattr(Backlog, "look", counted("look", Backlog.look))
    monkeypatch.setattr(Syncer, "sync", counted("sync", Syncer.sync))
    return counts


def test_a_sweep_that_is_over_is_left_alone_for_a_while_but_not_when_it_is_asked_for(
    coordinator, calls, tiny, tmp_path, monkeypatch
):
    now = 1000.0
    monkeypatch.setattr(module.time, "monotonic", lambda: now)
    archive = Archive(tmp_path)
    trial = archive.trial("s", "t")
    trial.create(build(DistillConfig, {**tiny, "num_stages": 1}), False)
    write_stage(trial, trial.config(), 1)
    served = archive.url, "s", default_tracking_uri(archive.url)
    coordinator.serve(*served, Pool(0, 0, 0, 0))
    for _ in range(2):
        coordinator._look()
        coordinator._sync()
    assert calls == {"look": 2, "sync": 2}
    (work,) = Backlog(archive.url, "s").look().open
    trial.write_evaluation(1, {"ticket": work.ticket})
    calls.update(look=0, sync=0)
    for _ in range(3):
        coordinator._look()
    assert calls["look"] == 1 and coordinator.status()["done"] == 1
    trial.folder.remove(f"stage-01/evaluations/{work.ticket}.json")  # whose record no sync could read
    for _ in range(3):
        coordinator._sync()
    assert calls["sync"] == 1 and not coordinator.status()["sync_error"]
    assert coordinator.status(fresh=True)["pending"] == 0 and calls["look"] == 2  # what is done is not read again
    coordinator.sync()
    assert calls["sync"] == 2
    now += 61
    coordinator._look()
    coordinator._sync()
    assert calls == {"look": 3, "sync": 3}
    coordinator.serve(*served, Pool(0, 0, 0, 0))
    coordinator._look()
    assert calls["look"] == 4 and coordinator.status()["pending"] == 1
