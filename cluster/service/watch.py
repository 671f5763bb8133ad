"""A Ray that is lost ends the driver: whatever it waits for would come after minutes, or never.

Ray's own calls cannot be relied on here: without its raylet a driver waits for ever, and without the GCS, which knows
the nodes and actors, each call blocks for a minute, in C++, before the process is aborted. So one thread asks again and
again whether the cluster is there, and another sees for how long it has not answered.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import threading
from collections.abc import Callable, Iterator

from cluster.dispatch import ServiceTimings
from cluster.service.ray_adapter import lost_part
from ppodd import signals

_log = logging.getLogger(__name__)


class Watch:
    """Asks `probe` every `pause_s` seconds what is lost, and calls `lost` with it, or where no answer comes."""

    def __init__(self, probe: Callable[[], str], lost: Callable[[str], None], pause_s: float, limit_s: float):
        self._probe, self._lost, self._pause_s, self._limit_s = probe, lost, pause_s, limit_s
        self._over = threading.Event()
        self._answers, self._found = 0, ""

    def __enter__(self) -> Watch:
        for task in (self._ask, self._see):
            threading.Thread(target=task, daemon=True).start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._over.set()

    def _ask(self) -> None:
        while not self._over.is_set() and not self._found:
            try:
                self._found = self._probe()
                self._answers += 1
            except Exception:  # no answer, like one that does not come
                _log.info("Ray does not answer", exc_info=True)
            self._over.wait(self._pause_s)

    def _see(self) -> None:
        known, silent_s = 0, 0.0  # by its own waits, not by a clock: a process that was stopped has not waited
        while not self._over.wait(self._pause_s):
            silent_s = silent_s + self._pause_s if self._answers == known else 0.0
            known = self._answers
            why = self._found or (f"no answer for {silent_s:.0f} s" if silent_s > self._limit_s else "")
            if why:
                self._lost(why)
                return


@contextlib.contextmanager
def watched(go_on: str) -> Iterator[None]:
    """End this process with one line and exit code 1 where its Ray is lost in the block; `go_on` says what to do then.

    The process is ended at once, without leaving its blocks, for these would call Ray. The mark of a process that has
    ended is taken over, and what is archived is whole at any moment.
    """
    timings = ServiceTimings()
    with Watch(lost_part, lambda why: _end(f"Ray is lost ({why}): {go_on}"), timings.probe_s, timings.lost_s):
        yield


def _end(line: str) -> None:
    if signals.came().is_set():  # it ends this command, and was sent to Ray's processes too where that is lost
        return
    try:
        print(f"ppodd: {line}", file=sys.stderr, flush=True)
    finally:  # also where nobody reads it any more
        os._exit(1)
