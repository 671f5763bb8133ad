"""When the coordinator looks at archives and syncs them: its tasks called by hand, without a cluster."""

from dataclasses import replace

import pytest
import torch
from archives import evaluation_record, failed, write_stage

from cluster.dispatch.backlog import Backlog
from cluster.dispatch.leases import MAX_ATTEMPTS
from cluster.dispatch.pool import Pool
from cluster.service import coordinator as module
from cluster.service.coordinator import Coordinator
from cluster.service.ray_runtime import _said
from ppodd.archive import Archive, TrialArchive
from ppodd.config import DistillConfig, build
from ppodd.errors import BadInput
from ppodd.machine import DeviceError, device_error
from results.tracking.store import default_tracking_uri
from results.tracking.syncing import Syncer

AT = {"node_id": "n"}


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
    monkeypatch.setattr(module.ray, "nodes", lambda: [{"NodeID": "n", "Alive": True}])
    return Coordinator()


@pytest.fixture
def started(monkeypatch):
    """The evaluators that were started and not killed, with their shares."""
    there = {}

    class Actor:
        @staticmethod
        def options(**_):
            return Actor

        @staticmethod
        def remote(name, cpus, gpus):
            there[name] = (cpus, gpus)

    monkeypatch.setattr(module, "EvaluatorActor", Actor)
    monkeypatch.setattr(module, "_kill", there.pop)
    monkeypatch.setattr(module, "named_evaluators", lambda: list(there))
    return there


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


@pytest.fixture
def served(tiny, tmp_path):
    """An archive with one evaluation to do, and what `serve` is told of it."""
    archive = Archive(tmp_path / "archive")
    trial = archive.trial("s", "t")
    trial.create(build(DistillConfig, {**tiny, "num_stages": 1}), False)
    write_stage(trial, trial.config(), 1)
    return trial, (archive.url, "s", default_tracking_uri(archive.url), Pool(1, 0, 0, 0), True)


def test_what_cannot_be_recorded_as_given_up_is_shown_and_not_evaluated_again(
    coordinator, started, served, monkeypatch
):
    def full(*_):
        raise OSError("disk full")

    trial, how = served
    coordinator.serve(*how)
    (e,) = started
    coordinator._look()
    for _ in range(MAX_ATTEMPTS):
        coordinator.finish(coordinator.lease(e).key, e, failed("ValueError: boom"))
    with monkeypatch.context() as patch:
        patch.setattr(TrialArchive, "write_evaluation_failure", full)
        for _ in range(2):
            coordinator._look()
            assert coordinator.lease(e) is None
            (why,) = coordinator.status()["failed"].values()
            assert "s/t stage 1" in why and "boom" in why
    coordinator._look()
    (record,) = trial.evaluation_failures(1)
    assert record.attempts == MAX_ATTEMPTS and len(coordinator.status(fresh=True)["failed"]) == 1
    trial.folder.remove(f"stage-01/failures/{record.ticket}.json")
    coordinator.serve(*how)
    coordinator._look()
    assert coordinator.lease(e) is not None


def test_an_archive_that_is_away_is_left_alone_and_the_others_are_looked_at(
    coordinator, started, served, tmp_path, monkeypatch
):
    looked = []

    def look(backlog):
        looked.append(backlog.sweep)
        if backlog.sweep == "away":
            raise OSError("no route to host")
        return genuine(backlog)

    genuine = Backlog.look
    monkeypatch.setattr(Backlog, "look", look)
    coordinator.serve(str(tmp_path / "gone"), "away", *served[1][2:])
    coordinator.serve(*served[1])
    for _ in range(2):
        status = coordinator.status(fresh=True)
        coordinator._sync()
    assert looked == ["away", "s", "s"] and status["pending"] == 1
    assert status["trouble"] == [f"{tmp_path}/gone: OSError: no route to host"]
    assert coordinator.status()["sync_error"] == ""


def test_a_waiting_trial_waits_for_an_evaluator_that_lives(coordinator, started, served):
    def waits(url=served[0].url):
        return coordinator.measure("m", url, 1, 2).at_it

    url, sweep, uri, pool, begin = served[1]
    coordinator.serve(url, sweep, uri, replace(pool, count=2), begin)
    e, f = started
    assert not waits() and not waits("/a/unknown/t")
    coordinator.hello(e, AT)
    assert waits()
    for _ in range(2):
        coordinator.finish(coordinator.lease(e).key, e, failed("ValueError: boom"))
    assert not waits()  # it failed at all of it
    coordinator.hello(f, AT)
    assert waits()


def test_sweeps_that_ask_for_other_shares_have_evaluators_of_their_own(coordinator, started, served, tiny):
    _, (url, sweep, uri, *_) = served
    other = Archive(url).trial("big", "t")
    other.create(build(DistillConfig, {**tiny, "num_stages": 1}), False)
    write_stage(other, other.config(), 1)
    coordinator.serve(url, sweep, uri, Pool(2, 1, 0, 60), False)
    coordinator.serve(url, "big", uri, Pool(3, 1, 0.5, 60), False)
    coordinator._look()
    coordinator._scale()
    assert list(started.values()) == [(1, 0), (1, 0.5)]
    small, big = started
    assert coordinator.lease(small).trial_url.endswith("/s/t")
    assert coordinator.lease(big).trial_url.endswith("/big/t")
    assert [pool["gpus"] for pool in coordinator.status()["pools"]] == [0, 0.5]
    # asked for another share, a sweep leaves its evaluators, but for what one is at
    coordinator.serve(url, "big", uri, Pool(1, 1, 0, 60), False)
    coordinator._look()
    coordinator._scale()
    assert set(started) == {small, big} and coordinator.status()["pending"] == 0
    coordinator.finish(f"{other.url}/1/{coordinator.lease(big).ticket}", big)
    coordinator._scale()
    assert set(started) == {small}


def test_a_trial_that_waits_is_served_by_the_share_that_its_sweep_has_now(coordinator, started, served):
    trial, (url, sweep, uri, *_) = served
    coordinator.serve(url, sweep, uri, Pool(1, 1, 0, 60), True)
    assert not coordinator.measure("m", trial.url, 1, 2).at_it
    coordinator.serve(url, sweep, uri, Pool(1, 1, 0.5, 60), True)
    small, big = started
    coordinator.hello(big, AT)
    assert coordinator.measure("m", trial.url, 1, 2).at_it
    assert coordinator.lease(small) is None
    piece = coordinator.lease(big)
    assert piece.first == 0
    coordinator.finish(piece.key, big, values=[1.0, 2.0])
    assert coordinator.measure("m", trial.url, 1, 2).values == [1.0, 2.0]


def test_a_coordinator_retires_only_when_no_other_sweep_needs_it(coordinator, started, served):
    _, how = served
    coordinator.serve(*how)
    assert coordinator.retire(("elsewhere", "x")) == ["s"]
    assert coordinator.retire(how[:2]) == []
    assert coordinator.retire(how[:2]) is None and coordinator.serve(*how) is False


def test_an_evaluation_that_ends_while_its_sweep_changes_shares_is_not_begun_again(
    coordinator, started, served, monkeypatch
):
    _, (url, sweep, uri, *_) = served
    coordinator.serve(url, sweep, uri, Pool(1, 1, 0, 60), True)
    (small,) = started
    coordinator._look()
    work = coordinator.lease(small)
    coordinator.serve(url, sweep, uri, Pool(1, 1, 0.5, 60), True)
    genuine = Backlog.look

    def look(backlog):
        found = genuine(backlog)
        coordinator.finish(work.key, small)  # after the archive was read
        return found

    monkeypatch.setattr(Backlog, "look", look)
    coordinator._look()
    assert coordinator.status()["pending"] == 0


def test_the_loss_of_a_node_is_no_fault_of_the_work(coordinator, started, served, monkeypatch):
    coordinator.serve(*served[1])
    (e,) = started
    coordinator._look()
    for process in range(2 * MAX_ATTEMPTS):
        coordinator.hello(e, {"node_id": f"spot {process}"})
        assert coordinator.lease(e)
    coordinator._where.clear()  # restarted, it learns from a beat where they are
    coordinator.beat(e, None, {"node_id": "spot 9"})
    coordinator._release_lost()
    assert coordinator.status()["running"] == 0
    for _ in range(MAX_ATTEMPTS):  # but a process that dies of it is
        coordinator.hello(e, AT)
        assert coordinator.lease(e)
    coordinator.hello(e, AT)
    assert coordinator.lease(e) is None


def test_an_evaluator_that_was_taken_for_gone_is_ended_when_it_is_there_after_all(coordinator, started, served):
    coordinator.serve(*served[1])
    coordinator._look()
    started["evaluator-9"] = (1, 0)
    coordinator._scale()
    assert list(started) == ["evaluator-0"]


def test_an_archive_that_the_coordinator_cannot_read_is_said(coordinator, served, monkeypatch):
    url, sweep, *_ = served[1]
    assert coordinator.why_not(url, sweep) == ""
    assert coordinator.why_not(url, "t") == "it holds no sweep 't' as the coordinator sees it"

    def denied(*_):
        raise PermissionError("access denied")

    monkeypatch.setattr(Archive, "holds", denied)
    assert coordinator.why_not(url, sweep) == "PermissionError: access denied"


def test_an_evaluator_ends_at_an_error_of_its_gpu_but_not_for_want_of_memory():
    assert device_error(torch.AcceleratorError("an illegal memory access was encountered")) is DeviceError.LOST
    before_torch_2_8 = RuntimeError("CUDA error: device-side assert triggered")
    assert device_error(before_torch_2_8) is DeviceError.LOST
    assert device_error(torch.OutOfMemoryError("Tried to allocate 2.00 GiB")) is DeviceError.OUT_OF_MEMORY
    assert device_error(BadInput("CUDA error: no such data")) is None


def test_unequal_versions_of_ray_are_both_said():
    error = RuntimeError("Version mismatch: The cluster was started with:\n    Ray: 2.59.0\nThis process: Ray: 2.60.0")
    assert _said(error).endswith("Ray: 2.59.0 This process: Ray: 2.60.0")
    assert _said(ConnectionError("refused\nmore")) == "refused"


def test_a_sweep_that_is_over_is_left_alone_for_a_while_but_not_when_it_is_asked_for(
    coordinator, started, calls, served, monkeypatch
):
    now = 1000.0
    monkeypatch.setattr(module.time, "monotonic", lambda: now)
    trial, how = served
    coordinator.serve(*how)
    for _ in range(2):
        coordinator._look()
        coordinator._sync()
    assert calls == {"look": 2, "sync": 2}
    (work,) = Backlog(*how[:2]).look().open
    values = {steps: [50.0] * work.protocol.nets for steps in work.protocol.budgets}
    trial.write_evaluation(evaluation_record(trial, 1, work.protocol, values))
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
    coordinator.serve(*how)
    coordinator._look()
    assert calls["look"] == 4 and coordinator.status()["pending"] == 1
