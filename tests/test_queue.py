"""Who is at which work: leases, retries, turns, urgency; no Ray, no files, a clock of our own."""

from typing import NamedTuple

import pytest

from cluster.queue import MAX_ATTEMPTS, Queue


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
    queue = Queue(lease_s=60, clock=clock)
    for source in "ab":
        queue.offer(source, [Work(f"{source}{number}") for number in range(2)], as_of=1.0)
    return queue


def keys(queue, evaluator, count):
    return [queue.lease(evaluator).key for _ in range(count)]


def test_each_piece_of_work_is_leased_once_and_sources_take_turns(queue):
    assert keys(queue, "e", 4) == ["a0", "b0", "a1", "b1"]
    assert queue.lease("e") is None and queue.pending() == 0 and len(queue.leases()) == 4
    for key in ("a0", "b0", "a1", "b1"):
        queue.finish(key, "e")
    assert not queue.leases() and queue.evaluators["e"].done == 4


def test_work_that_somebody_waits_for_comes_first(queue):
    queue.urge([Work("u0"), Work("u1")])
    assert keys(queue, "e", 3) == ["u0", "u1", "a0"]
    queue.finish("u0", "e", "boom")
    assert keys(queue, "f", 1) == ["u0"]


def test_urgent_work_is_taken_back_only_from_nobody(queue):
    queue.urge([Work("u0"), Work("u1")])
    assert keys(queue, "e", 1) == ["u0"]
    assert not queue.take_back("u0") and queue.take_back("u1") and not queue.take_back("u1")
    assert queue.lease("f").key == "a0"


def test_a_dead_evaluators_work_is_open_again(queue):
    assert keys(queue, "dead", 1) == ["a0"]
    queue.drop("dead")
    assert sorted(keys(queue, "e", 4)) == ["a0", "a1", "b0", "b1"]


def test_a_silent_evaluators_lease_expires_and_a_beat_extends_it(queue, clock):
    queue.lease("silent"), queue.lease("alive")
    clock.now = 50
    queue.beat("alive")
    clock.now = 70
    assert [lease.evaluator for lease in queue.leases()] == ["alive"]
    # what the silent one says of it afterwards is no news
    assert sorted(keys(queue, "e", 3)) == ["a0", "a1", "b1"]
    queue.finish("a0", "silent")
    assert "a0" in [lease.work.key for lease in queue.leases("e")]


def test_work_that_keeps_failing_is_given_up_and_stops_nothing(queue):
    for attempt in range(MAX_ATTEMPTS):
        assert not queue.given_up, attempt
        queue.urge([Work("bad")])
        assert keys(queue, "e", 1) == ["bad"]
        queue.finish("bad", "e", f"boom {attempt}")
    (given_up,) = queue.given_up
    assert given_up.work.key == "bad" and given_up.error == "boom 2" and given_up.attempts == 3
    assert keys(queue, "e", 1) == ["a0"] and queue.evaluators["e"].failed == 3


def test_work_that_kills_its_evaluator_again_and_again_is_given_up(queue):
    queue.urge([Work("killer")])
    for _ in range(MAX_ATTEMPTS):
        queue.lease("e")
        queue.drop("e")
    assert [(g.work.key, g.error) for g in queue.given_up] == [("killer", "its evaluator died at it")]


def test_a_look_that_began_before_work_was_done_does_not_bring_it_back(queue, clock):
    queue.lease("e")
    clock.now = 10
    queue.finish("a0", "e")
    queue.offer("a", [Work("a0"), Work("a1")], as_of=5.0)
    assert queue.pending("a") == 1
    queue.offer("a", [Work("a0"), Work("a1")], as_of=11.0)  # it has gone from the archive since
    assert queue.pending("a") == 2


def test_a_new_queue_takes_up_what_evaluators_are_at(queue):
    queue.beat("e", Work("b0"))
    assert [(lease.work.key, lease.evaluator) for lease in queue.leases()] == [("b0", "e")]
    assert sorted(keys(queue, "f", 3)) == ["a0", "a1", "b1"]
    queue.finish("b0", "e")
    assert queue.running("b") == 1 and queue.pending("b") == 0


def test_counts_by_source_and_the_rate(queue, clock):
    for _ in range(3):
        queue.lease("e")
    assert (queue.pending("a"), queue.running("a"), queue.pending("b"), queue.running("b")) == (0, 2, 1, 1)
    assert queue.per_minute() == 0
    for number, key in enumerate(("a0", "b0", "a1")):
        clock.now = 10.0 * number
        queue.finish(key, "e")
    clock.now = 30.0
    assert queue.per_minute() == pytest.approx(6)
    clock.now = 615.0  # two of them are more than ten minutes ago
    assert queue.per_minute() == pytest.approx(60 / 595)
