"""Two commands at once for one trial: the second is refused in one line, and what the first writes is undisturbed."""

import pytest
from flags import flags

from ppodd.archive.trial_archive import EVALUATOR, WRITER, TrialArchive
from ppodd.cli.main import main
from ppodd.files.one_writer import Timings, only_writer

QUICK = Timings(renew_s=0.05)


@pytest.fixture
def run(tmp_path, tiny):
    """A finished distillation of one stage, nothing evaluated."""
    command = [
        "distill",
        "--archive",
        str(tmp_path),
        "--name",
        "run",
        "--no-evaluate",
        *flags({**tiny, "num_stages": 1}),
    ]
    assert main(command) == 0
    return TrialArchive(tmp_path / "runs/run"), command


def test_a_distillation_that_another_process_is_at_is_refused(run, capsys):
    trial, command = run
    before = trial.folder.find()
    with only_writer(trial.folder, WRITER, "", "", timings=QUICK):
        assert main([*command, "--resume"]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"ppodd: {trial.url} is being distilled by another process (")
    assert error.endswith("wait for its end, or end it, then go on with --resume\n") and error.count("\n") == 1
    assert trial.folder.find() == before and main([*command, "--resume"]) == 0


def test_an_evaluation_that_another_process_is_at_is_refused_and_one_that_is_done_is_shown(run, capsys):
    trial, _ = run
    command = ["evaluate", trial.url, "--nets", "1", "--budgets", "2"]
    with only_writer(trial.folder, EVALUATOR, "", "", timings=QUICK):
        assert main(command) == 2
        assert f"{trial.url} is being evaluated by another process (" in capsys.readouterr().err
    assert main(command) == 0
    with only_writer(trial.folder, EVALUATOR, "", "", timings=QUICK):
        assert main(command) == 0


def test_an_import_that_another_process_is_at_is_refused(tmp_path, tiny, capsys):
    import torch

    poster = tmp_path / "POSTER.pt"
    torch.save(torch.randn(1, 1, tiny["poster_height"], tiny["poster_width"]), poster)
    values = {**tiny, "num_stages": 1, "class_order": "means"}
    command = ["import", str(poster), "--archive", str(tmp_path), "--name", "run", "--no-evaluate", *flags(values)]
    trial = TrialArchive(tmp_path / "runs/run")
    with only_writer(trial.folder, WRITER, "", "", timings=QUICK):
        assert main(command) == 2
    assert f"{trial.url} is being imported by another process (" in capsys.readouterr().err
