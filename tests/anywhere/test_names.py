"""Names that are paths, hidden, reserved, too long or another's twin: refused before anything starts."""

import pytest
import yaml
from archives import write_stage

from ppodd.archive import Archive, TrialArchive, stages_at
from ppodd.cli.main import main
from ppodd.config import DistillConfig, as_name, build

_RULE = "a name is a folder of the archive: write letters, digits and _ . = , + - (the first a letter, a digit or _)"
_KEPT = "the archive keeps files of its own there; choose another name"

REFUSED = [
    ("..", _RULE),
    (".", _RULE),
    (".hidden", _RULE),
    ("-x", _RULE),
    ("a/b", _RULE),
    ("../beside", _RULE),
    ("two words", _RULE),
    ("line\nbreak", _RULE),
    ("100%41", _RULE),
    ("mlflow.db", _KEPT),
    ("mlflow.db-wal", _KEPT),
    ("MLflow-Artifacts", _KEPT),
    ("protocols", _KEPT),
    ("sweep.json", _KEPT),
    ("runs", _KEPT),
    ("stage-01", _KEPT),
    ("Stage-100", _KEPT),
    ("é" * 121, "at most 240 bytes, not 242"),
]


def refused(capsys, tmp_path, arguments, message):
    """Exit code 2, one line, and nothing written beside what was there."""
    before = sorted(tmp_path.rglob("*"))
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    assert sorted(tmp_path.rglob("*")) == before


def sweep_file(tmp_path, **changes):
    path = tmp_path / "sweep.yaml"
    path.write_text(yaml.safe_dump({"name": "mine", "preset": "digits-small", **changes}))
    return str(path)


@pytest.mark.parametrize(("name", "message"), REFUSED)
def test_a_name_that_is_no_folder_is_refused_by_every_command(name, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    file = sweep_file(tmp_path, name=name)
    refused(capsys, tmp_path, ["distill", f"--name={name}"], message)
    refused(capsys, tmp_path, ["sweep", file], "sweep.yaml line 1: name=")
    refused(capsys, tmp_path, ["sweep", file, "--dry-run", "--no-estimate"], message)
    refused(capsys, tmp_path, ["submit", file, "--address=http://head:8265", "--archive=/shared/archive"], message)


@pytest.mark.parametrize(
    "name", ["a", "_1", "stage-1", "stage-lighting", "2024-05-01", "lr=0.1,wd+1", "Größe", "x" * 240, "runs2", "mlflow"]
)
def test_every_other_name_is_taken(name, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["sweep", sweep_file(tmp_path, name=name), "--dry-run", "--no-estimate"]) == 0


def test_a_name_that_differs_in_case_from_one_that_is_there_is_refused(tmp_path, monkeypatch, capsys, tiny):
    monkeypatch.chdir(tmp_path)
    archive = Archive("ppodd-archive")
    archive.trial("runs", "Mine").create(build(DistillConfig, tiny), resume=False)
    archive.trial("Boost", "seed=0").create(build(DistillConfig, tiny), resume=False)
    refused(capsys, tmp_path, ["distill", "--name=mine"], "name='mine': 'Mine' is there, and on many disks the two are")
    refused(capsys, tmp_path, ["sweep", sweep_file(tmp_path, name="boost")], "name='boost': 'Boost' is there")


def test_a_run_that_is_called_almost_as_a_stage_is_one(tmp_path, tiny):
    trial = TrialArchive(tmp_path / "archive/runs/stage-lighting")
    trial.create(config := build(DistillConfig, {**tiny, "num_stages": 1}), resume=False)
    write_stage(trial, config, 1)
    for path, stages in ((trial.url, [1]), (f"{trial.url}/stage-01", [1])):
        assert stages_at(path)[0].url == trial.url and stages_at(path)[1] == stages


TRIALS = [
    ({"grid": {"arch": ["nets:Small", "nets:small"]}}, "differ in case only, and on many disks are one folder"),
    ({"grid": {"lr": ["1e-3", 0.001]}}, "trial lr=1e-3,seed=0, written lr=0.001,seed=0 too, appears twice: remove the"),
    ({"grid": {"num_stages": [1, 1]}}, "trial num_stages=1,seed=0 appears twice: remove the repeated value"),
]


@pytest.mark.parametrize(("changes", "message"), TRIALS)
def test_trials_that_would_share_a_folder_or_are_the_same_are_refused(changes, message, tmp_path, capsys):
    refused(capsys, tmp_path, ["sweep", sweep_file(tmp_path, **changes), "--dry-run"], message)


def test_values_that_a_name_writes_alike_make_two_trials(tmp_path):
    from tune.sweep_file import load_sweep

    sweep = load_sweep(sweep_file(tmp_path, grid={"dataset": [f"{tmp_path}/a/b", f"{tmp_path}/a-b"]}))
    assert len({config.dataset for config in sweep.trials.values()}) == len(set(sweep.trials)) == 2


def test_a_trial_of_long_values_has_a_name_that_every_disk_takes(tmp_path):
    from tune.sweep_file import load_sweep

    sweep = load_sweep(
        sweep_file(tmp_path, config={"dataset": f"/{'漢' * 300}.parquet"}, grid={"root": [f"/{'漢' * 300}"]})
    )
    (name,) = sweep.trials
    assert len(name.encode()) <= 240


def test_a_run_is_called_by_what_of_its_data_set_may_be_a_name(tmp_path, monkeypatch, capsys):
    assert as_name("../my data (new)") == "my-data--new-"
    assert as_name("...") == "run"
    assert as_name("stage-01") == "run-stage-01"
    monkeypatch.chdir(tmp_path)
    assert main(["distill", "--preset=digits", f"--dataset={tmp_path}/{'é' * 100} x.parquet"]) == 2
    assert "parquet" in capsys.readouterr().err  # it is the file that is missing


def test_an_archived_run_with_a_name_of_old_is_still_read(tmp_path, tiny):
    trial = TrialArchive(f"{tmp_path}/runs/.old run")
    trial.create(build(DistillConfig, {**tiny, "name": ".old run"}), resume=False)
    assert trial.config().name == ".old run"
