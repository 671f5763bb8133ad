"""How a sweep's trials stand, as the archive says: which are left, which failed, were stopped, and why."""

from __future__ import annotations

from ppodd.archive import Archive, Status, StopRecord, TrialState
from ppodd.config import DistillConfig
from tune.sweep_file import Sweep


def standing(sweep: Sweep, archive: Archive, *wanted: Status) -> list[str]:
    """The sweep's trials of a status."""
    states = archive.states(sweep.name)
    found = {name: states.get(name, TrialState()).status(config.num_stages) for name, config in sweep.trials.items()}
    return [name for name, status in found.items() if status in wanted]


def left(sweep: Sweep, archive: Archive) -> list[DistillConfig]:
    """The trials that are to be run; of a search, which comes up with them, one is like another."""
    if sweep.file.search:
        over = len(standing(sweep, archive, *(status for status in Status if status.is_over)))
        return list(sweep.examples)[:1] * (sweep.wanted - over)
    return [sweep.trials[name] for name in unfinished(sweep, archive)]


def unfinished(sweep: Sweep, archive: Archive) -> list[str]:
    """Trials with stages missing from the archive that no scheduler has stopped."""
    return standing(sweep, archive, Status.GOING, Status.FAILED)


def failures(sweep: Sweep, archive: Archive) -> dict[str, str]:
    """Why trials failed, as their archive says."""
    names = standing(sweep, archive, Status.FAILED)
    found = {name: archive.trial(sweep.name, name).failure() for name in names}
    return {name: failure.error for name, failure in found.items() if failure}


def stopped(sweep: Sweep, archive: Archive) -> dict[str, str]:
    """Why trials were stopped early, as their archive says."""
    return {name: stop.why for name, stop in _stops(sweep, archive).items()}


def limited(sweep: Sweep, archive: Archive) -> list[str]:
    """Trials that a limit has stopped."""
    return [name for name, stop in _stops(sweep, archive).items() if stop.limit]


def _stops(sweep: Sweep, archive: Archive) -> dict[str, StopRecord]:
    """The records of trials that were stopped early."""
    names = standing(sweep, archive, Status.STOPPED)
    return {name: stop for name in names if (stop := archive.trial(sweep.name, name).stopped())}
