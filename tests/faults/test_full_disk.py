"""A disk that fills up while a sweep runs, on real Ray: it is said once, and with room again the sweep ends as ever."""

import os
import subprocess

import pytest
from disks import mounted
from sweeps import PATH, command, ppodd, sweep_file, wait_for

from ppodd.archive import Archive
from ppodd.distillation import run
from tune.sweep_file import load_sweep


def fill(path):
    """Leave no byte of the disk that a file lies on."""
    with open(path, "wb", buffering=0) as ballast:
        for size in (2**16, 1):
            try:
                while True:
                    ballast.write(b"\0" * size)
            except OSError:
                continue


@pytest.mark.slow  # a minute
def test_a_disk_that_fills_up_amid_a_sweep_ends_it_with_one_line_and_loses_nothing(tiny, tmp_path):
    path = sweep_file(tmp_path, {**tiny, "epochs": 150}, grid={"num_stages": [1]}, seeds=[0, 1])
    sweep, undisturbed = load_sweep(path), Archive(tmp_path / "undisturbed")
    for name, config in sweep.trials.items():
        list(run(config, undisturbed.trial("tiny", name)))
    with mounted(tmp_path / "disk", "size=16m") as disk:
        archive = Archive(disk / "archive")
        begin = command("sweep", path, "--archive", archive.url)
        with subprocess.Popen(
            begin,
            cwd=tmp_path,
            env={**os.environ, **PATH},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        ) as driver:
            wait_for(lambda: driver.poll() or any(archive.trial("tiny", t).progress() for t in archive.trials("tiny")))
            fill(disk / "ballast")
            said = driver.stderr.read()
        assert driver.returncode == 1, said
        assert said.count("\n") == 1 and "No space left on device" in said and f"{disk}/archive" in said, said
        (disk / "ballast").unlink()
        resumed = ppodd("sweep", path, "--archive", archive.url, "--resume", cwd=tmp_path)
        assert resumed.returncode == 0, resumed.stdout + resumed.stderr
        for name in sweep.trials:
            mine, theirs = archive.trial("tiny", name), undisturbed.trial("tiny", name)
            assert mine.poster(1).digest == theirs.poster(1).digest and len(mine.evaluations(1)) == 1
        left = [name for name in (archive.folder / "tiny").find() if name.count(".") > 1]
        assert left == []
