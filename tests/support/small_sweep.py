"""A small sweep without Ray: two trials of two stages, two protocols; and how whoever resumes it finishes it."""

import csv
import re

import yaml
from tiny import TINY

from cluster.dispatch import Backlog
from ppodd.archive import Archive, mended
from ppodd.config import EvaluationConfig
from ppodd.distillation import run
from ppodd.evaluation import evaluate_archived
from tune.running.claim import write_claim
from tune.sweep_file import load_sweep

NAME = "small"
FILE = {
    "name": NAME,
    "preset": "digits-small",
    "config": {k: list(v) if isinstance(v, tuple) else v for k, v in TINY.items()},
    "seeds": [0, 1],
    "evaluation": {"nets": 2},
}


def make(folder):
    """The sweep, archived and evaluated, in `folder`/archive."""
    path, archive = folder / "small.yaml", Archive(folder / "archive")
    path.write_text(yaml.safe_dump(FILE))
    write_claim(load_sweep(str(path)), archive)
    archive.add_evaluation(NAME, EvaluationConfig(mode=("latest",), nets=1))
    finish(archive)
    return archive


def finish(archive):
    """Do what is open, as a resumed sweep does; returns what was mended and why trials failed, a line each."""
    record = archive.sweep(NAME)
    said = mended(archive, NAME, record)
    for listed in record.trials:
        trial = archive.trial(NAME, listed.name)
        config = trial.config() if trial.state().is_trial else load(listed)
        try:
            list(run(config, trial, resume=True, alone=False))
        except Exception as error:
            said.append(f"{type(error).__name__}: {error}")
    look = Backlog(archive.url, NAME).look()
    for work in look.open:
        evaluate_archived(work, "cpu")
    return [*said, *look.unreadable.values()]


def load(listed):
    from ppodd.config import DistillConfig, build

    return build(DistillConfig, listed.config)


_WHEN = {
    "node",
    "pid",
    "log_file",
    "finished_at",
    "seconds",
    "updated_at",
    "sha256",
    "renewed_at",
    "seconds_left",
    "seconds_per_meta_step",
}


def contents(archive, sweep=NAME):
    """What an archive holds of a sweep, but for when it was done and how long it took: by path."""
    folder = archive.folder / sweep
    names = [name for name in folder.find() if "resume/" not in name]
    return {name: _timeless(folder.read_json(name)) if name.endswith(".json") else folder.read(name) for name in names}


def _timeless(value):
    if isinstance(value, dict):
        return {key: _timeless(inner) for key, inner in value.items() if key not in _WHEN}
    return value


def differences(mine, theirs):
    """Which files differ, and in what, for messages."""
    return {name: (mine.get(name), theirs.get(name)) for name in mine | theirs if mine.get(name) != theirs.get(name)}


def rows_without(left_out, path):
    """The rows of a CSV file, sorted, but for the columns whose names match."""
    with path.open(newline="") as file:
        rows = [{k: v for k, v in row.items() if not re.search(left_out, k)} for row in csv.DictReader(file)]
    return sorted(map(str, rows))
