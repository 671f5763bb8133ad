"""What a user has named `results`, `cluster` or `tune` is never imported in place of ppodd's packages."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from others import NAMES, put_in_the_way
from submissions import evaluations
from sweeps import sweep_file

from ppodd.archive.sweeps import Archive

ROOT = Path(__file__).parents[2]


def python(folder, *arguments, path=(ROOT,)):
    """A Python begun in the folder, with these folders on its path: exit code, output, errors."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, path))}
    command = [sys.executable, *map(str, arguments)]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    return done.returncode, done.stdout, done.stderr


@pytest.fixture
def beside(tmp_path):
    """A folder that holds a user's own modules of these names."""
    folder = tmp_path / "work"
    put_in_the_way(folder)
    return folder


def test_modules_beside_the_command_are_not_imported(beside):
    code, out, error = python(beside, "-m", "ppodd", "sweep", "quickstart", "--dry-run", "--no-estimate")
    assert code == 0 and "sweep quickstart" in out, error
    code, _, error = python(beside, "-m", "ppodd", "results", "table")
    assert code == 2 and error.startswith("ppodd: ") and "ppodd-archive" in error


def test_modules_that_come_first_on_the_path_are_not_imported(beside, tmp_path):
    """As of an installed package of such a name."""
    arguments = [
        "-c",
        "from ppodd.cli.main import main; print(main(['sweep', 'quickstart', '--dry-run', '--no-estimate']))",
    ]
    code, out, error = python(tmp_path, *arguments, path=(beside, ROOT))
    assert code == 0 and out.splitlines()[-1] == "0", error


@pytest.mark.parametrize("name", NAMES)
def test_one_that_was_imported_before_is_refused_in_a_line_that_names_both_places(tmp_path, name):
    (tmp_path / f"{name}.py").touch()
    code = f"import sys, {name}; from ppodd.cli.main import main; sys.exit(main(['jobs', 'status']))"
    status, _, error = python(tmp_path, "-c", code)
    assert status == 2 and error == (
        f"ppodd: the module {name!r} of {tmp_path / name}.py was imported in place of ppodd's, which is in "
        f"{ROOT / name}: rename it, or use an environment without it\n"
    )


def test_a_program_that_imports_ppodd_keeps_its_own_modules(tmp_path):
    (tmp_path / "results.py").write_text("mine = 1\n")
    assert python(tmp_path, "-c", "import ppodd.config, results; print(results.mine)")[1] == "1\n"


def test_a_part_of_ppodd_is_refused(tmp_path):
    shutil.copytree(ROOT / "ppodd", tmp_path / "ppodd", ignore=shutil.ignore_patterns("__pycache__"))
    status, _, error = python(tmp_path, "-m", "ppodd", "sweep", "quickstart", "--dry-run", path=())
    assert status == 2 and error == (
        f"ppodd: ppodd in {tmp_path} lacks its package 'results': install or ship ppodd whole\n"
    )


def test_a_sweep_beside_such_modules_runs_in_workers_of_its_own(beside, tiny, tmp_path):
    """A network of the user's own lies there too, and is found."""
    pixels = "spec.channels * spec.height * spec.width"
    network = f"nn.Sequential(nn.Flatten(), nn.Linear({pixels}, spec.classes))"
    (beside / "mine.py").write_text(f"from torch import nn\n\n\ndef net(spec, width):\n    return {network}\n")
    path = sweep_file(beside, {**tiny, "arch": "mine:net"})
    code, out, error = python(beside, "-m", "ppodd", "sweep", path, "--archive", tmp_path / "archive")
    assert code == 0, out + error
    assert evaluations(Archive(tmp_path / "archive"), "tiny") == [1, 1, 1]
