"""Posters of another implementation in the archive: the same stages as if they had been distilled here."""

import math
import os
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from flags import flags

from ppodd.archive import Archive, TrialArchive
from ppodd.cli.main import main
from ppodd.config import DistillConfig, EvaluationConfig, build
from ppodd.config.presets import preset
from ppodd.datasets.loading import load
from ppodd.distillation import imported
from ppodd.distillation.archived_run import run
from ppodd.distillation.podd_files import paired
from ppodd.errors import BadInput
from ppodd.evaluation.work_items import works
from results.analysis.answer import answers
from results.analysis.comparisons import compare
from results.analysis.tidy_frame import frame
from results.reporting.html_report import report
from results.reporting.tables import table
from results.tracking.syncing import sync

UNSAVED = ("poster_width", "poster_height", "train_y", "num_stages")  # what the files say themselves


def made(tiny, folder, **how):
    """A distillation of two stages."""
    trial = TrialArchive(folder)
    list(run(build(DistillConfig, {**preset("digits"), **tiny, "class_order": "means", **how}), trial))
    return trial


def saved_as_podds_code_does(trial, folder):
    """`[1, C, H, W]` and, where labels were learned, `[1, K, h', w']`; the posters' files in order."""
    files = []
    for stage in trial.stages():
        poster = trial.poster(stage)
        files.append(folder / f"run{stage}_poster.pt")
        torch.save(torch.from_numpy(poster.poster)[None], files[-1])
        if poster.learned_labels:
            torch.save(torch.from_numpy(poster.labels)[None], folder / f"run{stage}_label.pt")
    return files


def arguments(tiny, files, folder, **how):
    given = {k: v for k, v in {**tiny, "class_order": "means", **how}.items() if k not in UNSAVED}
    return ["import", *map(str, files), "--archive", str(folder / "archive"), *flags(given)]


@pytest.mark.parametrize("how", [{}, {"train_y": True, "blend": "uniform"}, {"blend": "released"}])
def test_imported_posters_are_the_stages_of_the_run_that_made_them(tiny, tmp_path, capsys, how):
    own = made(tiny, tmp_path / "made/sweep/trial", **how)
    files = saved_as_podds_code_does(own, tmp_path)
    assert main(arguments(tiny, files, tmp_path, **how)) == 0
    said = capsys.readouterr().out
    trial = TrialArchive(tmp_path / "archive/runs/run1")
    assert said.splitlines()[-1].startswith(f"in tables: ppodd results sync --archive {tmp_path}/archive && ")
    assert trial.stages() == own.stages() == [1, 2]
    for stage in trial.stages():
        mine, theirs = trial.stage(stage), own.stage(stage)
        for same in ("digests", "blend", "evaluation_blend", "stage_accuracy", "data"):
            assert getattr(mine, same) == getattr(theirs, same)
        assert mine.budgets == theirs.budgets.model_copy(update={"seconds": None})
        assert mine.to_json()["meta_loss"] == {}
        assert mine.leaks_test_set and theirs.leaks_test_set == (how.get("blend") == "released")
        asked = [EvaluationConfig()]
        assert [w.ticket for w in works(trial, stage, asked)] == [w.ticket for w in works(own, stage, asked)]
        (evaluation,) = trial.evaluations(stage)
        assert evaluation.leaks_test_set
    assert ("class layout, row by row:" in said) != ("train_y" in how) and "marked as leaking" in said
    labels = ["run1_label.pt", "run2_label.pt"] if "train_y" in how else [None, None]
    origin = [{"poster": f"run{n}_poster.pt", "labels": name} for n, name in enumerate(labels, 1)]
    assert trial.folder.read_json("imported.json")["posters"] == origin


@pytest.mark.parametrize("shape", [(10, 3, 7), (10, 1, 6), (10, 12, 24)])
def test_label_arrays_are_taken_in_whatever_shape_their_code_gave_them(tiny, tmp_path, shape):
    torch.save(torch.randn(1, 1, 12, 24), tmp_path / "run_poster.pt")
    torch.save(torch.rand(1, *shape), tmp_path / "run_label.pt")
    assert main(arguments(tiny, [tmp_path / "run_poster.pt"], tmp_path, comp_ipc=1)) == 0
    trial = TrialArchive(tmp_path / "archive/runs/run")
    assert trial.poster(1).labels.shape == shape and trial.evaluations(1)


def test_a_file_that_is_there_but_no_pt_is_told_from_one_that_is_not(tmp_path):
    (tmp_path / "p.safetensors").touch()
    with pytest.raises(BadInput, match=r"p.safetensors' is no .pt file: name what torch.save wrote"):
        paired([str(tmp_path / "p.safetensors")])
    with pytest.raises(BadInput, match=r"no file '.*gone.safetensors': name"):
        paired([str(tmp_path / "gone.safetensors")])


def test_an_interrupted_import_goes_on_where_it_was_and_is_no_distillation(tiny, tmp_path, capsys, monkeypatch):
    files = saved_as_podds_code_does(made(tiny, tmp_path / "made/sweep/trial"), tmp_path)
    line = arguments(tiny, files, tmp_path)
    write_stage = imported.write_stage

    def interrupted(trial, config, dataset, posters, result, **also):
        if result.stage == 2:
            raise KeyboardInterrupt
        return write_stage(trial, config, dataset, posters, result, **also)

    monkeypatch.setattr(imported, "write_stage", interrupted)
    assert main([*line, "--no-evaluate"]) == 1
    trial = TrialArchive(tmp_path / "archive/runs/run1")
    first = trial.stage(1)
    assert trial.stages() == [1]
    distill = ["distill", *(word for word in line[1:] if not word.endswith(".pt"))]
    sizes = flags({name: tiny[name] for name in UNSAVED if name in tiny})
    assert main([*distill, *sizes, "--name=run1", "--resume"]) == 2
    assert "holds imported posters: choose another --name, or go on with `ppodd import`" in capsys.readouterr().err
    monkeypatch.undo()
    assert main([*line, "--no-evaluate"]) == 0
    assert trial.stages() == [1, 2] and trial.stage(1) == first and not trial.evaluations(1)
    torch.save(torch.rand(1, 1, 12, 24), files[0])
    assert main(line) == 2
    assert "has another stage 1 than" in capsys.readouterr().err
    assert main([*distill, *sizes, "--name=own", "--no-evaluate"]) == 0
    assert main([*line, "--name=own"]) == 2
    assert "holds a distillation: choose another --name" in capsys.readouterr().err


def test_imported_posters_beside_distilled_ones_are_told_apart_and_never_chosen(tiny, tmp_path):
    for seed in (0, 1):
        own = made(tiny, tmp_path / f"archive/runs/own{seed}", seed=seed)
        files = saved_as_podds_code_does(own, tmp_path)
        assert main([*arguments(tiny, files, tmp_path, seed=seed), f"--name=theirs{seed}"]) == 0
        assert main(["evaluate", own.url]) == 0
    store = f"sqlite:///{tmp_path}/view.db"
    sync(str(tmp_path / "archive"), store)
    rows = frame(store)
    assert rows.groupby("origin")["trial"].unique().map(list).to_dict() == {
        "distilled": ["own0", "own1"], "imported": ["theirs0", "theirs1"]
    }  # fmt: skip
    theirs = rows[rows["origin"] == "imported"]
    assert theirs["leaks_test_set"].all() and theirs[["distill_seconds", "meta_loss"]].isna().all().all()
    assert table(rows)["origin"].tolist() == ["distilled", "imported"] and (table(rows)["seeds"] == 2).all()
    assert compare(rows, "origin").table["accuracy_pct"].nunique() == 1  # the same posters, the same networks
    report(store, str(tmp_path / "report.html"))
    page = (tmp_path / "report.html").read_text()
    assert "the test set chose their blend" in page and "not evaluated" not in page
    assert "The answer leaves out 2 imported trials" in page
    (answer,) = answers(rows[(rows["origin"] == "imported") | (rows["seed"] == 0)])  # most are imported
    assert answer.accuracy.mean == rows[(rows["trial"] == "own0") & (rows["steps"] == 4)]["accuracy_pct"].iloc[-1]


def test_meta_steps_are_counted_over_the_whole_training_set(tiny):
    config = build(DistillConfig, {**tiny, "steps_per_epoch": 0, "epochs": 6, "validation": 0.5})
    dataset = load(config.data, torch.device("cpu"))
    images = len(dataset.train.y) + len(dataset.validation.y)
    assert len(dataset.train.y) < 0.6 * images
    assert imported._meta_steps(config, dataset, 2) == 2 * 3 * math.ceil(images / 64)


def test_learned_labels_may_be_named_after_their_poster(tmp_path):
    torch.save(torch.rand(1, 1, 12, 24), tmp_path / "a.pt")
    for name in ("a_label.pt", "else_label.pt"):
        torch.save(torch.full((1, 10, 4, 9), float(len(name))), tmp_path / name)
    beside, named = (
        imported.load_posters(paired([str(tmp_path / name) for name in names]))[0].held.label_array
        for names in (["a.pt"], ["a.pt", "else_label.pt"])
    )
    np.testing.assert_array_equal(beside, np.full((10, 4, 9), 10.0))
    np.testing.assert_array_equal(named, np.full((10, 4, 9), 13.0))


@pytest.mark.parametrize(
    ("files", "more", "message"),
    [
        (["a_poster.pt"], ["--num_stages=2"], "num_stages=2, but the files hold 1 posters: name one for each stage"),
        (["nowhere_poster.pt"], [], "no file 'nowhere_poster.pt': name what torch.save wrote"),
        (["a_label.pt", "a_poster.pt"], [], "'a_label.pt' has no poster before it"),
        (["a_poster.pt", "a_label.pt", "c_label.pt"], [], "'c_label.pt' has no poster before it"),
        (["a_poster.pt", "b_poster.pt"], [], "b_poster.pt is (1, 12, 20) (C, H, W), the config's is (1, 12, 24)"),
        (["a_poster.pt", "a_label.pt", "d_poster.pt", "c_label.pt"], [], "c_label.pt holds labels of another shape"),
        (["a_poster.pt"], ["--train_y"], "a_poster.pt has no learned labels: a_label.pt is not there"),
        (["a_poster.pt", "a_label.pt"], ["--no-train_y"], "a_poster.pt has learned labels: change train_y=False"),
        (["a_poster.pt"], ["--train_lr"], "the files hold no learned rate"),
        (["a_poster.pt"], ["--poster_width=30"], "a_poster.pt is (1, 12, 24) (C, H, W), the config's is (1, 12, 30)"),
        (["a_poster.pt"], ["--class_order=auto"], "the labels follow from the class layout, which the files do not"),
    ],
)
def test_files_that_do_not_fit_are_refused_before_anything_is_written(
    tiny, tmp_path, monkeypatch, capsys, files, more, message
):
    monkeypatch.chdir(tmp_path)
    shapes = {
        "a_poster": (1, 1, 12, 24), "d_poster": (1, 1, 12, 24), "b_poster": (1, 1, 12, 20),
        "a_label": (1, 10, 4, 9), "c_label": (1, 10, 4, 8),
    }  # fmt: skip
    for name, shape in shapes.items():
        if "label" not in name or f"{name}.pt" in files:
            torch.save(torch.rand(shape), f"{name}.pt")
    assert main([*arguments(tiny, files, tmp_path), *more]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    assert not Archive(tmp_path / "archive").trials("runs")


POSTER = (1, 1, 12, 24)
ODD = {
    "pixels as bytes": (
        lambda p: (torch.rand(POSTER) * 255).to(torch.uint8),
        None,
        "normalised about 0",
    ),
    "pixels of 0 to 255": (
        lambda p: torch.rand(POSTER) * 255,
        None,
        "these are pixels, and a poster is as networks see",
    ),
    "one value": (lambda p: torch.zeros(POSTER), None, "holds 0 everywhere, which nothing can be learned from"),
    "channels last": (
        lambda p: torch.rand(1, 12, 24, 1),
        None,
        r"holds \(12, 24, 1\): a poster is \[C, H, W\]",
    ),
    "labels for the poster": (
        lambda p: torch.rand(1, 10, 4, 9),
        None,
        "labels are in a file called after it, …_label.pt",
    ),
    "colour for a grey set": (
        lambda p: torch.rand(1, 3, 12, 24),
        None,
        r"24\) \(C, H, W\), the config.*: change dataset",
    ),
    "no channels": (lambda p: torch.rand(12, 24), None, r"holds \(12, 24\): needed is one tensor of three axes"),
    "several posters": (lambda p: torch.rand(2, 1, 12, 24), None, r"holds \(2, 1, 12, 24\): needed is one tensor"),
    "NaN": (lambda p: torch.full(POSTER, torch.nan), None, "holds NaN or infinite values"),
    "nothing": (lambda p: torch.rand(1, 1, 0, 24), None, r"holds \(1, 1, 0, 24\), which is nothing"),
    "a state": (lambda p: {"poster": torch.rand(POSTER)}, None, "holds dict: needed is one tensor"),
    "a network": (lambda p: torch.nn.Linear(2, 2), None, "it holds Python objects, which are never unpickled"),
    "a text": (lambda p: p.write_text("hello"), None, "it is damaged, or not what torch.save wrote"),
    "an empty file": (lambda p: p.write_text(""), None, "it is damaged, or not what torch.save wrote"),
    "a folder": (lambda p: p.mkdir(), None, "no file 'a_poster.pt'"),
    "a pipe": (lambda p: os.mkfifo(p), None, "no file 'a_poster.pt'"),
    "a pipe for labels": (lambda p: torch.rand(POSTER), lambda p: os.mkfifo(p), "it is no regular file"),
    "labels of other classes": (lambda p: torch.rand(POSTER), lambda p: torch.rand(1, 5, 4, 9), "labels of 5 classes"),
    "labels that are numbers": (lambda p: torch.rand(POSTER), lambda p: torch.arange(10), r"a_label.pt holds \(10,\)"),
    "no labels": (
        lambda p: torch.rand(POSTER),
        lambda p: torch.rand(1, 10, 0, 9),
        "label.pt holds .*, which is nothing",
    ),
    "labels of NaN": (
        lambda p: torch.rand(POSTER),
        lambda p: torch.full((1, 10, 4, 9), torch.nan),
        "label.pt holds NaN",
    ),
}


@pytest.mark.parametrize("case", ODD)
def test_what_is_no_poster_is_refused_in_one_line_and_nothing_is_written(tiny, tmp_path, monkeypatch, capsys, case):
    *made, words = ODD[case]
    monkeypatch.chdir(tmp_path)
    for make, path in zip(made, (Path("a_poster.pt"), Path("a_label.pt")), strict=True):
        held = make(path) if make else None
        if held is not None and not path.exists():
            torch.save(held, path)
    assert main(arguments(tiny, ["a_poster.pt"], tmp_path)) == 2
    error = capsys.readouterr().err
    assert re.search(words, error) and error.count("\n") == 1
    assert not (tmp_path / "archive").exists()


def test_a_poster_is_the_stage_of_one_place(tiny, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    torch.save(torch.rand(POSTER), "a_poster.pt")
    assert main(arguments(tiny, ["a_poster.pt", "./a_poster.pt"], tmp_path)) == 2
    assert "'a_poster.pt' is named twice: name the poster of each stage once" in capsys.readouterr().err
