"""How many evaluators there should be, and the shares of a measurement; plain functions."""

import pytest

from cluster.dispatch.candidate_measurements import Measurements, MeasurementState
from cluster.dispatch.leases import Queue
from cluster.dispatch.pool_request import Pool, ResourceShare
from cluster.dispatch.timings import ServiceTimings
from cluster.dispatch.worker_pool import WorkerPool

POOL = Pool(count=3, idle_s=60)


def workers(*share):
    """A pool of this share, at a time that stands still."""
    return WorkerPool(ResourceShare(*share), Queue(lambda: 1000.0, ServiceTimings()))


@pytest.mark.parametrize(
    ("idle_s", "pending", "start", "stop"),
    [
        ({}, 0, 0, []),  # nothing to do: none
        ({}, 1, 1, []),
        ({}, 9, 3, []),  # at most `count`
        ({"a": 0}, 1, 1, []),  # one at work, one more is wanted
        ({"a": 5}, 1, 0, []),  # the idle one will take it
        ({"a": 0, "b": 61, "c": 5}, 0, 0, ["b"]),  # idle for too long
        ({"a": 61}, 1, 0, []),  # not while there is work
        ({"a": 0, "b": 1, "c": 3, "d": 2}, 9, 0, ["c"]),  # too many: the longest idle goes
        ({"a": 0, "b": 0, "c": 0, "d": 0}, 9, 0, []),  # too many, all at work: none is killed
    ],
)
def test_the_pool_follows_the_backlog(idle_s, pending, start, stop):
    assert POOL.plan(idle_s, pending) == (start, stop)


def test_sweeps_of_one_share_have_one_crew_of_the_larger_numbers_and_those_of_another_none_of_it():
    asked = [Pool(4, 1, 0.5, 10), Pool(2, 1, 0.5, 60), Pool(8, 1, 0, 90)]
    assert workers(1, 0.5).pool(asked) == Pool(4, 1, 0.5, 60)
    assert workers(1, 0).pool(asked) == asked[2]
    assert workers(2, 0).pool(asked) == Pool(0, 2, 0, 0)


def test_an_evaluator_without_a_place_is_idle_for_a_moment_only_while_work_is_to_come():
    pool = workers(1, 0)
    pool.known["waits"] = pool.queue.now() - 100
    assert pool.idle_s("waits", work_to_come=True) < 1 < pool.idle_s("waits")
    assert pool.plan(Pool(1, idle_s=60), True) == (0, []) and pool.plan(Pool(1, idle_s=60), False) == (
        0,
        ["waits"],
    )
    assert pool.plan(Pool(0), True) == (0, ["waits"])  # nobody wants such ones any more


def test_a_measurement_is_shared_out_and_put_together_in_the_order_of_its_networks():
    asked = Measurements()
    items = asked.ask("m", "t", 2, nets=8, parts=3)
    assert [(p.first, p.last) for p in items] == [(0, 3), (3, 5), (5, 8)]
    assert asked.ask("m", "t", 2, nets=8, parts=3) == []  # asking again asks for nothing new
    assert asked.answer("m") == MeasurementState()
    for item in reversed(items):
        asked.finish(item.key, [float(net) for net in range(item.first, item.last)])
    assert asked.answer("m") == MeasurementState([float(net) for net in range(8)])


def test_a_measurement_that_nobody_asks_for_any_more_is_known_by_its_silence():
    asked = Measurements()
    for now in (0.0, 5.0):
        asked.ask("m", "t", 1, nets=2, parts=1, now=now)
    asked.ask("n", "t", 1, nets=2, parts=1, now=9.0)
    assert asked.silent(since=5.0) == [] and asked.silent(since=6.0) == ["m"]


def test_a_measurement_of_which_a_piece_failed_has_failed():
    asked = Measurements()
    first, _ = asked.ask("m", "t", 1, nets=2, parts=5)
    asked.finish(first.key, None)
    assert asked.answer("m") == MeasurementState(failed=True)
