"""What is left of an exception in a user's own network, raised in a worker: its trace, its log, and the user's line."""

import shutil
import tempfile
from pathlib import Path

import pytest
from sweeps import ppodd, sweep_file

from ppodd.archive import Archive

NETWORK = """\
from torch import nn

calls = []


class Broken(nn.Module):
    def __init__(self, spec, width):
        super().__init__()
        self.layer = nn.Linear(spec.channels * spec.height * spec.width, spec.classes)

    def forward(self, x):
        calls.append(x.ndim)
        if len(calls) > 20:  # it passes the try before the first meta-step
            raise ValueError(f"no {x.ndim} axes")  # line 14
        return self.layer(x.flatten(1))
"""


SECRETS = {
    name: f"planted-{name.lower()}-{number}"
    for number, name in enumerate(
        ["AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "HF_TOKEN", "WANDB_API_KEY", "GITHUB_TOKEN", "LAB_PASSWORD",
         "MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN", "PGPASSWORD"]
    )
}  # fmt: skip


@pytest.fixture(scope="module")
def rays_folder():
    """Where Ray has its logs meanwhile."""
    folder = tempfile.mkdtemp(prefix="ppodd-", dir="/tmp")  # sockets need a short path
    yield Path(folder)
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def ran(tmp_path_factory, rays_folder):
    """A sweep of one trial whose network is broken, at debug level, in the folder that holds the network."""
    from tiny import TINY

    folder = tmp_path_factory.mktemp("broken")
    (folder / "lab_networks.py").write_text(NETWORK)
    changes = {"grid": {"num_stages": [1]}, "evaluation": {"nets": 1, "budgets": [1]}}
    file = sweep_file(folder, {**TINY, "arch": "lab_networks:Broken"}, **changes)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {**SECRETS, "RAY_TMPDIR": str(rays_folder)}.items():
            patch.setenv(name, value)
        return folder, ppodd("sweep", file, "--debug", "-vv", cwd=folder)


def test_the_archive_has_the_whole_trace_and_says_where_the_log_is(ran):
    folder, _ = ran
    archive = Archive(folder / "ppodd-archive")
    (name,) = archive.trials("tiny")
    failure = archive.trial("tiny", name).failure()
    assert failure.type == "builtins.ValueError" and failure.message == "no 4 axes"
    assert "ValueError: no 4 axes" in failure.traceback and "rat_bptt.py" in failure.traceback
    assert 'lab_networks.py", line 14, in forward' in failure.traceback
    log = Path(failure.log_file)
    assert log.match("logs/worker-*.err") and failure.pid and failure.node
    said = log.read_text()
    assert f"ERROR tune.running.trial [sweep=tiny trial={name}] failed" in said and "line 14, in forward" in said


def test_the_command_names_file_and_line_of_the_users_code(ran):
    _, done = ran
    assert done.returncode == 1
    line = next(line for line in done.stdout.splitlines() if line.startswith("failed: "))
    assert line.endswith(": ValueError: no 4 axes (lab_networks.py:14, in forward)")


def test_debug_shows_the_remote_trace(ran):
    _, done = ran
    assert 'lab_networks.py", line 14, in forward' in done.stdout


def test_a_failed_trial_is_not_said_to_be_completed(ran):
    _, done = ran
    assert "completed" not in (done.stdout + done.stderr).lower() and "Trial status" not in done.stdout


def test_no_secret_of_the_environment_is_in_what_is_said_logged_archived_tracked_or_reported(ran, rays_folder):
    folder, done = ran
    with pytest.MonkeyPatch.context() as patch:
        for name, value in SECRETS.items():
            patch.setenv(name, value)
        report = ppodd("results", "report", "-o", "report.html", cwd=folder)
    files = [path for place in (folder, rays_folder) for path in place.rglob("*") if path.is_file()]
    names = {path.name for path in files}
    assert {"mlflow.db", "failure.json", "config.json", "raylet.out"} <= names, report.stderr
    said = (done.stdout + done.stderr + report.stdout + report.stderr).encode()
    for secret in map(str.encode, SECRETS.values()):
        assert secret not in said
        assert not [path for path in files if secret in path.read_bytes()]
