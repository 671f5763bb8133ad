"""What outlives the coordinator's process: the same by Ray's own store and by actors, where another Ray has none."""

import os
import time

import pytest
import ray
from ray._private import worker
from ray.experimental import internal_kv

from cluster.dispatch import ServiceTimings
from cluster.service import ray_internals, ray_store
from cluster.service.ray_internals import InternalStore, dead_processes, init_alone
from cluster.service.ray_runtime import NAMESPACE, connect, named_evaluators
from cluster.service.ray_store import ActorStore, open_store


@pytest.fixture(scope="module", autouse=True)
def cluster():
    connect(None, cpus=1)
    yield
    ray.shutdown()


@pytest.mark.parametrize("kind", [lambda: InternalStore(NAMESPACE), ActorStore], ids=["internal", "actors"])
def test_what_was_put_last_is_there_for_others_until_it_is_deleted(kind):
    kind().put("served", b"one")
    kind().put("served", b"two")
    kind().put("other", b"three")
    assert kind().get("served") == b"two"
    kind().delete("served")
    kind().delete("served")
    assert kind().get("served") is None and kind().get("other") == b"three"
    kind().put("served", b"four")
    assert kind().get("served") == b"four"
    assert named_evaluators() == []


def test_what_an_actor_kept_is_forgotten_with_its_process():
    ActorStore().put("lost", b"one")
    ray.kill(ray.get_actor("kept-lost", "ppodd"))
    assert ActorStore().get("lost") is None


def test_a_ray_without_such_a_store_gets_actors(monkeypatch):
    assert isinstance(open_store(), InternalStore)
    monkeypatch.delattr(internal_kv, "_internal_kv_get")
    assert isinstance(open_store(), ActorStore)


@pytest.mark.parametrize("error", [ImportError, AttributeError, TypeError])
def test_whatever_has_changed_about_rays_store_it_gets_actors_and_other_errors_are_raised(monkeypatch, error):
    def changed(self, key):
        raise error

    monkeypatch.setattr(InternalStore, "get", changed)
    assert isinstance(open_store(), ActorStore)

    def lost(self, key):
        raise ConnectionError("the GCS is gone")

    monkeypatch.setattr(InternalStore, "get", lost)
    with pytest.raises(ConnectionError):
        open_store()


def test_an_actor_that_does_not_answer_is_waited_for_with_a_limit(monkeypatch):
    ActorStore().put("slow", b"one")
    slow = ray.get_actor("kept-slow", "ppodd")
    slow.__ray_call__.remote(lambda self: time.sleep(5))
    monkeypatch.setattr(ray_store, "ServiceTimings", lambda: ServiceTimings(brief_answer_s=0.2))
    with pytest.raises(ray.exceptions.GetTimeoutError):
        ActorStore().get("slow")


def test_a_ray_without_its_list_of_processes_loses_none_that_can_be_told_early(monkeypatch):
    class Node:
        def dead_processes(self):
            return [("raylet", None), ("log_monitor", None)]

    monkeypatch.setattr(worker, "_global_node", Node())
    assert dead_processes() == ["raylet"]
    monkeypatch.setattr(worker, "_global_node", object())
    assert dead_processes() == []
    monkeypatch.delattr(worker, "_global_node")
    assert dead_processes() == []


def test_a_ray_that_takes_no_private_options_is_started_without(monkeypatch):
    started = []

    def init(*address, **options):
        if unknown := [name for name in options if name.startswith("_")]:
            raise RuntimeError(f"Unknown keyword argument(s): {unknown}")
        started.append(options)

    monkeypatch.setattr(ray_internals.ray, "init", init)
    monkeypatch.setattr(ray_internals.ray, "is_initialized", lambda: False)
    monkeypatch.setenv("RAY_TMPDIR", "/elsewhere")
    init_alone(10**9, "/a/folder", num_cpus=1)
    assert started == [{"num_cpus": 1}] and os.environ["RAY_TMPDIR"] == "/a/folder"
