"""Room on the disk: what a sweep will write is counted before it starts, and what runs out is named."""

import pytest
from disks import mounted
from sweeps import sweep_file

from ppodd.archive import TrialArchive
from ppodd.cli.main import main
from ppodd.config import DistillConfig, EvaluationConfig, build
from ppodd.distillation import run
from tune.running.disk_space import trial_bytes


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
