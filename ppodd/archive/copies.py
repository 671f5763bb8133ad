"""A trial copied to another archive: for users who can read an archive but not write to it."""

from __future__ import annotations

import re

from ppodd.archive.sweeps import Archive
from ppodd.archive.trial_archive import TrialArchive
from ppodd.errors import BadInput

# not what only its own process needs
_OF_THE_TRIAL = re.compile(r"(config|data|imported)\.json|whitening\.safetensors|stage-\d+/.*")


def copied(trial: TrialArchive, archive_url: str) -> TrialArchive:
    """The trial as it is now, in the archive at `archive_url`; what is there already is not copied again.

    Raises:
        BadInput: another trial of this name is there, or this one distilled to other posters or from other data.
        StorageError: it cannot be written there.
    """
    there = Archive(archive_url).trial(trial.sweep, trial.trial)
    if there.holds_run() and not _is_same(trial, there):
        raise BadInput(f"{there.url} holds another trial of this name: name another archive to copy into")
    held = set(there.folder.find())
    for name in filter(_OF_THE_TRIAL.fullmatch, trial.folder.find()):
        if name not in held:
            there.folder.write(name, trial.folder.read(name))
    return there


def _is_same(one: TrialArchive, other: TrialArchive) -> bool:
    """Whether two trials have one config, one data and, in the stages that both have, the same posters."""
    data = {found.digest for trial in (one, other) if (found := trial.data())}
    both = set(one.stages()) & set(other.stages())
    same = all(one.stage(stage).digests == other.stage(stage).digests for stage in both)
    return one.config() == other.config() and len(data) < 2 and same
