"""A colleague who may read an archive: looks, and evaluates in an archive of their own; is told before it computes."""

import pytest
from archives import poster, stage_record, write_stage
from flags import flags
from users import ppodd_as_nobody

from ppodd.archive import EVALUATOR, Archive, copied
from ppodd.cli.main import main
from ppodd.config import DistillConfig, build
from ppodd.errors import BadInput
from ppodd.files import only_writer


@pytest.fixture
def lab(tmp_path, tiny, request):
    """A distilled trial and its store, which nobody may write; evaluated, where a test says so."""
    folder = tmp_path / "lab"
    run = flags(tiny | {"num_stages": 1, "name": "run"})
    assert main(["distill", *run, f"--archive={folder}", *getattr(request, "param", ["--no-evaluate"])]) == 0
    assert main(["results", "sync", f"--archive={folder}"]) == 0
    paths = [folder, *folder.rglob("*")]
    for path in paths:
        path.chmod(0o555 if path.is_dir() else 0o444)
    yield folder
    for path in paths:
        path.chmod(0o755 if path.is_dir() else 0o644)


def test_who_may_only_read_is_told_before_it_computes_and_evaluates_elsewhere(lab, tmp_path):
    trial, own = str(lab / "runs/run"), str(tmp_path / "own")
    before = sorted((str(path), path.stat().st_mtime_ns) for path in lab.rglob("*"))
    evaluate = ["evaluate", trial, "--nets=1", "--budgets=5"]

    refused = ppodd_as_nobody(*evaluate, cwd=tmp_path)
    assert (refused.returncode, refused.stdout, refused.stderr.count("\n")) == (1, "", 1)
    assert f"cannot write {trial}/evaluator.json: Permission denied" in refused.stderr

    assert ppodd_as_nobody("render", trial, "-o", "posters.png", cwd=tmp_path).returncode == 0
    done = ppodd_as_nobody(*evaluate, f"--out={own}", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert f"--archive {own}" in done.stdout and len(Archive(own).trial("runs", "run").evaluations(1)) == 1
    assert ppodd_as_nobody("results", "sync", "--archive", own, cwd=tmp_path).returncode == 0
    table = ppodd_as_nobody("results", "table", "--archive", own, cwd=tmp_path)
    assert "test accuracy on digits" in table.stdout
    assert before == sorted((str(path), path.stat().st_mtime_ns) for path in lab.rglob("*"))


@pytest.mark.slow  # 20 s: six commands
@pytest.mark.parametrize("lab", [[]], indirect=True, ids=["evaluated"])
def test_who_may_only_read_sees_all_there_is(lab, tmp_path):
    archive, trial = f"--archive={lab}", str(lab / "runs/run")
    for command, file in (
        (["results", "table", archive], "table.csv"),
        (["results", "report", archive], "report.html"),
        (["results", "curve", archive], "curve.png"),
        (["render", trial], "posters.png"),
        (["export", f"{trial}/stage-01"], "patches.npz"),
    ):
        done = ppodd_as_nobody(*command, "-o", file, cwd=tmp_path)
        assert (done.returncode, done.stderr) == (0, "") and (tmp_path / file).stat().st_size
    assert ppodd_as_nobody("archive", "verify", archive, cwd=tmp_path).returncode == 0


def test_a_copy_is_of_one_trial(lab, tmp_path, tiny):
    own = tmp_path / "own"
    there = copied(Archive(lab).trial("runs", "run"), str(own))
    assert there.stages() == [1] and there.poster(1).digest == Archive(lab).trial("runs", "run").poster(1).digest
    assert copied(Archive(lab).trial("runs", "run"), str(own)).url == there.url
    other = flags(tiny | {"num_stages": 1, "name": "run", "seed": 7})
    assert main(["distill", *other, f"--archive={tmp_path}/other", "--no-evaluate"]) == 0
    with pytest.raises(BadInput, match="holds another trial of this name: name another archive"):
        copied(Archive(tmp_path / "other").trial("runs", "run"), str(own))
    assert main(["archive", "verify", f"--archive={own}"]) == 0


def test_a_copy_is_never_taken_for_that_of_other_posters_with_the_same_settings(tmp_path, tiny):
    """Two imports differ in their posters alone; so may runs on a GPU."""
    config, own = build(DistillConfig, {**tiny, "num_stages": 2, "name": "run"}), str(tmp_path / "own")
    one, other, later = (Archive(tmp_path / where).trial("runs", "run") for where in ("one", "other", "later"))
    for trial, stages in ((one, [1]), (other, [1]), (later, [1, 2])):
        trial.create(config, resume=False)
        for stage in stages:
            write_stage(trial, config, stage)
    held = poster(config, 7)
    other.write_stage(stage_record(config, 1, held, b"png"), held, b"png")
    copied(one, own)
    with pytest.raises(BadInput, match="holds another trial of this name"):
        copied(other, own)
    assert copied(later, own).stages() == [1, 2]  # the same trial, further on


def test_python_evaluates_a_copy_and_by_one_process_at_a_time(lab, tmp_path):
    import ppodd

    done = ppodd.evaluate(lab / "runs/run", out=tmp_path / "own", nets=1, budgets=[5])
    assert len(done) == 1 and len(Archive(tmp_path / "own").trial("runs", "run").evaluations(1)) == 1
    trial = Archive(tmp_path / "own").trial("runs", "run")
    with only_writer(trial.folder, EVALUATOR, "busy", "", None), pytest.raises(BadInput, match="by another process"):
        ppodd.evaluate(trial.url, nets=1, budgets=[6])
