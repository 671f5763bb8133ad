"""The evaluators of a real cluster, from the command line: they outlive drivers, are watched, scaled and stopped."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time

import pytest
from archives import progress, sweep_record
from ray_clusters import RayCluster, end_session
from servers import MlflowServer
from submissions import evaluations, sweep_file
from sweeps import started, wait_for

from cluster.service import client
from cluster.service.client import EvaluatorsNow, is_idle, wait
from ppodd.archive import Archive
from ppodd.cli.evaluators import protocol, tables
from ppodd.cli.main import main
from ppodd.config import DistillConfig, EvaluationConfig, build
from ppodd.errors import PpoddError
from results.analysis.tidy_frame import frame
from results.tracking.syncing import sync


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    with RayCluster(tmp_path_factory.mktemp("evaluators"), cpus=2) as cluster:
        yield cluster


def command(*arguments):
    return [sys.executable, "-m", "ppodd", *map(str, arguments)]


def ppodd(cluster, *arguments):
    done = subprocess.run(
        command(*arguments, "--ray-address", cluster.address), capture_output=True, text=True, env=cluster.env
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
def test_a_killed_drivers_stages_are_evaluated_all_the_same_and_resume_ends_the_sweep(
    cluster, tiny, tmp_path, empty_store
):
    path = sweep_file(tmp_path, tiny, "killed", config={"epochs": 40}, seeds=[0, 1])
    archive = Archive(tmp_path / "archive")
    (tmp_path / "archive").mkdir()
    shutil.copy(empty_store, tmp_path / "archive/mlflow.db")
    arguments = ["sweep", path, "--archive", archive.url, "--ray-address", cluster.address]
    driver = subprocess.Popen(command(*arguments), env=cluster.env, start_new_session=True)
    wait_for(lambda: evaluations(archive, "killed"))
    os.kill(driver.pid, signal.SIGKILL)
    driver.wait()
    end_session(driver)
    stages = len(evaluations(archive, "killed"))
    assert 0 < stages < 6
    wait_for(lambda: evaluations(archive, "killed")[:stages] == [1] * stages)
    shown = ppodd(cluster, "evaluators", "status")
    assert "killed" in shown and "evaluator-0" in shown and "0 failed" in shown
    ended = ppodd(cluster, "sweep", path, "--archive", archive.url, "--resume", "--wait")
    assert evaluations(archive, "killed") == [1] * 6 and "test accuracy on digits" in ended


@pytest.mark.slow
def test_evaluators_are_started_for_an_archive_scaled_and_stopped(cluster, tiny, tmp_path):
    from ppodd.distillation.archived_run import run
    from tune.sweep_file import load_sweep

    archive = Archive(tmp_path / "archive")
    sweep = load_sweep(str(sweep_file(tmp_path, tiny, "archived", grid={"num_stages": [2]})))
    archive.write_sweep(sweep.record())
    for name, config in sweep.trials.items():
        list(run(config, archive.trial("archived", name)))
    how = ["--archive", archive.url, "--protocol", "mode: latest, nets: 1", "--count", "2", "--cpus", "0"]
    said = ppodd(cluster, "evaluators", "start", *how, "--tracking-uri", f"sqlite:///{tmp_path}/view.db")
    assert "evaluating archived with at most 2 evaluators" in said
    wait_for(lambda: evaluations(archive, "archived") == [2, 2])
    (trial,) = (archive.trial("archived", name) for name in sweep.trials)
    assert [record.protocol.mode for record in trial.evaluations(2)].count("latest") == 1
    # begun again, it stays where it is shown
    ppodd(cluster, "evaluators", "start", *how)
    assert (tmp_path / "view.db").exists() and not (tmp_path / "archive/mlflow.db").exists()
    assert "at most 1 evaluator from" in ppodd(cluster, "evaluators", "scale", "1")
    wait_for(lambda: ppodd(cluster, "evaluators", "status").count("\nevaluator-") <= 1)
    for _ in range(2):  # also where nothing is left
        ppodd(cluster, "evaluators", "stop")
    gone = subprocess.run(
        command("evaluators", "status", "--ray-address", cluster.address),
        capture_output=True, text=True, env=cluster.env,
    )  # fmt: skip
    assert gone.returncode == 2 and "no evaluators on this cluster: `ppodd evaluators start" in gone.stderr


@pytest.mark.slow
def test_a_sweep_goes_on_while_its_mlflow_server_is_away_and_is_in_it_once_it_is_back(
    cluster, tiny, tmp_path, empty_store
):
    path = sweep_file(tmp_path, tiny, "away", config={"epochs": 200}, grid={"num_stages": [4]})
    archive = Archive(tmp_path / "archive")
    store, local = (f"sqlite:///{shutil.copy(empty_store, tmp_path / name)}" for name in ("server.db", "local.db"))
    server = MlflowServer(store, tmp_path / "artifacts")
    arguments = ["--archive", archive.url, "--tracking-uri", server.url, "--ray-address", cluster.address, "--wait"]
    begin = command("sweep", path, *arguments)
    try:
        with started(begin, env=cluster.env, stdout=subprocess.PIPE) as driver:
            wait_for(lambda: evaluations(archive, "away"))
            server.stop()
            lags = f"MLflow lags: away: MLflow store {server.url}: no answer"
            wait_for(lambda: lags in ppodd(cluster, "evaluators", "status"))
            said, _ = driver.communicate()
        assert driver.returncode == 0 and f"MLflow does not show all of it: MLflow store {server.url}" in said
        assert evaluations(archive, "away") == [1] * 4
        sync(archive.url, local)
        whole = frame(local).drop(columns="run_id")
        assert len(whole) == 4 * 2
        server.start()
        wait_for(lambda: frame(server.url).drop(columns="run_id").equals(whole))
    finally:
        server.stop()


@pytest.mark.slow
def test_a_cluster_without_nodes_adds_them_for_a_sweep_that_says_it_may(tiny, tmp_path):
    path = sweep_file(tmp_path, tiny, "grown", evaluators={"cpus": 1}, max_concurrent=1)
    archive = Archive(tmp_path / "archive")
    arguments = ["sweep", path, "--archive", archive.url]
    with RayCluster(tmp_path, cpus=0, scales_to=2) as cluster:
        there = ["--ray-address", cluster.address]
        refused = subprocess.run(command(*arguments, *there), capture_output=True, text=True, env=cluster.env)
        assert refused.returncode == 2 and not archive.sweeps()
        assert "no node of the cluster has (1 nodes, of 0 CPU and 0 GPU)" in refused.stderr
        assert "--autoscaling" in refused.stderr
        assert "test accuracy on digits" in ppodd(cluster, *arguments, "--autoscaling", "--wait")
    assert evaluations(archive, "grown") == [1, 1, 1]


@pytest.mark.slow
def test_a_cluster_without_a_token_is_joined_only_by_who_says_so(tmp_path):
    with RayCluster(tmp_path, cpus=1, auth="disabled") as cluster:
        status = command("evaluators", "status", "--ray-address", cluster.address)
        for auth, message in (
            ({"HOME": str(tmp_path)}, "runs without a token: anyone who reaches it can run code there"),
            ({"RAY_AUTH_MODE": "disabled"}, "no evaluators on this cluster"),
        ):
            env = {name: value for name, value in cluster.env.items() if not name.startswith("RAY_AUTH")} | auth
            said = subprocess.run(status, capture_output=True, text=True, env=env)
            assert said.returncode == 2 and message in said.stderr and said.stderr.count("\n") == 1


@pytest.mark.slow
def test_another_ray_with_a_token_of_its_own_is_refused_in_one_line(cluster, tmp_path):
    env = {name: value for name, value in cluster.env.items() if not name.startswith("RAY_AUTH")}
    env |= {"HOME": str(tmp_path), "RAY_NUM_REDIS_GET_RETRIES": "2"}
    status = command("evaluators", "status", "--ray-address", cluster.address)
    said = subprocess.run(status, capture_output=True, text=True, env=env)
    assert said.returncode == 2 and said.stderr.startswith(f"ppodd: no Ray cluster to join at '{cluster.address}'")
    assert "it asks for another token than is here" in said.stderr and said.stderr.count("\n") == 1


@pytest.mark.slow
def test_on_one_gpu_evaluators_get_their_place_when_the_trials_have_left_it(tiny, tmp_path):
    """There need be no such GPU: the trials compute on the CPU, and what the evaluators do is try."""
    how = {"resources": {"gpus": 1}, "evaluators": {"cpus": 0, "gpus": 0.5, "idle_s": 600}}
    how |= {"config": {"device": "cpu", "num_stages": 1}, "grid": {"epochs": [4, 200]}}
    path, archive = sweep_file(tmp_path, tiny, "shared", **how), Archive(tmp_path / "archive")
    with RayCluster(tmp_path, gpus=1) as cluster:
        begin = command("sweep", path, "--archive", archive.url, "--ray-address", cluster.address)
        with started(begin, env=cluster.env, stdout=subprocess.PIPE) as driver:
            try:
                wait_for(lambda: evaluations(archive, "shared") == [0])
                wait_for(lambda: "waits for its place" in ppodd(cluster, "evaluators", "status"))
                said, _ = driver.communicate()
            finally:
                driver.kill()
        assert driver.returncode == 0 and "they wait until trials leave some" in said
        wait_for(lambda: re.search(r"evaluator-0 .* cuda ", ppodd(cluster, "evaluators", "status")))
        trials = [archive.trial("shared", name) for name in archive.trials("shared")]
        wait_for(lambda: any(trial.evaluations(1) or trial.evaluation_failures(1) for trial in trials))


def test_without_a_cluster_an_archive_is_evaluated_here_and_now(tiny, tmp_path):
    from ppodd.config import DistillConfig, build
    from ppodd.distillation.archived_run import run

    archive = Archive(tmp_path / "archive")
    list(run(build(DistillConfig, {**tiny, "num_stages": 1}), archive.trial("runs", "one")))
    arguments = ["evaluators", "start", "--archive", archive.url, "--protocol", "arch: nowhere:net"]
    done = subprocess.run(command(*arguments), capture_output=True, text=True)
    assert done.returncode == 1, done.stderr
    assert "in the archive: 1 evaluation, 1 failed" in done.stdout
    assert "failed: one stage 1, blend, nowhere:net: " in done.stdout
    assert evaluations(archive, "runs") == [1]


def test_nothing_is_idle_while_an_archive_cannot_be_read():
    quiet = {"archive_url": "a", "sweep": "s", "pending": 0, "running": 0, "away": ""}
    other = {**quiet, "sweep": "t", "running": 1}
    status = {"pending": 0, "running": 1, "sweeps": [quiet, other]}
    assert is_idle(status, ("a", "s")) and not is_idle(status, ("a", "t")) and not is_idle(status, None)
    away = {"pending": 0, "running": 0, "sweeps": [{**quiet, "away": "no answer"}]}
    assert not is_idle(away, ("a", "s")) and not is_idle(away, None)


def test_waiting_for_a_sweep_that_is_served_no_more_ends_with_what_to_do():
    class Coordinator:
        class status:
            remote = staticmethod(lambda **asked: {"pending": 0, "running": 0, "sweeps": []})

    with pytest.raises(PpoddError, match=r"no longer serve sweep 's' of a: .* --resume"):
        wait(Coordinator, ("a", "s"), answer=lambda reference: reference)


def test_what_evaluators_were_at_is_shown_no_longer_than_some_seconds(monkeypatch):
    moment, asked, gone = 0.0, [], False

    class Coordinator:
        class status:
            remote = staticmethod(lambda: asked.append(moment))

    def answered(reference, limit_s):
        if gone:
            raise PpoddError("no answer")
        return {"evaluators": [f"at {moment:g}"]}

    monkeypatch.setattr(client, "answer", answered)
    monkeypatch.setattr(client.time, "monotonic", lambda: moment)
    now, seen = EvaluatorsNow(Coordinator), []
    for moment in (0.0, 1.0, 2.0, 4.0, 11.0, 12.0):
        gone = moment > 2
        seen.append(now())
    assert seen == [["at 0"], ["at 0"], ["at 2"], ["at 2"], ["at 2"], []]
    assert asked == [0.0, 2.0, 4.0, 11.0]  # not at every look


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["start", "--archive", "gone"], "no sweep or run in"),
        (["start", "--archive", "gone", "--sweep", "s"], "no sweep 's' in"),
        (["start", "--count", "0"], "--count=0: at least 1"),
        (
            ["start", "--gpus", "2"],
            "--gpus=2: an evaluator computes on one GPU: write 1 or a fraction, and raise --count",
        ),
        (["start", "--protocol", "mode: worst"], "mode='worst'"),
        (["start", "--protocol", "mood: latest"], "unknown config field 'mood'; did you mean 'mode'"),
        (["start", "--protocol", "latest"], "--protocol 'latest': write fields as"),
        (["scale", "-1"], "scale -1: name 0 or more"),
        (["start", "--autoscaling"], "--autoscaling is said of a cluster: name it by --ray-address"),
        (["start", "--idle-s", "-1"], "--idle-s=-1.0: at least 0 seconds"),
        (["status", "--ray-address", "127.0.0.1:1"], "or name the cluster that has the evaluators: --ray-address"),
    ],
)
def test_bad_input_is_one_line(arguments, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["evaluators", *arguments]) == 2
    said = capsys.readouterr().err
    assert message in said and said.count("\n") == 1


@pytest.mark.parametrize("listed", [True, False])
def test_a_protocol_whose_network_does_not_fit_a_sweeps_images_is_refused(listed, tiny, tmp_path, capsys):
    archive, config = Archive(tmp_path), build(DistillConfig, tiny)
    archive.trial("small", "a").create(config, resume=False)
    if listed:
        archive.write_sweep(sweep_record("small", [config], EvaluationConfig()))
    assert main(["evaluators", "start", f"--archive={tmp_path}", "--protocol", "arch: [convnet, convnet4]"]) == 2
    said = capsys.readouterr().err
    assert "--protocol for small: arch=convnet4: its 4 blocks are too many for images of 8 × 8 px, 12 px a side" in said
    assert archive.evaluations("small") == [EvaluationConfig()]


def test_a_protocol_is_yaml_or_a_file_of_it(tmp_path):
    wanted = EvaluationConfig(mode=("latest",), nets=4, budgets=(10, 20))
    assert protocol("mode: latest, nets: 4, budgets: [10, 20]") == wanted
    (tmp_path / "p.yaml").write_text("mode: [latest]\nnets: 4\nbudgets: [10, 20]\n")
    assert protocol(str(tmp_path / "p.yaml")) == wanted


def test_the_tables_show_who_is_at_what_and_where_trials_are(capsys):
    from rich.console import Console

    status = {
        "version": "1", "pending": 3, "running": 1, "done": 5, "failed": {"t": "a stage 1: boom"}, "per_minute": 2.5,
        "pools": [{"count": 4, "cpus": 1, "gpus": 0.25, "idle_s": 60}], "sync_error": "s: store is away",
        "log": {"node": "10.0.0.9", "log_file": "/ray/worker-1.err"}, "trouble": ["/a: away"],
        "sweeps": [{"sweep": "s", "archive_url": "/a", "pending": 3, "running": 1, "done": 5, "failed": {"t": "boom"}}],
        "evaluators": [
            {"name": "evaluator-0", "node": "10.0.0.1", "device": "cuda", "at": "s/t stage 2 (blend, convnet)",
             "seconds": 61.0, "done": 5, "failed": 3},
        ],
        "trials": [
            ("s", "t", progress(seconds_left=30.0, updated_at=time.time() - 60)),
            ("s", "u", progress(seconds_left=30.0, updated_at=time.time() - 600)),
        ],
    }  # fmt: skip
    Console(width=160).print(tables(status))
    shown = capsys.readouterr().out
    assert "log of coordinator: 10.0.0.9:/ray/worker-1.err" in shown
    for part in (
        "3 pending, 1 running, 5 done, 1 failed, 2.5 a minute; at most 4 evaluators of 1 CPU, 0.25 GPU",
        "evaluator-0", "10.0.0.1", "s/t stage 2 (blend, convnet)", "1:01", "s/t", "2/4", "3/40", "1.500", "0:30",
        "silent for 10:00",
        "failed: a stage 1: boom", "MLflow lags: s: store is away", "/a: away",
    ):  # fmt: skip
        assert part in shown, part
