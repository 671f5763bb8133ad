"""Sweeps on real Ray with real detached actors and a real SQLite store."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import ray
from sweeps import PATH, command, evaluated, finished_at, ppodd, sweep_file, wait_for

from cluster.dispatch.pool_request import Pool
from cluster.service import client as evaluators
from cluster.service.ray_runtime import NAMESPACE, connect, named_evaluators
from cluster.service.stage_accuracy import measure
from ppodd.archive import Archive, TrialArchive
from ppodd.cli.main import main
from ppodd.config import EvaluationConfig
from ppodd.distillation.archived_run import run
from ppodd.errors import BadInput, PpoddError
from results.analysis.tidy_frame import frame
from results.tracking.store import default_tracking_uri
from tune.running.sweep import run_sweep
from tune.sweep_file import load_sweep

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")


@pytest.fixture(scope="module")
def cluster():
    """One Ray for the tests of this file that need none of their own."""
    os.environ["PYTHONPATH"] = PATH["PYTHONPATH"]
    connect(None, cpus=2)
    yield
    evaluators.stop()
    ray.shutdown()


def test_a_sweep_from_file_to_table_curve_and_store_with_a_failing_trial(tiny, tmp_path, monkeypatch, capsys):
    grid = {"num_stages": [1, 2], "inner_lr": [0.01, 1e30]}
    path = sweep_file(tmp_path, {**tiny, "inner_optim": "SGD"}, grid=grid)
    done = ppodd("sweep", path, cwd=tmp_path)
    assert done.returncode == 1, done.stderr
    assert "unfinished: 2 trials; the same command with --resume" in done.stdout
    assert done.stdout.count("failed: num_stages=") == 2
    assert "at stage 1, meta-step" in done.stdout
    archive = Archive(tmp_path / "ppodd-archive")
    records = evaluated(archive, "tiny")
    assert len(records) == 3 and all(len(found) == 1 for found in records.values())
    assert (tmp_path / "ppodd-archive/tiny/accuracy-vs-ipc.png").exists() and "num_stages" in done.stdout
    rows = frame(default_tracking_uri(archive.url))
    assert len(rows) == 3 * 2 and set(rows["status"]) == {"finished"}
    for (name, stage), (record,) in records.items():
        for steps, accuracy in record.accuracy.items():
            row = rows[(rows.trial == name) & (rows.stage == stage) & (rows.steps == steps)].iloc[0]
            assert row.accuracy_pct == accuracy.mean
    assert "report: ppodd results report --sweep tiny --archive" in done.stdout
    assert f"compare: ppodd results compare --by num_stages --sweep tiny --archive {archive.url}\n" in done.stdout
    # another sweep of this name is refused, the same one is not begun again: before Ray is loaded
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "ray", None)
        assert main(["sweep", path, f"--archive={archive.url}"]) == 2
    assert "already holds sweep 'tiny'" in capsys.readouterr().err
    other = ppodd("sweep", path, "--set", "seeds=[3]", "--resume", cwd=tmp_path)
    assert other.returncode == 2 and "holds another sweep 'tiny': trial num_stages=1,inner_lr=0.01" in other.stderr


@pytest.mark.slow
def test_a_sweep_whose_driver_was_killed_is_finished_by_resume(tiny, tmp_path):
    path = sweep_file(tmp_path, {**tiny, "epochs": 24}, seeds=[0, 1])
    driver = subprocess.Popen(command("sweep", path), cwd=tmp_path, env={**os.environ, **PATH}, start_new_session=True)
    archive = Archive(tmp_path / "ppodd-archive")
    wait_for(lambda: any(archive.trial("tiny", t).progress() for t in archive.trials("tiny")))
    os.killpg(driver.pid, signal.SIGKILL)
    driver.wait()
    before = finished_at(archive, "tiny")
    assert len(before) < 6
    resumed = ppodd("sweep", path, "--resume", cwd=tmp_path)
    assert resumed.returncode == 0, resumed.stderr
    records = evaluated(archive, "tiny")
    assert len(records) == 6 and all(len(found) == 1 for found in records.values())
    for (name, stage), ended in before.items():
        assert archive.trial("tiny", name).stage(stage).finished_at == ended  # not done twice
    assert frame(default_tracking_uri(archive.url))["run_id"].nunique() == 4


def run_tiny(tiny, tmp_path, name, num_stages=2):
    """One finished trial in an archive, its evaluations open."""
    sweep = load_sweep(sweep_file(tmp_path, {**tiny, "budgets": (2, 4)}, name=name, grid={"num_stages": [num_stages]}))
    archive = Archive(tmp_path / "archive")
    archive.write_sweep(sweep.record().model_copy(update={"created_at": 0.0}))
    for trial, config in sweep.trials.items():
        list(run(config, archive.trial(name, trial)))
    return sweep, archive


POOL = Pool(count=1, cpus=0)


def serve(archive, sweep, uri, pool=POOL):
    return evaluators.start(archive.url, sweep.name, uri, pool)


@pytest.fixture
def uri(empty_store, tmp_path):
    """A store of the test's own."""
    return f"sqlite:///{shutil.copy(empty_store, tmp_path / 'mlflow.db')}"


def test_evaluators_are_detached_survive_being_killed_and_take_up_protocols_that_are_added(
    cluster, tiny, tmp_path, uri
):
    sweep, archive = run_tiny(tiny, tmp_path, "survivor")
    coordinator = serve(archive, sweep, uri)
    evaluators.wait(coordinator)
    (name,) = named_evaluators()
    ray.kill(ray.get_actor(name, NAMESPACE), no_restart=False)
    # more work for it, without starting one anew: Ray has to have restarted the dead one
    before = evaluated(archive, sweep.name)
    archive.add_evaluation(sweep.name, sweep.evaluations[0].model_copy(update={"eval_seed": 1}))
    status = evaluators.wait(serve(archive, sweep, uri))
    assert not status["failed"] and named_evaluators() == [name]
    after = evaluated(archive, sweep.name)
    for stage, (first,) in before.items():
        assert len(after[stage]) == 2 and first in after[stage]  # nothing twice
    rows = frame(uri, [sweep.name])
    assert len(rows) == 2 * 2 * 2 and rows["protocol"].nunique() == 2


def test_a_restarted_coordinator_serves_every_sweep_it_served(cluster, tiny, tmp_path, uri):
    first, archive = run_tiny(tiny, tmp_path, "first")
    coordinator = serve(archive, first, uri)
    evaluators.wait(coordinator)
    second, _ = run_tiny(tiny, tmp_path, "second")
    serve(archive, second, uri)
    ray.kill(coordinator, no_restart=False)

    def drained():
        with contextlib.suppress(ray.exceptions.RayActorError):
            found = ray.get(coordinator.status.remote(fresh=True))
            return found if not found["pending"] and not found["running"] else None

    status = wait_for(drained)
    assert {"first", "second"} <= {sweep["sweep"] for sweep in status["sweeps"]} and not status["failed"]
    for sweep in (first, second):
        assert all(len(found) == 1 for found in evaluated(archive, sweep.name).values())


def test_an_evaluation_that_always_fails_is_recorded_and_blocks_nothing(cluster, tiny, tmp_path, uri):
    sweep, archive = run_tiny(tiny, tmp_path, "failing", num_stages=1)
    archive.add_evaluation(sweep.name, EvaluationConfig(arch=("no_such_module:net",)))
    status = evaluators.wait(serve(archive, sweep, uri))
    assert len(status["failed"]) == 1 and all("no_such_module" in why for why in status["failed"].values())
    for (name, stage), found in evaluated(archive, sweep.name).items():
        (failure,) = archive.trial(sweep.name, name).evaluation_failures(stage)
        assert len(found) == 1 and failure.attempts == 3 and "no_such_module" in failure.error
    # asked for again, it is tried again, by the evaluator that is there
    archive.clear_evaluation_failures(sweep.name)
    coordinator = serve(archive, sweep, uri)
    wait_for(lambda: [one["failed"] for one in ray.get(coordinator.status.remote())["evaluators"]] == [4])
    evaluators.stop()  # it would wait longer before each further attempt


def test_the_pool_grows_with_the_backlog_and_gives_its_share_back_when_idle(cluster, tiny, tmp_path, uri):
    evaluators.stop()
    sweep, archive = run_tiny(tiny, tmp_path, "growing")
    coordinator = evaluators.start(archive.url, sweep.name, uri, Pool(2, cpus=0.5, idle_s=0.5), begin=False)
    assert len(wait_for(named_evaluators)) <= 2
    evaluators.wait(coordinator)
    wait_for(lambda: not named_evaluators())
    wait_for(lambda: ray.available_resources().get("CPU") == 2)
    # and it grows again with the next work item
    archive.add_evaluation(sweep.name, sweep.evaluations[0].model_copy(update={"eval_seed": 1}))
    status = evaluators.wait(serve(archive, sweep, uri, Pool(1, cpus=0, idle_s=60)))
    assert status["done"] == 4 and not status["failed"]


def test_stage_accuracies_from_the_pool_are_those_that_a_trial_measures_itself(cluster, tiny, tmp_path, uri):
    sweep = load_sweep(sweep_file(tmp_path, {**tiny, "stage_nets": 3}, name="pooled", grid={"num_stages": [2]}))
    (config,) = sweep.trials.values()
    alone, pooled = (TrialArchive(tmp_path / where / "pooled" / config.name) for where in ("alone", "pooled"))
    own = list(run(config, alone))
    archive = Archive(tmp_path / "pooled")
    archive.write_sweep(sweep.record())
    serve(archive, sweep, uri, Pool(2, cpus=0))
    asked = []

    def from_the_pool(*arguments):
        asked.append(measure(*arguments))
        return asked[-1]

    records = list(run(config, pooled, measure=from_the_pool))
    for here, there, answer in zip(own, records, asked, strict=True):
        assert list(there.stage_accuracy.values) == answer == pytest.approx(list(here.stage_accuracy.values))
        assert here.digests == there.digests
    assert not any("candidate" in name for name in pooled.folder.find())


def test_a_resumed_sweep_takes_up_seeds_and_values_that_were_added(cluster, tiny, tmp_path, uri):
    path, archive, said = sweep_file(tmp_path, tiny, name="grown"), Archive(tmp_path / "archive"), []
    how = {"ray_address": "joined", "wait": True}
    first = load_sweep(path, ["grid.num_stages=[1]"])
    assert run_sweep(first, archive.url, uri, **how).complete
    before, created = evaluated(archive, "grown"), archive.sweep("grown").created_at
    assert run_sweep(load_sweep(path, ["seeds=[0,1]"]), archive.url, uri, **how, resume=True, say=said.append).complete
    after, record = evaluated(archive, "grown"), archive.sweep("grown")
    assert "3 trials more than the 1 that the archive lists" in said
    assert sum(line.startswith("data: ") and "10 classes" in line for line in said) == 1
    assert len(record.trials) == 4 and record.created_at == created
    assert len(after) == 6 and all(len(found) == 1 for found in after.values()) and before.items() <= after.items()
    rows = frame(uri, ["grown"])
    assert rows["trial"].nunique() == 4 and set(rows["status"]) == {"finished"}
    with pytest.raises(BadInput, match="seed=1 is only there"):
        run_sweep(first, archive.url, uri, **how, resume=True)


@pytest.mark.slow
def test_a_sweep_whose_trials_are_measured_by_the_pool_is_the_same_sweep(cluster, tiny, tmp_path, uri):
    evaluators.stop()
    values = {**tiny, "stage_nets": 3}
    how = {"name": "asking", "stage_accuracy": "evaluators", "evaluators": {"cpus": 0, "count": 2}}
    sweep = load_sweep(sweep_file(tmp_path, values, **how))
    archive = Archive(tmp_path / "archive")
    outcome = run_sweep(sweep, archive.url, uri, ray_address="joined", wait=True)
    assert outcome.complete and not outcome.open_evaluations
    # each of 3 stages: its accuracy in two parts, its evaluation; a trial that had measured itself would have left some
    stats = ray.get(evaluators.find().status.remote())["evaluators"]
    assert [sum(one[count] for one in stats) for count in ("done", "failed")] == [3 * (2 + 1), 0]
    for name, config in sweep.trials.items():
        for own in run(config, TrialArchive(tmp_path / "alone" / "asking" / name)):
            there = archive.trial("asking", name).stage(own.stage)
            assert there.stage_accuracy.values == pytest.approx(own.stage_accuracy.values)
            assert there.digests == own.digests


def test_a_trial_measures_itself_where_the_pool_finds_no_place(cluster, tiny, tmp_path, uri):
    evaluators.stop()
    sweep, archive = run_tiny(tiny, tmp_path, "placeless")
    coordinator = evaluators.start(archive.url, sweep.name, uri, Pool(0))
    assert measure(archive.trial("placeless", next(iter(sweep.trials))).url, 1, 2, patience_s=0.5) is None
    evaluators.stop()
    assert measure("nowhere", 1, 2, patience_s=0.5) is None  # no coordinator at all
    assert evaluators.EvaluatorsNow(coordinator)() == []  # a view asks one that is gone


def tune_trials(archive):
    return [found for found in (Path(archive.folder.url) / "tiny/.tune").glob("*/trial_*") if found.is_dir()]


def test_the_scheduler_stops_some_of_the_trials_in_lockstep(cluster, tiny, tmp_path, uri):
    path = sweep_file(
        tmp_path, tiny, grid={"num_stages": [4]}, seeds=[0, 1, 2], objective="meta_loss",
        resources={"cpus": 1, "lockstep": 3}, scheduler={"kind": "median", "min_trials": 1},
    )  # fmt: skip
    sweep, archive = load_sweep(path), Archive(tmp_path / "archive")
    shown = []
    outcome = run_sweep(
        sweep, archive.url, uri, ray_address="joined", wait=True, show=lambda now: shown.append(now.evaluators())
    )
    assert not outcome.unfinished and 0 < len(outcome.stopped) < 3 and len(tune_trials(archive)) == 1
    assert {one["name"][:10] for now in shown for one in now} == {"evaluator-"}
    for name in sweep.trials:
        trial = archive.trial("tiny", name)
        assert len(trial.stages()) == (trial.stopped().stage if name in outcome.stopped else 4)


@pytest.mark.usefixtures("to_the_bit")
def test_seeds_whose_process_is_killed_go_on_to_the_bits_of_each_alone(cluster, tiny, tmp_path, uri):
    """Two in each of two processes, as a sweep forms them without being asked."""
    config = {**tiny, "width": 16, "epochs": 200, "checkpoint_every": 7}
    sweep = load_sweep(sweep_file(tmp_path, config, grid={"num_stages": [2]}, seeds=[0, 1, 2, 3]))
    archive, killed = Archive(tmp_path / "archive"), []
    trials = [archive.trial("tiny", name) for name in sweep.trials]

    def kill():
        wait_for(lambda: all(trial.stages() for trial in trials[:2]))
        killed.extend(trial.progress().pid for trial in trials[:2])
        os.kill(killed[0], signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    outcome = run_sweep(sweep, archive.url, uri, ray_address="joined", wait=True)
    killer.join()
    assert not outcome.unfinished and len(tune_trials(archive)) == 2
    assert len(killed) == 2 and len(set(killed)) == 1 and trials[0].progress().pid != killed[0]
    for trial in trials:
        alone = Archive(tmp_path / "alone").trial("tiny", trial.trial)
        list(run(trial.config(), alone))
        assert [trial.stage(s).digests.poster for s in (1, 2)] == [alone.stage(s).digests.poster for s in (1, 2)]


def test_another_ppodd_version_on_the_cluster_is_refused(cluster, tiny, tmp_path, uri, monkeypatch):
    sweep, archive = run_tiny(tiny, tmp_path, "versions")
    serve(archive, sweep, uri)
    monkeypatch.setattr(evaluators, "__version__", "9.9")
    with pytest.raises(PpoddError, match=r"the cluster's evaluators are ppodd .*, this is ppodd 9.9"):
        serve(archive, sweep, uri)


def test_no_cluster_at_an_address_is_said(tiny, tmp_path):
    done = ppodd("sweep", sweep_file(tmp_path, tiny), "--ray-address", "127.0.0.1:1", cwd=tmp_path)
    assert done.returncode == 2 and "no Ray cluster to join at '127.0.0.1:1'" in done.stderr.splitlines()[-1]


def test_data_that_is_not_there_is_said_before_anything_is_written(tiny, tmp_path):
    values = {**tiny, "dataset": "./gone.parquet"}
    done = ppodd("sweep", sweep_file(tmp_path, values), "--resume", cwd=tmp_path)
    assert done.returncode == 2 and "gone.parquet does not exist" in done.stderr.splitlines()[-1]
    assert "nothing to resume: no sweep of this name is archived there; it starts anew" in done.stdout
    assert not (tmp_path / "ppodd-archive").exists()


@pytest.mark.slow
def test_a_network_of_the_users_own_beside_the_sweep_file_reaches_trials_and_evaluators(tiny, tmp_path):
    (tmp_path / "mine.py").write_text(
        "from torch import nn\n\n\ndef net(spec, width):\n    pixels = spec.channels * spec.height * spec.width\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(pixels, spec.classes))\n"
    )
    values = {**tiny, "arch": "mine:net"}
    path = sweep_file(tmp_path, values, grid={"num_stages": [1]}, evaluation={"arch": ["mine:net", "convnet"]})
    done = ppodd("sweep", path, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert sorted(len(found) for found in evaluated(Archive(tmp_path / "ppodd-archive"), "tiny").values()) == [2]
