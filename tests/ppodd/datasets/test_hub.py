"""Data sets of the Hugging Face hub by name: from a stand-in for it, without a network, and where it has none."""

import os
import subprocess
import sys

import pytest
from hub import serving
from image_sets import table


@pytest.fixture
def doctor(tmp_path):
    """Runs `ppodd doctor` in a process with a home of its own, which reads the hub's address as it starts."""

    def run(address, **environment):
        home = {"HF_HOME": str(tmp_path / "home"), "PPODD_CACHE": str(tmp_path / "cache"), "HF_ENDPOINT": address}
        return subprocess.run(
            [sys.executable, "-m", "ppodd", "doctor", "--dataset=hf:owner/name", f"--output={tmp_path}/sheet.png"],
            env={**os.environ, **home, **environment}, capture_output=True, text=True, check=False,
        )  # fmt: skip

    return run


def test_a_data_set_of_the_hub_is_fetched_read_and_kept(tmp_path, doctor):
    for split, labels in (("train", (0, 1) * 5), ("test", (0, 1) * 3)):
        table(tmp_path / f"hub/data/{split}-00000-of-00001.parquet", labels, split, names=["ant", "bee"])
    with serving(tmp_path / "hub") as (address, asked):
        fetched = doctor(address)
    assert fetched.returncode == 0, fetched.stderr
    assert "data: hf:owner/name" in fetched.stdout
    assert "2 classes: ant, bee; each 5 training and 3 test images" in fetched.stdout
    assert "/api/agent-harnesses" not in asked and all("/owner/name" in path for path in asked)  # no telemetry
    offline = doctor(address, HF_HUB_OFFLINE="1")
    assert (offline.returncode, offline.stdout) == (0, fetched.stdout)


def test_a_data_set_that_the_hub_does_not_give_is_one_line(tmp_path, doctor):
    refused = doctor("http://127.0.0.1:9", HF_HUB_OFFLINE="1")
    (line,) = refused.stderr.splitlines()
    assert refused.returncode == 2 and "dataset 'hf:owner/name' cannot be fetched" in line
    assert "without a network, fetch it to a folder and name that" in line
