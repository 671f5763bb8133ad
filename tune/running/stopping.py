"""How a driver that is asked to end tells its trials, and a trial that cannot go on its driver.

Told to end, each trial archives a checkpoint at the end of its meta-step. Where the archive takes not even the record
of a trial's failure, the driver is told why, and ends the sweep.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from typing import Any

import ray

from ppodd import signals

NO_STORAGE = "no_storage"  # the result by which a trial says why the archive takes no record


class StopNotice:
    """Lives as long as the driver; trials wait for its word."""

    def __init__(self) -> None:
        self._given = asyncio.Event()

    async def give(self) -> None:
        """Have every trial end."""
        self._given.set()

    async def given(self) -> None:
        """Return once the trials are to end."""
        await self._given.wait()


# Each trial waits in a call of its own, and by default a thousand calls fill an actor: no notice would get in.
_OPTIONS: Any = {"num_cpus": 0, "max_concurrency": 100_000}
StopNoticeActor: Any = ray.remote(**_OPTIONS)(StopNotice)


@contextlib.contextmanager
def graceful_stop() -> Iterator[Any]:
    """In the block, which runs a Tuner, the first signal ends it in Tune's own way, and gives notice to its trials.

    Yields what trials wait for, by `when_told`; nothing where signals are not this command's to answer.
    """
    with signals.reacting(lambda: signal.raise_signal(signal.SIGUSR1)) as ours:
        if not ours:
            yield None
            return
        # Tune ends at SIGUSR1 as at Ctrl-C, for which its own handler would keep a second one from us
        os.environ["TUNE_DISABLE_SIGINT_HANDLER"] = "1"
        signal.signal(signal.SIGUSR1, signals.interrupt)  # until Tune takes it
        notice: Any = StopNoticeActor.remote()
        threading.Thread(target=_give, args=(notice,), daemon=True).start()
        try:
            yield notice
        finally:
            with contextlib.suppress(Exception):
                ray.kill(notice)


def _give(notice: Any) -> None:
    signals.came().wait()
    with contextlib.suppress(Exception):  # Ray is shut down, and no trial is left
        notice.give.remote()


def when_told(notice: Any) -> threading.Event:
    """An event that is set once the driver has given notice; never where it is lost, which ends its trials anyway."""
    told = threading.Event()

    def wait() -> None:
        with contextlib.suppress(ray.exceptions.RayError):
            ray.get(notice.given.remote())
            told.set()

    threading.Thread(target=wait, daemon=True).start()
    return told
