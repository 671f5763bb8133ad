"""Posters of another implementation in the archive: the same stages as if they had been distilled here."""

import pytest
import torch

from ppodd.archive import Archive, TrialArchive
from ppodd.cli.main import main
from ppodd.config import DistillConfig, EvaluationConfig, build
from ppodd.presets import preset
from ppodd.run import run
from ppodd.work import works
from results.frame import frame
from results.sync import sync


def flags(values):
    return [f"--{name}={','.join(map(str, v)) if isinstance(v, (list, tuple)) else v}" for name, v in values.items()]


def saved_as_podds_code_does(trial, folder):
    """`[1, C, H, W]` and, where labels were learned, `[1, K, h', w']`; the files in the order of the stages."""
    files = []
    for stage in trial.stages():
        poster = trial.poster(stage)
        files.append(folder / f"run{stage}_poster.pt")
        torch.save(torch.from_numpy(poster.poster)[None], files[-1])
        if poster.learned_labels:
            torch.save(torch.from_numpy(poster.labels)[None], folder / f"run{stage}_label.pt")
    return files


@pytest.mark.parametrize("how", [{}, {"train_y": True, "blend": "uniform"}])
def test_imported_posters_are_the_stages_of_the_run_that_made_them(tiny, tmp_path, capsys, how):
    config = build(DistillConfig, {**preset("digits"), **tiny, **how})
    made = TrialArchive(tmp_path / "made/sweep/trial")
    list(run(config, made))
    files = saved_as_podds_code_does(made, tmp_path)
    given = {k: v for k, v in {**tiny, **how}.items() if k not in ("poster_width", "poster_height", "train_y")}
    arguments = [*map(str, files), "--archive", str(tmp_path / "archive"), *flags(given)]
    assert main(["import", *arguments]) == 0
    said = capsys.readouterr().out
    trial = TrialArchive(tmp_path / "archive/runs/run1")
    assert trial.stages() == made.stages() == [1, 2]
    for stage in trial.stages():
        mine, theirs = trial.stage(stage), made.stage(stage)
        for same in ("digests", "blend", "evaluation_blend", "stage_accuracy", "data"):
            assert mine[same] == theirs[same]
        assert mine["budgets"] == {**theirs["budgets"], "seconds": None} and mine["meta_loss"] == {}
        assert mine["leaks_test_set"] and not theirs["leaks_test_set"]
        asked = [EvaluationConfig()]
        assert [w.ticket for w in works(trial, stage, asked)] == [w.ticket for w in works(made, stage, asked)]
        assert len(trial.evaluations(stage)) == 1 and trial.evaluations(stage)[0]["leaks_test_set"]
    assert "class layout, row by row:" in said and "marked as leaking" in said
    assert trial.stage(1)["imported"] == {
        "poster": "run1_poster.pt",
        "labels": "run1_label.pt" if how else None,
    }

    assert main(["import", *arguments]) == 0  # again: nothing is done twice
    assert len(trial.evaluations(1)) == 1
    torch.save(torch.zeros(1, 1, 12, 24), files[0])
    assert main(["import", *arguments]) == 2
    assert "has another stage 1 than" in capsys.readouterr().err

    store = f"sqlite:///{tmp_path}/view.db"
    sync(str(tmp_path / "archive"), store)
    table = frame(store)
    assert set(table["trial"]) == {"run1"} and table["leaks_test_set"].all()
    assert table["distill_seconds"].isna().all() and table["meta_loss"].isna().all()
    assert (table["meta_steps"] > 0).all()


@pytest.mark.parametrize(
    ("files", "more", "message"),
    [
        (["a_poster.pt"], ["--num_stages=2"], "num_stages=2, but the files hold 1 posters: name one for each stage"),
        (["nowhere_poster.pt"], [], "no file 'nowhere_poster.pt': name what torch.save wrote"),
        (["a_label.pt", "a_poster.pt"], [], "'a_label.pt' comes before any poster"),
        (["a_poster.pt", "b_poster.pt"], [], "b_poster.pt is (1, 12, 20) (C, H, W), the config's is (1, 12, 24)"),
        (["a_poster.pt", "a_label.pt", "a_poster.pt", "c_label.pt"], [], "c_label.pt holds labels of another shape"),
        (["a_poster.pt"], ["--train_y"], "has fixed labels: change train_y=True"),
        (["a_poster.pt"], ["--train_lr"], "the files hold no learned rate"),
        (["a_poster.pt"], ["--poster_width=30"], "change poster_height and poster_width"),
    ],
)
def test_files_that_do_not_fit_are_refused_before_anything_is_written(
    tiny, tmp_path, monkeypatch, capsys, files, more, message
):
    monkeypatch.chdir(tmp_path)
    for name, shape in {
        "a_poster": (1, 1, 12, 24), "b_poster": (1, 1, 12, 20), "a_label": (1, 10, 4, 9), "c_label": (1, 10, 4, 8)
    }.items():  # fmt: skip
        if "label" not in name or f"{name}.pt" in files:
            torch.save(torch.rand(shape), f"{name}.pt")
    given = {k: v for k, v in tiny.items() if k not in ("poster_width", "poster_height", "num_stages")}
    assert main(["import", *files, *flags(given), *more]) == 2
    assert message in capsys.readouterr().err
    assert not Archive("ppodd-archive").trials("runs")
