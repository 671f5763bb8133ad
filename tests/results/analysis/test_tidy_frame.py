"""MLflow as a view of the archive, and what is read out of it; a real SQLite store."""

import shutil

import numpy as np
import pytest
from archives import evaluation_record, stage_record, sweep_record
from frames import rows

from ppodd.archive import Archive, FailureRecord, PosterFile
from ppodd.config import DistillConfig, EvaluationConfig, build
from ppodd.errors import BadInput, StorageError
from results.analysis import tidy_frame
from results.analysis.comparisons import compare
from results.analysis.curves import curve_points
from results.analysis.tidy_frame import frame, last_stages
from results.reporting.curve_picture import curve
from results.reporting.html_report import gather, page
from results.reporting.tables import as_text, table
from results.tracking import StoredRun, schema
from results.tracking.store import default_tracking_uri, open_store
from results.tracking.syncing import Syncer, sync

POINT = ["accuracy_pct", "std_pct", "low_pct", "high_pct", "seeds", "nets"]
IPC = 24 * 12 / 640
POSTER = PosterFile(np.zeros((1, 12, 24), np.float32), np.eye(10, dtype=np.float32), np.arange(10).reshape(2, 5))


def add_stage(trial, config, stage):
    weights = (1 / stage,) * stage
    png = b"png of stage %d" % stage
    record = stage_record(config, stage, POSTER, png, blend=weights, evaluation_blend=weights)
    budgets = {"cumulative_ipc": stage * IPC, "meta_steps": 10 * stage}
    trial.write_stage(record.model_copy(update={"budgets": record.budgets.model_copy(update=budgets)}), POSTER, png)


def add_evaluation(trial, config, stage, evaluation, accuracy, ended=0.0):
    for protocol in evaluation.protocols(config):
        values = {steps: [accuracy + steps - 1, accuracy + steps + 1] for steps in protocol.budgets}
        record = evaluation_record(trial, stage, protocol, values, leaks_test_set=False)
        trial.write_evaluation(record.model_copy(update={"finished_at": record.finished_at + ended}))


EVALUATION = EvaluationConfig(nets=2)


@pytest.fixture
def archive(tiny, tmp_path):
    """A sweep of 2 blends × num_stages 1, 2 × 2 seeds; accuracy = 10·stages + seed (+1 for dynamic) + steps."""
    archive = Archive(tmp_path / "archive")
    trials = []
    for blend in ("dynamic", "latest"):
        for stages in (1, 2):
            for seed in (0, 1):
                name = f"{blend}-{stages}-{seed}"
                config = build(
                    DistillConfig, {**tiny, "blend": blend, "num_stages": stages, "seed": seed, "name": name}
                )
                trials.append(config)
                trial = archive.trial("sweep", name)
                trial.create(config, False)
                for stage in range(1, stages + 1):
                    add_stage(trial, config, stage)
                    add_evaluation(trial, config, stage, EVALUATION, 10 * stage + seed + (blend == "dynamic"))
    archive.write_sweep(sweep_record("sweep", trials, EVALUATION, description="A test."))
    return archive


@pytest.fixture
def uri(archive, empty_store):
    shutil.copy(empty_store, f"{archive.url}/mlflow.db")
    return default_tracking_uri(archive.url)


def everything(uri):
    """Every run with its params, tags, whole metric histories and artifacts."""
    client = open_store(uri)
    experiments = [e.experiment_id for e in client.search_experiments()]
    found = {}
    for run in client.search_runs(experiments, max_results=1000):
        histories = {
            k: [(m.step, m.timestamp, m.value) for m in client.get_metric_history(run.info.run_id, k)]
            for k in run.data.metrics
        }
        artifacts = sorted(a.path for a in client.list_artifacts(run.info.run_id, "posters"))
        found[run.data.tags[schema.KEY]] = (
            run.info.run_id,
            run.info.status,
            run.data.params,
            run.data.tags,
            histories,
            artifacts,
        )
    return found


def test_runs_are_nested_named_and_complete(archive, uri):
    report = sync(archive.url, uri)
    assert (report.stages, report.evaluations, report.problems) == (12, 12, [])
    found = everything(uri)
    parent_id, _, _, parent_tags, _, _ = found["sweep"]
    assert parent_tags[schema.STATUS] == "finished" and parent_tags[schema.NOTE].startswith("A test.\n\n")
    _, status, params, tags, histories, artifacts = found["sweep/dynamic-2-1"]
    assert tags["mlflow.parentRunId"] == parent_id and tags["mlflow.runName"] == "dynamic-2-1" and status == "FINISHED"
    assert params["num_stages"] == "2" and params["blend"] == "dynamic" and params["budgets"] == "[2, 4]"
    assert [(step, value) for step, _, value in histories["test_accuracy/blend/convnet/steps_4"]] == [(1, 16), (2, 26)]
    assert [value for *_, value in histories["test_accuracy/blend/convnet/steps_4/std"]] == pytest.approx([2**0.5] * 2)
    assert [value for *_, value in histories["cumulative_ipc"]] == pytest.approx([IPC, 2 * IPC])
    assert artifacts == ["posters/stage-01.png", "posters/stage-02.png"]


def test_syncing_again_changes_nothing(archive, uri):
    sync(archive.url, uri)
    before = everything(uri)
    sync(archive.url, uri)
    assert everything(uri) == before


def test_a_syncer_adds_only_what_is_new(archive, uri, tiny):
    syncer = Syncer(archive.url, uri)
    syncer.sync()
    assert syncer.sync().stages == 0
    config = build(DistillConfig, {**tiny, "seed": 7, "name": "new"})
    trial = archive.trial("sweep", "new")
    trial.create(config, False)
    add_stage(trial, config, 1)
    report = syncer.sync()
    assert (report.stages, report.evaluations) == (1, 0)
    tags = everything(uri)["sweep/new"][3]
    assert tags[schema.STATUS] == "running" and tags[schema.STAGES] == "1/2"
    # a resumed trial continues its own run, also for another syncer
    run_id = everything(uri)["sweep/new"][0]
    add_stage(trial, config, 2)
    sync(archive.url, uri)
    assert everything(uri)["sweep/new"][0] == run_id and everything(uri)["sweep/new"][3][schema.STAGES] == "2/2"


def test_a_store_made_anew_gives_the_same_table(archive, uri, tmp_path, empty_store):
    sync(archive.url, uri)
    before = frame(uri).drop(columns="run_id")
    shutil.copy(empty_store, tmp_path / "anew.db")  # MLflow keeps a removed file open: a store anew needs a name anew
    sync(archive.url, f"sqlite:///{tmp_path}/anew.db")
    assert frame(f"sqlite:///{tmp_path}/anew.db").drop(columns="run_id").equals(before)


def test_a_damaged_trial_is_reported_and_stops_nobody(archive, uri, tmp_path):
    (tmp_path / "archive/sweep/latest-2-0/stage-02/stage.json").write_text("{")
    report = sync(archive.url, uri)
    assert len(report.problems) == 1 and "latest-2-0/stage-02/stage.json is damaged" in report.problems[0]
    assert report.stages == 11


def test_a_failed_trial_says_so_and_is_no_result(archive, uri, tiny):
    config = build(DistillConfig, {**tiny, "seed": 9, "name": "bad"})
    trial = archive.trial("sweep", "bad")
    trial.create(config, False)
    add_stage(trial, config, 1)
    add_evaluation(trial, config, 1, EVALUATION, 99)
    trial.write_failure(FailureRecord(error="NonFinite: meta-loss is nan"))
    sync(archive.url, uri)
    assert everything(uri)["sweep/bad"][3][schema.STATUS] == "failed"
    rows = frame(uri)
    assert "bad" in set(rows["trial"]) and "bad" not in set(last_stages(rows)["trial"])


def test_another_protocol_never_mixes_with_the_sweeps_own(archive, uri):
    config = build(DistillConfig, archive.sweep("sweep").trials[0].config)
    add_evaluation(archive.trial("sweep", config.name), config, 1, EvaluationConfig(nets=7), 70)
    sync(archive.url, uri)
    rows = frame(uri)
    other = rows[rows["protocol"] != ""]
    assert len(other) == 2 and other["accuracy_pct"].min() > 70
    assert rows[rows["protocol"] == ""]["accuracy_pct"].max() < 70


def test_the_frame_is_tidy_and_typed(archive, uri):
    sync(archive.url, uri)
    rows = frame(uri)
    assert len(rows) == 12 * 2  # stages × training budgets
    assert rows["steps"].dtype == "int64" and rows["accuracy_pct"].dtype == "float64" and rows["lr"].dtype == "float64"
    row = rows[(rows.trial == "latest-2-1") & (rows.stage == 2) & (rows.steps == 4)].iloc[0]
    assert (row.accuracy_pct, row.nets, row.seed, row.blend) == (25, 2, 1, "latest")


def test_an_empty_store_gives_an_empty_frame_with_its_columns(tmp_path):
    rows = frame(f"sqlite:///{tmp_path}/empty.db")
    assert rows.empty and "accuracy_pct" in rows.columns
    with pytest.raises(BadInput, match=r"no sweep 'gone' in"):
        frame(f"sqlite:///{tmp_path}/empty.db", ["gone"])


def test_the_table_has_a_row_a_setting_and_mean_and_std_over_seeds(archive, uri):
    sync(archive.url, uri)
    result = table(frame(uri))
    assert len(result) == 4
    row = result[(result.blend == "dynamic") & (result.num_stages == 2)].iloc[0]
    assert row["4 steps"] == "25.5 ± 0.7" and row["seeds"] == 2 and row["nets"] == 2
    assert "25.5 ± 0.7" in as_text(result) and "cumulative_ipc" in as_text(result)


def test_a_balanced_accuracy_stands_beside_where_classes_are_of_unequal_size(archive, uri):
    trial = archive.trial(*next((s, t) for s in archive.sweeps() for t in archive.trials(s)))
    for stage in trial.stages():
        for record in trial.evaluations(stage):
            by_class = {steps: tuple(10.0 * stage + i for i in range(10)) for steps in record.accuracy}
            balanced = {n: a.model_copy(update={"mean": a.mean - 2}) for n, a in record.accuracy.items()}
            trial.write_evaluation(record.model_copy(update={"balanced": balanced, "per_class": by_class}))
    sync(archive.url, uri)
    rows = frame(uri)
    ours = rows[rows.trial == trial.trial]
    assert (ours["balanced_pct"] == ours["accuracy_pct"] - 2).all() and rows["balanced_pct"].isna().any()
    result = table(rows)
    assert (result["balanced"] != "").sum() == 1 and "balanced" not in table(rows[rows.trial != trial.trial])
    assert any("classes of the test set are of unequal size" in note for note in tidy_frame.remarks(rows))
    nearly = rows.assign(balanced_pct=rows["accuracy_pct"] - 0.4)  # as of digits, whose classes are near equal
    assert not any("of unequal size" in note for note in tidy_frame.remarks(nearly))
    made = gather(uri)
    (told,) = made.classes.rows  # the one trial of that kind, in its last stage
    stages = len(trial.stages())
    assert [value for _, value in told[4:6]] == [10 * stages, 10 * stages + 1] and len(told) == 14
    assert "<h2>Each class</h2>" in page(made) and made.classes.columns[4:6] == list(trial.stage(1).data.classes[:2])


def test_compare_puts_values_side_by_side_and_warns_of_unequal_budgets(archive, uri):
    sync(archive.url, uri)
    result, *_, notes = compare(frame(uri), "num_stages")
    dynamic = result[result.blend == "dynamic"].set_index("num_stages")
    assert dynamic.loc[1, "accuracy_pct"] == 15.5 and dynamic.loc[2, "accuracy_pct"] == 25.5
    assert dynamic.loc[2, "std_pct"] == pytest.approx(0.7071, abs=1e-4) and set(dynamic["seeds"]) == {2}
    assert any("cumulative_ipc is not equal (1: 0.450, 2: 0.900)" in note for note in notes)


def test_compare_at_equal_cumulative_ipc_uses_every_stage(archive, uri):
    sync(archive.url, uri)
    result, *_, notes = compare(frame(uri), "num_stages", at="cumulative_ipc", steps=2)
    first = result[(result.cumulative_ipc == round(IPC, 4)) & (result.blend == "dynamic")]
    assert list(first["num_stages"]) == [1, 2] and list(first["accuracy_pct"]) == [13.5, 13.5]
    assert any("not every num_stages was measured at cumulative_ipc=0.9" in note for note in notes)


def test_one_seed_gives_no_spread_and_says_so(archive, uri):
    sync(archive.url, uri)
    rows = frame(uri)
    result, *_, notes = compare(rows[rows.seed == 0], "blend")
    assert result["std_pct"].isna().all() and any("one seed" in note for note in notes)
    assert "±" not in as_text(table(rows[rows.seed == 0]))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"by": "num_stagez"}, "unknown field 'num_stagez'; did you mean 'num_stages'"),
        ({"by": "lr"}, "lr has one value at 4 training steps, 0.05: nothing to compare"),
        ({"by": "blend", "at": "poster_icp"}, "unknown budget 'poster_icp'; did you mean 'poster_ipc'"),
        ({"by": "blend", "steps": 300}, r"no results at 300 training steps \(there: 2, 4\)"),
    ],
)
def test_comparisons_that_cannot_be_made(archive, uri, options, message):
    sync(archive.url, uri)
    with pytest.raises(BadInput, match=message):
        compare(frame(uri), **options)


@pytest.mark.parametrize("suffix", ["png", "svg", "pdf"])
def test_a_curve_is_drawn_with_its_protocol(archive, uri, tmp_path, suffix):
    sync(archive.url, uri)
    path = tmp_path / f"curve.{suffix}"
    points = curve(frame(uri), str(path), x="cumulative_ipc")
    assert list(points.columns) == ["line", "cumulative_ipc", *POINT]
    assert len(points) == 4 and path.stat().st_size > 1000
    if suffix == "svg":
        text = path.read_text()
        assert "4 training steps; 2 networks" in text and "num_stages 2" in text and "blend latest" in text


def test_a_curve_by_one_field_pools_nothing_silently(archive, uri):
    sync(archive.url, uri)
    points = curve_points(frame(uri), by=["num_stages"])
    assert list(points["line"]) == ["num_stages 1", "num_stages 2"]
    with pytest.raises(BadInput, match=r"cannot draw 'x\.jpg'"):
        curve(frame(uri), "x.jpg")


@pytest.mark.parametrize(
    ("bad", "kind"),
    [("nonsense", BadInput), ("sqlite:////proc/none/x.db", BadInput), ("http://127.0.0.1:9", StorageError)],
)
def test_a_store_that_cannot_be_opened_is_named(bad, kind):
    with pytest.raises(kind) as caught:
        open_store(bad)
    assert bad in str(caught.value)


def test_an_mlflow_filter_chooses_trials_and_says_what_exists(archive, uri):
    sync(archive.url, uri)
    chosen = frame(uri, filter_string="params.blend = 'latest' and params.seed = '1'")
    assert set(chosen["trial"]) == {"latest-1-1", "latest-2-1"}
    with pytest.raises(BadInput, match=r"matches none of 8 trials \(there: params.blend: dynamic, latest; params.num_"):
        frame(uri, filter_string="params.blend = 'uniform'")
    with pytest.raises(BadInput, match=r"--filter 'blend ~ 3': .*write it as MLflow does"):
        frame(uri, filter_string="blend ~ 3")


def test_a_foreign_experiment_is_passed_over_and_named_when_asked_for(archive, uri):
    sync(archive.url, uri)
    client = open_store(uri)
    client.create_run(client.create_experiment("foreign"), tags={"mlflow.runName": "somebody's"})
    assert set(frame(uri)["sweep"]) == {"sweep"}
    with pytest.raises(BadInput, match=r"experiment 'foreign' in .* holds no runs of ppodd"):
        frame(uri, ["foreign"])


def run_on(path, digest, number, **params):
    tags = {schema.KEY: f"sweep/t{number}", schema.DATA: digest}
    return StoredRun(f"r{number}", "1", tags, {"dataset": path, "zca": "false", **params}, "FINISHED", "")


def test_data_is_one_setting_wherever_it_lies_and_other_data_at_its_path_another():
    runs = [
        run_on("/a/photos", "d1", 0),
        run_on("/moved/photos", "d1", 1),
        run_on("/a/photos", "d2", 2),
        run_on("/moved/photos", "d2", 3),
        run_on("/a/photos", "d3", 4, zca="true"),  # the same, prepared otherwise
        run_on("cifar10", "d4", 5),
    ]
    named = tidy_frame._of_runs(runs).set_index("trial")["dataset"].to_dict()
    other = "/a/photos (d2)"
    assert named == {"t0": "/a/photos", "t1": "/a/photos", "t2": other, "t3": other, "t4": "/a/photos", "t5": "cifar10"}


def test_what_of_a_layout_goes_with_the_posters_size_is_no_setting_of_its_own():
    sizes = [{"poster_width": w, "poster_height": 9, "patch_num_x": w // 2, "window": w} for w in (20, 30)]
    assert tidy_frame.varied(rows(sizes)) == ["window", "poster_width"]
    assert "patch_num_x" in tidy_frame.varied(rows([*sizes, {**sizes[0], "patch_num_x": 3}]))
