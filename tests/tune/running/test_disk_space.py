"""Room on the disk: what a sweep will write is counted before it starts, and what runs out is named."""

import pytest
from archives import failed as told_failure
from archives import stop, write_stage
from disks import mounted
from sweeps import sweep_file

from ppodd.archive import Archive, TrialArchive
from ppodd.cli.main import main
from ppodd.config import DistillConfig, EvaluationConfig, build
from ppodd.distillation import run
from tune.running.disk_space import trial_bytes
from tune.running.standing import left
from tune.sweep_file import load_sweep


@pytest.mark.parametrize("values", [{}, {"train_y": True}, {"num_stages": 4}], ids=str)
def test_the_count_is_above_what_is_written_and_near_it(tiny, tmp_path, values):
    config = build(DistillConfig, {**tiny, **values, "name": "t"})
    trial = TrialArchive(tmp_path / "t")
    list(run(config, trial))
    written = sum(path.stat().st_size for path in (tmp_path / "t").rglob("*") if path.is_file())
    counted = trial_bytes(config, [EvaluationConfig()])
    assert written < counted < 4 * written + 200_000


def test_a_sweep_that_the_disk_has_no_room_for_is_refused_before_anything_is_written(tiny, tmp_path, capsys):
    with mounted(tmp_path / "disk", "size=1m") as disk:
        path = sweep_file(tmp_path, tiny)
        assert main(["sweep", path, "--archive", str(disk / "archive")]) == 1
        said = capsys.readouterr().err.splitlines()
        assert len(said) == 1
        assert said[0].startswith(
            f"ppodd: {disk}/archive has 1.0 MB free, and what is left of the sweep will write about"
        )
        assert said[0].endswith(" MB: free space or name another --archive")
        assert not (disk / "archive").exists()


def test_trials_that_are_finished_or_stopped_write_no_more(tiny, tmp_path):
    """So a sweep that is nearly done goes on where the disk has little room left."""
    sweep = load_sweep(sweep_file(tmp_path, tiny, grid={"num_stages": [1]}, seeds=[0, 1, 2, 3]))
    archive = Archive(tmp_path / "archive")
    finished, failed, early, begun = sweep.trials
    write_stage(archive.trial("tiny", finished), sweep.trials[finished], 1)
    for name in (failed, early, begun):
        archive.trial("tiny", name).create(sweep.trials[name], resume=False)
    archive.trial("tiny", failed).write_failure(told_failure("boom"))
    archive.trial("tiny", early).write_stopped(stop("worse", stage=0))
    assert left(sweep, archive) == [sweep.trials[failed], sweep.trials[begun]]


def test_of_a_search_only_what_is_not_over_is_counted(tiny, tmp_path):
    changes = {"grid": {}, "sample": {"lr": {"uniform": [0.01, 0.1]}}, "search": {}, "num_samples": 5}
    sweep = load_sweep(sweep_file(tmp_path, {k: v for k, v in tiny.items() if k != "lr"}, **changes))
    archive = Archive(tmp_path / "archive")
    assert len(left(sweep, archive)) == 5
    sweep.trials.update(sweep.suggestion({"lr": 0.05}))
    (name,) = sweep.trials
    config = sweep.trials[name]
    for stage in range(1, config.num_stages + 1):
        write_stage(archive.trial("tiny", name), config, stage)
    assert len(left(sweep, archive)) == 4
