"""Limits of hours: what they end has a checkpoint and is marked as stopped, and goes on with more of them."""

import itertools
import shutil
import threading
import time
from types import SimpleNamespace

import pytest
from ray import tune
from sweeps import jobs_of, ppodd, sweep_file

from ppodd.archive import Archive, HoursRecord
from ppodd.cli.main import main
from ppodd.cli.sweep import _what_resume_would_do
from ppodd.errors import BadInput
from results.tracking import default_tracking_uri, sync
from tune.running import limits
from tune.running import trial as module
from tune.running.limits import SweepClock, TrialClock, check_hours, take_up
from tune.running.standing import limited, stopped, unfinished
from tune.running.sweep import Outcome, _plan
from tune.sweep_file import load_sweep

HALF_A_SECOND = 0.5 / 3600
FOUR_STEPS = 4 / 3600  # where each look at the clock takes a second


@pytest.fixture
def run(tmp_path, tiny, monkeypatch):
    """Runs every process of a sweep of two seeds as Tune would; of its clock each look takes a second."""
    monkeypatch.setattr(tune, "report", lambda *reported, **more: None)
    looks = itertools.count()
    clock = SimpleNamespace(monotonic=lambda: float(next(looks)), time=time.time)
    monkeypatch.setattr(limits, "time", clock)

    def run(archive, told=None, **changes):
        path = sweep_file(
            tmp_path, {**tiny, "checkpoint_every": 10**6}, grid={"num_stages": [2]}, seeds=[0, 1], **changes
        )
        sweep = load_sweep(path)
        take_up(sweep, archive, list(stopped(sweep, archive)))
        for job in jobs_of(_plan(sweep, archive, at_once=1)):
            try:
                module._run(job, told)
            except KeyboardInterrupt:
                continue
        return sweep

    return run


def posters(archive):
    return {name: [archive.trial("tiny", name).poster(s).digest for s in (1, 2)] for name in archive.trials("tiny")}


def test_a_trial_ends_with_its_hours_and_comes_to_the_same_with_more(run, tmp_path, capsys, empty_store):
    archive, undisturbed = Archive(tmp_path / "archive"), Archive(tmp_path / "undisturbed")
    run(undisturbed)
    sweep = run(archive, limits={"trial_hours": FOUR_STEPS})
    assert unfinished(sweep, archive) == [] and limited(sweep, archive) == list(sweep.trials)
    for name in sweep.trials:
        trial = archive.trial("tiny", name)
        assert 0 < trial.resume()[1].step <= 4 and trial.stages() == []
        assert trial.stopped().limit == "trial_hours" and trial.stopped().hours >= FOUR_STEPS
        assert "more, such as --set limits.trial_hours=0.00222, goes on" in trial.stopped().why
    before = {name: archive.trial("tiny", name).resume()[1] for name in sweep.trials}
    run(archive, limits={"trial_hours": FOUR_STEPS})  # no more of it
    assert before == {name: archive.trial("tiny", name).resume()[1] for name in sweep.trials}

    shutil.copy(empty_store, tmp_path / "archive/mlflow.db")
    sync(archive.url, default_tracking_uri(archive.url))
    main(["results", "table", "--archive", archive.url])
    assert "0 of 2 trials finished (stopped: " in capsys.readouterr().err

    sweep = run(archive, limits={"trial_hours": 1})
    assert limited(sweep, archive) == [] and posters(archive) == posters(undisturbed)


def test_seeds_in_lockstep_are_stopped_one_by_one(run, tmp_path):
    archive = Archive(tmp_path / "archive")
    sweep = run(archive, resources={"lockstep": 2}, limits={"trial_hours": FOUR_STEPS})
    assert limited(sweep, archive) == list(sweep.trials)
    assert all(archive.trial("tiny", name).resume()[1].step > 0 for name in sweep.trials)


def test_what_a_trial_computed_is_counted_over_its_runs(run, tmp_path):
    archive = Archive(tmp_path / "archive")
    sweep = run(archive)
    trial = archive.trial("tiny", next(iter(sweep.trials)))
    computed = trial.stage(2).budgets.seconds / 3600
    assert TrialClock(trial, limit=1).hours == pytest.approx(computed + 1 / 3600)
    assert TrialClock(trial, limit=computed).is_over() and not TrialClock(trial, limit=computed + 1).is_over()
    assert not TrialClock(trial, limit=None).is_over()


def test_the_hours_of_a_sweep_end_its_trials_and_are_counted_in_the_archive(tmp_path, tiny, monkeypatch):
    sweep = load_sweep(sweep_file(tmp_path, tiny, limits={"sweep_hours": 2 * HALF_A_SECOND}))
    archive, told, why = Archive(tmp_path / "archive"), threading.Event(), []
    archive.write_hours("tiny", HoursRecord(hours=HALF_A_SECOND))
    check_hours(sweep, archive, ["one"])
    with SweepClock(sweep, archive, lambda line: (why.append(line), told.set())) as clock:
        clock.on_trial_start(0, [], SimpleNamespace(trial_id="a"))
        assert told.wait(10) and clock.over and not clock.stop_all()  # one still leaves its checkpoint
        clock.on_trial_start(0, [], SimpleNamespace(trial_id="b"))  # too late: it ends by itself
        clock.on_trial_complete(0, [], SimpleNamespace(trial_id="a"))
        assert clock.stop_all()
    assert why[0].startswith("sweep_hours 0.000278 of the sweep used up: ")
    assert archive.hours("tiny") >= 2 * HALF_A_SECOND
    with pytest.raises(BadInput, match=r"has used .* of its 0.000278 sweep_hours: the same command with --resume"):
        check_hours(sweep, archive, ["one"])
    check_hours(sweep, archive, [])  # evaluations may be left


@pytest.mark.parametrize(
    ("outcome", "said"),
    [
        (
            Outcome(["b"], limited=["a"], hours_over=True),
            "limits (sweep_hours 1) stopped 1 trial and left 1 trial unfin",
        ),
        (
            Outcome(["b", "c"], hours_over=True),
            "limits (sweep_hours 1) left 2 trials unfinished: the same command with -",
        ),
        (
            Outcome([], limited=["a"]),
            "limits (sweep_hours 1) stopped 1 trial: the same command with --resume and more of",
        ),
        (Outcome(["b"]), "unfinished: 1 trial; the same command with --resume goes on"),
    ],
)
def test_what_waits_for_more_hours_is_said_to(tmp_path, tiny, outcome, said):
    """Also where no trial was stopped by their end, since none ran in that moment."""
    sweep = load_sweep(sweep_file(tmp_path, tiny, limits={"sweep_hours": 1.0}))
    (line,) = _what_resume_would_do(sweep, outcome)
    assert line.startswith(said)


@pytest.mark.slow  # a minute: the hours are to end amid the trials, however slowly these begin
def test_a_sweep_that_has_no_hours_left_says_so_and_goes_on_with_more(tmp_path, tiny):
    """With real Ray."""
    endless = {**tiny, "epochs": 10**5}
    path = sweep_file(tmp_path, endless, grid={"num_stages": [1]}, seeds=[0, 1, 2], limits={"sweep_hours": 40 / 3600})
    done = ppodd("sweep", path, cwd=tmp_path)
    archive = Archive(tmp_path / "ppodd-archive")
    assert done.returncode == 1, done.stdout + done.stderr
    begun = archive.trials("tiny")
    assert begun and all(archive.trial("tiny", name).stopped().limit == "sweep_hours" for name in begun)
    assert all(archive.trial("tiny", name).resume() for name in begun)
    assert f"limits (sweep_hours 0.0111) stopped {len(begun)} trial" in done.stdout
    assert "with --resume and more of them goes on" in done.stdout
    refused = ppodd("sweep", path, "--resume", cwd=tmp_path)
    assert refused.returncode == 2 and "sweep_hours: the same command with --resume and more" in refused.stderr
    assert not (tmp_path / "ppodd-archive/tiny/driver.json").exists()


@pytest.mark.parametrize("hours", [0, -1, "many"])
def test_hours_that_are_none_are_refused(tmp_path, tiny, hours):
    with pytest.raises(BadInput, match="trial_hours"):
        load_sweep(sweep_file(tmp_path, tiny, limits={"trial_hours": hours}))
    assert limits.TRIAL_HOURS == "trial_hours"
