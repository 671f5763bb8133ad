"""Signals that end a command: SIGTERM and SIGHUP act as Ctrl-C, and what has not ended after a while is ended.

A batch system, a container or `ppodd jobs stop` sends SIGTERM and kills some seconds later; a terminal that is closed
sends SIGHUP. A program that uses ppodd as a library keeps its own handlers: `take_over` is for commands.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any

GRACE_S = 20.0  # from the signal to the end; Slurm and Kubernetes kill after 30
_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_EXIT_OF_CTRL_C = 1
_AGAIN_S = 0.05  # after which an interrupt that was lost is raised again
_ONE_WISH_S = 0.5  # in which a signal may come twice: `timeout` sends it to its command, then to the group


class Interrupted(KeyboardInterrupt):
    """A signal asks this command to end.

    Where a plain `KeyboardInterrupt` passes an `exec`, as it may while modules are imported, Python forgets the exit
    code.
    """


class _Command:
    """This process as a command: the first signal that came, and what it does."""

    def __init__(self, last_words: Callable[[], None]):
        self.received = 0
        self.came = threading.Event()
        self.react: Callable[[], object] = interrupt
        self._last_words = last_words
        self._since, self._lost = 0.0, False
        threading.Thread(target=self._end_late, name="ppodd-grace", daemon=True).start()

    @property
    def exit_code(self) -> int:
        return _EXIT_OF_CTRL_C if self.received == signal.SIGINT else 128 + self.received

    def on_signal(self, number: int, frame: object) -> None:
        if self._lost:
            self._lost = False
            self.react()
            return
        if self.received:
            if number == self.received and (number == signal.SIGHUP or time.monotonic() < self._since + _ONE_WISH_S):
                return  # a terminal that is closed may send it twice, too; `_end_late` bounds the wait
            os._exit(128 + number)
        self.received, self._since = number, time.monotonic()
        self.came.set()
        warnings.simplefilter("ignore")  # of what is cut short
        self.react()

    def on_lost(self, lost: Any) -> None:
        """Raise the interrupt again that Python could only ignore: amid a module's C code, or as an object is freed."""
        if not isinstance(lost.exc_value, Interrupted):
            sys.__unraisablehook__(lost)
            return
        self._lost = True
        main = threading.main_thread().ident or 0
        again = threading.Timer(_AGAIN_S, signal.pthread_kill, (main, self.received))
        again.daemon = True
        again.start()

    def _end_late(self) -> None:
        """End the process where it has not ended in time by itself."""
        self.came.wait()
        threading.Event().wait(GRACE_S)
        self._last_words()
        os._exit(self.exit_code)


_command: _Command | None = None


def interrupt(*signal_and_frame: object) -> None:
    """Raise `Interrupted`, as a signal's handler may."""
    raise Interrupted


def take_over(last_words: Callable[[], None]) -> None:
    """Have the first Ctrl-C, SIGTERM or SIGHUP raise `KeyboardInterrupt`, and a second end this process at once.

    What is ignored stays so: SIGHUP under `nohup`, SIGINT in the background of a script. After `GRACE_S` the process
    is ended in any case, its `last_words` said.
    """
    global _command
    _command = _Command(last_words)
    sys.unraisablehook = _command.on_lost
    for number in _ENDING:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _command.on_signal)


def name() -> str:
    """The signal that came, such as `SIGTERM`; empty where that was Ctrl-C, or none."""
    number = _command.received if _command else 0
    return signal.Signals(number).name if number and number != signal.SIGINT else ""


def came() -> threading.Event:
    """Set once a signal has asked this command to end."""
    return _command.came if _command else threading.Event()


def exit_code(code: int) -> int:
    """The command's exit code: that of the SIGTERM or SIGHUP which ended it, else `code`."""
    return _command.exit_code if _command and name() else code


@contextlib.contextmanager
def reacting(react: Callable[[], object]) -> Iterator[bool]:
    """Within the block, the first signal calls `react` instead of raising. Yields whether signals are handled.

    Of two blocks that overlap without one lying within the other, as of generators, the later one's holds for its time.
    """
    if _command is None:
        yield False
        return
    before, _command.react = _command.react, react
    try:
        yield True
    finally:
        if _command.react is react:
            _command.react = before


@contextlib.contextmanager
def kept() -> Iterator[None]:
    """Put back the handlers that Ray replaces in the block; they would dump its C++ stack at SIGTERM."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handlers = {number: signal.getsignal(number) for number in _ENDING}
    try:
        yield
    except SystemExit:  # what Ray does at a SIGTERM that comes while it starts
        if _command:
            _command.on_signal(signal.SIGTERM, None)
        raise
    finally:
        for number, handler in handlers.items():
            if handler is not None:  # set by other than Python
                signal.signal(number, handler)


@contextlib.contextmanager
def answered_alone() -> Iterator[None]:
    """Have what Ray starts in the block hear no signal to this process's group, which this process answers for both.

    A terminal signals a group, as do `timeout` and batch systems. A Ray that ended by itself would take the trials with
    it, and this process would wait for it within C++.
    """
    global _apart
    _apart = True
    try:
        yield
    finally:
        _apart = False


def _leave_group() -> None:
    if _apart:
        os.setpgid(0, 0)


_apart = False
os.register_at_fork(after_in_child=_leave_group)  # called where `Popen` is given a `preexec_fn`, as by Ray
