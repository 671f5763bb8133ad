"""Who evaluates what, how many evaluators there are, when archives and MLflow are asked: on a clock that is set."""

import threading
from dataclasses import replace

import pytest
from archives import evaluation_record, failed, write_stage
from dispatching import FAILED_AT, HERE, World

from cluster.dispatch.backlog import Backlog
from cluster.dispatch.pool_request import Pool, ResourceShare
from cluster.dispatch.timings import Pace, ServiceTimings
from ppodd.archive import Archive
from ppodd.config import DistillConfig, build

ONE = Pool(1, cpus=1, idle_s=60)
MAX_ATTEMPTS = ServiceTimings().max_attempts


@pytest.fixture
def world():
    return World()


@pytest.fixture
def dispatcher(world):
    return world.dispatcher()


@pytest.fixture
def started(world):
    """The evaluators that were started and not stopped, with their shares."""
    return world.evaluators.there


def trial_with_one_stage(archive, sweep, tiny):
    trial = archive.trial(sweep, "t")
    trial.create(build(DistillConfig, {**tiny, "num_stages": 1}), False)
    write_stage(trial, trial.config(), 1)
    return trial


@pytest.fixture
def uri(empty_store, tmp_path):
    path = tmp_path / "mlflow.db"
    path.write_bytes(empty_store.read_bytes())
    return f"sqlite:///{path}"


@pytest.fixture
def served(tiny, tmp_path, uri):
    """An archive with one evaluation to do, and what `serve` is told of it."""
    archive = Archive(tmp_path / "archive")
    return trial_with_one_stage(archive, "s", tiny), (archive.url, "s", uri, Pool(1, 0, 0, 0), True)


def evaluate(trial, work):
    values = {steps: [50.0] * work.protocol.nets for steps in work.protocol.budgets}
    trial.write_evaluation(evaluation_record(trial, work.stage, work.protocol, values))


def test_what_cannot_be_recorded_as_given_up_is_shown_and_not_evaluated_again(world, dispatcher, started, served):
    trial, how = served
    dispatcher.serve(*how)
    (e,) = started
    dispatcher.look()
    for _ in range(MAX_ATTEMPTS):
        dispatcher.finish(dispatcher.lease(e).key, e, failed("ValueError: boom"))
    world.archives.full = True
    for _ in range(2):
        dispatcher.look()
        assert dispatcher.lease(e) is None
        (why,) = dispatcher.status()["failed"].values()
        assert "s/t stage 1" in why and "boom" in why
    world.archives.full = False
    dispatcher.look()
    (record,) = trial.evaluation_failures(1)
    assert (record.attempts, record.failed_at) == (MAX_ATTEMPTS, FAILED_AT)
    assert len(dispatcher.status(fresh=True)["failed"]) == 1
    trial.folder.remove(f"stage-01/failures/{record.ticket}.json")
    world.clock.now += 1
    dispatcher.serve(*how)
    dispatcher.look()
    assert dispatcher.lease(e) is not None


def test_an_archive_that_is_away_is_left_alone_and_the_others_are_looked_at(world, dispatcher, served, tmp_path):
    world.archives.away = {"away"}
    dispatcher.serve(str(tmp_path / "gone"), "away", *served[1][2:])
    dispatcher.serve(*served[1])
    for _ in range(2):
        status = dispatcher.status(fresh=True)
        dispatcher.sync()
    assert world.archives.looks == ["away", "s", "s"] and status["pending"] == 1
    assert status["trouble"] == [f"{tmp_path}/gone: OSError: no route to host"]
    assert dispatcher.status()["sync_error"] == ""
    world.clock.now += world.timings.away_s
    dispatcher.look()
    assert world.archives.looks[3:] == ["away", "s"]


def test_a_waiting_trial_waits_for_an_evaluator_that_lives(dispatcher, started, served):
    def waits(url=served[0].url):
        return dispatcher.measure("m", url, 1, 2).in_progress

    url, sweep, uri, pool, begin = served[1]
    dispatcher.serve(url, sweep, uri, replace(pool, count=2), begin)
    e, f = started
    assert not waits() and not waits("/a/unknown/t")
    dispatcher.register(e, HERE)
    assert waits()
    for _ in range(2):
        dispatcher.finish(dispatcher.lease(e).key, e, failed("ValueError: boom"))
    assert not waits()  # it failed at all of it
    dispatcher.register(f, HERE)
    assert waits()


def test_what_a_trial_that_is_gone_waited_for_is_not_begun(world, dispatcher, started, served):
    trial, how = served
    dispatcher.serve(*how)
    dispatcher.measure("m", trial.url, 1, 2)
    (e,) = started
    world.clock.now += world.timings.silent_s + 1
    dispatcher.scale()
    assert dispatcher.lease(e) is None


def test_sweeps_that_ask_for_other_shares_have_evaluators_of_their_own(dispatcher, started, served, tiny):
    _, (url, sweep, uri, *_) = served
    other = trial_with_one_stage(Archive(url), "big", tiny)
    dispatcher.serve(url, sweep, uri, Pool(2, 1, 0, 60), False)
    dispatcher.serve(url, "big", uri, Pool(3, 1, 0.5, 60), False)
    dispatcher.look()
    dispatcher.scale()
    assert list(started.values()) == [(1, 0), (1, 0.5)]
    small, big = started
    assert dispatcher.lease(small).trial_url.endswith("/s/t")
    assert dispatcher.lease(big).trial_url.endswith("/big/t")
    assert [pool["gpus"] for pool in dispatcher.status()["pools"]] == [0, 0.5]
    # asked for another share, a sweep leaves its evaluators, but for what one is at
    dispatcher.serve(url, "big", uri, ONE, False)
    dispatcher.look()
    dispatcher.scale()
    assert set(started) == {small, big} and dispatcher.status()["pending"] == 0
    dispatcher.finish(f"{other.url}/1/{dispatcher.lease(big).ticket}", big)
    dispatcher.scale()
    assert set(started) == {small}


def test_a_trial_that_waits_is_served_by_the_share_that_its_sweep_has_now(dispatcher, started, served):
    trial, (url, sweep, uri, *_) = served
    dispatcher.serve(url, sweep, uri, ONE, True)
    assert not dispatcher.measure("m", trial.url, 1, 2).in_progress
    dispatcher.serve(url, sweep, uri, replace(ONE, gpus=0.5), True)
    small, big = started
    dispatcher.register(big, HERE)
    assert dispatcher.measure("m", trial.url, 1, 2).in_progress
    assert dispatcher.lease(small) is None
    item = dispatcher.lease(big)
    assert item.first == 0
    dispatcher.finish(item.key, big, values=[1.0, 2.0])
    assert dispatcher.measure("m", trial.url, 1, 2).values == [1.0, 2.0]


def test_a_dispatcher_retires_only_when_no_other_sweep_needs_it(dispatcher, served):
    _, how = served
    dispatcher.serve(*how)
    assert dispatcher.retire(("elsewhere", "x")) == ["s"]
    assert dispatcher.retire(how[:2]) == []
    assert dispatcher.retire(how[:2]) is None and dispatcher.serve(*how) is False


def test_an_evaluation_that_ends_while_its_sweep_changes_shares_is_not_begun_again(world, dispatcher, started, served):
    _, (url, sweep, uri, *_) = served
    dispatcher.serve(url, sweep, uri, ONE, True)
    (small,) = started
    dispatcher.look()
    work = dispatcher.lease(small)
    dispatcher.serve(url, sweep, uri, replace(ONE, gpus=0.5), True)
    world.archives.after_look = lambda: dispatcher.finish(work.key, small)
    dispatcher.look()
    assert dispatcher.status()["pending"] == 0


def test_the_loss_of_a_node_is_no_fault_of_the_work(world, dispatcher, started, served):
    dispatcher.serve(*served[1])
    (e,) = started
    dispatcher.look()
    for process in range(2 * MAX_ATTEMPTS):
        dispatcher.register(e, {"node_id": f"spot {process}"})
        assert dispatcher.lease(e)
    again = world.dispatcher()  # restarted, it learns from a heartbeat where they are, and what they are at
    again.heartbeat(e, dispatcher.lease(e), {"node_id": "spot 9"})
    assert again.status()["running"] == 1
    again.release_lost()
    assert again.status()["running"] == 0
    world.clock.now += world.timings.recovery_s
    again.look()
    for _ in range(MAX_ATTEMPTS):  # but a process that dies of it is
        again.register(e, HERE)
        assert again.lease(e)
    again.register(e, HERE)
    assert again.lease(e) is None


def test_an_evaluator_that_was_taken_for_gone_is_ended_when_it_is_there_after_all(dispatcher, started, served):
    dispatcher.serve(*served[1])
    dispatcher.look()
    started["evaluator-9"] = ResourceShare(1, 0)
    dispatcher.scale()
    assert list(started) == ["evaluator-0"]


def test_an_evaluator_that_is_not_there_is_missed_after_a_while_and_another_takes_its_place(
    world, dispatcher, started, served
):
    dispatcher.serve(*served[1])
    dispatcher.look()
    started.clear()  # it was killed by who must not
    world.clock.now += world.timings.listed_s
    dispatcher.scale()
    assert not started  # Ray may not list it yet
    world.clock.now += 1
    dispatcher.scale()
    assert list(started) == ["evaluator-1"]


def test_evaluators_come_with_the_work_and_go_when_they_have_been_idle(world, dispatcher, started, served):
    trial, (url, sweep, uri, *_) = served
    dispatcher.serve(url, sweep, uri, replace(ONE, count=4), False)
    dispatcher.scale()
    assert not started  # nothing is known to be open yet
    dispatcher.look()
    dispatcher.scale()
    (e,) = started  # one work item, one evaluator
    dispatcher.register(e, HERE)
    work = dispatcher.lease(e)
    world.clock.now += ONE.idle_s + 1
    dispatcher.heartbeat(e, work, HERE)
    dispatcher.scale()
    assert list(started) == [e]
    evaluate(trial, work)
    dispatcher.finish(work.key, e)
    dispatcher.look()
    for seconds, left in ((ONE.idle_s, [e]), (1, [])):
        world.clock.now += seconds
        dispatcher.scale()
        assert list(started) == left
    assert dispatcher.status()["done"] == 1


def test_a_pool_is_resized_and_those_too_many_stop_when_they_have_nothing_to_do(dispatcher, started, served):
    url, sweep, uri, *_ = served[1]
    dispatcher.serve(url, sweep, uri, replace(ONE, count=3), True)
    dispatcher.look()
    for name in started:
        dispatcher.register(name, HERE)
    busy = list(started)[1]
    assert dispatcher.lease(busy)
    dispatcher.resize(0)
    dispatcher.scale()
    assert list(started) == [busy] and dispatcher.serving(url, sweep) == (uri, replace(ONE, count=0))


def test_a_restarted_dispatcher_serves_what_it_served_and_begins_nothing_twice(
    world, dispatcher, started, served, tiny
):
    _, (url, sweep, uri, *_) = served
    other = trial_with_one_stage(Archive(url), "big", tiny)
    dispatcher.serve(url, sweep, uri, replace(ONE, count=2), True)
    dispatcher.serve(url, "big", uri, replace(ONE, count=2), True)
    dispatcher.look()
    e, f = started
    for name in (e, f):
        dispatcher.register(name, HERE)
    work = dispatcher.lease(e)
    again = world.dispatcher()
    assert again.serving(url, "big") == (uri, replace(ONE, count=2))
    again.look()
    assert again.lease(f) is None  # it may be the one that another is at
    again.heartbeat(e, work, HERE)
    world.clock.now += world.timings.recovery_s
    assert again.lease(f).key != work.key and again.lease(f).trial_url == other.url
    again.scale()
    assert list(started) == [e, f]
    again.forget_all()
    assert world.dispatcher().status()["sweeps"] == []


def test_a_name_is_never_given_twice(world, dispatcher, started, served):
    dispatcher.serve(*served[1])
    started.clear()
    again = world.dispatcher()
    again.serve(*served[1])
    assert list(started) == ["evaluator-1"]


def test_an_archive_that_the_dispatcher_cannot_read_is_said(world, dispatcher, served):
    url, sweep, *_ = served[1]
    assert dispatcher.why_not(url, sweep) == ""
    assert dispatcher.why_not(url, "t") == "it holds no sweep 't' as the coordinator sees it"
    world.archives.closed = True
    assert dispatcher.why_not(url, sweep) == "PermissionError: access denied"


def test_a_sweep_that_is_over_is_left_alone_for_a_while_but_not_when_it_is_asked_for(world, dispatcher, served):
    looks, syncs = world.archives.looks, world.syncers.syncs
    trial, how = served
    dispatcher.serve(*how)
    for _ in range(2):
        dispatcher.look()
        dispatcher.sync()
    assert (len(looks), len(syncs)) == (2, 2)
    (work,) = Backlog(*how[:2]).look().open
    evaluate(trial, work)
    for _ in range(3):
        dispatcher.look()
    assert len(looks) == 3 and dispatcher.status()["done"] == 1
    trial.folder.remove(f"stage-01/evaluations/{work.ticket}.json")  # whose record no sync could read
    for _ in range(3):
        assert dispatcher.sync() == ""
    assert len(syncs) == 3
    assert dispatcher.status(fresh=True)["pending"] == 0 and len(looks) == 4  # what is done is not read again
    dispatcher.sync(every=True)
    assert len(syncs) == 4
    world.clock.now += world.timings.settled_s + 1
    dispatcher.look()
    dispatcher.sync()
    assert (len(looks), len(syncs)) == (5, 5)
    dispatcher.serve(*how)
    dispatcher.look()
    assert len(looks) == 6 and dispatcher.status()["pending"] == 1


def test_a_store_that_does_not_answer_is_said_and_tried_again(world, dispatcher, served, tmp_path, uri):
    url, sweep, _, *how = served[1]
    (tmp_path / "file").touch()
    nowhere = f"sqlite:///{tmp_path}/file/mlflow.db"
    dispatcher.serve(url, sweep, nowhere, *how)
    dispatcher.look()
    said = dispatcher.sync()
    assert nowhere in said and dispatcher.status()["sync_error"] == f"s: {said}"
    dispatcher.serve(url, sweep, uri, *how)
    assert dispatcher.sync() == "" and dispatcher.status()["sync_error"] == ""


def test_a_slow_task_is_done_less_often_but_not_too_seldom():
    pace = Pace(1.0, 10.0)
    assert [pace.rest_s(took) for took in (0.0, 0.1, 1.0, 60.0)] == [1.0, 1.0, 5.0, 10.0]


def test_no_heartbeat_waits_while_evaluators_are_started_or_stopped_or_the_state_is_saved(world, dispatcher, served):
    came = []

    def meanwhile(call):
        def called(*arguments):
            thread = threading.Thread(target=dispatcher.heartbeat, args=("evaluator-0", None, HERE), daemon=True)
            thread.start()
            thread.join(5)
            came.append((call.__name__, not thread.is_alive()))
            return call(*arguments)

        return called

    there, store = world.evaluators, world.store
    there.start, there.stop, store.put = meanwhile(there.start), meanwhile(there.stop), meanwhile(store.put)
    dispatcher.serve(*served[1])
    there.there["evaluator-7"] = ResourceShare(0, 0)  # given up as lost, and there after all
    dispatcher.scale()
    dispatcher.resize(2)
    names = {name for name, _ in came}
    assert names == {"start", "stop", "__setitem__"} and all(beat for _, beat in came)
