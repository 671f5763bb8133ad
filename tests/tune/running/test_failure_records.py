"""What is left of an exception in a user's own network, raised in a worker: its trace, its log, and the user's line."""

from pathlib import Path

import pytest
from sweeps import ppodd, sweep_file

from ppodd.archive import Archive

NETWORK = """\
from torch import nn


class Broken(nn.Module):
    def __init__(self, spec, width):
        super().__init__()
        self.layer = nn.Linear(spec.channels * spec.height * spec.width, spec.classes)

    def forward(self, x):
        raise ValueError(f"no {x.ndim} axes")  # line 10
"""


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """A sweep of one trial whose network is broken, at debug level, in the folder that holds the network."""
    from tiny import TINY

    folder = tmp_path_factory.mktemp("broken")
    (folder / "lab_networks.py").write_text(NETWORK)
    changes = {"grid": {"num_stages": [1]}, "evaluation": {"nets": 1, "budgets": [1]}}
    file = sweep_file(folder, {**TINY, "arch": "lab_networks:Broken"}, **changes)
    return folder, ppodd("sweep", file, "--debug", cwd=folder)


def test_the_archive_has_the_whole_trace_and_says_where_the_log_is(ran):
    folder, _ = ran
    archive = Archive(folder / "ppodd-archive")
    (name,) = archive.trials("tiny")
    failure = archive.trial("tiny", name).failure()
    assert failure.type == "ppodd.errors.BadInput"  # the network is tried before the first meta-step
    assert failure.message.startswith("arch 'lab_networks:Broken' fails on images")
    assert "ValueError: no 4 axes" in failure.message and "ValueError: no 4 axes" in failure.traceback
    assert 'lab_networks.py", line 10, in forward' in failure.traceback
    log = Path(failure.log_file)
    assert log.match("logs/worker-*.err") and failure.pid and failure.node
    said = log.read_text()
    assert f"ERROR tune.running.trial [sweep=tiny trial={name}] failed" in said and "line 10, in forward" in said


def test_the_command_names_file_and_line_of_the_users_code(ran):
    _, done = ran
    assert done.returncode == 1
    line = next(line for line in done.stdout.splitlines() if line.startswith("failed: "))
    assert line.endswith(": ValueError: no 4 axes (lab_networks.py:10, in forward)")


def test_debug_shows_the_remote_trace(ran):
    _, done = ran
    assert 'lab_networks.py", line 10, in forward' in done.stdout
