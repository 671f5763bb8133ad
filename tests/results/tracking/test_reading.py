"""Reading many runs at once gives what MLflow's own client gives, from a database and from a server."""

import math
import shutil
import sqlite3
import subprocess
import sys
import threading
import warnings

import pandas as pd
import pytest
from archives import write_sweep
from mlflow import MlflowClient

from ppodd.archive import Archive
from ppodd.config import EvaluationConfig
from results.analysis.tidy_frame import frame
from results.tracking import mlflow_internals, schema
from results.tracking import reading as bulk
from results.tracking.store import Store, open_store
from results.tracking.syncing import sync


@pytest.fixture(scope="module")
def uri(tmp_path_factory, empty_store):
    """A sweep of 4 trials, each evaluated in two modes, beside an experiment of somebody else's."""
    from tiny import TINY

    archive = Archive(tmp_path_factory.mktemp("bulk") / "archive")
    configs = [{**TINY, "blend": blend, "seed": seed} for blend in ("dynamic", "latest") for seed in (0, 1)]
    write_sweep(archive, "s", configs, EvaluationConfig(mode=("blend", "latest")))
    shutil.copy(empty_store, f"{archive.url}/mlflow.db")
    uri = f"sqlite:///{archive.url}/mlflow.db"
    assert sync(archive.url, uri).problems == []
    client = open_store(uri)
    foreign = client.create_run(client.create_experiment("foreign"))
    client.log_metric(foreign.info.run_id, "test_accuracy/blend/convnet/steps_4", 99.0)
    return uri


@pytest.fixture(scope="module")
def server(uri):
    """MLflow's server over that store, on loopback."""
    with warnings.catch_warnings(action="ignore"):  # of a library of the server's, as it is imported
        import starlette.middleware.wsgi  # noqa: F401
    from mlflow.server import ARTIFACT_ROOT_ENV_VAR, BACKEND_STORE_URI_ENV_VAR, app
    from werkzeug.serving import make_server

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", uri)  # as the server would, for whoever comes after
        patch.setenv(BACKEND_STORE_URI_ENV_VAR, uri)
        patch.setenv(ARTIFACT_ROOT_ENV_VAR, uri.removeprefix("sqlite:///").removesuffix("mlflow.db"))
        serving = make_server("127.0.0.1", 0, app, threaded=True)
        thread = threading.Thread(target=serving.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{serving.server_port}"
        serving.shutdown()
        thread.join()


def read(uri):
    return everything(Store(uri))


def everything(store):
    runs, metrics = bulk.read(store, [found.id for found in store.experiments()])
    order = ["run_id", "key", "stage"]
    return sorted(runs), metrics.sort_values(order, ignore_index=True)


def test_tables_hold_what_the_client_reads(uri):
    runs, metrics = read(uri)
    client = open_store(uri)
    assert len(runs) == 5  # four trials and their parent
    for run in runs:
        found = client.get_run(run.id)
        assert (run.experiment, run.tags, run.params) == (
            found.info.experiment_id, found.data.tags, found.data.params,
        )  # fmt: skip
        own = metrics[metrics["run_id"] == run.id]
        assert set(own["key"]) == set(found.data.metrics)
        for key in found.data.metrics:
            history = {m.step: m.value for m in client.get_metric_history(run.id, key)}
            assert dict(zip(own["stage"][own["key"] == key], own["value"][own["key"] == key], strict=True)) == history


def test_a_server_gives_the_same_in_few_requests(uri, server, monkeypatch):
    asked = []
    history = mlflow_internals.history
    monkeypatch.setattr(mlflow_internals, "history", lambda *a: asked.append(a) or history(*a))
    monkeypatch.setattr(MlflowClient, "get_metric_history", None)
    runs, metrics = read(server)
    expected_runs, expected = read(uri)
    assert runs == expected_runs
    pd.testing.assert_frame_equal(metrics, expected)
    assert len(asked) == expected["key"].nunique()


def test_a_database_is_read_without_mlflow(uri):
    code = f"""if True:
        import sys
        sys.modules["mlflow"] = None  # whoever imports it fails
        from results.analysis import frame
        print(len(frame({uri!r})))"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout == f"{len(frame(uri))}\n", done.stderr


class Documented:
    """A client of which only documented names are there."""

    def __init__(self, client):
        self.client = client

    def __getattr__(self, name):
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self.client, name)


@pytest.mark.parametrize("store", ["database", "server"])
@pytest.mark.parametrize("missing", ["private names", "the tables", "the request"])
def test_what_another_mlflow_lacks_is_had_by_its_documented_api(uri, server, monkeypatch, store, missing):
    expected_runs, expected = read(uri)
    asked = Store(uri if store == "database" else server)
    if missing == "private names":
        asked.client = Documented(asked.client)
    elif missing == "the tables":
        monkeypatch.setattr(mlflow_internals, "read_only", lambda *_, **__: sqlite3.connect(":memory:"))
    else:
        monkeypatch.setattr(mlflow_internals, "_BULK", "/not/there")
    runs, metrics = everything(asked)
    assert runs == expected_runs
    pd.testing.assert_frame_equal(metrics, expected)


def test_frames_of_database_and_server_are_equal(uri, server):
    pd.testing.assert_frame_equal(frame(server), frame(uri))


def test_of_a_value_logged_twice_the_later_counts_and_what_is_no_number_stays_so(tmp_path, empty_store):
    shutil.copy(empty_store, tmp_path / "mlflow.db")
    client = open_store(f"sqlite:///{tmp_path}/mlflow.db")
    run = client.create_run(client.create_experiment("s"), tags={schema.KEY: "s/t"}).info.run_id
    client.log_metric(run, "meta_loss", 2.0, timestamp=9, step=1)
    client.log_metric(run, "meta_loss", 1.0, timestamp=5, step=1)
    client.log_metric(run, "meta_loss", math.nan, timestamp=5, step=2)
    (first, second) = read(f"sqlite:///{tmp_path}/mlflow.db")[1].to_dict("records")
    assert (first["stage"], first["value"]) == (1, 2.0) and second["stage"] == 2 and math.isnan(second["value"])


def test_deleted_runs_are_passed_over(tmp_path, empty_store):
    shutil.copy(empty_store, tmp_path / "mlflow.db")
    client = open_store(f"sqlite:///{tmp_path}/mlflow.db")
    run = client.create_run(client.create_experiment("s"), tags={schema.KEY: "s/t"}).info.run_id
    client.log_metric(run, "meta_loss", 2.0)
    client.delete_run(run)
    runs, metrics = read(f"sqlite:///{tmp_path}/mlflow.db")
    assert runs == [] and metrics.empty
