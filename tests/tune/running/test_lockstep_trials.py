"""A process of trials in lockstep, driven as Tune drives it, but without Ray."""

from types import SimpleNamespace

import pytest
from ray import tune
from ray.tune.schedulers import TrialScheduler
from sweeps import jobs_of, sweep_file

from ppodd.archive import Archive
from ppodd.distillation import lockstep
from ppodd.training import compiled
from tune.running import trial as module
from tune.running.scheduler import StageScheduler
from tune.running.standing import failures, stopped, unfinished
from tune.running.sweep import _plan
from tune.sweep_file import load_sweep


@pytest.fixture
def run(tiny, tmp_path, monkeypatch):
    """A sweep's archive after every process of it has run, and what Tune was told for each report."""

    def run(name, config=(), **changes):
        sweep = load_sweep(sweep_file(tmp_path, {**tiny, "width": 16, **dict(config)}, **changes))
        archive, decisions = Archive(tmp_path / name), []
        plan = _plan(sweep, archive, at_once=1)
        jobs = jobs_of(plan)
        for job in jobs:
            running = SimpleNamespace(config={"trial": job})

            def report(metrics, checkpoint=None, running=running):
                if plan.scheduler:
                    decisions.append(plan.scheduler.on_trial_result(None, running, metrics))

            monkeypatch.setattr(tune, "report", report)
            module._run(job)
        return sweep, archive, len(jobs), decisions

    return run


@pytest.mark.usefixtures("to_the_bit")
def test_each_comes_to_what_it_comes_to_alone_and_one_that_fails_fails_alone(run):
    config = {"inner_optim": "SGD"}
    grid = {"num_stages": [2], "inner_lr": [0.01, 1e300, 0.02]}
    found = {mode: run(str(mode), config, grid=grid, resources={"lockstep": mode}) for mode in ("off", "auto")}
    assert [processes for _, _, processes, _ in found.values()] == [3, 1]
    for sweep, archive, _, _ in found.values():
        (failed,) = unfinished(sweep, archive)
        assert "inner_lr=1e+300" in failed and "at stage 1, meta-step" in failures(sweep, archive)[failed]
        for name in (name for name in sweep.trials if name != failed):
            mine, alone = archive.trial("tiny", name), found["off"][1].trial("tiny", name)
            for stage in (1, 2):
                assert mine.stage(stage).digests.poster == alone.stage(stage).digests.poster
                assert mine.stage(stage).stage_accuracy.values == alone.stage(stage).stage_accuracy.values


@pytest.mark.usefixtures("to_the_bit")
def test_seeds_that_are_added_later_change_the_company_and_no_bit(run, monkeypatch):
    """Of trials that were interrupted at different meta-steps, too: each goes on to what it comes to alone."""
    grid, ended = {"num_stages": [2]}, []
    _, alone, *_ = run("alone", grid=grid, seeds=[0, 1, 2, 3], resources={"lockstep": "off"})

    def report(archive, record):
        ended.append(record.stage)
        if len(ended) == 3:  # of one of them the second stage is archived, of the other the first
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(module, "_report", report)
        with pytest.raises(KeyboardInterrupt):
            run("grown", grid=grid, seeds=[0, 1])
    sweep, archive, processes, _ = run("grown", grid=grid, seeds=[0, 1, 2, 3])
    assert processes == 1 and not unfinished(sweep, archive)
    for name in sweep.trials:
        mine, theirs = archive.trial("tiny", name), alone.trial("tiny", name)
        assert [mine.stage(s).digests.poster for s in (1, 2)] == [theirs.stage(s).digests.poster for s in (1, 2)]
        assert mine.stage(2).stage_accuracy.values == theirs.stage(2).stage_accuracy.values


@pytest.mark.parametrize(("mode", "joined"), [("auto", False), (3, True)])
def test_in_a_process_that_finds_no_compiler_trials_are_taken_one_by_one_unless_asked_otherwise(
    run, monkeypatch, mode, joined
):
    """Their driver could not know: company would change the bits of each."""
    joint, honest = [], lockstep._together
    monkeypatch.setattr(compiled, "_compiled", lambda dtype: "no compiler here")
    monkeypatch.setattr(lockstep, "_together", lambda *steps: joint.append(1) or honest(*steps))
    grid = {"num_stages": [1]}
    sweep, archive, processes, _ = run("without", grid=grid, seeds=[0, 1, 2], resources={"lockstep": mode})
    assert processes == 1 and not unfinished(sweep, archive) and bool(joint) is joined


def test_the_scheduler_stops_some_and_the_others_go_on(run):
    changes = {"grid": {"num_stages": [4]}, "seeds": [0, 1, 2], "objective": "meta_loss"}
    sweep, archive, processes, decisions = run("stopped", **changes, scheduler={"kind": "median", "min_trials": 1})
    gone = stopped(sweep, archive)
    assert processes == 1 and 0 < len(gone) < 3 and not unfinished(sweep, archive)
    assert set(decisions) == {TrialScheduler.CONTINUE}  # the process drops them itself
    for name in sweep.trials:
        trial = archive.trial("tiny", name)
        assert len(trial.stages()) == (trial.stopped().stage if name in gone else 4)
    assert StageScheduler(sweep, archive) and stopped(sweep, archive) == gone
