"""Limits of time: how long a trial and a sweep may compute, counted over all runs, and what goes on with more.

What a limit ends archives a checkpoint and is marked as stopped. The mark is taken off by a run that has more.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any

from ray import tune

from ppodd.archive import Archive, HoursRecord, StopRecord, TrialArchive
from ppodd.errors import BadInput, CorruptArchive, PpoddError
from tune.sweep_file import Limits, Sweep

_log = logging.getLogger(__name__)
_HOUR_S = 3600.0
_COUNT_EVERY_S = 60.0
TRIAL_HOURS, SWEEP_HOURS = "trial_hours", "sweep_hours"


def more(limit: str, hours: float) -> str:
    """How a limit that is used up is raised, in words."""
    return f"the same command with --resume and more, such as --set limits.{limit}={2 * hours:.3g}, goes on"


def check_hours(sweep: Sweep, archive: Archive, left: list[str]) -> None:
    """Raise `BadInput` where trials are left and the sweep's hours are used up."""
    if left and used_up(sweep, archive):
        limit = sweep.file.limits.sweep_hours or 0.0
        raise BadInput(
            f"limits: sweep {sweep.name!r} has used {archive.hours(sweep.name):.3g} of its {limit:.3g} sweep_hours: "
            f"{more(SWEEP_HOURS, limit)}"
        )


def used_up(sweep: Sweep, archive: Archive) -> bool:
    """Whether the sweep has hours, and they are over."""
    limit = sweep.file.limits.sweep_hours
    return bool(limit and archive.hours(sweep.name) >= limit)


def take_up(sweep: Sweep, archive: Archive, stopped: Iterable[str]) -> None:
    """Have those of the `stopped` trials resumed that a limit has stopped and that have more of it now."""
    for trial in (archive.trial(sweep.name, name) for name in stopped):
        if (stop := trial.stopped()) and stop.limit and _has_more(stop, sweep.file.limits):
            trial.clear_stopped()


def _has_more(stop: StopRecord, limits: Limits) -> bool:
    """Whether the limit that stopped a trial stops it no more; a driver that runs has sweep hours left."""
    limit = limits.trial_hours
    return stop.limit != TRIAL_HOURS or limit is None or (stop.hours or 0.0) < limit


class TrialClock:
    """Counts what a trial has computed, in all its runs."""

    def __init__(self, trial: TrialArchive, limit: float | None):
        self._trial, self._limit = trial, limit
        self._before, self._begun = _computed_hours(trial) if limit else 0.0, time.monotonic()

    @property
    def hours(self) -> float:
        """Computed so far."""
        return self._before + (time.monotonic() - self._begun) / _HOUR_S

    def is_over(self) -> bool:
        """Whether the trial has used up its hours."""
        return self._limit is not None and self.hours >= self._limit

    def stop(self, of_the_sweep: str = "") -> bool:
        """Mark the trial as stopped, where its hours are over or those `of_the_sweep` are; whether it is."""
        limit = SWEEP_HOURS if of_the_sweep else TRIAL_HOURS
        if not of_the_sweep and not self.is_over():
            return False
        assert of_the_sweep or self._limit
        why = of_the_sweep or f"{TRIAL_HOURS} {self._limit:.3g} used up: {more(limit, self._limit or 0)}"
        stages = self._trial.stages()
        record = StopRecord(limit=limit, hours=self.hours, stage=len(stages), why=why, stopped_at=time.time())
        self._trial.write_stopped(record)
        _log.info("stopped: %s", why)
        return True


def _computed_hours(trial: TrialArchive) -> float:
    """What a trial computed in earlier runs, as its checkpoint or its last stage says."""
    with contextlib.suppress(CorruptArchive):  # who goes on from it will say so
        if found := trial.resume():
            return found[1].seconds / _HOUR_S
        if stages := trial.stages():
            return (trial.stage(stages[-1]).budgets.seconds or 0.0) / _HOUR_S
    return 0.0


class SweepClock(tune.Callback, tune.Stopper):
    """Counts in the archive for how long the sweep is run, and ends the Tuner once its hours are used up.

    Trials are notified first; the Tuner ends when the running ones have left their checkpoints.

    Args:
        tell: has trials end, with why.
    """

    def __init__(self, sweep: Sweep, archive: Archive, tell: Callable[[str], None]):
        self._sweep, self._archive, self._tell = sweep.name, archive, tell
        self._limit = sweep.file.limits.sweep_hours
        self._before, self._begun = archive.hours(sweep.name) if self._limit else 0.0, time.monotonic()
        self._computing: set[str] = set()
        self._ended = threading.Event()
        self.over = False

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Tune pickles its settings, and we never read them

    @property
    def hours(self) -> float:
        """For which drivers have run the sweep."""
        return self._before + (time.monotonic() - self._begun) / _HOUR_S

    def __enter__(self) -> SweepClock:
        if self._limit:
            threading.Thread(target=self._count, daemon=True).start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._ended.set()
        if self._limit:
            self._note()

    def _count(self) -> None:
        assert self._limit
        while not self._ended.wait(max(0.0, min(_COUNT_EVERY_S, (self._limit - self.hours) * _HOUR_S))):
            if self.hours >= self._limit:
                self.over = True
                self._tell(f"{SWEEP_HOURS} {self._limit:.3g} of the sweep used up: {more(SWEEP_HOURS, self._limit)}")
                return
            self._note()

    def _note(self) -> None:
        with contextlib.suppress(OSError, PpoddError):  # an archive that is away ends no sweep by it
            self._archive.write_hours(self._sweep, HoursRecord(hours=self.hours))

    # What Tune calls

    def on_trial_start(self, iteration: int, trials: Any, trial: Any, **_: Any) -> None:
        """A trial is begun; one that begins when all is over ends by itself."""
        if not self.over:
            self._computing.add(trial.trial_id)

    def on_trial_complete(self, iteration: int, trials: Any, trial: Any, **_: Any) -> None:
        """A trial has ended."""
        self._computing.discard(trial.trial_id)

    on_trial_error = on_trial_recover = on_trial_complete

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        """No trial is stopped by what it reports."""
        return False

    def stop_all(self) -> bool:
        """Whether the Tuner is to end."""
        return self.over and not self._computing
