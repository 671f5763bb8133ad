"""How a driver that is to end tells its trials, and a trial that cannot go on its driver.

Told to end, by a signal or as the sweep's hours are over, each trial archives a checkpoint at the end of its meta-step.
Where not even the record of a trial's failure can be archived, the driver learns why from its result, and ends the
sweep.
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

from cluster.service import on_the_head
from ppodd import signals

NO_STORAGE = "no_storage"  # the result by which a trial says why the archive takes no record


class StopNotice:
    """Lives as long as the driver; trials wait for its word."""

    def __init__(self) -> None:
        self._given, self._why = asyncio.Event(), ""

    async def give(self, why: str = "") -> None:
        """Have every trial end; `why` is said of those that are stopped by it, and not only interrupted."""
        self._why = why
        self._given.set()

    async def given(self) -> str:
        """Return once the trials are to end, with why they are stopped, if they are."""
        await self._given.wait()
        return self._why

    async def over(self) -> bool:
        """Whether trials are to end, at this moment."""
        return self._given.is_set()


# Each trial waits in a call of its own, and by default a thousand calls fill an actor: no notice would get in.
_OPTIONS: Any = {"num_cpus": 0, "max_concurrency": 100_000}
StopNoticeActor: Any = ray.remote(**_OPTIONS)(StopNotice)


@contextlib.contextmanager
def graceful_stop() -> Iterator[Any]:
    """In the block, which runs a Tuner, the first signal ends it in Tune's own way, and gives notice to its trials.

    Signals are left alone where they are not this command's to answer. Yields what trials wait for, by `when_told`.
    """
    with signals.reacting(lambda: signal.raise_signal(signal.SIGUSR1)) as ours:
        notice: Any = StopNoticeActor.options(**on_the_head()).remote()
        if ours:
            # Tune ends at SIGUSR1 as at Ctrl-C, for which its own handler would keep a second one from us
            os.environ["TUNE_DISABLE_SIGINT_HANDLER"] = "1"
            signal.signal(signal.SIGUSR1, signals.interrupt)  # until Tune takes it
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


def is_over(notice: Any) -> bool:
    """Whether the driver has given notice. It has not where the notice is lost, with its node: that ends no trial."""
    with contextlib.suppress(ray.exceptions.RayError):
        return bool(ray.get(notice.over.remote()))
    return False


class StopSignal(threading.Event):
    """Set once the driver has given notice, with why its trials are stopped, if they are."""

    why = ""


def when_told(notice: Any) -> StopSignal:
    """Set once the driver has given notice; never where it is lost: a driver that is ends its trials anyway."""
    told = StopSignal()

    def wait() -> None:
        with contextlib.suppress(ray.exceptions.RayError):
            told.why = ray.get(notice.given.remote())
            told.set()

    threading.Thread(target=wait, daemon=True).start()
    return told
