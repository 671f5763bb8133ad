"""Sweeps submitted to a real Ray cluster: two raylets on loopback, a real dashboard, token authentication."""

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import zipfile
from pathlib import Path
from typing import NamedTuple

import lab
import pytest
from others import put_in_the_way
from ray_clusters import RayCluster, free_port
from s3 import CREDENTIALS
from servers import MlflowServer
from submissions import evaluations, sweep_file
from sweeps import started, wait_for

from cluster.jobs import package, versions
from cluster.jobs.ray_jobs import Job, Jobs, Submission
from ppodd import __version__
from ppodd.archive import Archive, StartRecord
from ppodd.cli.main import main
from ppodd.errors import BadInput
from results.analysis.tidy_frame import frame
from results.tracking.store import default_tracking_uri

SECRET = "correct-horse-battery-staple"
# a network of the user's own, which neither trials nor evaluators can make without the shipped code and variable
NETWORK = """
import os
from torch import nn

def net(spec, width):
    assert os.environ["LAB_SECRET"], "not given"
    pixels = spec.channels * spec.height * spec.width
    return nn.Sequential(nn.Flatten(), nn.Linear(pixels, spec.classes))
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("submit")


@pytest.fixture(scope="module")
def cluster(folder):
    with RayCluster(folder, cpus=1) as cluster:
        cluster.add_node(cpus=1)
        yield cluster


@pytest.fixture(scope="module")
def archive(folder, empty_store):
    """An archive, its MLflow store made already."""
    (folder / "archive").mkdir()
    shutil.copy(empty_store, folder / "archive/mlflow.db")
    return Archive(folder / "archive")


@pytest.fixture
def here(cluster, monkeypatch, capsys):
    """The command in this process, which is no part of the cluster: exit code, output and errors."""
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", cluster.dashboard)

    def run(*arguments):
        code = main(list(map(str, arguments)))
        out, err = capsys.readouterr()
        assert err.count("\n") <= 1
        return code, out, err

    return run


def command(*arguments):
    return [sys.executable, "-m", "ppodd", *map(str, arguments)]


def environment(cluster, **more):
    return {**cluster.env, "RAY_API_SERVER_ADDRESS": cluster.dashboard, **more}


def ppodd(cluster, *arguments, **more):
    """The command as a process that ends."""
    return subprocess.run(command(*arguments), capture_output=True, text=True, env=environment(cluster, **more))


@pytest.fixture(scope="module")
def submitted(cluster, folder, archive):
    """A sweep whose submitting process is gone."""
    from tiny import TINY

    code = folder / "code"
    code.mkdir()
    (code / "mine.py").write_text(Path(lab.__file__).read_text() + NETWORK)
    (code / ".gitignore").write_text("mine.py\n")
    put_in_the_way(code)
    own = {"arch": "mine:net", "blend": "mine:mostly_new", "class_order": "mine:downwards", "dataset": "mine:scans"}
    path = sweep_file(folder, TINY, "tiny", config=own)
    arguments = ["submit", path, "--archive", archive.url, "--working-dir", code, "--env", "LAB_SECRET"]
    paths = {"PYTHONPATH": f"{cluster.env['PYTHONPATH']}:{code}"}
    return arguments, code, ppodd(cluster, *arguments, LAB_SECRET=SECRET, **paths)


def test_the_submitter_leaves_and_the_evaluators_finish_the_sweep(here, submitted, archive):
    _, _, done = submitted
    assert done.returncode == 0, done.stdout + done.stderr
    assert "job tiny: sweep tiny, 2 trials" in done.stdout and "it is under way" in done.stdout
    wait_for(lambda: evaluations(archive, "tiny") == [1, 1, 1])
    wait_for(lambda: len(frame(default_tracking_uri(archive.url), ["tiny"])) == 3 * 2)
    code, table, _ = here("results", "table", "--archive", archive.url)
    first = [line.split()[0] for line in table.splitlines() if line.strip()]
    assert code == 0 and [word for word in first if word.isdigit()] == ["1", "2"]  # rows; notes stand below


def test_values_of_the_environment_are_in_nothing_that_ray_shows_or_logs(cluster, submitted):
    holding = [path for path in cluster.logs.rglob("*") if path.is_file() and SECRET in _text(path)]
    assert {path.name for path in holding} == {"environment.json"}  # one on each node that worked
    assert all(path.stat().st_mode & 0o077 == 0 for path in holding)
    assert SECRET not in cluster.get("/api/jobs/tiny") and "PPODD_ENVIRONMENT" in cluster.get("/api/jobs/tiny")
    assert SECRET not in submitted[2].stdout


def _text(path):
    with contextlib.suppress(OSError):
        return path.read_bytes().decode(errors="ignore")
    return ""


def test_the_same_sweep_is_begun_once(here, submitted, monkeypatch):
    arguments, code, _ = submitted
    monkeypatch.setenv("LAB_SECRET", SECRET)
    monkeypatch.syspath_prepend(str(code))
    status, _, error = here(*arguments)
    assert status == 2 and "sweep 'tiny' is there already, job tiny (" in error
    status, log, _ = here("jobs", "logs", "tiny", "--follow")
    assert status == 0 and log.splitlines()[-1] == "job tiny: SUCCEEDED"
    assert re.search(r"still open: .* evaluations?, which the evaluators finish|test accuracy on mine:scans", log)
    status, _, error = here(*arguments)
    assert status == 2 and "job tiny (SUCCEEDED)" in error and "--resume finishes" in error


def test_following_can_be_left_and_the_job_be_stopped(cluster, here, folder, tiny):
    path = sweep_file(folder, tiny, "long", config={"epochs": 100_000}, grid={"num_stages": [1]})
    arguments = command("submit", path, "--archive", folder / "archive", "--follow")
    with started(arguments, stdout=subprocess.PIPE, env=environment(cluster)) as follower:
        shown = iter(follower.stdout.readline, "")
        assert any("0/1 trials" in line for line in shown)
        follower.send_signal(signal.SIGINT)
        assert "job long goes on without you" in "".join(shown) and follower.wait() == 1
    other = here("submit", path, "--archive", folder / "archive", "--set", "seeds=[4]", "--resume")
    assert other[0] == 2 and "job long (RUNNING) with other contents" in other[2]
    code, stopped, _ = here("jobs", "stop", "long")
    assert code == 0 and "job long: STOPPED" in stopped
    _, status, _ = here("jobs", "status", "long")
    assert status.startswith("long: STOPPED") and "--resume goes on" in status
    _, status, _ = here("jobs", "status")
    assert [line for line in status.splitlines() if line.startswith("long: STOPPED after")]
    code, _, error = here("jobs", "logs", "lang")
    assert code == 2 and "did you mean 'long'?" in error


def test_evaluators_of_other_code_are_begun_anew_but_not_while_another_sweep_needs_them(
    cluster, here, submitted, folder, tiny
):
    arguments = ["submit", sweep_file(folder, tiny, "coded"), "--archive", folder / "archive", "--follow"]
    there = ["--ray-address", cluster.address]
    served = ppodd(cluster, "evaluators", "status", *there).stdout
    assert "long" in served and "tiny" not in served  # which was over when the other came
    code, log, error = here(*arguments, "--working-dir", submitted[1])
    assert code == 1 and "the cluster's evaluators run other code than this job's" in log, log + error
    assert "serve long: wait until these are over" in log


def test_what_the_cluster_finds_wrong_is_said_here(here, folder, tiny, monkeypatch):
    path = sweep_file(folder, tiny, "unseen", resources={"cpus": 64})
    code, _, error = here("submit", path, "--archive", folder / "archive")
    assert code == 2 and "job unseen FAILED: " in error and "64" in error
    # it had begun nothing: mended, it may have its name again
    path = sweep_file(folder, tiny, "unseen")
    monkeypatch.setattr(versions, "__version__", "9.9")
    code, log, _ = here("submit", path, "--archive", folder / "archive", "--follow")
    assert f"ppodd: the cluster runs ppodd {__version__}, the submitting machine ppodd 9.9" in log
    assert code == 2 and log.splitlines()[-1] == "job unseen-2: FAILED"


@pytest.mark.slow
def test_a_sweep_on_s3_is_evaluated_with_the_credentials_that_were_submitted(
    cluster, here, bucket, gate, folder, tiny, empty_store, tmp_path
):
    path, archive = sweep_file(folder, tiny, "remote"), Archive(f"{bucket}/runs")
    names = [option for name in (*CREDENTIALS, "AWS_ENDPOINT_URL") for option in ("--env", name)]
    server = MlflowServer(f"sqlite:///{shutil.copy(empty_store, tmp_path / 'mlflow.db')}", tmp_path / "artifacts")
    arguments = ["submit", path, "--archive", archive.url, "--tracking-uri", server.url, "--follow"]
    try:
        # evaluators that are there keep the environment of the job that began them, which did without credentials
        assert ppodd(cluster, "evaluators", "stop", "--ray-address", cluster.address).returncode == 0
        code, log, error = here(*arguments, *names)
        assert code == 0 and "job remote: SUCCEEDED" in log, log + error
        wait_for(lambda: evaluations(archive, "remote") == [1, 1, 1])
        wait_for(lambda: len(frame(server.url)) == 3 * 2)
        assert ppodd(cluster, "evaluators", "stop", "--ray-address", cluster.address).returncode == 0
    finally:
        server.stop()


def test_another_ray_on_the_cluster_is_said_before_anything_is_uploaded(cluster, here, folder, tiny, monkeypatch):
    there = versions.here()
    monkeypatch.setattr(versions, "here", lambda: {**there, "ray": "1.0"})
    code, _, error = here("submit", sweep_file(folder, tiny, "older"), "--archive", folder / "archive")
    assert code == 2 and f"the cluster runs ray {there['ray']}, the submitting machine ray 1.0" in error
    assert '"older"' not in cluster.get("/api/jobs/")


def test_a_wrong_token_is_said(cluster):
    done = ppodd(cluster, "jobs", "status", RAY_AUTH_TOKEN="wrong")
    assert done.returncode == 2 and "refuses this machine's token (RAY_AUTH_TOKEN)" in done.stderr
    assert done.stderr.count("\n") == 1


def test_an_interrupted_upload_leaves_nothing_running(cluster, here, folder, tiny):
    port = _proxy_that_cuts(cluster.dashboard, b"PUT /api/packages")
    arguments = ["submit", sweep_file(folder, tiny, "cut"), "--archive", folder / "archive"]
    code, _, error = here(*arguments, "--address", f"http://127.0.0.1:{port}")
    assert code == 1 and "was lost" in error
    assert '"cut"' not in cluster.get("/api/jobs/")


def _proxy_that_cuts(dashboard, request):
    """A port that passes requests on to the dashboard, and hangs up in the middle of this one."""
    listening = socket.create_server(("127.0.0.1", 0))
    target = ("127.0.0.1", int(dashboard.rsplit(":", 1)[1]))

    def serve(client):
        with client, socket.create_connection(target) as server:
            head = client.recv(65536)
            if request in head:
                return
            server.sendall(head)
            while data := server.recv(65536):
                client.sendall(data)

    def accept():
        while True:
            client, _ = listening.accept()
            threading.Thread(target=serve, args=(client,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    return listening.getsockname()[1]


def said(capsys, *arguments):
    assert main(list(map(str, arguments))) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    return error


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "no --address: name the cluster's dashboard"),
        (["--address", "ray://head:10001"], "--address 'ray://head:10001' is no dashboard: write http://HOST:PORT"),
        (["--address", "http://head:x"], "--address 'http://head:x' is no dashboard"),
        (["--address", "http://head:8265"], "no --archive: name a URL"),
        (["--address", "http://head:8265", "--archive", "here"], "--archive 'here' is relative to this machine"),
        (["--address", "http://h:1", "--archive", "/a", "--env", "X_UNSET"], "--env X_UNSET: it is not set here"),
        (["--address", "http://h:1", "--archive", "/a", "--env", "X=1"], "--env takes names only, export X first"),
        (
            ["--address", "http://h:1", "--archive", "/a", "--tracking-uri", "sqlite:///x.db"],
            "is relative: the",
        ),
        (["--address", "http://h:1", "--archive", "/a", "--set", "num_stage=2"], "did you mean 'num_stages' or"),
        (
            ["--address", "http://127.0.0.1:1", "--archive", "/a"],
            "no Ray dashboard at 'http://127.0.0.1:1': Con",
        ),
    ],
)
def test_bad_input_is_said_before_the_cluster_is_asked(capsys, monkeypatch, arguments, message):
    for name in ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)
    assert message in said(capsys, "submit", "quickstart", *arguments)


def test_something_else_at_the_address_is_said(capsys):
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def answer():
            client, _ = listening.accept()
            with client:
                client.recv(4096)
                client.sendall(b"HTTP/1.0 200 OK\r\n\r\nhello")

        answering = threading.Thread(target=answer)
        answering.start()
        address = f"http://127.0.0.1:{listening.getsockname()[1]}"
        assert f"no Ray dashboard at {address!r}" in said(capsys, "jobs", "status", "--address", address)
        answering.join()


def test_the_dashboard_is_that_of_the_environment(monkeypatch, capsys):
    monkeypatch.delenv("RAY_API_SERVER_ADDRESS", raising=False)
    monkeypatch.setenv("RAY_ADDRESS", address := f"http://127.0.0.1:{free_port()}")
    assert f"no Ray dashboard at {address!r}" in said(capsys, "jobs", "status")


def test_a_job_has_begun_when_its_archive_says_so_and_not_by_what_its_log_looks_like(tmp_path):
    def job(archive):
        return Job("s", "RUNNING", "s", str(archive), "digest", "mark", "0:00: 0/1 trials", None, 0.0, None)

    assert not job(tmp_path).has_begun()
    Archive(tmp_path).write_start("s", StartRecord(job="that of another job", started_at=0.0))
    assert not job(tmp_path).has_begun()
    Archive(tmp_path).write_start("s", StartRecord(job="mark", started_at=0.0))
    assert job(tmp_path).has_begun() and not job(tmp_path / "not here").has_begun()
    (tmp_path / "s/started.json").write_text("[]")
    assert not job(tmp_path).has_begun()


@pytest.mark.parametrize(("imports", "code", "ran"), [("true", 5, "-P -m ppodd sweep "), ("false", 126, "")])
def test_a_job_whose_python_has_no_ppodd_ends_with_a_code_of_its_own(tmp_path, imports, code, ran):
    python = f'#!/bin/sh\n[ "$2" = -c ] && exec {imports}\necho "$@"\nexit 5\n'
    (tmp_path / "python").write_text(python)
    (tmp_path / "python").chmod(0o755)
    entrypoint = Submission("s", tmp_path / "s.yaml", "digest", "/it's here").entrypoint()
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    done = subprocess.run(entrypoint, shell=True, capture_output=True, text=True, env=environment)
    assert done.returncode == code and done.stdout.startswith(ran)
    assert Job("s", "FAILED", "s", "/a", "", "", "", code, 0.0, 1.0).did_nothing == (code == 126)


def test_a_log_whose_connection_breaks_goes_on_where_it_broke_off(monkeypatch):
    class Client:
        asked = 0

        async def tail_job_logs(self, job_id):
            self.asked += 1
            yield "one "
            if self.asked == 1:
                raise RuntimeError("the connection was closed")
            yield "two "

    class Ended(NamedTuple):
        over: bool = True

    jobs = object.__new__(Jobs)
    jobs._client = client = Client()
    states = iter([Ended(False), Ended()])
    monkeypatch.setattr(jobs, "info", lambda job_id: next(states))
    monkeypatch.setattr(jobs, "logs", lambda job_id: "one two three")
    said = []
    jobs.follow("j", said.append)
    assert "".join(said) == "one two three" and client.asked == 2

    def gone(text):
        raise BrokenPipeError

    with pytest.raises(BrokenPipeError):
        jobs.follow("j", gone)


@pytest.mark.parametrize("required", ["ppodd=9.9,python=3.11", "python=2.7"])
def test_a_sweep_runs_only_with_the_versions_it_requires(capsys, required):
    message = said(capsys, "sweep", "quickstart", "--dry-run", "--require", required)
    assert "the cluster runs" in message and required.split(",")[0].replace("=", " ") in message


def test_a_package_holds_code_without_what_is_hidden_or_left_out(tmp_path):
    code = tmp_path / "code"
    for name in (
        "a.py",
        "pkg/b.py",
        "pkg/generated.py",
        ".env",
        ".git/x",
        "venv/pyvenv.cfg",
        "venv/lib.py",
        "data/big",
    ):
        (code / name).parent.mkdir(parents=True, exist_ok=True)
        (code / name).write_text(name)
    (code / ".gitignore").write_text("generated.py")
    (code / "loop").symlink_to(code)
    sweep = tmp_path / "s.yaml"
    sweep.write_text("name: s")
    shipped = package.write(tmp_path / "1.zip", sweep, {"A": "b"}, code, ["data"])
    package.write(tmp_path / "2.zip", sweep, {"A": "b"}, code, ["data"])
    with zipfile.ZipFile(tmp_path / "1.zip") as held:
        assert held.namelist()[:3] == ["a.py", "pkg/b.py", "pkg/generated.py"] and shipped.files == 3
        assert held.namelist()[3:] == [package.SWEEP_FILE, package.ENVIRONMENT_FILE]
        values = json.loads(held.read(package.ENVIRONMENT_FILE))
        assert values["A"] == "b" and values["PPODD_CODE"]
    assert (tmp_path / "1.zip").read_bytes() == (tmp_path / "2.zip").read_bytes()  # uploaded once
    # the code is told from other code, whatever travels with it
    sweep.write_text("name: t")
    found = []
    for where in ([code, ["data"]], [code, ["data", "a.py"]], []):
        package.write(tmp_path / "3.zip", sweep, {}, *where)
        with zipfile.ZipFile(tmp_path / "3.zip") as held:
            found.append(json.loads(held.read(package.ENVIRONMENT_FILE))["PPODD_CODE"])
    assert found[0] == values["PPODD_CODE"] != found[1] and found[2] == ""


def test_more_than_ray_takes_is_refused_by_name(tmp_path):
    (tmp_path / "data").mkdir()
    with open(tmp_path / "data/huge", "wb") as file:
        file.truncate(package.LIMIT_BYTES + 1)  # sparse
    with pytest.raises(BadInput, match=r"holds 512 MiB \(of that 512 MiB in 'data'\).*--exclude 'data'"):
        package.write(tmp_path / "x.zip", tmp_path / "sweep.yaml", {}, tmp_path)
    with pytest.raises(BadInput, match="is no folder"):
        package.write(tmp_path / "x.zip", tmp_path / "sweep.yaml", {}, tmp_path / "gone")
    assert not os.path.exists(tmp_path / "x.zip")


def test_a_job_that_is_stopped_checkpoints_and_its_log_says_how_to_go_on(cluster, here, folder, tiny):
    path = sweep_file(
        folder, tiny, "ended", config={"epochs": 100_000, "checkpoint_every": 10**6}, grid={"num_stages": [1]}
    )
    assert here("submit", path, "--archive", folder / "archive")[0] == 0
    (trial,) = wait_for(lambda: Archive(folder / "archive").trials("ended"))
    there = Archive(folder / "archive").trial("ended", trial)
    wait_for(there.progress)
    assert here("jobs", "stop", "ended")[0] == 0
    log = here("jobs", "logs", "ended")[1]
    assert "ppodd: interrupted by SIGTERM; the same command with --resume goes on" in log and "*** SIG" not in log
    assert there.resume()[1].step > 0


@pytest.mark.slow
def test_a_stopped_sweep_is_finished_by_another_job(cluster, here, folder, tiny):
    path = sweep_file(folder, tiny, "halted", config={"epochs": 300})
    arguments = ["submit", path, "--archive", folder / "archive"]
    assert here(*arguments)[0] == 0
    archive = Archive(folder / "archive")
    wait_for(lambda: any(archive.trial("halted", trial).stages() for trial in archive.trials("halted")))
    assert here("jobs", "stop", "halted")[0] == 0
    code, log, error = here(*arguments, "--resume", "--follow")
    assert code == 0 and "job halted-2: SUCCEEDED" in log, log + error
    wait_for(lambda: evaluations(archive, "halted") == [1, 1, 1])
    assert [line.split()[1] for line in here("jobs", "status")[1].splitlines() if "halted" in line][1] == "SUCCEEDED"


@pytest.mark.slow
def test_evaluators_of_an_ended_job_survive_the_loss_of_their_node(tiny, tmp_path):
    """Code that a job shipped is there for its evaluators on a node that never saw the job."""
    (tmp_path / "mine.py").write_text(NETWORK)
    with RayCluster(tmp_path, cpus=0) as cluster:
        first = cluster.add_node(cpus=2)
        path = sweep_file(tmp_path, tiny, "moved", config={"arch": "mine:net"}, evaluators={"cpus": 1})
        code_here = {"PYTHONPATH": f"{cluster.env['PYTHONPATH']}:{tmp_path}", "LAB_SECRET": SECRET}
        arguments = [
            "submit",
            path,
            "--archive",
            tmp_path / "archive",
            "--working-dir",
            tmp_path,
            "--env",
            "LAB_SECRET",
        ]
        done = ppodd(cluster, *arguments, "--follow", **code_here)
        assert done.returncode == 0, done.stdout + done.stderr
        cluster.kill(first)
        # work for them again: the restarted coordinator reads from the archive what is open
        for path in (tmp_path / "archive/moved").glob("*/stage-*/evaluations/*.json"):
            path.unlink()
        restart = (
            f"import ray; from cluster.service.ray_runtime import connect; connect('{cluster.address}')\n"
            "ray.kill(ray.get_actor('coordinator'), no_restart=False)"
        )
        subprocess.run([sys.executable, "-c", restart], env=cluster.env, check=True)
        cluster.add_node(cpus=2)
        archive = Archive(tmp_path / "archive")
        wait_for(lambda: evaluations(archive, "moved") == [1, 1, 1], seconds=180)
