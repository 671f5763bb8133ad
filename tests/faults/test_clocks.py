"""A clock on the wall that jumps, back and forward: what is computed, and how long it took, does not follow it."""

import itertools
import time

from flags import flags

from ppodd.archive import TrialArchive
from ppodd.cli.main import main

DAY_S = 86_400


def test_clocks_that_jump_change_nothing(tmp_path, tiny, monkeypatch, capsys):
    wall, days = time.time, itertools.cycle((0, -3, 2, -1, 1))
    for name in ("steady", "jumping"):
        if name == "jumping":
            monkeypatch.setattr(time, "time", lambda: wall() + DAY_S * next(days))
        archive = f"--archive={tmp_path}/{name}"
        assert main(["distill", *flags({**tiny, "name": "run"}), archive]) == 0
        assert main(["results", "sync", archive]) == 0
        assert main(["archive", "verify", archive]) == 0
    steady, jumping = (TrialArchive(tmp_path / name / "runs/run") for name in ("steady", "jumping"))
    assert jumping.stages() == steady.stages() == list(range(1, tiny["num_stages"] + 1))
    for stage in steady.stages():
        assert jumping.stage(stage).digests == steady.stage(stage).digests
        assert 0 <= jumping.stage(stage).budgets.seconds < 600
        (known,), (found,) = (trial.evaluations(stage) for trial in (steady, jumping))
        assert found.accuracy == known.accuracy and 0 <= found.seconds < 600
    capsys.readouterr()
    assert main(["results", "sync", f"--archive={tmp_path}/jumping"]) == 0
    assert "up to date" in capsys.readouterr().out
