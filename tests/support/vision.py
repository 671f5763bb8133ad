"""A torchvision for tests, from a folder of its own, so that nothing else finds it.

Its operations in C++ are made for one build of torch; networks need none of them, so what registers them is left out.
"""

import subprocess
import sys
from pathlib import Path
from unittest import mock

import pytest

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / ".venv/torchvision"  # where CI puts it: pip install --no-deps --target .venv/torchvision torchvision


def run_with_torchvision(code, folder):
    """What the code prints, run in `folder` by a process that can import torchvision."""
    if not FOLDER.exists():
        pytest.skip(f"no torchvision in {FOLDER}")
    prelude = f"import sys; sys.path[:0] = [{str(Path(__file__).parent)!r}]; import vision; vision.load()\n"
    done = subprocess.run([sys.executable, "-c", prelude + code], capture_output=True, text=True, cwd=folder)
    assert done.returncode == 0, done.stderr
    return done.stdout


def load():
    """Import torchvision."""
    import torch

    def unregistered(*names, **how):
        return lambda function: function

    sys.path.append(str(FOLDER))
    left_out = dict.fromkeys(("register_fake", "register_autograd", "impl"), unregistered)
    with mock.patch.multiple(torch.library, **left_out):
        import torchvision  # noqa: F401
