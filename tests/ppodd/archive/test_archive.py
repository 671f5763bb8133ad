"""The archive: atomic, digests checked, damage named, nothing unpickled."""

import errno
import os

import numpy as np
import pytest
from archives import given_up, progress, stage_record

from ppodd.archive import Archive, PosterFile, ResumePosition, SweepRecord, TrialArchive, ticket
from ppodd.config import DistillConfig, EvaluationConfig, build
from ppodd.distillation.initial import load_poster
from ppodd.errors import BadInput, CorruptArchive, StorageError
from ppodd.evaluation.work_items import works
from ppodd.files import folder as files

POSTER = PosterFile(
    np.arange(288, dtype=np.float32).reshape(1, 12, 24), np.eye(10, dtype=np.float32), np.arange(10).reshape(2, 5)
)


def write(trial, config, stage):
    trial.write_stage(stage_record(config, stage, POSTER, b"png"), POSTER, b"png")


@pytest.fixture
def trial(tiny, tmp_path):
    trial = TrialArchive(tmp_path / "sweep" / "trial")
    config = build(DistillConfig, tiny)
    trial.create(config, resume=False)
    write(trial, config, 1)
    return trial


def test_a_stage_comes_back_as_it_was_written(trial):
    back = trial.poster(1)
    for name in ("poster", "labels", "class_order"):
        assert np.array_equal(getattr(back, name), getattr(POSTER, name))
    assert trial.stage(1) == stage_record(trial.config(), 1, POSTER, b"png")
    assert trial.stages() == [1] and not trial.complete()


def test_a_stage_exists_only_when_its_record_does(trial):
    trial.folder.write("stage-02/poster.safetensors", POSTER.to_bytes())
    assert trial.stages() == [1]


def test_an_archive_lists_sweeps_and_trials(trial, tmp_path):
    archive = Archive(tmp_path)
    assert archive.sweeps() == ["sweep"] and archive.trials("sweep") == ["trial"]


def test_a_changed_poster_is_named(trial, tmp_path):
    path = tmp_path / "sweep/trial/stage-01/poster.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(CorruptArchive, match=r"stage-01/poster.safetensors is damaged: its digest differs"):
        trial.poster(1)


def test_a_changed_picture_is_named_and_one_of_an_older_stage_is_taken(trial, tmp_path):
    assert trial.png(1) == b"png"
    (tmp_path / "sweep/trial/stage-01/poster.png").write_bytes(b"pnG")
    with pytest.raises(CorruptArchive, match=r"stage-01/poster.png is damaged: its digest differs"):
        trial.png(1)
    record = trial.stage(1).to_json()
    del record["digests"]["poster.png"]
    trial.folder.write_json("stage-01/stage.json", record)
    assert trial.png(1) == b"pnG"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("stage-01/stage.json", b'{"schema": 1, "sta', "stage.json is damaged"),
        ("stage-01/stage.json", b'{"schema": 99}', "has schema 99, this ppodd reads 1"),
        ("stage-01/poster.safetensors", None, "poster.safetensors is missing"),
        ("config.json", b"{}x", "config.json is damaged"),
        ("config.json", b'{"windw": 3}', "unknown config field 'windw'; did you mean 'window'"),
    ],
)
def test_damage_is_named(trial, tmp_path, name, content, message):
    path = tmp_path / "sweep/trial" / name
    path.unlink() if content is None else path.write_bytes(content)
    with pytest.raises(CorruptArchive, match=message):
        _ = trial.config() if name == "config.json" else trial.poster(1)


def test_a_truncated_resume_checkpoint_is_named(trial, tmp_path):
    trial.write_resume({"x": np.ones(5, np.float32)}, ResumePosition(step=3))
    arrays, position = trial.resume()
    assert position == ResumePosition(step=3) and arrays["x"].tolist() == [1] * 5
    path = tmp_path / "sweep/trial/resume/state.safetensors"
    whole = path.read_bytes()
    for damaged in (whole[:-4], whole[:-1] + b"\x01"):
        path.write_bytes(damaged)
        with pytest.raises(CorruptArchive, match=r"state\.safetensors is damaged"):
            trial.resume()


def test_scalars_stay_scalars_in_a_checkpoint(trial):
    trial.write_resume({"x": np.float32(2.0)}, ResumePosition())
    assert trial.resume()[0]["x"].shape == ()


def test_another_config_is_refused_with_the_field_that_differs(trial, tiny):
    with pytest.raises(BadInput, match="holds another run: window=2 there, 3 here"):
        trial.create(build(DistillConfig, {**tiny, "window": 3}), resume=True)
    with pytest.raises(BadInput, match="already holds this run: continue it with --resume"):
        trial.create(build(DistillConfig, tiny), resume=False)
    trial.create(build(DistillConfig, {**tiny, "device": "auto", "checkpoint_every": 7}), resume=True)


def test_a_full_disk_leaves_what_was_there(tmp_path, monkeypatch):
    path = tmp_path / "file"
    files.atomic_write(path, b"old")

    def full(*args):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(
        StorageError, match=r"cannot write .*file: No space left on device; free space or name another folder"
    ):
        files.atomic_write(path, b"new")
    assert path.read_bytes() == b"old" and os.listdir(tmp_path) == ["file"]


def test_a_file_where_a_folder_should_be_is_refused(tmp_path):
    (tmp_path / "taken").write_text("")
    with pytest.raises(BadInput, match="cannot write"):
        files.Folder(tmp_path / "taken").write_json("sweep/config.json", {})


def test_an_unknown_protocol_is_refused():
    with pytest.raises(BadInput, match="cannot open archive 'nope://bucket'"):
        Archive("nope://bucket")


def test_an_archive_works_on_any_fsspec_url(tiny, tmp_path):
    url = f"local://{tmp_path}/archive"
    trial = Archive(url).trial("sweep", "trial")
    config = build(DistillConfig, tiny)
    trial.create(config, resume=False)
    write(trial, config, 1)
    assert Archive(url).trials("sweep") == ["trial"]
    assert trial.stages() == [1] and np.array_equal(trial.poster(1).poster, POSTER.poster)
    assert np.array_equal(load_poster(f"{url}/sweep/trial/stage-01").poster, POSTER.poster)


def test_json_holds_no_nan(trial):
    with pytest.raises(ValueError, match="Out of range float"):
        trial.write_progress(progress(meta_loss=float("nan")))


def test_a_ticket_names_posters_weights_data_and_protocol(tiny):
    config = build(DistillConfig, tiny)
    (protocol,) = EvaluationConfig().protocols(config)
    (other,) = EvaluationConfig(nets=3).protocols(config)
    base = ticket(protocol, ["a", "b"], [0.5, 0.5], "data")
    assert base == ticket(protocol, ["a", "b"], [0.5, 0.5], "data")
    changed = [
        ticket(other, ["a", "b"], [0.5, 0.5], "data"),
        ticket(protocol, ["a", "c"], [0.5, 0.5], "data"),
        ticket(protocol, ["a", "b"], [0.4, 0.6], "data"),
        ticket(protocol, ["a", "b"], [0.5, 0.5], "other"),
    ]
    assert len({base, *changed}) == 5
    # a poster of weight 0 is not trained on
    assert ticket(protocol, ["a", "b"], [0.0, 1.0], "data") == ticket(protocol, ["x", "b"], [0.0, 1.0], "data")


def test_works_are_every_architecture_and_mode_of_every_evaluation_each_once(trial):
    evaluations = [
        EvaluationConfig(arch=("convnet", "convnet2"), mode=("blend", "latest")),
        EvaluationConfig(mode=("latest",)),  # asked for already
        EvaluationConfig(eval_seed=1),
    ]
    found = works(trial, 1, evaluations)
    assert [(w.protocol.arch, w.protocol.mode, w.protocol.seed) for w in found] == [
        ("convnet", "blend", 0), ("convnet", "latest", 0), ("convnet2", "blend", 0), ("convnet2", "latest", 0),
        ("convnet", "blend", 1),
    ]  # fmt: skip
    assert len({w.ticket for w in found}) == 5


def test_posters_are_judged_by_the_network_they_were_distilled_for_unless_another_is_named(tiny):
    config = build(DistillConfig, {**tiny, "arch": "convnetw"})
    (own,), (named,) = (EvaluationConfig(**asked).protocols(config) for asked in ({}, {"arch": ("convnetw",)}))
    assert own.arch == "convnetw" and own == named  # so what was judged by it has the ticket that it had
    other, unchanged = EvaluationConfig(arch=("convnet", "convnetw")).protocols(config)
    assert (other.arch, unchanged) == ("convnet", own)


def test_an_evaluation_added_later_is_kept_and_asked_for_once(tmp_path):
    archive = Archive(tmp_path)
    archive.write_sweep(SweepRecord(schema=1, name="s", trials=(), evaluation=({"nets": 2}, {"nets": 3})))
    later = EvaluationConfig(mode=("latest",))
    for _ in range(2):
        archive.add_evaluation("s", later)
    archive.add_evaluation("s", EvaluationConfig(nets=3))
    assert [e.nets for e in archive.evaluations("s")] == [2, 3, None] and archive.evaluations("s")[2] == later
    # of one protocol, as older sweeps have it, and of runs that belong to no sweep file
    archive.folder.write_json("old/sweep.json", {"schema": 1, "name": "old", "trials": [], "evaluation": {"nets": 4}})
    assert [e.nets for e in archive.evaluations("old")] == [4]
    assert archive.evaluations("runs") == [EvaluationConfig()]


def test_a_given_up_evaluation_is_on_record_until_it_is_asked_for_again(trial, tmp_path):
    failure = given_up(trial.config(), "t")
    trial.write_evaluation_failure(failure)
    assert trial.evaluation_failures(1) == [failure]
    Archive(tmp_path).clear_evaluation_failures("sweep")
    assert trial.evaluation_failures(1) == []
