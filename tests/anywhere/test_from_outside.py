"""A network, a blend, a class order and a data set from outside the package: each one function and one line."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import lab
import numpy as np
import yaml
from tiny import TINY

from ppodd.archive import Archive, Status

ROOT = Path(__file__).parents[2]

LINES = """
[ppodd.architectures]
lab-net = lab:net
[ppodd.blends]
lab-blend = lab:mostly_new
[ppodd.class_orders]
lab-order = lab:downwards
[ppodd.datasets]
lab-scans = lab:scans
"""
BY_NAME = ["lab-net", "lab-blend", "lab-order", "lab-scans"]
BY_PATH = ["lab:net", "lab:mostly_new", "lab:downwards", "lab:scans"]
FIELDS = ("arch", "blend", "class_order", "dataset")


def install(folder):
    """The package as an installer lays it."""
    metadata = folder / "lab-1.0.dist-info"
    metadata.mkdir(parents=True)
    shutil.copy(lab.__file__, folder)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: lab\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(LINES)


def sweep_of_both(path):
    """The same trial twice: by the names that the package registers, and by import paths."""
    config = {k: list(v) if isinstance(v, tuple) else v for k, v in TINY.items() if k not in ("device", *FIELDS)}
    values = {
        "name": "outside",
        "preset": "digits-small",
        "config": config,
        "grid": {", ".join(FIELDS): [BY_NAME, BY_PATH]},
        "evaluation": {"arch": ["lab-net", "lab:net"]},  # each of both, so that their evaluations are of one protocol
        "evaluators": {"cpus": 0},
    }
    path.write_text(yaml.safe_dump(values, sort_keys=False))


def test_trials_and_evaluators_use_them_by_name_and_by_import_path(tmp_path, monkeypatch):
    install(tmp_path / "site")
    sweep_of_both(tmp_path / "outside.yaml")
    command = [sys.executable, "-m", "ppodd", "sweep", "outside.yaml", "--archive", "archive"]
    paths = {"PYTHONPATH": f"{tmp_path / 'site'}{os.pathsep}{ROOT}"}
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env={**os.environ, **paths})
    assert done.returncode == 0, done.stdout + done.stderr

    monkeypatch.syspath_prepend(tmp_path / "site")  # or the names in the configs would be unknown here
    archive = Archive(tmp_path / "archive")
    trials = [archive.trial("outside", name) for name in archive.trials("outside")]
    assert sorted([getattr(t.config(), field) for field in FIELDS] for t in trials) == sorted([BY_NAME, BY_PATH])
    for trial in trials:
        assert trial.state().status(2) is Status.COMPLETE
        assert list(trial.stage(2).blend) == [0.25, 0.75]
        assert (trial.poster(2).class_order == np.arange(10)[::-1].reshape(2, 5)).all()
        assert all(trial.evaluations(stage) for stage in (1, 2))
    one, other = trials
    assert one.stage(2).digests.poster == other.stage(2).digests.poster
    assert [e.accuracy for e in one.evaluations(2)] == [e.accuracy for e in other.evaluations(2)]
