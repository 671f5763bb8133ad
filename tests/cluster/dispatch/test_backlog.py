"""What is open of a sweep, read from real archives made by hand."""

import pytest
from archives import evaluation_record, given_up, progress, sweep_record, write_stage

from cluster.dispatch.backlog import Backlog, describe
from cluster.dispatch.candidate_measurements import Measurement
from ppodd.archive import Archive, FailureRecord, SweepTrial
from ppodd.config import DistillConfig, EvaluationConfig, build


@pytest.fixture
def archive(tiny, tmp_path):
    archive = Archive(tmp_path)
    archive.write_sweep(sweep_record("s", [], EvaluationConfig(mode=("blend", "latest"))))
    for seed in range(2):
        trial = archive.trial("s", f"seed={seed}")
        config = build(DistillConfig, {**tiny, "seed": seed, "num_stages": 2})
        trial.create(config, False)
        write_stage(trial, config, 1)
    return archive


@pytest.fixture
def backlog(archive):
    return Backlog(archive.url, "s")


def evaluate(archive, work):
    trial = archive.trial("s", work.trial_url.rsplit("/", 1)[1])
    values = {steps: [50.0] * work.protocol.nets for steps in work.protocol.budgets}
    trial.write_evaluation(evaluation_record(trial, work.stage, work.protocol, values))


def test_stages_without_evaluation_are_open(archive, backlog):
    snapshot = backlog.look()
    assert len(snapshot.open) == 4 and snapshot.done == 0 and backlog.going == ["seed=0", "seed=1"]
    # trials may begin with equal posters, and share tickets then: their works are works of their own all the same
    assert len({work.ticket for work in snapshot.open}) == 2 and len({work.key for work in snapshot.open}) == 4
    evaluate(archive, snapshot.open[0])
    trial = archive.trial("s", "seed=0")
    write_stage(trial, trial.config(), 2)
    again = backlog.look()
    assert again.done == 1 and len(again.open) == 5 and snapshot.open[0] not in again.open
    assert backlog.going == ["seed=1"]


def test_a_finished_trial_is_not_read_again(archive, backlog):
    trial = archive.trial("s", "seed=0")
    write_stage(trial, trial.config(), 2)
    for work in backlog.look().open:
        evaluate(archive, work)
    assert backlog.look().done == 6
    (archive.trial("s", "seed=0").folder).write("config.json", b"not read")
    assert backlog.look().done == 6 and not backlog.look().unreadable


def test_an_evaluation_added_later_opens_every_archived_stage_under_it_alone(archive, backlog):
    for work in backlog.look().open:
        evaluate(archive, work)
    archive.add_evaluation("s", EvaluationConfig(eval_seed=1))
    backlog.ask_again()
    snapshot = backlog.look()
    assert snapshot.done == 4 and [w.protocol.seed for w in snapshot.open] == [1, 1]


def test_a_given_up_evaluation_is_not_open_and_says_why(archive, backlog):
    bad = backlog.look().open[0]
    trial = archive.trial("s", "seed=0")
    trial.write_evaluation_failure(given_up(trial.config(), bad.ticket))
    snapshot = backlog.look()
    assert bad not in snapshot.open and len(snapshot.open) == 3
    assert snapshot.given_up == {bad.key: "seed=0 stage 1, blend, convnet: boom"}
    archive.clear_evaluation_failures("s")
    backlog.ask_again()
    assert bad in backlog.look().open


def test_an_unreadable_trial_is_said_and_hides_no_other(archive, backlog):
    trial = archive.trial("s", "seed=0")
    trial.folder.write("stage-01/stage.json", b"{")
    snapshot = backlog.look()
    assert len(snapshot.open) == 2 and "stage.json is damaged" in snapshot.unreadable[trial.url]


def test_an_evaluation_that_was_added_and_cannot_be_read_is_said_and_stops_no_other(archive):
    archive.add_evaluation("s", EvaluationConfig(eval_seed=1))
    (name,) = (archive.folder / "s/protocols").names()
    archive.folder.write(f"s/protocols/{name}", b"[]")
    snapshot = Backlog(archive.url, "s").look()
    assert len(snapshot.open) == 4
    (why,) = snapshot.unreadable.values()
    assert f"protocols/{name} is damaged" in why


def test_a_trial_of_another_shape_is_said_and_hides_no_other(archive, backlog):
    trial = archive.trial("s", "seed=0")
    trial.folder.write("stage-01/stage.json", b'{"schema": 1, "stage": 1}')
    snapshot = backlog.look()
    assert len(snapshot.open) == 2 and list(snapshot.unreadable) == [trial.url]
    trial.folder.write("progress.json", b"{")
    assert backlog.progress() == []


def test_a_sweep_is_settled_when_nothing_is_open_and_nothing_to_come(archive, backlog):
    def evaluate_all():
        for work in backlog.look().open:
            evaluate(archive, work)

    evaluate_all()
    assert not backlog.look().open and not backlog.settled  # stages are to come
    for seed in range(2):
        trial = archive.trial("s", f"seed={seed}")
        write_stage(trial, trial.config(), 2)
    backlog.look()
    assert not backlog.settled
    evaluate_all()
    assert backlog.look().done == 8 and backlog.settled
    backlog.ask_again()
    assert not backlog.settled
    trial.folder.remove("stage-02/stage.json")
    assert backlog.look().done == 6 and not backlog.settled
    trial.write_failure(FailureRecord(error="boom"))
    backlog.look()
    assert backlog.settled and backlog.going == []  # until the sweep is resumed
    trial.clear_failure()
    write_stage(trial, trial.config(), 2)
    backlog.ask_again()
    listed = tuple(SweepTrial(name=f"seed={seed}", config={}) for seed in range(3))
    archive.write_sweep(archive.sweep("s").model_copy(update={"trials": listed}))
    assert backlog.look().done == 8 and not backlog.settled  # a trial is to come
    archive.write_sweep(archive.sweep("s").model_copy(update={"trials": listed[:2]}))
    assert backlog.look().done == 8 and backlog.settled  # it is not: a search had no more to suggest


def test_running_trials_show_where_they_are(archive, backlog):
    archive.trial("s", "seed=1").write_progress(progress())
    backlog.look()
    (one,) = backlog.progress()
    assert (one.trial, one.now.stage, one.now.meta_loss) == ("seed=1", 2, 1.5)


def test_work_in_words(backlog):
    assert describe(backlog.look().open[0]) == "s/seed=0 stage 1 (blend, convnet)"
    assert describe(Measurement("/x/s/seed=0", 2, 0, 4, "t")) == "s/seed=0 stage 2 (its trial waits)"
