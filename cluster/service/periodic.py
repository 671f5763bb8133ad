"""A task that is done again and again, whatever happens."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from cluster.dispatch import Pace
from ppodd.errors import one_line

_log = logging.getLogger(__name__)


class PeriodicTask:
    """Does a task at its pace. `trouble` is what the last attempt failed by: the next may do."""

    def __init__(self, task: Callable[..., object], pace: Pace):
        self._task, self._pace = task, pace
        self.trouble = ""

    def start(self) -> None:
        """Begin, in a thread of its own that ends with the process."""
        threading.Thread(target=self._forever, daemon=True).start()

    def _forever(self) -> None:
        while True:
            time.sleep(self.once())

    def once(self) -> float:
        """Do it now; returns how many seconds to rest."""
        started = time.monotonic()
        try:
            self._task()
            self.trouble = ""
        except Exception as error:  # of Ray while a node goes away, of a disk
            if self.trouble != (trouble := one_line(error)):  # logged once, however often it is tried
                _log.warning("%s: %s", self._task.__name__, trouble, exc_info=True)
            self.trouble = trouble
        return self._pace.rest_s(time.monotonic() - started)
