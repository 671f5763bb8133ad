"""What keeps a sweep from being run, as far as neither its data nor Ray are needed to find it."""

from __future__ import annotations

from ppodd.archive import Archive
from results.tracking import check_place
from tune.running.claim import check_claim
from tune.running.disk_space import check_free_space
from tune.running.standing import left, limited, unfinished
from tune.sweep_file import Sweep


def check_start(sweep: Sweep, archive: Archive, tracking_uri: str, resume: bool) -> None:
    """Find that the archive and the store would take the sweep; nothing is made.

    Raises:
        BadInput: they would not, or it has used up its hours, or its searcher is not installed.
        StorageError: the disk has not enough room.
    """
    check_claim(sweep, archive, resume)
    if sweep.file.search:
        from tune.running.search import check_installed  # it imports Ray, as what follows: seconds of a dry run

        check_installed(sweep.file.search.algorithm)
    if sweep.file.limits.sweep_hours:
        from tune.running.limits import check_hours

        check_hours(sweep, archive, [*unfinished(sweep, archive), *limited(sweep, archive)])
    check_free_space(archive, left(sweep, archive), sweep.evaluations)
    check_place(tracking_uri)
