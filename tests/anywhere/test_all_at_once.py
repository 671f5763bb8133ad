"""A sweep where everything is as a lab's machine may have it: it runs, and says what it does differently."""

import os
import shlex

from sweeps import sweep_file
from users import ppodd_as_nobody

from ppodd.cli.main import main

ODD = "a#c::d e"
ONE_CORE = ("taskset", "-c", "0")
# a container's /dev/shm, where this user may mount one
SMALL_SHM = ("unshare", "--mount", "sh", "-c", 'mount -t tmpfs -o size=1m tmpfs /dev/shm; exec "$@"', "sh")


def test_a_sweep_of_nobody_on_one_core_with_a_long_temporary_folder_in_an_oddly_named_archive(
    tmp_path, tiny, monkeypatch
):
    """No passwd entry, no home, `TMPDIR` as batch systems set it, a megabyte of shared memory: half a minute."""
    scratch = tmp_path / ("scratch-" + 50 * "x")
    scratch.mkdir()
    file = sweep_file(tmp_path, tiny, grid={"num_stages": [1]}, seeds=[0, 1])
    nobody = {"cwd": tmp_path, "before": ONE_CORE, "HOME": None, "PPODD_CACHE": None, "TMPDIR": scratch}
    planned = ppodd_as_nobody("sweep", file, "--dry-run", **nobody)
    assert planned.returncode == 0 and "on 1 core of this machine, 1 trial at a time" in planned.stdout, planned.stderr
    small = SMALL_SHM if os.geteuid() == 0 else ()
    done = ppodd_as_nobody("sweep", file, "--archive", ODD, **{**nobody, "before": (*ONE_CORE, *small)})
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"user 12345 has no home: {scratch}/ppodd-12345 takes its place" in done.stderr
    assert f"Ray cannot use {scratch}/ray, which is longer than the 40 bytes that sockets leave" in done.stderr
    assert done.stderr.count("\n") == 2, done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == [ODD, scratch.name, "sweep.yaml"]
    report = next(line for line in done.stdout.splitlines() if line.startswith("report: "))
    words = shlex.split(report.removeprefix("report: "))
    assert words[words.index("--archive") + 1] == str(tmp_path / ODD)
    monkeypatch.chdir(tmp_path)
    assert main(words[1:]) == 0
