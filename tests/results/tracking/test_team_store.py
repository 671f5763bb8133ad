"""A team's MLflow: a server with PostgreSQL behind it, shared, restarted, wrong. All servers are real."""

import re
import shutil
from concurrent.futures import ThreadPoolExecutor

import pandas as pd
import pytest
from archives import write_evaluations, write_stage, write_sweep
from servers import MlflowServer, postgres

from ppodd.archive import Archive
from ppodd.cli.main import main
from ppodd.config import EvaluationConfig
from ppodd.errors import PpoddError, StorageError
from results.analysis.tidy_frame import frame
from results.tracking.store import open_store
from results.tracking.syncing import Syncer, sync

EVALUATION = EvaluationConfig(nets=3)

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")


@pytest.fixture(scope="module")
def database():
    with postgres() as uri:
        yield uri


@pytest.fixture(scope="module")
def server(database, tmp_path_factory):
    server = MlflowServer(database, tmp_path_factory.mktemp("artifacts"))
    yield server
    server.stop()


def sweep(folder, name, tiny):
    archive = Archive(folder)
    configs = [{**tiny, "seed": seed, "blend": blend} for seed in (0, 1) for blend in ("dynamic", "latest")]
    return archive, write_sweep(archive, name, configs, EVALUATION)


def rows(uri, name):
    """Without the id that every store gives a run anew."""
    return frame(uri, [name]).drop(columns="run_id")


def test_a_server_with_postgresql_holds_what_sqlite_does(server, database, empty_store, tiny, tmp_path):
    archive, _ = sweep(tmp_path / "archive", "whole", tiny)
    local = f"sqlite:///{shutil.copy(empty_store, tmp_path / 'mlflow.db')}"
    assert sync(archive.url, local).problems == sync(archive.url, server.url).problems == []
    assert len(rows(local, "whole")) == 4 * 2 * 2
    for uri in (server.url, database):  # the database is read without its server as well
        pd.testing.assert_frame_equal(rows(uri, "whole"), rows(local, "whole"))
    again = sync(archive.url, server.url)
    assert (again.stages, again.evaluations, again.runs) == (0, 0, 0)
    client = open_store(server.url)
    (run, *_) = client.search_runs(
        [client.get_experiment_by_name("whole").experiment_id], "tags.`ppodd.key` = 'whole/t000'"
    )
    assert len(client.list_artifacts(run.info.run_id, "posters")) == 2


def test_a_database_is_written_without_a_server_too(database, tiny, tmp_path):
    archive, _ = sweep(tmp_path / "archive", "direct", tiny)
    assert sync(archive.url, database).problems == []
    assert len(rows(database, "direct")) == 16
    assert list((tmp_path / "archive/mlflow-artifacts").rglob("stage-01.png"))
    assert archive.sweeps() == ["direct"]


def test_two_clusters_write_to_one_server_at_once(server, tiny, tmp_path):
    names = ["cluster-a", "cluster-b"]
    archives = [sweep(tmp_path / name, name, tiny)[0] for name in names]
    with ThreadPoolExecutor(2) as pool:
        reports = list(pool.map(lambda archive: sync(archive.url, server.url), archives))
    assert [report.problems for report in reports] == [[], []]
    assert [len(rows(server.url, name)) for name in names] == [16, 16]
    # the same sweep's name from two archives is refused by the second
    other, _ = sweep(tmp_path / "other", "cluster-a", tiny)
    other.write_sweep(other.sweep("cluster-a").model_copy(update={"created_at": 1.0}))
    (problem,) = sync(other.url, server.url).problems
    assert "already shows another sweep 'cluster-a'" in problem


def test_a_server_that_was_away_is_caught_up_with_by_the_same_syncer(server, tiny, tmp_path):
    archive = Archive(tmp_path / "archive")
    (config,) = write_sweep(archive, "away", [{**tiny, "num_stages": 3}], EVALUATION)
    trial = archive.trial("away", "t000")
    for name in [name for name in trial.folder.find() if name.startswith(("stage-02", "stage-03"))]:
        trial.folder.remove(name)
    syncer = Syncer(archive.url, server.url)
    assert syncer.sync().stages == 1
    server.stop()
    try:
        write_stage(trial, config, 2)
        write_evaluations(trial, config, 2, EVALUATION)
        for _ in range(2):
            with pytest.raises(PpoddError, match=f"MLflow store {server.url}: "):
                syncer.sync()
        write_stage(trial, config, 3)
    finally:
        server.start()
    assert syncer.sync().stages == 2
    write_evaluations(trial, config, 3, EVALUATION)
    syncer.sync()
    assert sorted(set(rows(server.url, "away")["stage"])) == [1, 2, 3]
    client = open_store(server.url)
    (run,) = client.search_runs([client.get_experiment_by_name("away").experiment_id], "tags.`ppodd.key` = 'away/t000'")
    for metric in run.data.metrics:
        steps = [entry.step for entry in client.get_metric_history(run.info.run_id, metric)]
        assert len(steps) == len(set(steps)), metric


@pytest.mark.parametrize(
    ("uri", "reason"),
    [
        ("http://127.0.0.1:1", r"no answer \(Connection refused\).*see that it runs"),
        ("postgresql+psycopg2://ppodd@127.0.0.1:1/mlflow", "failed: Connection refused.*see that it runs"),
    ],
)
def test_a_store_that_is_not_there_is_one_line_in_seconds(uri, reason):
    with pytest.raises(StorageError, match=f"cannot open the MLflow store '{re.escape(uri)}': .*{reason}") as caught:
        open_store(uri)
    assert "\n" not in str(caught.value)


def test_a_server_that_is_none_of_mlflow_is_refused(gate):
    with pytest.raises(StorageError, match=f"cannot open the MLflow store '{gate.url}'"):
        open_store(gate.url)


def test_no_password_is_ever_shown(tmp_path, capsys):
    (tmp_path / "s").mkdir()
    (tmp_path / "s/sweep.json").write_text("{}")
    store = "postgresql+psycopg2://me:s3cret@127.0.0.1:1/x"
    assert main(["results", "sync", "--archive", str(tmp_path), "--tracking-uri", store]) == 1
    said = capsys.readouterr().err
    assert "postgresql+psycopg2://me:***@127.0.0.1:1/x" in said and "s3cret" not in said
