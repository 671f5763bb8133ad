"""All that is used of MLflow beyond its documented API, for speed alone.

What is here may be missing or different in another MLflow: each function then raises `Unavailable`, and who calls it
asks the documented API for the same, which takes longer.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from mlflow import MlflowClient

_BULK = "/ajax-api/2.0/mlflow/metrics/get-history-bulk"  # what MLflow's own pages ask for

Value = tuple[str, str, int, int, float]
"""Run, metric, step, time in ms since the epoch, value."""


class Unavailable(Exception):
    """This MLflow, or this store, does not offer it."""


class Tables(NamedTuple):
    """Rows of a store's tables.

    They are (run, experiment, status, artifacts' URI), (run, name, value) of tags and of params, and metrics.
    """

    runs: list[tuple[str, str, str, str]]
    tags: list[tuple[str, str, str]]
    params: list[tuple[str, str, str]]
    metrics: list[Value]


@contextlib.contextmanager
def _as_expected() -> Iterator[None]:
    try:
        yield
    except Exception as error:  # whatever a name, a column or an answer that has changed leads to
        raise Unavailable(f"{type(error).__name__}: {error}") from error


def tables(client: MlflowClient, experiments: Sequence[str], tag: str, with_metrics: bool = True) -> Tables:
    """What the store holds of these experiments' active runs that have the tag, where it is a database.

    It must be one that this process opens itself. Its tables are read by four queries; MLflow's search would make an
    object of every param and tag, and ask for the metrics run by run.

    Raises:
        Unavailable: the store is none, or its tables are other than expected.
    """
    with _as_expected():
        from mlflow.store.tracking.dbmodels.models import SqlMetric, SqlParam, SqlRun, SqlTag
        from sqlalchemy import select

        with client._tracking_client.store.ManagedSessionMaker() as session:
            wanted: Any = (
                select(SqlRun.run_uuid)
                .join(SqlTag, SqlTag.run_uuid == SqlRun.run_uuid)
                .where(SqlTag.key == tag, SqlRun.lifecycle_stage == "active")
                .where(SqlRun.experiment_id.in_([int(experiment) for experiment in experiments]))
            )

            def rows(table: Any, *columns: Any) -> Iterable[Any]:
                return session.execute(select(*columns).where(table.run_uuid.in_(wanted)))

            info = rows(SqlRun, SqlRun.run_uuid, SqlRun.experiment_id, SqlRun.status, SqlRun.artifact_uri)
            runs = [(run, str(experiment), status, artifacts) for run, experiment, status, artifacts in info]
            tags = [tuple(row) for row in rows(SqlTag, SqlTag.run_uuid, SqlTag.key, SqlTag.value)]
            params = [tuple(row) for row in rows(SqlParam, SqlParam.run_uuid, SqlParam.key, SqlParam.value)]
            of = SqlMetric
            columns = (of.run_uuid, of.key, of.step, of.timestamp, of.value, of.is_nan)
            found = rows(of, *columns) if with_metrics else ()
            metrics = [(*entry, float("nan") if is_nan else value) for *entry, value, is_nan in found]
        return Tables(runs, tags, params, metrics)


def history(client: MlflowClient, key: str, runs: Sequence[str]) -> list[Value]:
    """The values of one metric of several runs by one request to a server.

    Raises:
        Unavailable: the store is no server with MLflow's own pages; Databricks is none.
    """
    with _as_expected():
        from mlflow.utils.rest_utils import http_request_safe

        credentials = client._tracking_client.store.get_host_creds()
        asked = {"run_id": list(runs), "metric_key": key}
        metrics = http_request_safe(credentials, _BULK, "GET", params=asked).json()["metrics"]
        return [(m["run_id"], key, int(m["step"]), int(m["timestamp"]), float(m["value"])) for m in metrics]
