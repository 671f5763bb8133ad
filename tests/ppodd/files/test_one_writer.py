"""One process at a time: marks of those that live, that were killed here, and that were killed elsewhere."""

import atexit
import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
import time

import pytest

from ppodd.errors import BadInput, CorruptArchive
from ppodd.files import exclusive_creation, one_writer, temporaries
from ppodd.files.folder import Folder
from ppodd.files.one_writer import LockRecord, Timings, only_writer

QUICK = Timings(renew_s=0.05, dead_s=30.0, poll_s=0.02)
BUSY = "sweep 's' is being run by another driver"
ELSEWHERE = LockRecord(host="spot-7", machine="another", pid=1, token="0", renewed_at=0)


@pytest.fixture(params=["local", "s3"])
def folder(request, tmp_path):
    return Folder(f"{request.getfixturevalue('bucket')}/s" if request.param == "s3" else tmp_path / "s")


def alone(folder, say=None, timings=QUICK):
    return only_writer(folder, "driver.json", BUSY, "go on with --resume", say, timings)


def leave(folder, mark):
    folder.write("driver.json", mark.model_dump_json().encode())


def held(folder):
    return LockRecord.model_validate_json(folder.read("driver.json"))


def everything(folder):
    """Hidden files too."""
    return sorted(os.listdir(folder.url)) if "://" not in folder.url else folder.find()


def test_a_second_process_is_refused_while_the_first_lives_and_no_longer(folder):
    said = []
    with alone(folder):
        with (
            pytest.raises(BadInput, match=rf"{BUSY} \(.*, process \d+\): .* or end it, then go on with --resume"),
            alone(folder, said.append),
        ):
            pass
        assert len(said) == 1 and "waiting a minute for its heartbeat" in said[0]
        with alone(folder / "other"):
            pass
    assert not folder.find()
    with alone(folder, said.append):
        pass
    assert len(said) == 1 and not folder.find()


def test_a_process_that_fails_leaves_no_mark(folder):
    with pytest.raises(RuntimeError), alone(folder):
        raise RuntimeError
    assert not everything(folder)


def killed_here():
    process = subprocess.Popen(["true"])
    process.wait()
    return LockRecord(pid=process.pid)


@pytest.fixture
def at_exit(monkeypatch):
    """What is to be called at the end of the process."""
    registered = []
    monkeypatch.setattr(atexit, "register", registered.append)
    monkeypatch.setattr(atexit, "unregister", registered.remove)
    return registered


def whole(folder):
    """All but what is half-written, which is removed by whoever works here next."""
    return [name for name in everything(folder) if not re.fullmatch(r"\.+driver\.json[.\w]*\.\w{8}-\d+\.\w{8}", name)]


@pytest.mark.parametrize("dead", [None, killed_here], ids=["free", "left by a dead one"])
def test_an_interrupt_at_any_moment_of_the_beginning_leaves_no_mark(tmp_path, dead, at_exit):
    folder, moments, mark = Folder(tmp_path), 0, dead and dead()
    while True:
        moments += 1
        if mark:
            leave(folder, mark)
        with contextlib.suppress(KeyboardInterrupt), interrupted_at(moments), alone(folder):
            sys.setprofile(None)
            break
        while at_exit:
            at_exit.pop()()
        left = whole(folder)
        assert not left or (mark and left == ["driver.json"] and held(folder) == mark), moments
    assert moments > 50


def test_an_interrupt_at_any_moment_of_the_end_leaves_no_mark_and_comes_once(tmp_path, at_exit, monkeypatch):
    """While the mark is just being renewed."""

    def slowly(self, *what):
        if threading.current_thread() is not threading.main_thread():
            time.sleep(0.01)
        write(self, *what)

    write = Folder.write
    monkeypatch.setattr(Folder, "write", slowly)
    folder, moments, ended = Folder(tmp_path), 0, False
    while not ended:
        moments += 1
        with contextlib.suppress(KeyboardInterrupt):
            with alone(folder, timings=QUICK._replace(renew_s=0.0005)):
                time.sleep(0.004)
                sys.setprofile(interrupt_at(moments))
            sys.setprofile(None)
            ended = True
        while at_exit:
            at_exit.pop()()
        time.sleep(0.03)  # in which a heartbeat would come
        assert not whole(folder), moments
    assert moments > 15


def test_a_heartbeat_that_waits_while_the_mark_is_released_does_not_miss_it(tmp_path):
    """A process that ends properly is not interrupted."""
    folder, said = Folder(tmp_path), []
    writer = one_writer._Writer(folder, "driver.json", LockRecord(), BUSY, "", said.append, QUICK._replace(renew_s=0))
    writer.acquire()
    heartbeat = threading.Thread(target=writer.renew)
    with writer.changing:  # as in the release
        heartbeat.start()
        time.sleep(0.1)
        writer.over.set()
        folder.remove("driver.json")
    heartbeat.join()
    assert not said and not writer.taken_over.is_set() and not everything(folder)


def test_an_interrupt_as_the_heartbeat_starts_leaves_no_mark(tmp_path, monkeypatch):
    """The thread has an identity, and has not said that it runs."""

    class Late(threading.Event):
        def wait(self, timeout=None):
            super().wait(0.1)
            raise KeyboardInterrupt

        def set(self):
            time.sleep(0.5)
            super().set()

    def start(thread):
        thread._started = Late()
        whole(thread)

    whole = threading.Thread.start
    monkeypatch.setattr(threading.Thread, "start", start)
    with pytest.raises(KeyboardInterrupt), alone(Folder(tmp_path)):
        raise AssertionError("it began")
    assert not everything(Folder(tmp_path))


def test_an_interrupt_amid_the_end_leaves_no_mark(tmp_path):
    code = (
        "from unittest import mock; from ppodd.files import Folder, only_writer\n"
        "with mock.patch('ppodd.files.one_writer.read_mark', side_effect=KeyboardInterrupt):\n"
        f" with only_writer(Folder({str(tmp_path)!r}), 'driver.json', '', ''): pass\n"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "KeyboardInterrupt" in ended.stderr and not everything(Folder(tmp_path))


def interrupt_at(moment):
    """What raises `KeyboardInterrupt` at a place of this number where Python heeds signals, as the work begins or ends.

    That is as a function begins or after a call: never between a lock's taking and the block that will release it. Of
    the library of threads, as the functions begin that are called here: its own locks are not proof against it.
    """
    threads = {threading.Thread.join.__code__, threading.Thread.is_alive.__code__, threading.Event.set.__code__}
    ours = tuple(module.__file__ for module in (one_writer, exclusive_creation, temporaries, contextlib))
    seen = 0

    def profile(frame, event, argument):
        nonlocal seen
        known = frame.f_code.co_filename in ours and event in ("call", "return", "c_return")
        if known or (event == "call" and frame.f_code in threads):
            seen += 1
            if seen == moment:
                sys.setprofile(None)
                raise KeyboardInterrupt

    return profile


@contextlib.contextmanager
def interrupted_at(moment):
    sys.setprofile(interrupt_at(moment))
    try:
        yield
    finally:
        sys.setprofile(None)


def test_what_a_process_left_that_was_killed_here_is_taken_over_at_once(tmp_path):
    code = (
        "import os; from ppodd.files import Folder, only_writer\n"
        f"with only_writer(Folder({str(tmp_path)!r}), 'driver.json', '', ''): os._exit(1)"
    )
    subprocess.run([sys.executable, "-c", code], check=False)
    folder, said = Folder(tmp_path), []
    assert everything(folder) == ["driver.json"]
    with alone(folder, said.append):
        assert said == [] and held(folder).pid == os.getpid() and everything(folder) == ["driver.json"]
    assert not everything(folder)


def test_what_a_process_left_that_was_killed_elsewhere_is_taken_over_when_nobody_renews_it(folder):
    leave(folder, ELSEWHERE)
    said = []
    with alone(folder, said.append, QUICK._replace(dead_s=0.1)):
        assert "spot-7, process 1" in said[0] and held(folder).pid == os.getpid()
    assert not everything(folder)


def test_a_process_elsewhere_that_ends_meanwhile_is_waited_for(folder):
    leave(folder, ELSEWHERE)
    with alone(folder, lambda text: folder.remove("driver.json")):
        assert held(folder).host != "spot-7"


def test_one_killed_as_it_took_over_keeps_nobody_out(folder):
    """It had the right to replace the dead mark, and died before it did."""
    leave(folder, ELSEWHERE)
    folder.write(
        f".driver.json.{ELSEWHERE.token}", ELSEWHERE.model_copy(update={"token": "1"}).model_dump_json().encode()
    )
    with alone(folder, timings=QUICK._replace(dead_s=0.1)):
        assert held(folder).pid == os.getpid()
    assert not everything(folder)


@pytest.mark.parametrize("attempt", range(3))
@pytest.mark.parametrize("mark", [None, ELSEWHERE], ids=["free", "left by a dead one"])
def test_of_many_that_begin_in_one_moment_one_goes_on(tmp_path, mark, attempt):
    folder, many = Folder(tmp_path / "s"), 8
    if mark:
        leave(folder, mark)
    start, refused, went_on = threading.Barrier(many), threading.Semaphore(0), []

    def begin():
        start.wait()
        try:
            with alone(folder, timings=QUICK._replace(dead_s=0.3)):
                went_on.append(held(folder).token)
                for _ in range(many - 1):
                    assert refused.acquire(timeout=20)
        except BadInput:
            refused.release()

    threads = [threading.Thread(target=begin) for _ in range(many)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(went_on) == 1 and not everything(folder)


def test_a_damaged_mark_is_named(tmp_path):
    folder = Folder(tmp_path)
    folder.write("driver.json", b"[]")
    with pytest.raises(CorruptArchive, match=r"driver\.json is damaged: .*: delete it, if no process"), alone(folder):
        pass


@pytest.mark.parametrize(
    ("ignored", "ends"), [((), signal.SIGINT), ((signal.SIGINT,), signal.SIGTERM)], ids=["terminal", "background"]
)
def test_a_process_that_slept_and_was_replaced_ends_and_leaves_the_others_mark(tmp_path, ignored, ends):
    def ended(number, frame):
        assert number == ends
        raise KeyboardInterrupt

    def be_replaced():
        leave(folder, ELSEWHERE)
        for _ in range(300):
            time.sleep(0.1)

    folder, said = Folder(tmp_path), []
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(number, signal.SIG_IGN if number in ignored else ended) for number in numbers]
    try:
        with pytest.raises(KeyboardInterrupt), alone(folder, said.append):
            be_replaced()
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)
    assert held(folder) == ELSEWHERE and said == [f"this process missed its heartbeats, and now {BUSY}: it ends here"]
