"""Leases on work items: retries, turns, urgency; no Ray, no files, a clock of our own."""

from typing import NamedTuple

import pytest
from archives import failed

from cluster.dispatch.leases import Queue
from cluster.dispatch.timings import ServiceTimings

MAX_ATTEMPTS = ServiceTimings().max_attempts


class Work(NamedTuple):
    key: str


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def queue(clock):
    queue = Queue(clock, ServiceTimings(lease_s=60))
    for source in "ab":
        queue.offer(source, [Work(f"{source}{number}") for number in range(2)], as_of=1.0)
    return queue


def take(queue, count, name="e"):
    """What so many evaluators get: `e0`, `e1`, …"""
    return [queue.lease(f"{name}{number}").key for number in range(count)]


def test_each_piece_of_work_is_leased_once_and_sources_take_turns(queue):
    assert take(queue, 4) == ["a0", "b0", "a1", "b1"]
    assert queue.lease("late") is None and queue.pending() == 0 and len(queue.leases()) == 4
    for number, key in enumerate(("a0", "b0", "a1", "b1")):
        queue.finish(key, f"e{number}")
    assert not queue.leases() and queue.evaluators["e0"].done == 1


def test_who_asks_again_has_lost_the_answer_and_gets_its_work_again(queue):
    assert queue.lease("e").key == queue.lease("e").key == "a0"
    assert len(queue.leases()) == 1


def test_work_that_somebody_waits_for_comes_first(queue):
    queue.urge([Work("u0"), Work("u1")])
    assert take(queue, 3) == ["u0", "u1", "a0"]
    queue.finish("u0", "e0", failed("boom"))
    assert queue.lease("f").key == "u0"


def test_urgent_work_that_nobody_waits_for_any_more_is_not_begun(queue):
    queue.urge([Work("u0"), Work("u1")])
    assert queue.lease("e").key == "u0"
    for key in ("u0", "u1"):
        queue.take_back(key)
    assert queue.lease("f").key == "a0"
    queue.finish("u0", "e", failed("boom"))
    assert queue.lease("e").key == "b0"


def test_a_dead_evaluators_work_is_open_again(queue):
    assert queue.lease("dead").key == "a0"
    queue.drop("dead")
    assert sorted(take(queue, 4)) == ["a0", "a1", "b0", "b1"]


def test_what_an_evaluator_had_that_was_lost_is_open_again_and_was_not_tried(queue):
    for _ in range(2 * MAX_ATTEMPTS):
        assert queue.lease("lost").key in ("a0", "b0")
        queue.release("lost")
    assert not queue.take_given_up() and queue.pending() == 4


def test_a_silent_evaluators_lease_expires_and_a_beat_extends_it(queue, clock):
    queue.lease("silent"), queue.lease("alive")
    clock.now = 50
    queue.heartbeat("alive")
    clock.now = 70
    assert [lease.evaluator for lease in queue.leases()] == ["alive"]
    # what the silent one says of it afterwards is no news
    assert sorted(take(queue, 3)) == ["a0", "a1", "b1"]
    queue.finish("a0", failed("silent"))
    assert "a0" in [lease.work.key for lease in queue.leases()]


def test_work_that_keeps_failing_is_given_up_and_stops_nothing(queue):
    queue.urge([Work("bad")])
    for attempt in range(MAX_ATTEMPTS):
        assert not queue.take_given_up(), attempt
        assert queue.lease("e").key == "bad"
        queue.finish("bad", "e", failed(f"boom {attempt}"))
    (given_up,) = queue.take_given_up()
    assert given_up.work.key == "bad" and given_up.failure.error == "boom 2" and given_up.attempts == 3
    assert queue.lease("e").key == "a0" and queue.evaluators["e"].failed == 3


def test_an_evaluator_that_can_do_nothing_uses_up_nobodys_attempts(queue):
    done = set()
    while (work := queue.lease("good")) is not None:
        for _ in range(5):  # it fails far faster than another works
            if bad := queue.lease("bad"):
                queue.finish(bad.key, "bad", failed("no data here"))
        queue.finish(work.key, "good")
        done.add(work.key)
    assert done == {"a0", "a1", "b0", "b1"} and not queue.take_given_up()


def test_what_failed_is_tried_by_the_same_again_where_no_other_lives(queue, clock):
    queue.heartbeat("other")
    assert queue.lease("e").key == "a0"
    queue.finish("a0", "e", failed("boom"))
    assert queue.lease("e").key == "b0"
    queue.finish("b0", "e")
    clock.now = 100  # nothing was heard of the other since
    assert queue.lease("e").key == "a0"


def test_work_that_kills_its_evaluator_again_and_again_is_given_up(queue):
    queue.urge([Work("killer")])
    for _ in range(MAX_ATTEMPTS):
        queue.lease("e")
        queue.drop("e")
    assert [(g.work.key, g.failure.error) for g in queue.take_given_up()] == [
        ("killer", "its evaluator's process died")
    ]


def test_a_look_that_began_before_work_was_done_does_not_bring_it_back(queue, clock):
    queue.lease("e")
    clock.now = 10
    queue.finish("a0", "e")
    queue.offer("a", [Work("a0"), Work("a1")], as_of=5.0)
    assert queue.pending("a") == 1
    queue.offer("a", [Work("a0"), Work("a1")], as_of=11.0)  # it has gone from the archive since
    assert queue.pending("a") == 2


def test_a_new_queue_takes_up_what_evaluators_are_at(queue):
    queue.heartbeat("e", Work("b0"))
    assert [(lease.work.key, lease.evaluator) for lease in queue.leases()] == [("b0", "e")]
    assert sorted(take(queue, 3, "f")) == ["a0", "a1", "b1"]
    queue.finish("b0", "e")
    assert queue.running("b") == 1 and queue.pending("b") == 0


def test_counts_by_source_and_the_rate(queue, clock):
    take(queue, 3)
    assert (queue.pending("a"), queue.running("a"), queue.pending("b"), queue.running("b")) == (0, 2, 1, 1)
    assert queue.sources_of("a0") == ["a"] and queue.sources_of("c0") == []
    assert queue.per_minute() == 0
    for number, key in enumerate(("a0", "b0", "a1")):
        clock.now = 10.0 * number
        queue.finish(key, f"e{number}")
    clock.now = 30.0
    assert queue.per_minute() == pytest.approx(6)
    clock.now = 615.0  # two of them are more than ten minutes ago
    assert queue.per_minute() == pytest.approx(60 / 595)
