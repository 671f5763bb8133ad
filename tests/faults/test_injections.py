"""Commands are killed at random moments, ended between any two of their steps, run against one another.

Nothing may be lost, doubled, changed or left over in the end. Each fault and its moment is printed, with the seed.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from sweeps import PATH

INJECTIONS = Path(__file__).parents[1] / "support/faults.py"
KILLS = int(os.environ.get("PPODD_KILLS", "60"))  # of the long part; 200 are some 20 minutes of one core


def inject(*arguments, seconds, script=INJECTIONS):
    environment = {**os.environ, **PATH, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, str(script), *arguments],
        capture_output=True, text=True, env=environment, timeout=seconds,
    )  # fmt: skip
    print(done.stdout)
    assert done.returncode == 0, f"{done.stdout[-3000:]}\n{done.stderr[-2000:]}"
    assert done.stdout.rstrip().endswith("lost 0"), done.stdout[-3000:]
    return done.stdout


def test_a_few_faults_of_each_kind_lose_nothing():
    """Half a minute of one core."""
    said = inject("kills", "steps", "pairs", "--count=6", "--sample=1", "--most=1", "--seed=3", seconds=600)
    assert sum(line.split(": ")[0].isdigit() for line in said.splitlines()) == 6


@pytest.mark.slow
def test_many_kills_lose_nothing():
    """Minutes: `PPODD_KILLS=200` for the table in docs/reliability.md."""
    inject("kills", f"--count={KILLS}", "--seed=1", seconds=600 + 30 * KILLS)


@pytest.mark.slow
def test_random_kills_of_what_a_running_sweep_is_made_of_lose_nothing():
    """Some 10 minutes: driver, trials, evaluators, coordinator, and Ray's own GCS and raylet."""
    inject("--count=12", "--seed=1", seconds=3600, script=INJECTIONS.with_name("sweep_faults.py"))


@pytest.mark.slow
def test_a_command_that_ends_between_two_of_its_steps_or_beside_another_loses_nothing():
    """Some 5 minutes."""
    inject("steps", "pairs", "--sample=12", "--most=8", "--seed=1", seconds=3600)
