"""Ways of Tune that are changed: messages that would be wrong here, how many trials wait, and what is secret."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import Any

from ray.tune.progress_reporter import TrialProgressCallback

_PENDING = 200  # of a grid of Tune's own, at least
_MOST_PENDING = "TUNE_MAX_PENDING_TRIALS_PG"  # what sets another number


class SilentReporter(TrialProgressCallback):
    """In place of Tune's own, which says "completed" of a trial that has failed; what is to be said we say."""

    def on_trial_result(self, *_: Any, **__: Any) -> None:
        """Nothing."""

    def on_trial_error(self, *_: Any, **__: Any) -> None:
        """Nothing."""

    def on_trial_complete(self, *_: Any, **__: Any) -> None:
        """Nothing."""


@contextlib.contextmanager
def many_pending(cpus: float) -> Iterator[None]:
    """Have as many trials wait for a place, on a cluster of so many cores, as of a grid of Tune's own.

    By what waits an autoscaler sees how many nodes there should be. Of a searcher's trials Tune lets one wait.
    """
    if _MOST_PENDING in os.environ:  # whoever runs the sweep has chosen
        yield
        return
    os.environ[_MOST_PENDING] = str(max(_PENDING, int(1.1 * cpus)))
    try:
        yield
    finally:
        del os.environ[_MOST_PENDING]


def keep_credentials() -> None:
    """Have Tune not hand AWS's keys to trials by Ray's `env_vars`, which every node writes to its log.

    Trials have them all the same: on a Ray of this process by their environment, in a job as `cluster.environment` has
    them travel, on a cluster of others as whoever set it up gave them.
    """
    with contextlib.suppress(ImportError, AttributeError):  # where another Ray has it elsewhere: the test will say
        from ray.tune.execution import class_cache

        handed_on = class_cache.ENV_VARS_TO_PROPAGATE
        class_cache.ENV_VARS_TO_PROPAGATE = {name for name in handed_on if not name.startswith("AWS_")}
