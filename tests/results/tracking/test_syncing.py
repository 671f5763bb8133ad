"""The MLflow view of an archive stays true to it: again and again, after failures, for several protocols."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from archives import (
    FINISHED_AT,
    evaluation_record,
    given_up,
    progress,
    stop,
    sweep_record,
    write_evaluations,
    write_stage,
    write_sweep,
)

from ppodd.archive import Archive, Digests, FailureRecord
from ppodd.config import DistillConfig, EvaluationConfig, build
from ppodd.errors import BadInput, PpoddError
from results.analysis.selection import choose
from results.analysis.tidy_frame import MEASURED, frame
from results.analysis.trial_summaries import trials
from results.reporting.parent_run import publish
from results.reporting.tables import as_text, table
from results.tracking import mlflow_internals, schema
from results.tracking.store import absolute, default_tracking_uri, open_store
from results.tracking.syncing import Syncer, sync

EVALUATION = EvaluationConfig(nets=3)


@pytest.fixture
def archive(tmp_path):
    return Archive(tmp_path / "archive")


@pytest.fixture
def uri(archive, empty_store, tmp_path):
    (tmp_path / "archive").mkdir()
    shutil.copy(empty_store, f"{archive.url}/mlflow.db")
    return default_tracking_uri(archive.url)


@pytest.fixture
def unfinished(archive, tiny):
    """A sweep of one trial, of whose two stages the first is archived and evaluated."""
    config = build(DistillConfig, {**tiny, "name": "t000"})
    archive.write_sweep(sweep_record("s", [config], EVALUATION))
    trial = archive.trial("s", "t000")
    trial.create(config, resume=False)
    write_stage(trial, config, 1)
    write_evaluations(trial, config, 1, EVALUATION)
    return trial, config


def run(uri, key):
    client = open_store(uri)
    ids = [e.experiment_id for e in client.search_experiments()]
    (found,) = client.search_runs(ids, f"tags.`{schema.KEY}` = '{key}'")
    return found


def history(uri, key, metric):
    return [(m.step, m.value) for m in open_store(uri).get_metric_history(run(uri, key).info.run_id, metric)]


def test_a_trial_that_a_scheduler_stopped_shows_it_and_its_sweep_is_finished(archive, uri, unfinished):
    trial, _ = unfinished
    trial.write_progress(progress())
    trial.write_stopped(stop("not among the best 1 in 2"))
    sync(archive.url, uri)
    shown, parent = run(uri, "s/t000"), run(uri, "s")
    assert shown.data.tags[schema.STATUS] == "stopped" and shown.info.status == "KILLED"
    assert shown.data.tags[schema.STOPPED] == "not among the best 1 in 2" and schema.PROGRESS not in shown.data.tags
    assert parent.data.tags[schema.TRIALS] == "1/1" and parent.data.tags[schema.STATUS] == "finished"
    (row,) = trials(choose(uri))
    assert (row.status, row.failure, row.stages_done) == ("stopped", "not among the best 1 in 2", 1)


def test_a_search_is_running_until_all_wanted_trials_are_there(archive, uri, unfinished):
    trial, config = unfinished
    write_stage(trial, config, 2)
    archive.write_sweep(archive.sweep("s").model_copy(update={"wanted": 2}))
    sync(archive.url, uri)
    assert run(uri, "s").data.tags[schema.TRIALS] == "1/2" and run(uri, "s").data.tags[schema.STATUS] == "running"


def test_a_failed_trial_shows_it_and_continues_its_own_run(archive, uri, unfinished):
    trial, config = unfinished
    syncer = Syncer(archive.url, uri)
    trial.write_failure(FailureRecord(error="NonFinite: meta-loss is nan", failed_at=FINISHED_AT + 9))
    syncer.sync()
    failed = run(uri, "s/t000")
    assert failed.info.end_time == 1000 * (FINISHED_AT + 9)
    assert failed.info.status == "FAILED" and failed.data.tags[schema.FAILURE] == "NonFinite: meta-loss is nan"

    trial.clear_failure()
    trial.write_progress(progress())
    syncer.sync()
    running = run(uri, "s/t000")
    assert running.info.run_id == failed.info.run_id and running.info.status == "RUNNING"
    assert schema.FAILURE not in running.data.tags and '"stage": 2' in running.data.tags[schema.PROGRESS]

    write_stage(trial, config, 2)
    sync(archive.url, uri)  # of another process
    done, parent = run(uri, "s/t000"), run(uri, "s")
    assert done.info.run_id == failed.info.run_id and schema.PROGRESS not in done.data.tags
    assert {done.info.status, parent.info.status} == {"FINISHED"} and parent.data.tags[schema.TRIALS] == "1/1"
    assert done.info.end_time == 1000 * (FINISHED_AT + 2) == parent.info.end_time


def test_progress_replaces_itself(archive, uri, unfinished):
    trial, _ = unfinished
    syncer = Syncer(archive.url, uri)
    for step in range(3):
        trial.write_progress(progress(meta_step=step))
        syncer.sync()
    found = run(uri, "s/t000")
    assert '"meta_step": 2' in found.data.tags[schema.PROGRESS] and "meta_step" not in found.data.metrics


def test_a_running_trial_says_in_words_where_it_is(archive, uri, unfinished):
    trial, _ = unfinished
    trial.write_progress(progress())
    sync(archive.url, uri)
    assert run(uri, "s/t000").data.tags[schema.NOW] == "2/4, 3/40, loss 1.500, 0.25 s/step, 3 min left"


def test_an_evaluation_that_was_given_up_is_shown_until_it_is_tried_again(archive, uri, unfinished):
    trial, config = unfinished
    trial.write_evaluation_failure(given_up(config, "t", mode=("latest",)))
    sync(archive.url, uri)
    shown = json.loads(run(uri, "s/t000").data.tags[schema.EVALUATION_FAILURES])
    assert shown == [{"stage": 1, "arch": "convnet", "mode": "latest", "error": "boom"}]
    archive.clear_evaluation_failures("s")
    sync(archive.url, uri)
    assert schema.EVALUATION_FAILURES not in run(uri, "s/t000").data.tags


def test_what_a_damaged_file_kept_from_being_sent_is_sent_when_it_is_mended(archive, uri, unfinished):
    trial, config = unfinished
    syncer = Syncer(archive.url, uri)
    syncer.sync()
    write_evaluations(trial, config, 1, EvaluationConfig(eval_seed=5))
    trial.folder.write("progress.json", b"{")
    (problem,) = syncer.sync().problems
    assert "progress.json is damaged" in problem
    trial.folder.remove("progress.json")
    assert syncer.sync().evaluations == 1
    assert any("/protocol_" in name for name in run(uri, "s/t000").data.metrics)


def test_an_evaluation_that_comes_later_is_added_to_its_stage(archive, uri, unfinished):
    trial, config = unfinished
    write_stage(trial, config, 2)
    syncer = Syncer(archive.url, uri)
    syncer.sync()
    metric = "test_accuracy/blend/convnet/steps_4"
    assert history(uri, "s/t000", metric) == [(1, 15.0)] and len(history(uri, "s/t000", "poster_ipc")) == 2
    write_evaluations(trial, config, 2, EVALUATION)
    assert syncer.sync().evaluations == 1 and syncer.sync().evaluations == 0
    assert history(uri, "s/t000", metric) == [(1, 15.0), (2, 25.0)]


def test_what_has_not_changed_is_neither_read_nor_written_again(archive, uri, tiny):
    write_sweep(archive, "s", [{**tiny, "seed": seed} for seed in (0, 1)], EVALUATION)
    sync(archive.url, uri, publish=publish)
    code = f"""if True:
        import sys
        sys.modules["mlflow"] = None  # whoever imports it fails
        from ppodd.archive import TrialArchive
        TrialArchive.config = TrialArchive.stage = TrialArchive.evaluation = None
        from results.reporting import publish
        from results.tracking import sync
        report = sync({archive.url!r}, {uri!r}, publish=publish)
        print(report.stages, report.evaluations, report.runs, report.problems)"""
    before = Path(archive.url, "mlflow.db").read_bytes()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout == "0 0 0 []\n", done.stderr
    assert Path(archive.url, "mlflow.db").read_bytes() == before


@pytest.mark.parametrize("name", ["config.json", "stage-01/stage.json", "stage-02/evaluations"])
def test_a_digit_changed_in_place_is_noticed_though_size_and_time_are_as_before(archive, uri, tiny, name):
    write_sweep(archive, "s", [{**tiny, "seed": seed} for seed in (0, 1)], EVALUATION)
    sync(archive.url, uri)
    damaged = Path(archive.url, "s/t001", name)
    damaged = damaged if damaged.is_file() else next(damaged.iterdir())
    kept, text = damaged.stat(), damaged.read_text()
    damaged.write_text(re.sub(r"[1-8](?=\D*$)", "9", text, count=1))
    os.utime(damaged, ns=(kept.st_atime_ns, kept.st_mtime_ns))
    if "evaluations" in name:  # what is logged of it stands, and is not read again
        assert sync(archive.url, uri).problems == []
        return
    for _ in range(2):
        (problem,) = sync(archive.url, uri).problems
        assert f"{damaged} is damaged" in problem
    damaged.write_text(text)
    assert sync(archive.url, uri).problems == []


def test_a_damaged_evaluation_or_picture_hides_nothing_else(archive, uri, tiny, tmp_path):
    write_sweep(archive, "s", [{**tiny, "seed": seed} for seed in (0, 1)], EVALUATION)
    folder = tmp_path / "archive/s/t000"
    (broken,) = (folder / "stage-01/evaluations").iterdir()
    text = broken.read_text()
    broken.write_text(text.replace('"protocol"', '"protocoll"'))
    (folder / "stage-02/poster.png").unlink()
    syncer = Syncer(archive.url, uri)
    report = syncer.sync()
    assert [problem.split(":")[0] for problem in report.problems] == [
        f"{broken} is damaged",
        f"{folder}/stage-02/poster.png is missing",
    ]
    assert (report.stages, report.evaluations) == (4, 3)
    broken.write_text(text)
    assert syncer.sync().evaluations == 1 and len(frame(uri)) == 8


def test_a_damaged_sweep_file_hides_no_trial(archive, uri, tiny, tmp_path):
    write_sweep(archive, "s", [tiny], EVALUATION)
    (tmp_path / "archive/s/sweep.json").write_text("{")
    report = sync(archive.url, uri)
    assert len(report.problems) == 1 and "sweep.json is damaged" in report.problems[0] and report.evaluations == 2


def test_what_did_not_arrive_is_sent_again(archive, uri, unfinished, monkeypatch):
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    syncer = Syncer(archive.url, uri)

    def down(*args, **kwargs):
        raise MlflowException("the server is down")

    with monkeypatch.context() as patch:
        patch.setattr(mlflow_internals, "fill", unavailable)
        patch.setattr(MlflowClient, "log_batch", down)
        with pytest.raises(PpoddError, match="the server is down"):
            syncer.sync()
    syncer.sync()
    assert len(frame(uri)) == 2 and history(uri, "s/t000", "poster_ipc") == [(1, 0.45)]


def unavailable(*arguments):
    raise mlflow_internals.Unavailable("another MLflow")


def test_new_runs_are_made_and_filled_at_once_and_by_mlflows_own_calls_alike(archive, uri, tiny, tmp_path, empty_store):
    from mlflow import MlflowClient

    write_sweep(archive, "s", [{**tiny, "seed": seed} for seed in (0, 1)], EVALUATION)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(MlflowClient, "log_batch", None)  # which none needs
        patch.setattr(MlflowClient, "create_run", None)
        sync(archive.url, uri)
    other = f"sqlite:///{tmp_path}/other.db"
    (tmp_path / "other.db").write_bytes(empty_store.read_bytes())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mlflow_internals, "fill", unavailable)
        patch.setattr(mlflow_internals, "create", unavailable)
        sync(archive.url, other)

    def held(store):
        client = MlflowClient(store)
        found = {}
        for run in client.search_runs([client.get_experiment_by_name("s").experiment_id]):
            tags = {name: value for name, value in run.data.tags.items() if name != schema.PARENT}
            courses = {
                name: [(m.step, m.timestamp, m.value) for m in client.get_metric_history(run.info.run_id, name)]
                for name in run.data.metrics
            }
            place = run.info.artifact_uri.replace(run.info.run_id, "").rpartition("mlflow-artifacts")[2]
            info = {**dict(run.info), "run_id": "", "run_uuid": "", "artifact_uri": place}
            found[tags[schema.KEY]] = (info, run.data.params, tags, run.data.metrics, courses)
        return found

    assert held(uri) == held(other) and len(held(uri)) == 3
    assert frame(uri).drop(columns="run_id").equals(frame(other).drop(columns="run_id"))


def test_a_store_of_another_sweep_of_that_name_is_not_mixed_with(archive, uri, tiny, tmp_path):
    write_sweep(archive, "s", [tiny], EVALUATION)
    sync(archive.url, uri)
    before = frame(uri)
    other = Archive(tmp_path / "other")
    write_sweep(other, "s", [tiny], EVALUATION, accuracy=lambda *_: 99)
    other.write_sweep(other.sweep("s").model_copy(update={"created_at": FINISHED_AT + 5}))
    report = sync(other.url, uri)
    assert len(report.problems) == 1 and "already shows another sweep 's'" in report.problems[0]
    assert frame(uri).equals(before)


@pytest.mark.parametrize("change", [{"lr": 0.2}, {}])
def test_a_run_of_another_trial_is_not_mixed_with(archive, uri, tiny, tmp_path, change):
    """Trials that belong to no sweep file: another config, or the same one run again elsewhere to another poster."""
    for folder, values, shift in (("archive", tiny, 0), ("other", {**tiny, **change}, 7)):
        trial = Archive(tmp_path / folder).trial("s", "t")
        config = build(DistillConfig, {**values, "name": "t"})
        trial.create(config, resume=False)
        digest = {"digests": Digests.of("b" * 64, b"png of stage 1")} if folder == "other" else {}
        write_stage(trial, config, 1, finished_at=FINISHED_AT + shift, **digest)
        report = sync(tmp_path / folder, uri)
        assert bool(report.problems) == (folder == "other")
    assert "lr=0.05 there, 0.2 in" in report.problems[0] or "stage 1 is another poster there" in report.problems[0]
    assert "delete that run in MLflow, or name another --tracking-uri" in report.problems[0]
    assert len(history(uri, "s/t", "poster_ipc")) == 1


def test_a_last_stage_that_was_lost_and_made_anew_is_the_one_that_is_shown(archive, uri, tiny, tmp_path):
    (config,) = write_sweep(archive, "s", [tiny], EVALUATION)
    sync(archive.url, uri)
    before, trial = frame(uri), archive.trial("s", "t000")
    shown = history(uri, "s/t000", "seconds/distill")
    shutil.rmtree(tmp_path / "archive/s/t000/stage-02")
    assert sync(archive.url, uri).problems == []  # it may be looked at meanwhile
    write_stage(trial, config, 2, finished_at=FINISHED_AT + 500)
    write_evaluations(trial, config, 2, EVALUATION)
    report = sync(archive.url, uri)
    assert (report.problems, report.stages, report.evaluations) == ([], 0, 0)
    assert frame(uri).equals(before) and history(uri, "s/t000", "seconds/distill") == shown
    assert run(uri, "s/t000").data.tags[schema.STATUS] == "finished"


def test_an_evaluation_of_posters_that_are_no_more_is_not_shown(archive, uri, unfinished):
    trial, config = unfinished
    (of_another,) = EvaluationConfig(nets=2, eval_seed=3).protocols(config)
    record = evaluation_record(trial, 1, of_another, {4: [1.0, 2.0]}, posters=("0" * 64,))
    trial.write_evaluation(record)
    (problem,) = sync(archive.url, uri).problems
    assert f"{record.ticket}.json is of other posters than the archive has" in problem and len(frame(uri)) == 2


def test_a_protocol_that_cannot_be_read_is_said_and_stops_no_sync(archive, uri, tiny, tmp_path):
    write_sweep(archive, "s", [tiny], EVALUATION)
    archive.add_evaluation("s", EvaluationConfig(mode=("latest",)))
    (added,) = (tmp_path / "archive/s/protocols").iterdir()
    added.write_text("[]")
    report = sync(archive.url, uri, publish=publish)
    assert [problem.split(":")[0] for problem in report.problems] == [f"{added} is damaged"]
    assert (report.stages, report.evaluations) == (2, 2)


def test_a_trial_without_a_config_is_said(archive, uri, tiny, tmp_path):
    write_sweep(archive, "s", [{**tiny, "seed": seed} for seed in (0, 1)], EVALUATION)
    (tmp_path / "archive/s/t001/config.json").unlink()
    report = sync(archive.url, uri)
    assert "s/t001/config.json is missing: where its sweep lists the trial" in report.problems[0]
    assert len(report.problems) == 1 and report.stages == 2


def test_a_store_made_anew_gives_equal_tables(archive, uri, tiny, tmp_path, empty_store):
    configs = [{**tiny, "seed": seed, "blend": blend} for seed in (0, 1) for blend in ("dynamic", "latest")]
    write_sweep(archive, "s", configs, EVALUATION)
    sync(archive.url, uri)
    rows = frame(uri).drop(columns="run_id")
    shutil.copy(empty_store, tmp_path / "anew.db")
    anew = f"sqlite:///{tmp_path}/anew.db"
    sync(archive.url, anew)
    again = frame(anew).drop(columns="run_id")
    assert again.equals(rows) and as_text(table(again)) == as_text(table(rows))


def test_a_store_removed_while_in_use_is_said(archive, uri, unfinished, tmp_path):
    """MLflow keeps the removed file open: what is written to it is lost with the process."""
    syncer = Syncer(archive.url, uri)
    syncer.sync()
    (tmp_path / "archive/mlflow.db").unlink()
    for again in (syncer.sync, lambda: open_store(uri)):
        with pytest.raises(BadInput, match="was removed while in use: start again"):
            again()


def test_a_lost_picture_is_logged_again(archive, uri, unfinished, tmp_path):
    sync(archive.url, uri)
    (picture,) = (tmp_path / "archive/mlflow-artifacts").rglob("stage-01.png")
    picture.unlink()
    sync(archive.url, uri)
    assert picture.read_bytes() == b"png of stage 1"


def test_two_modes_and_architectures_have_metrics_of_their_own(archive, uri, tiny):
    write_sweep(archive, "s", [tiny], EvaluationConfig(arch=("convnet", "my.nets:Small"), mode=("blend", "latest")))
    sync(archive.url, uri)
    metrics = run(uri, "s/t000").data.metrics
    assert metrics["test_accuracy/latest/my.nets.Small/steps_4"] == 20
    assert metrics["test_accuracy/blend/convnet/steps_4"] == 25
    rows = frame(uri)
    latest = rows[(rows["mode"] == "latest") & (rows["stage"] == 2)]
    assert (latest["cumulative_ipc"] == latest["poster_ipc"]).all()


def test_protocols_of_two_sweeps_are_told_apart_though_each_is_its_sweeps_own(archive, uri, tiny):
    write_sweep(archive, "few", [tiny], EvaluationConfig(nets=3))
    write_sweep(archive, "many", [tiny], EvaluationConfig())
    sync(archive.url, uri)
    rows = frame(uri)
    assert dict(zip(rows["sweep"], rows["protocol"], strict=True)) == {"few": "nets=3", "many": ""}
    assert set(table(rows)["nets"]) == {2, 3}
    assert "test_accuracy/blend/convnet/steps_4" in run(uri, "few/t000").data.metrics


def test_a_sweep_that_is_not_there_is_named(archive, uri, unfinished):
    with pytest.raises(BadInput, match=r"no sweep 'x' in .*archive \(there: s\)"):
        sync(archive.url, uri, ["x"])
    sync(archive.url, uri)
    with pytest.raises(BadInput, match=r"no sweep 'x' in sqlite.* \(there: s\)"):
        frame(uri, ["x"])


def test_a_deleted_experiment_is_named(archive, uri, unfinished):
    sync(archive.url, uri)
    client = open_store(uri)
    client.delete_experiment(client.get_experiment_by_name("s").experiment_id)
    report = sync(archive.url, uri)
    assert len(report.problems) == 1 and "mlflow experiments restore" in report.problems[0]


def test_a_frame_without_results_has_every_column_with_its_type(uri):
    rows = frame(uri)
    assert rows.empty and list(rows.columns[: len(MEASURED)]) == list(MEASURED)
    dtypes = [str(rows[name].dtype) for name in ("num_stages", "lr", "zca", "blend")]
    assert dtypes == ["int64", "float64", "bool", "object"]


def test_a_run_of_another_schema_is_named(archive, uri, unfinished):
    sync(archive.url, uri)
    open_store(uri).set_tag(run(uri, "s/t000").info.run_id, schema.SCHEMA_TAG, "0")
    with pytest.raises(BadInput, match=r"run 's/t000' in .* has schema 0, this ppodd reads 1"):
        frame(uri)


def test_tracking_uris_do_not_depend_on_the_working_folder(tmp_path, monkeypatch, empty_store):
    monkeypatch.chdir(tmp_path)
    assert (
        absolute("sqlite:///a/b.db") == f"sqlite:///{tmp_path}/a/b.db" and absolute("http://h:5000") == "http://h:5000"
    )
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("PPODD_CACHE", str(tmp_path / "cache"))
    remote = default_tracking_uri("s3://bucket/runs")
    assert remote.startswith(f"sqlite:///{tmp_path}/cache/mlflow/s3-bucket-runs-")
    assert remote != default_tracking_uri("s3://bucket-runs")
    with pytest.raises(BadInput, match="a cluster that writes to s3://bucket/runs needs an MLflow store that every"):
        default_tracking_uri("s3://bucket/runs", cluster=True)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///b.db")
    assert default_tracking_uri("runs") == f"sqlite:///{tmp_path}/b.db"
    shutil.copy(empty_store, tmp_path / "b.db")
    Archive("runs").write_sweep(sweep_record("s", [], EVALUATION))
    assert sync("runs", "sqlite:///b.db").stages == 0


def test_no_store_is_made_for_an_archive_that_is_not_there(tmp_path):
    with pytest.raises(BadInput, match=r"no archive at .*gone"):
        sync(tmp_path / "gone", f"sqlite:///{tmp_path}/gone/mlflow.db")
    assert not (tmp_path / "gone").exists()


def test_a_run_made_after_the_fact_begins_when_its_trial_did(archive, uri, tiny):
    write_sweep(archive, "s", [tiny], EVALUATION)
    sync(archive.url, uri)
    info = run(uri, "s/t000").info
    assert info.start_time == 1000 * (FINISHED_AT + 1 - 5) and info.end_time == 1000 * (FINISHED_AT + 2)


def test_runs_are_named_by_what_they_vary(tiny):
    config = build(DistillConfig, tiny)
    varied = ["num_stages", "blend", "poster_width", "poster_height", "lr", "seed"]
    assert schema.setting(config, varied) == "2st dynamic 24×12 lr=0.05"


def test_a_summary_that_cannot_be_drawn_is_reported_and_stops_nothing(archive, uri, tiny):
    def broken(*args):
        raise ZeroDivisionError("a curve of nothing")

    write_sweep(archive, "s", [tiny], EVALUATION)
    report = sync(archive.url, uri, publish=broken)
    assert report.evaluations == 2 and "no summary of sweep 's'" in report.problems[0]
    assert schema.SUMMARY not in run(uri, "s").data.tags
    assert sync(archive.url, uri, publish=publish).problems == []
    assert run(uri, "s").data.tags[schema.SUMMARY].startswith("2 ")


def test_trainings_whose_rate_decays_by_different_steps_are_told_apart(archive, uri, unfinished):
    """Step 2 of 4 is another training than step 2 of 8."""
    trial, config = unfinished
    for last in (4, 8):
        write_evaluations(trial, config, 1, EvaluationConfig(nets=3, decay=True, budgets=(2, last)))
    sync(archive.url, uri)
    rows = frame(uri)
    decayed = rows[rows["protocol"].str.contains("decay=True")]
    assert decayed.groupby("protocol")["steps"].apply(list).to_dict() == {
        "decay=True, nets=3, decay_steps=4": [2, 4], "decay=True, nets=3, decay_steps=8": [2, 8]
    }  # fmt: skip
