"""What other versions wrote: an earlier one's is read, with a note where something is gone; a later one's is named."""

import json
import logging
import shutil
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy

from ppodd import __version__
from ppodd.archive import Archive, ResumePosition, resume_checkpoint
from ppodd.config import DistillConfig, EvaluationConfig
from ppodd.distillation import run
from ppodd.errors import BadInput, CorruptArchive
from ppodd.evaluation import evaluate_archived, works
from tune.running.claim import check_claim
from tune.sweep_file import load_sweep

RELEASE = Path(__file__).parents[2] / "upgrade/0.1.0"


@pytest.fixture
def archive(tmp_path):
    shutil.copytree(RELEASE / "archive", tmp_path / "archive")
    return Archive(tmp_path / "archive")


@pytest.fixture
def failed(archive):
    """A trial that can be resumed."""
    return archive.trial("grown", "seed=1")


@pytest.fixture
def gone(monkeypatch):
    """This version has no `momentum` any more; 0.9 is what it always was in effect."""
    monkeypatch.setattr(DistillConfig, "retired", {"momentum": 0.9})


def rewrite(archive, name, change):
    values = archive.folder.read_json(name)
    change(values)
    archive.folder.write_json(name, values)


def add(**fields):
    return lambda values: values.update(fields)


def test_a_field_that_is_gone_and_had_no_effect_is_left_out(archive, failed, gone, caplog):
    before = failed.config()
    rewrite(archive, "grown/seed=1/config.json", add(momentum=0.9))
    assert failed.config() == before and caplog.text == ""
    list(run(before, failed, resume=True))
    assert failed.complete()


def test_a_field_that_is_gone_and_had_an_effect_is_left_out_with_a_note(archive, failed, gone, caplog):
    before = failed.config()
    rewrite(archive, "grown/seed=1/config.json", add(momentum=0.5))
    for _ in range(2):
        assert failed.config() == before
    said = "seed=1/config.json: momentum=0.5 is of an earlier version and left out"
    assert caplog.text.count(said) == 1 and caplog.records[0].levelno == logging.WARNING
    (work,) = works(failed, 1, [EvaluationConfig()])
    assert evaluate_archived(work, "cpu").stage == 1
    with pytest.raises(BadInput, match=r"earlier version with momentum=0\.5, which this one cannot go on with"):
        list(run(before, failed, resume=True))


def test_a_field_of_a_later_version_is_named(archive, failed):
    rewrite(archive, "grown/seed=1/config.json", add(momentum=0.5))
    with pytest.raises(
        CorruptArchive,
        match=r"json: unknown config field 'momentum'.*: use the ppodd version that wrote it, or a later one",
    ):
        failed.config()


def test_the_version_that_wrote_a_config_is_named(archive, failed, monkeypatch):
    class Later(DistillConfig):
        warmth: float = 0.5

    monkeypatch.setattr("ppodd.archive.sealed.__version__", "0.7.0")
    failed.write_config(Later(**failed.config().model_dump()))
    with pytest.raises(CorruptArchive, match=r"unknown config field 'warmth'.*: use ppodd 0\.7\.0, or a later one$"):
        failed.config()


@pytest.mark.parametrize("content", [b"[]", b"null", b"3"])
def test_a_config_that_is_none_is_damaged(archive, failed, content):
    failed.folder.write("config.json", content)
    with pytest.raises(CorruptArchive, match=r"config\.json is damaged: it holds a (list|NoneType|int)"):
        failed.config()


def test_a_config_from_before_a_field_was_added_is_at_its_default(archive, failed):
    before = failed.config()
    rewrite(archive, "grown/seed=1/config.json", lambda values: values.pop("label_lr_scale"))
    assert failed.config() == before


def test_a_sweep_from_before_a_field_was_added_or_went_is_the_same_sweep(archive, gone):
    mine = load_sweep(str(RELEASE / "grown.yaml"))

    def older(record):
        for trial in record["trials"]:
            del trial["config"]["label_lr_scale"]
            trial["config"]["momentum"] = 0.9

    rewrite(archive, "grown/sweep.json", older)
    assert check_claim(mine, archive, resume=True)
    rewrite(archive, "grown/sweep.json", lambda record: record["trials"][0]["config"].update(momentum=0.5))
    with pytest.raises(BadInput, match="trial seed=0: momentum is only there"):
        check_claim(mine, archive, resume=True)


def test_an_evaluation_of_a_later_version_is_named_with_its_file(archive):
    (name,) = (archive.folder / "grown/protocols").names()
    rewrite(archive, f"grown/protocols/{name}", add(label_smoothing=0.1))
    with pytest.raises(CorruptArchive, match=rf"protocols/{name}: unknown config field 'label_smoothing'"):
        archive.evaluations("grown")
    archive.folder.write(f"grown/protocols/{name}", b"[]")
    with pytest.raises(CorruptArchive, match=rf"protocols/{name} is damaged: it holds a list"):
        archive.evaluations("grown")


def test_a_checkpoint_says_its_schema_and_an_earlier_one_without_is_read(failed):
    saved = failed.resume()  # of a release that did not say it
    failed.write_resume(*saved)
    data = failed.folder.read("resume/state.safetensors")
    assert b'"schema":"1"' in data and failed.resume()[1] == saved[1]


def test_a_checkpoint_of_a_later_schema_says_which_version_to_use(monkeypatch):
    monkeypatch.setattr(resume_checkpoint, "SCHEMA", 2)
    monkeypatch.setattr(resume_checkpoint, "__version__", "0.7.0")
    data = resume_checkpoint.to_bytes({"x": np.ones(2)}, ResumePosition(step=1))
    monkeypatch.undo()
    with pytest.raises(CorruptArchive, match=r"^a/b has schema 2, this ppodd reads 1: use ppodd 0\.7\.0, or a later"):
        resume_checkpoint.from_bytes(data, "a/b")


@pytest.mark.parametrize(
    ("position", "why"),
    [
        ("", "its position is no JSON: "),
        ("{", "its position is no JSON: "),
        ("[]", "its position: Input should be"),
        ('{"stage": "2"}', r"its position: stage is '2': input should be a valid integer"),
        ('{"step": -1}', r"its position: step is -1: input should be greater than or equal to 0"),
    ],
)
def test_a_checkpoint_whose_position_is_none_names_its_file(position, why):
    arrays = {"x": np.ones(2)}
    metadata = {"schema": "1", "digest": resume_checkpoint._digest(arrays, position)}
    data = safetensors.numpy.save(arrays, {**metadata, "position": position} if position else metadata)
    with pytest.raises(CorruptArchive, match=f"^a/b is damaged: {why}"):
        resume_checkpoint.from_bytes(data, "a/b")


class Later(ResumePosition):
    """The position of a later version."""

    momentum: float = 1.0


def test_a_checkpoint_with_more_in_it_than_this_version_knows_is_refused(failed):
    arrays, state = failed.resume()
    failed.write_resume(arrays, Later(**state.model_dump(), momentum=1.0))
    said = (
        rf"state\.safetensors holds 'momentum', which this ppodd does not know: use ppodd {__version__}, or a later one"
    )
    with pytest.raises(CorruptArchive, match=said):
        list(run(failed.config(), failed, resume=True))


def test_a_checkpoint_from_before_a_counter_was_added_is_at_its_default(failed):
    arrays, state = failed.resume()
    failed.write_resume(arrays, ResumePosition(**state.model_dump(exclude={"best_epoch"})))
    list(run(failed.config(), failed, resume=True))
    assert failed.complete() and json.loads(failed.folder.read("stage-02/stage.json"))["schema"] == 1
