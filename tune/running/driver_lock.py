"""One driver at a time runs a sweep: its mark in the archive, renewed while it lives.

    <archive>/<sweep>/driver.json

Clocks of two machines may differ: a driver elsewhere counts as alive while its mark changes, whatever its date.
"""

from __future__ import annotations

import _thread
import contextlib
import os
import secrets
import signal
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from ppodd.archive import Archive
from ppodd.errors import BadInput
from ppodd.files import Folder

_MARK = "driver.json"
_RENEW_S, _DEAD_S, _POLL_S, _SETTLE_S = 15.0, 60.0, 1.0, 0.5


@contextlib.contextmanager
def only_driver(archive: Archive, sweep: str, say: Callable[[str], None] | None = None) -> Iterator[None]:
    """Be the driver of a sweep while the block runs.

    A mark that a killed driver left behind is taken over: at once where it ran on this machine, else after a minute in
    which nobody renews it.

    Raises:
        BadInput: another driver runs the sweep.
    """
    folder = archive.folder / sweep
    if (mark := folder.get_json(_MARK)) and not _ended_here(mark):
        who = f"{mark['host']}, process {mark['pid']}"
        if say:
            say(f"a driver of this sweep ({who}) has not said that it ended: looking for a minute whether it lives")
        if _lives(folder, mark):
            raise BadInput(
                f"sweep {sweep!r} in {archive.url} is being run by another driver ({who}): wait for its end, or end "
                f"it, then go on with --resume"
            )
    mine = {"host": socket.gethostname(), "machine": _machine(), "pid": os.getpid(), "token": secrets.token_hex(8)}
    _write(folder, mine)
    time.sleep(_SETTLE_S)
    if not _is(folder, mine):  # of those that begin in one moment, the last one goes on
        raise BadInput(f"sweep {sweep!r} in {archive.url} has just been begun by another driver: wait for its end")
    over = threading.Event()

    def renew() -> None:
        while not over.wait(_RENEW_S):
            with contextlib.suppress(Exception):  # an archive that is away ends no sweep by it
                if _is(folder, mine):
                    _write(folder, mine)
                    continue
                if say:
                    say("another driver has taken over this sweep, as this one was not heard of: it ends here")
                if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as of what a script starts in the background
                    os.kill(os.getpid(), signal.SIGTERM)
                _thread.interrupt_main()
                return

    thread = threading.Thread(target=renew, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        with contextlib.suppress(Exception):
            if _is(folder, mine):
                folder.remove(_MARK)


def _write(folder: Folder, mine: dict[str, Any]) -> None:
    folder.write_json(_MARK, {**mine, "renewed_at": time.time()})


def _is(folder: Folder, mine: dict[str, Any]) -> bool:
    """Whether the mark is this driver's."""
    return (folder.get_json(_MARK) or {}).get("token") == mine["token"]


def _lives(folder: Folder, mark: dict[str, Any]) -> bool:
    """Whether somebody renews the mark, looked at for a minute."""
    end = time.monotonic() + _DEAD_S
    while time.monotonic() < end:
        time.sleep(_POLL_S)
        if (now := folder.get_json(_MARK)) != mark:
            return now is not None
    return False


def _ended_here(mark: dict[str, Any]) -> bool:
    """Whether the mark is that of a process of this machine that there is no more."""
    if mark["machine"] != _machine():
        return False
    try:
        os.kill(mark["pid"], 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        pass
    return False


def _machine() -> str:
    """What tells this machine, since it was started, and this container from others."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip() + os.readlink("/proc/self/ns/pid")
    except OSError:
        return str(uuid.getnode())
