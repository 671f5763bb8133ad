"""What of a user's own cannot work is refused before anything is written, with what is accepted."""

import pytest
from flags import flags
from plugins import user_module
from tiny import TINY

from ppodd.cli.main import main

FAILS = "def f(*given): return undefined"
NO_ARGUMENTS = "def f(): return 1"


@pytest.mark.parametrize(
    ("flag", "code", "said"),
    [
        ("blend", NO_ARGUMENTS, "blend '{path}' fails when it is tried: TypeError: f() takes 0 positional"),
        ("blend", FAILS, "NameError: name 'undefined' is not defined ({file}:1, in f); accepted is a function"),
        (
            "blend",
            "def f(accuracies, parameters): return [1.0]",
            "blend '{path}' returned [1.0] for T = 2; accepted is",
        ),
        ("blend", "f = 3", "blend '{path}' is 3; accepted is a function"),
        ("method", NO_ARGUMENTS, "method '{path}' fails when it is tried: TypeError"),
        ("method", "def f(*given): return 'poster'", "method '{path}' returned 'poster' for a poster of"),
        ("inner_optim", NO_ARGUMENTS, "optimiser '{path}' fails when it is tried: TypeError"),
        ("inner_optim", "def f(state, gradient, lr): return 3", "optimiser '{path}' returned 3; accepted is"),
        ("inner_optim", "def f(state, gradient, lr): return state", "optimiser '{path}' fails when it is tried"),
        ("syn_strategy", NO_ARGUMENTS, "augmentation '{path}' fails when it is tried: TypeError"),
        ("real_strategy", "def f(images, numbers): return None", "augmentation '{path}' returned None for images"),
        ("class_order", NO_ARGUMENTS, "class_order '{path}' fails when it is tried: TypeError"),
        ("arch", NO_ARGUMENTS, "arch '{path}' fails when it is tried: TypeError"),
        ("dataset", NO_ARGUMENTS, "dataset '{path}' fails when it is tried: TypeError"),
    ],
)
def test_it_is_one_line_with_what_is_accepted(tmp_path, monkeypatch, capfd, flag, code, said):
    module = user_module(tmp_path, monkeypatch, code)
    path, archive = f"{module}:f", tmp_path / "archive"
    given = [*flags({**TINY, flag: path}), "--no-evaluate", "--archive", str(archive)]
    assert main(["distill", *given]) == 2
    error = capfd.readouterr().err.splitlines()[-1]
    assert said.format(path=path, file=f"{module}.py") in error and "; accepted is " in error
    assert not archive.exists()


def test_a_value_that_a_distribution_of_the_users_drew_is_laid_at_its_door(tmp_path, monkeypatch, capfd):
    path = f"{user_module(tmp_path, monkeypatch, 'def f(source, values): return chr(97)')}:f"
    sweep = tmp_path / "sweep.yaml"
    sweep.write_text(f"name: s\npreset: digits-small\nsample: {{lr: {{'{path}': [1]}}}}\n")
    assert main(["sweep", str(sweep), "--dry-run", "--archive", str(tmp_path / "archive")]) == 2
    error = capfd.readouterr().err
    assert (
        "sweep.yaml line 3: trial lr=a" in error
        and f"drawn by '{path}'; accepted is a function (random.Random" in error
    )
