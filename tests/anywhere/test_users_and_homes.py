"""Users without a name, a home or a place to write: what can be made again is kept elsewhere, and that is said once."""

import logging
import os
import stat
import tempfile
from pathlib import Path

import pytest
from disks import mounted, remount
from flags import flags
from sweeps import sweep_file
from users import ppodd_as_nobody, ppodd_on_a_read_only_disk

from ppodd.cli.main import main
from ppodd.datasets import loading
from ppodd.files import cache, cache_folder, cached


@pytest.fixture
def run(tiny):
    return ["distill", *flags(tiny | {"num_stages": 1, "name": "run"})]


@pytest.fixture
def temporary(tmp_path, monkeypatch):
    """The folder of temporary files, for this test alone; the fallback is chosen anew."""
    folder = tmp_path / "tmp"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    cache._instead.cache_clear()
    cache._unlike_any.cache_clear()
    return folder


def test_a_user_without_passwd_entry_and_home_is_given_a_temporary_one(run, tmp_path):
    (tmp_path / "tmp").mkdir()
    done = ppodd_as_nobody(*run, cwd=tmp_path, HOME=None, PPODD_CACHE=None, TMPDIR=tmp_path / "tmp")
    assert done.returncode == 0, done.stderr
    home = tmp_path / "tmp" / "ppodd-12345"
    assert f"user 12345 has no home: {home} takes its place; set HOME" in done.stderr
    assert done.stderr.count("\n") == 1 and list((home / ".cache" / "ppodd").glob("*.safetensors"))


def test_a_home_that_cannot_be_written_ends_nothing(run, tmp_path):
    home = tmp_path / "home"
    home.mkdir(mode=0o500)
    (tmp_path / "tmp").mkdir()
    done = ppodd_as_nobody(*run, cwd=tmp_path, HOME=home, PPODD_CACHE=None, TMPDIR=tmp_path / "tmp")
    assert done.returncode == 0, done.stderr
    kept = tmp_path / "tmp" / "ppodd-12345"
    assert f"the cache {home}/.cache/ppodd cannot be written, so {kept} is used: $PPODD_CACHE names" in done.stderr
    assert done.stderr.count("\n") == 1 and list(kept.glob("*.safetensors")) and not list(home.iterdir())


def test_the_root_of_a_read_only_disk_as_home_ends_nothing(run, tmp_path):
    """As in a container without a home, whose user is root."""
    (tmp_path / "tmp").mkdir()
    done = ppodd_on_a_read_only_disk(*run, cwd=tmp_path, HOME="/", PPODD_CACHE=None, TMPDIR=tmp_path / "tmp")
    assert done.returncode == 0, done.stderr
    kept = tmp_path / "tmp" / f"ppodd-{os.getuid()}"
    assert f"the cache /.cache/ppodd cannot be written, so {kept} is used: $PPODD_CACHE names another" in done.stderr
    assert done.stderr.count("\n") == 1 and kept.is_dir()


@pytest.mark.slow  # half a minute
def test_a_sweep_goes_on_where_neither_home_nor_tmp_can_be_written(tmp_path, tiny):
    file = sweep_file(tmp_path, tiny, grid={"num_stages": [1]})
    nowhere = {"HOME": "/", "PPODD_CACHE": None, "TMPDIR": None, "RAY_TMPDIR": None}
    done = ppodd_on_a_read_only_disk("sweep", file, cwd=tmp_path, **nowhere)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "the cache /.cache/ppodd cannot be written, so " in done.stderr and "$PPODD_CACHE names" in done.stderr
    assert "Ray cannot use /tmp/ray, which cannot be written: it uses " in done.stderr
    assert "$RAY_TMPDIR names another folder" in done.stderr and done.stderr.count("\n") == 2


def test_a_full_home_ends_nothing(run, tmp_path, monkeypatch, caplog):
    with mounted(tmp_path / "home", "size=64k") as home:
        monkeypatch.setenv("PPODD_CACHE", str(home / "cache"))
        monkeypatch.setattr(loading, "_last", {})  # what this process has loaded before
        assert main([*run, f"--archive={tmp_path}/archive"]) == 0
    said = [line.getMessage() for line in caplog.records if line.levelno == logging.WARNING]
    assert said and all("No space left on device" in line for line in said)
    assert all("not cached" in line and line.endswith("$PPODD_CACHE names another folder") for line in said)
    assert (tmp_path / "archive" / "runs" / "run" / "stage-01" / "stage.json").exists()


def test_a_cache_that_may_only_be_read_is_read(tmp_path, monkeypatch, temporary):
    with mounted(tmp_path / "lab", "size=64k") as lab:
        (lab / "prepared").write_text("by the lab")
        remount(lab, "ro")
        monkeypatch.setenv("PPODD_CACHE", str(lab))
        assert cached("prepared") == lab / "prepared"
        assert cached("new") == cache_folder() / "new" == temporary / f"ppodd-{os.getuid()}" / "new"


def test_an_empty_variable_is_one_that_is_not_set(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PPODD_CACHE", "")
    assert cache_folder() == tmp_path / ".cache" / "ppodd"


def test_what_another_user_put_in_the_place_of_the_temporary_folder_is_not_used(tmp_path, temporary):
    theirs = temporary / f"ppodd-{os.getuid()}"
    theirs.symlink_to(tmp_path)
    found = cache.own_temporary_folder()
    assert found != theirs and found.parent == temporary and stat.S_IMODE(found.stat().st_mode) == 0o700


@pytest.mark.parametrize("umask", [0o002, 0o077])
def test_the_umask_says_who_reads_and_writes_the_archive(umask, run, tmp_path):
    before = os.umask(umask)
    try:
        assert main([*run, f"--archive={tmp_path}/lab"]) == 0
        assert main(["results", "sync", f"--archive={tmp_path}/lab"]) == 0
    finally:
        os.umask(before)
    paths = list(Path(tmp_path, "lab").rglob("*"))
    assert {"stage.json", "poster.safetensors", "mlflow.db", "poster.png"} <= {path.name for path in paths}
    for path in paths:
        assert stat.S_IMODE(path.stat().st_mode) == (0o777 if path.is_dir() else 0o666) & ~umask, path
