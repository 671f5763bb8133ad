"""Sweeps on real Ray with real detached actors and a real SQLite store."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import ray
import yaml

from cluster import evaluators
from cluster.ray_runtime import NAMESPACE, connect
from ppodd.archive import Archive
from ppodd.errors import BadInput
from results.frame import frame
from results.store import default_tracking_uri
from tune.sweep_file import load_sweep

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
PATH = {"PYTHONPATH": str(Path(__file__).parents[1])}


@pytest.fixture(scope="module")
def cluster():
    """One Ray for the tests of this file that need none of their own."""
    os.environ["PYTHONPATH"] = PATH["PYTHONPATH"]
    connect(None, cpus=2)
    yield
    evaluators.stop()
    ray.shutdown()


def sweep_file(tmp_path, tiny, **changes):
    values = {
        "name": "tiny",
        "preset": "digits-small",
        "config": {
            k: list(v) if isinstance(v, tuple) else v for k, v in tiny.items() if k not in ("num_stages", "device")
        },
        "grid": {"num_stages": [1, 2]},
        "seeds": [0],
        "evaluators": {"cpus": 0},
        **changes,
    }
    path = tmp_path / "sweep.yaml"
    path.write_text(yaml.safe_dump(values, sort_keys=False))
    return str(path)


def command(*arguments):
    code = "import sys; from ppodd.cli.main import main; sys.exit(main())"
    return [sys.executable, "-c", code, *arguments]


def ppodd(*arguments, cwd):
    return subprocess.run(command(*arguments), capture_output=True, text=True, cwd=cwd, env={**os.environ, **PATH})


def wait_for(condition, seconds=60):
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.05)
    return found


def evaluated(archive, sweep):
    return {
        (name, stage): archive.trial(sweep, name).evaluations(stage)
        for name in archive.trials(sweep)
        for stage in archive.trial(sweep, name).stages()
    }


def test_a_sweep_from_file_to_table_curve_and_store_with_a_failing_trial(tiny, tmp_path):
    grid = {"num_stages": [1, 2], "inner_lr": [0.01, 1e30]}
    path = sweep_file(tmp_path, {**tiny, "inner_optim": "SGD"}, grid=grid)
    done = ppodd("sweep", path, cwd=tmp_path)
    assert done.returncode == 1, done.stderr
    assert "2 trials are unfinished" in done.stdout and done.stdout.count("failed: num_stages=") == 2
    assert "at stage 1, meta-step" in done.stdout
    archive = Archive(tmp_path / "ppodd-archive")
    records = evaluated(archive, "tiny")
    assert len(records) == 3 and all(len(found) == 1 for found in records.values())
    assert (tmp_path / "ppodd-archive/tiny/accuracy-vs-ipc.png").exists() and "num_stages" in done.stdout
    rows = frame(default_tracking_uri(archive.url))
    assert len(rows) == 3 * 2 and set(rows["status"]) == {"finished"}
    for (name, stage), (record,) in records.items():
        for steps, accuracy in record["accuracy"].items():
            row = rows[(rows.trial == name) & (rows.stage == stage) & (rows.steps == int(steps))].iloc[0]
            assert row.accuracy_pct == accuracy["mean"]
    # another sweep of this name is refused, the same one is not begun again
    assert ppodd("sweep", path, cwd=tmp_path).returncode == 2
    other = ppodd("sweep", path, "--set", "seeds=[3]", "--resume", cwd=tmp_path)
    assert other.returncode == 2 and "holds another sweep 'tiny' (its trials differ)" in other.stderr


def test_a_sweep_whose_driver_was_killed_is_finished_by_resume(tiny, tmp_path):
    path = sweep_file(tmp_path, {**tiny, "epochs": 24}, seeds=[0, 1])
    driver = subprocess.Popen(command("sweep", path), cwd=tmp_path, env={**os.environ, **PATH}, start_new_session=True)
    archive = Archive(tmp_path / "ppodd-archive")
    wait_for(lambda: any(archive.trial("tiny", t).progress() for t in archive.trials("tiny")))
    os.killpg(driver.pid, signal.SIGKILL)
    driver.wait()
    before = {
        (t, s): archive.trial("tiny", t).stage(s)["finished_at"]
        for t in archive.trials("tiny")
        for s in archive.trial("tiny", t).stages()
    }
    assert len(before) < 6
    resumed = ppodd("sweep", path, "--resume", cwd=tmp_path)
    assert resumed.returncode == 0, resumed.stderr
    records = evaluated(archive, "tiny")
    assert len(records) == 6 and all(len(found) == 1 for found in records.values())
    for (name, stage), ended in before.items():
        assert archive.trial("tiny", name).stage(stage)["finished_at"] == ended  # not done twice
    assert frame(default_tracking_uri(archive.url))["run_id"].nunique() == 4


def run_tiny(tiny, tmp_path, name):
    """One finished trial in an archive, its evaluations open."""
    from ppodd.run import run

    sweep = load_sweep(sweep_file(tmp_path, {**tiny, "budgets": (2, 4)}, name=name, grid={"num_stages": [2]}))
    archive = Archive(tmp_path / "archive")
    archive.write_sweep(name, {**sweep.record(), "created_at": 0})
    for trial, config in sweep.trials.items():
        list(run(config, archive.trial(name, trial)))
    return sweep, archive


def test_evaluators_are_detached_and_survive_being_killed(cluster, tiny, tmp_path, empty_store):
    sweep, archive = run_tiny(tiny, tmp_path, "survivor")
    uri = f"sqlite:///{empty_store}"
    coordinator = evaluators.start(archive.url, sweep.name, sweep.evaluation, uri, count=1, cpus=0)
    evaluators.wait(coordinator)
    assert evaluators.running() == ["evaluator-0"]
    handle = ray.get_actor("evaluator-0", NAMESPACE)
    ray.kill(handle, no_restart=False)
    # more work for it, without starting one anew: Ray has to have restarted the dead one
    other = sweep.evaluation.model_copy(update={"eval_seed": 1})
    ray.get(coordinator.serve.remote(archive.url, sweep.name, other.model_dump(mode="json"), uri))
    status = evaluators.wait(coordinator)
    assert not status["failed"]
    assert all(len(found) == 2 for found in evaluated(archive, sweep.name).values())


def test_a_restarted_coordinator_goes_on_from_the_archive(cluster, tiny, tmp_path, empty_store):
    sweep, archive = run_tiny(tiny, tmp_path, "restarted")
    uri = f"sqlite:///{empty_store}"
    coordinator = evaluators.start(archive.url, sweep.name, sweep.evaluation, uri, count=1, cpus=0)
    ray.kill(coordinator, no_restart=False)

    def status():
        with contextlib.suppress(ray.exceptions.RayActorError):
            # the coordinator may have been made for another sweep: the driver asks again for this one
            evaluators.start(archive.url, sweep.name, sweep.evaluation, uri, count=1, cpus=0)
            found = ray.get(coordinator.status.remote())
            return found if not found["pending"] and not found["running"] else None

    assert not wait_for(status)["failed"]
    assert all(len(found) == 1 for found in evaluated(archive, sweep.name).values())


def test_another_ppodd_version_on_the_cluster_is_refused(cluster, tiny, tmp_path, empty_store, monkeypatch):
    sweep, archive = run_tiny(tiny, tmp_path, "versions")
    uri = f"sqlite:///{empty_store}"
    evaluators.wait(evaluators.start(archive.url, sweep.name, sweep.evaluation, uri, count=1, cpus=0))
    monkeypatch.setattr(evaluators, "__version__", "9.9")
    with pytest.raises(Exception, match=r"the cluster's evaluators are ppodd .*, this is ppodd 9.9"):
        evaluators.start(archive.url, sweep.name, sweep.evaluation, uri, count=1, cpus=0)


@pytest.mark.parametrize(
    ("resources", "message"),
    [({"cpus": 64}, "a trial asks for 64 CPU, the whole cluster has 2"), ({"gpus": 1}, "a trial asks for 1 GPU")],
)
def test_resources_that_are_never_there_are_refused(cluster, tiny, tmp_path, resources, message):
    from tune.sweep import _evaluator_cpus

    with pytest.raises(BadInput, match=message):
        _evaluator_cpus(load_sweep(sweep_file(tmp_path, tiny, resources=resources)))


def test_evaluators_never_take_the_last_core_from_the_trials(cluster, tiny, tmp_path):
    from tune.sweep import _evaluator_cpus

    assert _evaluator_cpus(load_sweep(sweep_file(tmp_path, tiny, evaluators={"count": 1, "cpus": 1}))) == 1
    assert _evaluator_cpus(load_sweep(sweep_file(tmp_path, tiny, evaluators={"count": 2, "cpus": 1}))) == 0


def test_no_cluster_at_an_address_is_said(tiny, tmp_path):
    done = ppodd("sweep", sweep_file(tmp_path, tiny), "--ray-address", "127.0.0.1:1", cwd=tmp_path)
    assert done.returncode == 2 and "no Ray cluster at '127.0.0.1:1'" in done.stderr.splitlines()[-1]


def test_data_that_is_not_there_is_said_before_anything_is_written(tiny, tmp_path):
    values = {**tiny, "dataset": "./gone.parquet"}
    done = ppodd("sweep", sweep_file(tmp_path, values), cwd=tmp_path)
    assert done.returncode == 2 and "gone.parquet does not exist" in done.stderr.splitlines()[-1]
    assert not (tmp_path / "ppodd-archive").exists()


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
