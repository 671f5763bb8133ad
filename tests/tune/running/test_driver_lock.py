"""One driver at a time: marks of drivers that live, that were killed here, and that were killed elsewhere."""

import signal
import subprocess
import sys
import time

import pytest

from ppodd.archive import Archive
from ppodd.errors import BadInput
from tune.running import driver_lock as driver
from tune.running.driver_lock import only_driver


@pytest.fixture
def archive(tmp_path, monkeypatch):
    monkeypatch.setattr(driver, "_RENEW_S", 0.05)
    monkeypatch.setattr(driver, "_POLL_S", 0.02)
    monkeypatch.setattr(driver, "_SETTLE_S", 0.02)
    return Archive(tmp_path / "archive")


def test_a_second_driver_is_refused_while_the_first_lives_and_no_longer(archive):
    said = []
    with only_driver(archive, "s"):
        with (
            pytest.raises(BadInput, match=r"sweep 's' in .*archive is being run by another driver \(.*, process \d+\)"),
            only_driver(archive, "s", said.append),
        ):
            pass
        assert len(said) == 1 and "looking for a minute" in said[0]
        with only_driver(archive, "other"):
            pass
    assert not archive.folder.find()
    with only_driver(archive, "s", said.append):
        pass
    assert len(said) == 1


def test_a_driver_that_fails_leaves_no_mark(archive):
    with pytest.raises(RuntimeError), only_driver(archive, "s"):
        raise RuntimeError
    assert not archive.folder.find()


def test_what_a_driver_left_that_was_killed_here_is_taken_over_at_once(archive):
    code = (
        "import os; from ppodd.archive import Archive; from tune.running.driver_lock import only_driver\n"
        f"with only_driver(Archive({archive.url!r}), 's'): os._exit(1)"
    )
    subprocess.run([sys.executable, "-c", code], check=False)
    assert archive.folder.find() == ["s/driver.json"]
    said = []
    with only_driver(archive, "s", said.append):
        assert said == []


ELSEWHERE = {"host": "spot-7", "machine": "another", "pid": 1, "token": "0", "renewed_at": 0}


def test_what_a_driver_left_that_was_killed_elsewhere_is_taken_over_when_nobody_renews_it(archive, monkeypatch):
    monkeypatch.setattr(driver, "_DEAD_S", 0.1)
    folder, name = archive.folder / "s", "driver.json"
    folder.write_json(name, ELSEWHERE)
    said = []
    with only_driver(archive, "s", said.append):
        assert "spot-7, process 1" in said[0] and folder.read_json(name)["pid"] != 1


def test_a_driver_elsewhere_that_ends_meanwhile_is_waited_for(archive, monkeypatch):
    folder, name = archive.folder / "s", "driver.json"
    folder.write_json(name, ELSEWHERE)
    slept = []

    def sleep(seconds):
        slept.append(seconds)
        if len(slept) == 3:
            folder.remove(name)

    monkeypatch.setattr(driver.time, "sleep", sleep)
    with only_driver(archive, "s"):
        assert len(slept) == 4 and folder.read_json(name)["host"] != "spot-7"


def test_of_two_that_begin_in_one_moment_one_goes_on(archive, monkeypatch):
    folder, name = archive.folder / "s", "driver.json"
    monkeypatch.setattr(driver.time, "sleep", lambda _: folder.write_json(name, ELSEWHERE))
    with pytest.raises(BadInput, match="has just been begun by another driver"), only_driver(archive, "s"):
        pass
    assert folder.read_json(name) == ELSEWHERE


@pytest.mark.parametrize(
    ("ignored", "ends"), [((), signal.SIGINT), ((signal.SIGINT,), signal.SIGTERM)], ids=["terminal", "background"]
)
def test_a_driver_that_slept_and_was_replaced_ends_and_leaves_the_others_mark(archive, ignored, ends):
    def ended(number, frame):
        assert number == ends
        raise KeyboardInterrupt

    folder, name = archive.folder / "s", "driver.json"
    said = []
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(number, signal.SIG_IGN if number in ignored else ended) for number in numbers]
    try:
        with pytest.raises(KeyboardInterrupt), only_driver(archive, "s", said.append):
            folder.write_json(name, ELSEWHERE)
            for _ in range(300):
                time.sleep(0.1)
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)
    assert folder.read_json(name) == ELSEWHERE and "has taken over this sweep" in said[0]
