"""One process at a time does some work: its mark in a folder is created exclusively and renewed while it lives.

Clocks of two machines may differ: a process elsewhere counts as alive while its mark changes, whatever its date.

Replacing the mark of a killed process is such work too, with a mark of its own that names the dead one's
token. So of several that find the same dead mark one replaces it, and one that comes late finds another token there.
"""

from __future__ import annotations

import _thread
import atexit
import contextlib
import functools
import logging
import os
import secrets
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from pydantic import BaseModel, Field, ValidationError

from ppodd.errors import BadInput, CorruptArchive, wrong_field
from ppodd.files.folder import Folder
from ppodd.files.processes import has_ended, this_machine

Say = Callable[[str], None]

_log = logging.getLogger(__name__)


class Timings(NamedTuple):
    """How often a mark is renewed, after how long without that its process counts as dead, how often it is read."""

    renew_s: float = 15.0
    dead_s: float = 60.0
    poll_s: float = 1.0


class LockRecord(BaseModel, frozen=True):
    """Who does the work."""

    host: str = Field(default_factory=socket.gethostname)
    machine: str = Field(default_factory=this_machine, description="tells machines and containers apart")
    pid: int = Field(default_factory=os.getpid)
    token: str = Field(default_factory=lambda: secrets.token_hex(8))
    renewed_at: float = Field(default_factory=time.time, description="seconds since the epoch, by its own clock")

    @property
    def who(self) -> str:
        """The process, in words."""
        return f"{self.host}, process {self.pid}"

    @property
    def ended_here(self) -> bool:
        """Whether it belongs to a process of this machine that has ended."""
        return self.machine == this_machine() and has_ended(self.pid)


@contextlib.contextmanager
def only_writer(
    folder: Folder, name: str, busy: str, then: str, say: Say | None = None, timings: Timings | None = None
) -> Iterator[threading.Event]:
    """Be the one process that does some work while the block runs.

    A mark that a killed process left behind is taken over: at once where it ran on this machine, else after a minute in
    which nobody renews it. A process whose own mark was taken over, because it stopped renewing its mark, is
    interrupted, and finds the event set that the block is given.

    Args:
        name: of the mark's file in `folder`.
        busy: what to say where another does it, such as "sweep 'a' is being run by another driver".
        then: how to go on after the other's end, such as "go on with --resume".
        say: receives a line when it has to wait, and when another process has taken over.

    Raises:
        BadInput: another process does it.
    """
    writer = _Writer(folder, name, LockRecord(), busy, then, say or (lambda text: None), timings or Timings())
    thread = threading.Thread(target=writer.renew, daemon=True)
    with writer.released(name):
        try:
            writer.acquire()
            thread.start()
            yield writer.taken_over
        finally:
            writer.over.set()
            if thread.is_alive():  # one that a signal kept from starting cannot be joined, and finds the event set
                thread.join()


@dataclass(frozen=True)
class _Writer:
    """This process as a contender for the lock, whose mark has a name."""

    folder: Folder
    name: str
    mine: LockRecord
    busy: str
    then: str
    say: Say
    timings: Timings
    over: threading.Event = field(default_factory=threading.Event)
    taken_over: threading.Event = field(default_factory=threading.Event)
    changing: threading.Lock = field(default_factory=threading.Lock)  # the mark, which is not written once released

    @contextlib.contextmanager
    def released(self, mark: str) -> Iterator[None]:
        """Leave no mark of this name behind the block, whatever signal comes at any moment."""
        release = functools.partial(self._release, mark)
        atexit.register(release)  # for one that cuts short what is done at the end of the block
        try:
            yield
        finally:
            release()
            atexit.unregister(release)

    def acquire(self) -> None:
        """Take the mark. Raises `BadInput`: a live process holds it."""
        self._acquire(self.name)

    def _acquire(self, mark: str) -> None:
        while not self.folder.create(mark, _bytes(self.mine)):
            held = self._read(mark)
            if held and self._takes_over(mark, held):
                return

    def renew(self) -> None:
        """Renew the mark until the work is over; interrupt this process where another has taken over."""
        while not self.over.wait(self.timings.renew_s):
            with contextlib.suppress(Exception):  # an unreachable archive does not end the work
                if self._renewed():
                    continue
                self.taken_over.set()
                self.say(f"this process missed its heartbeats, and now {self.busy}: it ends here")
                if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as of what a script starts in the background
                    os.kill(os.getpid(), signal.SIGTERM)
                _thread.interrupt_main()
                return

    def _renewed(self) -> bool:
        """Whether this process still holds the mark, or is done with it."""
        with self.changing:
            if self.over.is_set():
                return True
            if held := self._holds(self.name, self.mine):
                self.folder.write(self.name, _bytes(self.mine.model_copy(update={"renewed_at": time.time()})))
            return held

    def _release(self, mark: str) -> None:
        if mark == self.name:
            self.over.set()
        with contextlib.suppress(Exception), self.changing:  # a mark that stays is that of a process that has ended
            if self._holds(mark, self.mine):
                self.folder.remove(mark)

    def _takes_over(self, name: str, held: LockRecord) -> bool:
        """Whether the mark that was another's is now this process's. Raises `BadInput`: the other lives."""
        if not held.ended_here:
            self.say(f"{self.busy} ({held.who}), which left no word of its end: waiting a minute for its heartbeat")
            if self._lives(name, held):
                raise BadInput(f"{self.busy} ({held.who}): wait for its end, or end it, then {self.then}")
        with self.released(there := f".{name}.{held.token}"):
            self._acquire(there)
            if not self._holds(name, held):
                return False  # it has ended meanwhile, or another was first
            self.folder.write(name, _bytes(self.mine))
            _log.info("%s was left behind by %s: taken over", self.folder.at(name), held.who)
            return True

    def _lives(self, name: str, mark: LockRecord) -> bool:
        """Whether its process renews the mark, read until that would be dead."""
        end = time.monotonic() + self.timings.dead_s
        while time.monotonic() < end:
            time.sleep(self.timings.poll_s)
            if (now := self._read(name)) != mark:
                return now is not None
        return False

    def _holds(self, name: str, mark: LockRecord) -> bool:
        """Whether the file holds this mark, renewed or not."""
        there = self._read(name)
        return there is not None and there.token == mark.token

    def _read(self, name: str) -> LockRecord | None:
        return read_mark(self.folder, name)


def read_mark(folder: Folder, name: str) -> LockRecord | None:
    """The mark of this name, if there is one. Raises `CorruptArchive`."""
    data = folder.get(name)
    try:
        return None if data is None else LockRecord.model_validate_json(data)
    except ValidationError as error:
        what = f"{folder.at(name)} is damaged: {wrong_field(error)}"
        raise CorruptArchive(f"{what}: delete it, if no process of ppodd is at work there") from None


def _bytes(mark: LockRecord) -> bytes:
    return mark.model_dump_json(indent=1).encode() + b"\n"
