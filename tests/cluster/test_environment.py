"""Importing changes nothing; who asks for it gets Ray's settings, a token, and what was shipped with a job."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

EVERY_MODULE = """
import importlib, os, pkgutil
before = dict(os.environ)
for package in ("ppodd", "results", "cluster", "tune"):
    for module in pkgutil.walk_packages(importlib.import_module(package).__path__, package + "."):
        if module.name != "ppodd.__main__":
            importlib.import_module(module.name)
ours = ("PPODD_", "RAY_AUTH", "RAY_USAGE", "RAY_ACCEL", "RAY_AIR", "TUNE_", "LAB_")
print([name for name, value in os.environ.items() if before.get(name) != value and name.startswith(ours)])
"""

PREPARED = "import os, cluster; print(cluster.prepare(), os.environ.get('RAY_AUTH_TOKEN'), os.environ.get('LAB'))"


def python(code, folder, **environment):
    """What the code prints, in a process whose user has no token."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "TUNE_"))}
    environment = {**kept, "HOME": str(folder), "PYTHONPATH": str(ROOT), **environment}
    done = subprocess.run([sys.executable, "-c", code], env=environment, cwd=folder, capture_output=True, text=True)
    return done.stdout.strip() or done.stderr.strip().splitlines()[-1]


@pytest.fixture
def shipped(tmp_path):
    file = tmp_path / "job/.ppodd/environment.json"
    file.parent.mkdir(parents=True)
    file.write_text(json.dumps({"LAB": "a secret"}))
    file.chmod(0o644)
    return file


def test_importing_every_module_sets_no_variable_and_reads_no_secret(shipped):
    assert python(EVERY_MODULE, shipped.parents[1], PPODD_ENVIRONMENT=".ppodd/environment.json") == "[]"
    assert shipped.stat().st_mode & 0o777 == 0o644


def test_a_token_is_made_where_there_is_none(tmp_path):
    made, token, _ = python(PREPARED, tmp_path).split()
    assert made == "True" and len(token) == 64 and token not in python(PREPARED, tmp_path)


@pytest.mark.parametrize(
    "given",
    [{"RAY_AUTH_TOKEN": "mine"}, {"RAY_AUTH_TOKEN_PATH": ".ray/auth_token"}, {"RAY_AUTH_MODE": "disabled"}, {}],
    ids=["token", "path", "disabled", "file"],
)
def test_what_the_user_has_stays(tmp_path, given):
    if given.keys() <= {"RAY_AUTH_TOKEN_PATH"}:
        (tmp_path / ".ray").mkdir()
        (tmp_path / ".ray/auth_token").write_text("mine")
    assert python(PREPARED, tmp_path, **given) == f"False {given.get('RAY_AUTH_TOKEN')} None"


def test_shipped_values_are_taken_up_by_the_job_and_closed_to_others(shipped):
    values = {"PPODD_ENVIRONMENT": ".ppodd/environment.json", "RAY_AUTH_MODE": "disabled"}
    assert python(PREPARED, shipped.parents[1], **values) == "False None a secret"
    assert shipped.stat().st_mode & 0o777 == 0o600


def test_ray_that_was_imported_too_early_is_said(tmp_path):
    assert "call cluster.prepare() first" in python("import ray, cluster; cluster.prepare()", tmp_path)
