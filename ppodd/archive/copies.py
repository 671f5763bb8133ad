"""A trial copied to another archive: for users who can read an archive but not write to it."""

from __future__ import annotations

import re

from ppodd.archive.sweeps import Archive
from ppodd.archive.trial_archive import TrialArchive
from ppodd.errors import BadInput

_OF_THE_TRIAL = re.compile(r"(config|data|imported)\.json|stage-\d+/.*")  # not what only its own process needs


def copied(trial: TrialArchive, archive_url: str) -> TrialArchive:
    """The trial as it is now, in the archive at `archive_url`; what is there already is not copied again.

    Raises:
        BadInput: another trial of this name is there.
        StorageError: it cannot be written there.
    """
    there = Archive(archive_url).trial(trial.sweep, trial.trial)
    held = set(there.folder.find())
    for name in filter(_OF_THE_TRIAL.fullmatch, trial.folder.find()):
        if name not in held:
            there.folder.write(name, trial.folder.read(name))
        elif name == "config.json" and there.config() != trial.config():
            raise BadInput(f"--out: {there.url} holds another trial of this name: name another archive")
    return there
