"""The benchmarks that stand on many parts still run."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["throughput.py", "--trials", "4", "--stages", "2"], "lost: 0 in the archive, 0 in MLflow"),
        (["overhead.py", "--trials", "2", "--epochs", "3"], "evaluators on : 2 trials of"),
        (
            ["examples.py", "--epochs", "1", str(ROOT / "examples/paper-boost-small.yaml")],
            "paper-boost-small: 12 trials",
        ),
        (["gpu.py", "--device", "cpu", "--quick"], "evaluate: done"),  # two minutes: every part of it, shrunk
    ],
)
def test_a_small_run_ends_well(arguments, said, tmp_path):
    command = [sys.executable, ROOT / "benchmarks" / arguments[0], *arguments[1:]]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=300)
    assert done.returncode == 0 and said in done.stdout, done.stdout + done.stderr
