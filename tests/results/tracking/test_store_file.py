"""An SQLite store is made whole or not at all, known for what it is, and written by one process at a time."""

import contextlib
import logging
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest
from archives import write_sweep
from sweeps import PATH

from ppodd.archive import Archive
from ppodd.cli.main import main
from ppodd.config import EvaluationConfig
from ppodd.errors import BadInput, PpoddError, StorageError
from results.analysis.selection import choose
from results.analysis.tidy_frame import frame
from results.tracking import schema, store_file
from results.tracking.duplicates import told_apart
from results.tracking.reading import StoredRun
from results.tracking.store import default_tracking_uri, open_store
from results.tracking.store_file import one_writer
from results.tracking.syncing import Syncer, sync

EVALUATION = EvaluationConfig(nets=3)
ENVIRONMENT = {**os.environ, **PATH}


@pytest.fixture
def archive(tmp_path, tiny):
    """Two trials of two stages, all evaluated."""
    archive = Archive(tmp_path / "archive")
    write_sweep(archive, "s", [{**tiny, "seed": seed} for seed in (0, 1)], EVALUATION)
    return archive


def command(*arguments):
    code = "import sys; from ppodd.cli.main import main; sys.exit(main())"
    return [sys.executable, "-c", code, *arguments]


def half_made(path, tables):
    """A store as a kill leaves it that comes while MLflow makes its tables."""
    with contextlib.closing(sqlite3.connect(path)) as database:
        names = [n for (n,) in database.execute("select name from sqlite_master where type='table' order by name")]
        for name in names[tables:]:
            database.execute(f"drop table {name}")


@pytest.mark.parametrize("tables", [0, 1, 5, 12])
def test_a_half_made_store_is_named_and_made_anew_on_request(archive, empty_store, capsys, tables):
    uri = default_tracking_uri(archive.url)
    path = Path(archive.url, "mlflow.db")
    shutil.copy(empty_store, path)
    half_made(path, tables)
    assert main(["results", "sync", "--archive", archive.url]) == 2
    said = capsys.readouterr().err
    assert "is half-made: deleting it loses nothing" in said and "`ppodd results sync --rebuild`" in said
    logging.getLogger("mlflow").setLevel(logging.INFO)  # as MLflow has it
    assert main(["results", "sync", "--archive", archive.url, "--rebuild"]) == 0
    assert not capsys.readouterr().err  # MLflow tells of each table that it makes
    assert len(frame(uri)) == 2 * 2 * 2
    assert Path(archive.url, "mlflow.db.old").exists()


def test_a_store_that_is_cut_short_is_named(archive, empty_store):
    path = Path(archive.url, "mlflow.db")
    path.write_bytes(Path(empty_store).read_bytes()[:20_000])
    with pytest.raises(BadInput, match=r"mlflow\.db is cut short: 20000 bytes of \d+ pages: deleting it loses nothing"):
        open_store(default_tracking_uri(archive.url))


def test_files_of_others_are_left_alone(tmp_path):
    (tmp_path / "text.db").write_text("dear diary")
    with contextlib.closing(sqlite3.connect(tmp_path / "other.db")) as database:
        database.execute("create table recipes (name text)")
    for name, said in (("text.db", "is no SQLite file"), ("other.db", r"is no MLflow store \(it holds recipes\)")):
        before = (tmp_path / name).read_bytes()
        with pytest.raises(BadInput, match=said):
            open_store(f"sqlite:///{tmp_path / name}")
        assert (tmp_path / name).read_bytes() == before


def test_an_empty_file_becomes_a_store(tmp_path):
    (tmp_path / "mlflow.db").touch()
    assert open_store(f"sqlite:///{tmp_path / 'mlflow.db'}").search_experiments()


def test_a_kill_while_the_store_is_made_leaves_none_behind(tmp_path):
    """Killed as soon as MLflow's own file has a table: what has the store's name is whole or not there."""
    path, temporary = tmp_path / "store" / "mlflow.db", tmp_path / "temporary"
    temporary.mkdir()
    code = f"from results.tracking.store import open_store; open_store('sqlite:///{path}')"
    maker = subprocess.Popen([sys.executable, "-c", code], env={**ENVIRONMENT, "TMPDIR": str(temporary)})
    end = time.monotonic() + 60
    while not any(found.stat().st_size for found in temporary.rglob("mlflow.db")):
        assert time.monotonic() < end and maker.poll() is None, "no store was begun"
        time.sleep(0.005)
    maker.send_signal(signal.SIGKILL)
    maker.wait()
    assert not path.exists()
    assert open_store(f"sqlite:///{path}").search_experiments()


def test_syncs_of_several_processes_at_once_log_every_run_once(archive):
    """Four of them begin in one moment, and the store is not even there."""
    syncs = [
        subprocess.Popen(command("results", "sync", "--archive", archive.url), env=ENVIRONMENT, stdout=subprocess.PIPE)
        for _ in range(4)
    ]
    assert [process.wait(120) for process in syncs] == [0] * 4
    for process in syncs:
        process.stdout.close()
    uri = default_tracking_uri(archive.url)
    client = open_store(uri)
    (experiment,) = [e.experiment_id for e in client.search_experiments() if e.name == "s"]
    keys = [run.data.tags[schema.KEY] for run in client.search_runs([experiment])]
    assert sorted(keys) == sorted(["s", *(f"s/{trial}" for trial in archive.trials("s"))])
    assert len(frame(uri)) == 2 * 2 * 2


def test_a_sync_takes_up_what_another_process_has_logged_meanwhile(archive, tiny):
    """As `results sync` beside a running sweep, whose coordinator keeps what it knows of the store."""
    uri = default_tracking_uri(archive.url)
    kept = Syncer(archive.url, uri)
    kept.sync(["s"])
    write_sweep(archive, "late", [tiny], EVALUATION)
    done = subprocess.run(command("results", "sync", "--archive", archive.url), env=ENVIRONMENT, capture_output=True)
    assert done.returncode == 0, done.stderr
    assert kept.sync().runs == 0
    client = open_store(uri)
    every = [e.experiment_id for e in client.search_experiments()]
    assert len(client.search_runs(every)) == 1 + 2 + 1 + 1


def test_who_waits_too_long_for_another_writer_says_so(archive, monkeypatch):
    uri = default_tracking_uri(archive.url)
    open_store(uri)
    monkeypatch.setattr(store_file, "_WAIT_S", 0.2)
    code = (
        "import sys, time; from results.tracking.store_file import one_writer\n"
        f"with one_writer({uri!r}): print('held', flush=True); time.sleep(60)"
    )
    holder = subprocess.Popen([sys.executable, "-c", code], env=ENVIRONMENT, stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(PpoddError, match=r"another process has been writing the MLflow store .* wait for its end"):
            sync(archive.url, uri)
    finally:
        holder.kill()
        holder.wait()
        holder.stdout.close()
    assert sync(archive.url, uri).runs == 3  # the lock ended with its holder


def test_runs_that_stand_twice_are_read_once_and_merged_by_the_next_sync(archive, caplog):
    """As two syncs of an older version left them: each with a parent and half of the trials' values."""
    uri = default_tracking_uri(archive.url)
    sync(archive.url, uri)
    whole = frame(uri)
    client = open_store(uri)
    (experiment,) = [e.experiment_id for e in client.search_experiments() if e.name == "s"]
    for run in client.search_runs([experiment]):
        tags = {name: value for name, value in run.data.tags.items() if name != schema.LOGGED}
        client.create_run(experiment, start_time=run.info.start_time, tags=tags)
    assert len(choose(uri).trials) == 2
    assert frame(uri).equals(whole)
    sync(archive.url, uri)
    assert "3 runs that stood twice in sweep s merged" in caplog.text
    assert len(client.search_runs([experiment])) == 3
    assert frame(uri).equals(whole)
    assert sync(archive.url, uri).runs == 0


def test_every_process_keeps_the_same_one_of_runs_that_stand_twice():
    runs = [
        StoredRun("b", "1", {schema.KEY: "s/t"}, {}, "RUNNING", ""),
        StoredRun("a", "1", {schema.KEY: "s/t"}, {}, "RUNNING", ""),
        StoredRun("c", "1", {schema.KEY: "s/t", schema.LOGGED: '{"1@5": []}'}, {}, "RUNNING", ""),
        StoredRun("d", "1", {schema.KEY: "s"}, {}, "RUNNING", ""),
    ]
    for order in (runs, runs[::-1]):
        kept, besides = told_apart(order)
        assert {key: run.id for key, run in kept.items()} == {"s/t": "c", "s": "d"}
        assert [run.id for run in besides] == ["a", "b"]


def test_a_store_whose_lock_can_never_be_made_is_not_waited_for():
    with pytest.raises(StorageError, match=r"/proc/x\.db\.lock"), one_writer("sqlite:////proc/x.db"):
        raise AssertionError("it cannot be written")
