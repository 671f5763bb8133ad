"""MLflow's pages compare a sweep's settings at once: what is saved for them, and that MLflow shows it."""

import json
import shutil
import time

import pytest
from archives import write_sweep
from browsers import chromium
from servers import MlflowServer

from ppodd.archive import Archive
from ppodd.config import EvaluationConfig
from results.analysis.answer import answers
from results.analysis.tidy_frame import frame
from results.reporting.parent_run import publish
from results.tracking import links_of, schema
from results.tracking.store import Store, default_tracking_uri, open_store
from results.tracking.syncing import sync

EVALUATION = EvaluationConfig(nets=3, mode=("blend", "latest"))


@pytest.fixture
def archive(tmp_path, tiny):
    """2 numbers of stages × 2 blends × 3 seeds."""
    archive = Archive(tmp_path / "archive")
    varied = {"num_stages": (1, 2), "blend": ("dynamic", "uniform"), "seed": (0, 1, 2)}
    configs = [
        {**tiny, "num_stages": stages, "blend": blend, "seed": seed}
        for stages in varied["num_stages"] for blend in varied["blend"] for seed in varied["seed"]
    ]  # fmt: skip
    write_sweep(archive, "s", configs, EVALUATION)
    archive.write_sweep(archive.sweep("s").model_copy(update={"varied": tuple(varied)}))
    return archive


@pytest.fixture
def uri(archive, empty_store):
    shutil.copy(empty_store, f"{archive.url}/mlflow.db")
    uri = default_tracking_uri(archive.url)
    assert sync(archive.url, uri, publish=publish).problems == []
    return uri


def runs(uri):
    client = open_store(uri)
    found = client.search_runs([client.get_experiment_by_name("s").experiment_id])
    return {run.data.tags[schema.KEY]: run for run in found}


def views(uri):
    tags = open_store(uri).get_experiment_by_name("s").tags
    saved = {key: json.loads(value) for key, value in tags.items() if key.startswith("mlflow.sharedViewState.")}
    return {view["name"]: json.loads(view["state"]) for view in saved.values()}


def test_accuracy_comes_first_among_the_metrics_and_is_that_of_the_largest_budget(uri):
    metrics = runs(uri)["s/t000"].data.metrics
    assert sorted(metrics)[:2] == ["accuracy/blend", "accuracy/latest"]
    assert metrics["accuracy/latest"] == metrics["test_accuracy/latest/convnet/steps_4"]


def test_the_saved_views_group_by_setting_and_fold_what_is_detail(uri):
    table, curves = views(uri).values()
    assert table["groupBy"]["groupByKeys"] == [{"mode": "tag", "groupByData": "setting"}]
    assert table["selectedColumns"][:5] == [
        f"metrics.`{name}`"
        for name in ("accuracy/blend", "accuracy/latest", "stage_accuracy", "poster_ipc", "cumulative_ipc")
    ]
    assert [key["groupByData"] for key in curves["groupBy"]["groupByKeys"]] == ["num_stages", "blend"]
    shown = {section["name"]: section["display"] for section in curves["compareRunSections"]}
    assert {"blend", "test_accuracy/blend/convnet"} <= {name for name, display in shown.items() if not display}


def test_a_store_of_an_earlier_version_gets_what_is_new_once(uri, archive):
    client, trial = open_store(uri), runs(uri)["s/t000"]
    before = frame(uri, ["s"])
    client.delete_tag(trial.info.run_id, schema.NAMES_TAG)
    parent = runs(uri)["s"]
    client.set_tag(parent.info.run_id, schema.NOTE, schema.parent_note("Mine.", {}).partition("\n\n**Compare")[0])
    assert sync(archive.url, uri).evaluations > 0
    assert "viewStateShareKey" in runs(uri)["s"].data.tags[schema.NOTE]
    assert sync(archive.url, uri).evaluations == 0
    assert frame(uri, ["s"]).equals(before)
    history = client.get_metric_history(trial.info.run_id, "accuracy/blend")
    assert len(history) == 1  # one stage: nothing twice


def test_a_description_that_somebody_wrote_stays(uri, archive):
    open_store(uri).set_tag(runs(uri)["s"].info.run_id, schema.NOTE, "Our own words.")
    sync(archive.url, uri)
    assert runs(uri)["s"].data.tags[schema.NOTE] == "Our own words."


def test_the_sweeps_run_holds_the_answer_as_numbers_words_and_files(uri):
    parent, (answer,) = runs(uri)["s"], answers(frame(uri, ["s"]))
    assert parent.data.tags[schema.BEST] == answer.best and answer.sentences[0] in parent.data.tags[schema.ANSWER]
    assert parent.data.metrics["answer/accuracy"] == answer.accuracy.mean
    assert parent.data.metrics["answer/lead"] == answer.lead.difference
    files = {found.path for found in open_store(uri).list_artifacts(parent.info.run_id)}
    assert {"answer.md", "table.md", "table.csv", "report.html", "curves", "posters"} <= files


@pytest.mark.slow  # half a minute: a server and a browser
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_mlflow_shows_both_views(uri, tmp_path):
    server = MlflowServer(uri, tmp_path / "artifacts")
    try:
        with chromium(tmp_path / "browser") as page:
            page.execute_cdp_cmd(
                "Emulation.setDeviceMetricsOverride",
                {"width": 1500, "height": 1100, "deviceScaleFactor": 1, "mobile": False},
            )
            table, curves = links_of(Store(server.url), "s")
            page.get(table.url)
            until(page, lambda text: "1st dynamic" in text and "accuracy/blend" in text and "cumulative_ipc" in text)
            page.get("about:blank")
            page.get(curves.url)
            until(page, lambda text: "num_stages: 2, blend: dynamic (accuracy/blend)" in text)
            shown = page.find_element("css selector", "body").text
            assert "Accuracy against stage" in shown and "Accuracy against IPC" in shown
            assert page.find_elements("css selector", ".js-plotly-plot .scatterlayer .trace")
    finally:
        server.stop()


def until(page, holds, seconds=60):
    end = time.monotonic() + seconds
    while not holds(text := page.find_element("css selector", "body").text):
        assert time.monotonic() < end, text
        time.sleep(0.5)
