"""Many runs and all their metrics in a few questions to the store, for reading alone.

MLflow's client asks for one metric of one run at a time, and its search makes an object of every param and tag. Where
the store is a database that this process opens itself, its tables are read instead: `runs`, `tags`, `params` and
`metrics`, whose columns are the same in every MLflow that ppodd accepts. A server is asked for one metric of many runs,
as MLflow's own pages do, and where it cannot answer that, for one of one run.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, NamedTuple

import pandas as pd

from results.tracking import schema
from results.tracking.duplicates import told_apart
from results.tracking.store import all_runs

if TYPE_CHECKING:
    from mlflow import MlflowClient

_BULK = "/ajax-api/2.0/mlflow/metrics/get-history-bulk"
_RUNS_AT_ONCE = 100  # what a server takes; their values of one metric are far fewer than the 25,000 it answers with
_THREADS = 8
_Value = tuple[str, str, int, int, float]  # run, metric, stage, time, value
_COLUMNS = ("run_id", "key", "stage", "timestamp", "value")


class Run(NamedTuple):
    """What is read of a run."""

    id: str
    experiment: str
    tags: dict[str, str]
    params: dict[str, str]


def read(client: MlflowClient, experiments: Sequence[str]) -> tuple[list[Run], pd.DataFrame]:
    """The runs of ppodd in these experiments, and their metrics: `run_id`, `key`, `stage`, `value`.

    Runs of others are passed over, deleted ones too. Of runs that stand for one trial twice one is read. Of values
    logged twice for a stage the later one counts.
    """
    found, values = (_from_tables if _tables(client) else _from_api)(client, list(experiments))
    kept, besides = told_apart(found)
    metrics = pd.DataFrame(values, columns=list(_COLUMNS)).astype({"stage": "int64", "value": "float64"})
    metrics = metrics[~metrics["run_id"].isin([run.id for run in besides])]
    runs = [run for run in found if kept[run.tags[schema.KEY]] is run]
    in_time = metrics.sort_values("timestamp", kind="stable")
    latest = in_time.drop_duplicates(["run_id", "key", "stage"], keep="last")
    return runs, latest.drop(columns="timestamp").reset_index(drop=True)


def _store(client: MlflowClient) -> Any:
    return client._tracking_client.store


def _tables(client: MlflowClient) -> bool:
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    return isinstance(_store(client), SqlAlchemyStore)


def _from_tables(client: MlflowClient, experiments: list[str]) -> tuple[list[Run], list[_Value]]:
    from mlflow.store.tracking.dbmodels.models import SqlMetric, SqlParam, SqlRun, SqlTag
    from sqlalchemy import select

    ours: Any = (
        select(SqlRun.run_uuid)
        .join(SqlTag, SqlTag.run_uuid == SqlRun.run_uuid)
        .where(SqlTag.key == schema.KEY, SqlRun.lifecycle_stage == "active")
        .where(SqlRun.experiment_id.in_([int(experiment) for experiment in experiments]))
    )
    with _store(client).ManagedSessionMaker() as session:

        def rows(table: Any, *columns: Any) -> Iterable[Any]:
            return session.execute(select(*columns).where(table.run_uuid.in_(ours)))

        found = {
            run: Run(run, str(experiment), {}, {})
            for run, experiment in rows(SqlRun, SqlRun.run_uuid, SqlRun.experiment_id)
        }
        for run, name, value in rows(SqlTag, SqlTag.run_uuid, SqlTag.key, SqlTag.value):
            if run in found:  # else it was made a moment ago
                found[run].tags[name] = value
        for run, name, value in rows(SqlParam, SqlParam.run_uuid, SqlParam.key, SqlParam.value):
            if run in found:
                found[run].params[name] = value
        of = SqlMetric
        metrics = rows(of, of.run_uuid, of.key, of.step, of.timestamp, of.value, of.is_nan)
        values = [(*entry, float("nan") if is_nan else value) for *entry, value, is_nan in metrics]
    return list(found.values()), values


def _from_api(client: MlflowClient, experiments: list[str]) -> tuple[list[Run], list[_Value]]:
    entities = [run for run in all_runs(client, experiments) if schema.KEY in run.data.tags]
    runs = [Run(run.info.run_id, run.info.experiment_id, run.data.tags, run.data.params) for run in entities]
    by_key: dict[str, list[str]] = {}
    for run in entities:
        for key in run.data.metrics:
            by_key.setdefault(key, []).append(run.info.run_id)
    wanted = [
        (key, ids[start : start + _RUNS_AT_ONCE])
        for key, ids in by_key.items()
        for start in range(0, len(ids), _RUNS_AT_ONCE)
    ]
    with ThreadPoolExecutor(_THREADS) as pool:
        answers = pool.map(lambda each: _history(client, *each), wanted)
        return runs, [value for answer in answers for value in answer]


def _history(client: MlflowClient, key: str, runs: list[str]) -> list[_Value]:
    """The values of one metric of several runs, from a server."""
    from mlflow.exceptions import MlflowException

    try:
        return _bulk_history(client, key, runs)
    except MlflowException:  # a server without MLflow's own pages, such as Databricks
        each = [(run, metric) for run in runs for metric in client.get_metric_history(run, key)]
        return [(run, key, metric.step, metric.timestamp, metric.value) for run, metric in each]


def _bulk_history(client: MlflowClient, key: str, runs: list[str]) -> list[_Value]:
    from mlflow.utils.rest_utils import http_request_safe

    store = _store(client)
    response = http_request_safe(store.get_host_creds(), _BULK, "GET", params={"run_id": runs, "metric_key": key})
    metrics = response.json()["metrics"]
    return [(m["run_id"], key, int(m["step"]), int(m["timestamp"]), float(m["value"])) for m in metrics]
