"""The quickstart where a batch system gives one core of many."""

import os
import subprocess
import time

import pytest
from process_tree import descendants
from sweeps import PATH, command

ONE_CORE = ("taskset", "-c", "0")


@pytest.mark.slow
def test_all_of_it_is_on_that_core_and_the_estimate_says_so(tmp_path):
    """Five minutes of that core; on a busy machine several times that."""
    environment = {**os.environ, **PATH}
    planned = subprocess.run(
        [*ONE_CORE, *command("sweep", "quickstart", "--dry-run")],
        capture_output=True, text=True, cwd=tmp_path, env=environment,
    )  # fmt: skip
    assert planned.returncode == 0 and "on 1 core of this machine, 1 trial at a time" in planned.stdout, planned.stderr
    allowed = {}
    with open(tmp_path / "said.txt", "w") as said:
        sweep = subprocess.Popen(
            [*ONE_CORE, *command("sweep", "quickstart")], cwd=tmp_path, env=environment, stdout=said, stderr=said
        )
        while sweep.poll() is None:
            for pid, name in descendants(sweep.pid).items():
                try:
                    allowed[name] = os.sched_getaffinity(pid)
                except ProcessLookupError:
                    continue
            time.sleep(1)
    assert sweep.returncode == 0, (tmp_path / "said.txt").read_text()[-3000:]
    assert any(name.startswith("ray::Evaluator") for name in allowed) and set(map(frozenset, allowed.values())) == {
        frozenset({0})
    }
