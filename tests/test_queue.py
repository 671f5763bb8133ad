"""The coordinator's view of open evaluations: leases, retries, fairness; no Ray, a clock of our own."""

import numpy as np
import pytest

from cluster.queue import MAX_ATTEMPTS, Queue, Served
from ppodd.archive import Archive, PosterFile
from ppodd.config import DistillConfig, EvaluationConfig, build

POSTER = PosterFile(np.zeros((1, 12, 24), np.float32), np.eye(10, dtype=np.float32), np.arange(10).reshape(2, 5))
RECORD = {"evaluation_blend": [1.0], "data": {"digest": "d"}}


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def archive(tiny, tmp_path):
    archive = Archive(tmp_path)
    for sweep in ("a", "b"):
        for seed in range(2):
            trial = archive.trial(sweep, f"seed={seed}")
            trial.create(build(DistillConfig, {**tiny, "seed": seed}), False)
            poster = PosterFile(POSTER.poster + seed, POSTER.labels, POSTER.class_order)
            trial.write_stage(1, {**RECORD, "sweep": sweep, "data": {"digest": sweep}}, poster, b"")
    return archive


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def queue(archive, clock):
    queue = Queue(lease_s=60, clock=clock)
    for sweep in ("a", "b"):
        queue.serve(Served(archive.url, sweep, EvaluationConfig()))
    return queue


def finish(archive, queue, work):
    sweep, trial = work.trial_url.split("/")[-2:]
    archive.trial(sweep, trial).write_evaluation(work.stage, {"ticket": work.ticket})
    queue.finish(work.ticket)


def test_each_piece_of_work_is_leased_once_and_sweeps_take_turns(archive, queue):
    works = [queue.lease("e") for _ in range(4)]
    assert len({work.ticket for work in works}) == 4 and queue.lease("e") is None
    assert {work.trial_url.split("/")[-2] for work in works[:2]} == {"a", "b"}
    assert (queue.status().pending, queue.status().running) == (0, 4)
    for work in works:
        finish(archive, queue, work)
    assert (queue.status().pending, queue.status().running, queue.status().done) == (0, 0, 4)


def test_a_silent_evaluator_loses_its_lease_and_a_heard_one_keeps_it(queue, clock):
    first, second = queue.lease("silent"), queue.lease("heard")
    clock.now = 50
    queue.beat("heard")
    clock.now = 70
    again = [queue.lease("other") for _ in range(3)]
    assert first in again and second not in again


def test_a_restarted_evaluators_work_is_open_at_once(queue):
    work = queue.lease("e")
    queue.drop("e")
    assert work in [queue.lease("f") for _ in range(4)]


def test_a_failing_evaluation_is_tried_a_few_times_and_blocks_nobody(archive, queue):
    bad = queue.lease("e")
    queue.finish(bad.ticket, "ValueError: no")
    seen = []
    while work := queue.lease("e"):
        seen.append(work.ticket)
        if work.ticket == bad.ticket:
            queue.finish(work.ticket, "ValueError: no")
        else:
            finish(archive, queue, work)
    assert seen.count(bad.ticket) == MAX_ATTEMPTS - 1 and len(set(seen)) == 4
    status = queue.status()
    assert status.failed == {bad.ticket: "ValueError: no"} and (status.pending, status.running, status.done) == (
        0,
        0,
        3,
    )


def test_a_new_queue_reads_what_is_open_from_the_archive(archive, queue):
    finish(archive, queue, queue.lease("e"))
    anew = Queue()
    anew.serve(Served(archive.url, "a", EvaluationConfig()))
    anew.serve(Served(archive.url, "b", EvaluationConfig()))
    assert anew.status().pending == 3


def test_a_new_stage_and_a_new_protocol_are_new_work(archive, queue):
    while work := queue.lease("e"):
        finish(archive, queue, work)
    archive.trial("a", "seed=0").write_stage(2, {**RECORD, "evaluation_blend": [0.5, 0.5]}, POSTER, b"")
    assert queue.lease("e").stage == 2
    queue.serve(Served(archive.url, "b", EvaluationConfig(nets=3)))
    assert queue.status().pending == 2


def test_an_unreadable_trial_does_not_stop_the_rest(archive, queue):
    archive.trial("a", "seed=0").folder.write("stage-01/stage.json", b"{")
    works = [queue.lease("e") for _ in range(3)]
    assert all(works) and queue.lease("e") is None
    assert "stage.json is damaged" in next(iter(queue.status().failed.values()))
