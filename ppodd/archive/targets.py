"""The trials and stages of an archive that users name, and the folder of a run that belongs to no sweep."""

from __future__ import annotations

import os

from ppodd.archive.trial_archive import TrialArchive
from ppodd.config import RUNS, STAGE_NAME, DistillConfig, check_twin
from ppodd.datasets import data_digest, read_images
from ppodd.errors import BadInput
from ppodd.files import Folder


def trial_at(path: str) -> TrialArchive:
    """The trial folder at `path`. Raises `BadInput` where there is none."""
    trial = TrialArchive(path)
    if not trial.state().is_trial:
        raise BadInput(f"{path!r} is no trial of an archive (no config.json there): name …/<sweep>/<trial>")
    return trial


def stages_at(path: str) -> tuple[TrialArchive, list[int]]:
    """A trial, and the finished stages of it that `path` (a trial's folder or a stage's) names.

    Raises:
        BadInput: there is no such trial, or no finished stage.
    """
    folder, _, name = path.rstrip("/").rpartition("/")
    if STAGE_NAME.fullmatch(name):
        trial = trial_at(folder or ".")
        stages = [stage for stage in trial.stages() if name == f"stage-{stage:02d}"]
        if not stages:
            raise BadInput(f"{path!r} is no finished stage (stages there: {trial.stages()})")
        return trial, stages
    trial = trial_at(path)
    if not trial.stages():
        raise BadInput(f"{path!r} has no finished stage yet")
    return trial, trial.stages()


def with_own_folder(archive: str, resume: bool, plain: DistillConfig, apart: DistillConfig) -> DistillConfig:
    """Of two configs of a run that differ in its name, the one whose folder is its own.

    The other is taken where a run on data at another place has the plain name. Data that is not there any more may have
    moved here, which its digest tells: this is the same run then.
    """
    runs = Folder(archive) / RUNS
    if resume:
        return apart if TrialArchive(runs.at(apart.name)).holds_run() else plain
    there = TrialArchive(runs.at(plain.name)).data()
    if not there or not os.path.exists(plain.dataset):
        return plain
    if os.path.exists(there.dataset):
        return plain if os.path.samefile(there.dataset, plain.dataset) else apart
    return plain if data_digest(read_images(plain.data)[1], plain.data) == there.digest else apart


def trial_of(archive: str, config: DistillConfig) -> TrialArchive:
    """The folder of a run that belongs to no sweep, to write to.

    Raises `BadInput` where it cannot be written, or its name is another's but for case.
    """
    runs = Folder(archive) / RUNS
    (runs / config.name).require_writable()
    check_twin(config.name, runs.names())
    return TrialArchive(runs.at(config.name))
