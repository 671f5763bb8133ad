"""A seed is set by `seeds` alone: anywhere else it would not be obeyed, and is refused with what to write."""

import pytest
import yaml

from ppodd.cli.main import main

WRITE = "a sweep repeats every setting by its seeds: write seeds: "

REFUSED = [
    ({"config": {"seed": 5}}, [], f"line 3: {WRITE}[5]"),
    ({"grid": {"seed": [1, 2]}}, [], f"line 3: {WRITE}[1, 2]"),
    ({"grid": {"seed, lr": [[1, 0.1]]}}, [], WRITE),
    ({"sample": {"seed": {"randint": [0, 9]}}}, [], WRITE),
    ({"when": [{"if": {"seed": 1}, "grid": {"lr": [0.1]}}]}, [], WRITE),
    ({}, ["--set", "seed=7"], f"--set 'seed=7': {WRITE}[7]"),
    ({"config": {"name": "x"}}, [], "trials are named after what varies: leave it out"),
]


@pytest.mark.parametrize(("changes", "arguments", "message"), REFUSED)
def test_a_seed_that_would_not_be_obeyed_is_refused(changes, arguments, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "sweep.yaml"
    path.write_text(yaml.safe_dump({"name": "mine", **changes}, sort_keys=False))
    assert main(["sweep", str(path), *arguments, "--dry-run"]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1 and list(tmp_path.iterdir()) == [path]


def test_seeds_are_obeyed(tmp_path, capsys):
    path = tmp_path / "sweep.yaml"
    path.write_text(yaml.safe_dump({"name": "mine", "seeds": [3]}))
    assert main(["sweep", str(path), "--set", "seeds=[7]", "--dry-run", "--no-estimate"]) == 0
    assert "seed" in capsys.readouterr().out
