"""What a killed process left half-written is removed by the next one, and nothing that is still being written."""

import os
import subprocess
import sys
import time

import pytest
from sweeps import PATH

from ppodd.archive import TrialArchive
from ppodd.config import DistillConfig, build
from ppodd.distillation import run
from ppodd.files import Folder
from ppodd.files.processes import short_machine

HELD = """import os, time
from ppodd.files.folder import atomic_path
with atomic_path({path!r}) as t: print(t, flush=True); """


def begin_to_write(path, then):
    process = subprocess.Popen(
        [sys.executable, "-c", HELD.format(path=str(path)) + then],
        env={**os.environ, **PATH},
        stdout=subprocess.PIPE,
        text=True,
    )
    with process.stdout:
        return process, process.stdout.readline().strip()


def test_what_a_killed_process_left_is_removed_and_what_a_living_one_writes_is_not(tmp_path):
    dead, left = begin_to_write(tmp_path / "stage-01" / "stage.json", "os.kill(os.getpid(), 9)")
    dead.wait()
    living, written = begin_to_write(tmp_path / "stage-01" / "poster.png", "time.sleep(60)")
    try:
        assert os.path.exists(left) and os.path.exists(written)
        assert Folder(tmp_path).remove_temporaries() == [left]
        assert not os.path.exists(left) and os.path.exists(written)
        assert Folder(tmp_path).find() == []
    finally:
        living.kill()
        living.wait()


@pytest.mark.parametrize(
    ("name", "age_h", "goes"),
    [
        (".stage.json.0123abcd-77.q1w2e3r4", 1, False),  # of another machine: it may live
        (".stage.json.0123abcd-77.q1w2e3r4", 25, True),
        (".poster.safetensors.q1w2e3r_", 1, False),  # as an older version named them
        (".poster.safetensors.q1w2e3r_", 25, True),
        (".notes.txt", 1000, False),
        ("stage.json", 1000, False),
    ],
)
def test_which_files_count_as_left_behind(tmp_path, name, age_h, goes):
    path = tmp_path / name
    path.touch()
    at = time.time() - 3600 * age_h
    os.utime(path, (at, at))
    Folder(tmp_path).remove_temporaries()
    assert path.exists() != goes


def test_a_resumed_run_leaves_none(tiny, tmp_path):
    config, trial = build(DistillConfig, {**tiny, "name": "t"}), TrialArchive(tmp_path / "runs" / "t")
    stages = run(config, trial)
    next(stages)
    stages.close()
    gone = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, text=True)
    left = tmp_path / "runs/t/resume" / f".state.safetensors.{short_machine()}-{int(gone.stdout)}.q1w2e3r4"
    left.touch()
    list(run(config, trial, resume=True))
    assert not left.exists()
