"""All that is used of MLflow beyond its documented API, for speed alone.

What is here may be missing or different in another MLflow: each function then raises `Unavailable`, and who calls it
asks the documented API for the same, which takes longer.
"""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from mlflow import MlflowClient

_BULK = "/ajax-api/2.0/mlflow/metrics/get-history-bulk"  # what MLflow's own pages ask for

_NAME = "mlflow.runName"
_ROWS_AT_ONCE = 10_000
_ORDER = ("step", "timestamp", "value")  # by which a metric's latest value is chosen

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
                return session.execute(select(*columns).where(table.run_uuid.in_(wanted))).yield_per(_ROWS_AT_ONCE)

            known: dict[str, str] = {}  # each text once: names, and most values, come again with every run

            def one(text: str) -> str:
                return known.setdefault(text, text)

            info = rows(SqlRun, SqlRun.run_uuid, SqlRun.experiment_id, SqlRun.status, SqlRun.artifact_uri)
            runs = [(run, str(experiment), status, artifacts) for run, experiment, status, artifacts in info]
            tags = [tuple(map(one, row)) for row in rows(SqlTag, SqlTag.run_uuid, SqlTag.key, SqlTag.value)]
            params = [tuple(map(one, row)) for row in rows(SqlParam, SqlParam.run_uuid, SqlParam.key, SqlParam.value)]
            of = SqlMetric
            columns = (of.run_uuid, of.key, of.step, of.timestamp, of.value, of.is_nan)
            found = rows(of, *columns) if with_metrics else ()
            metrics = [
                (one(run), one(key), step, timestamp, float("nan") if is_nan else value)
                for run, key, step, timestamp, value, is_nan in found
            ]
        return Tables(runs, tags, params, metrics)


def create(client: MlflowClient, experiment: str, tags: dict[str, str], start_ms: int) -> tuple[str, str]:
    """A new run with these tags, one of which names it; its id and its artifacts' URI. As `fill`.

    Raises:
        Unavailable: the store is none, or its tables are other than expected.
    """
    with _as_expected():
        from mlflow.store.tracking.dbmodels.models import SqlExperiment, SqlRun, SqlTag
        from mlflow.utils.uri import append_to_uri_path
        from sqlalchemy import insert, select

        place: Any = SqlExperiment.artifact_location
        run = uuid.uuid4().hex
        with client._tracking_client.store.ManagedSessionMaker(read_only=False) as session:
            where: Any = SqlExperiment.experiment_id == int(experiment)
            uri = append_to_uri_path(session.execute(select(place).where(where)).scalar_one(), run, "artifacts")
            row = {
                "run_uuid": run, "name": tags[_NAME], "artifact_uri": uri, "experiment_id": int(experiment),
                "source_type": "UNKNOWN", "source_name": "", "entry_point_name": "", "source_version": "",
                "user_id": "unknown", "status": "RUNNING", "start_time": start_ms, "lifecycle_stage": "active",
            }  # fmt: skip
            tables: tuple[Any, Any] = SqlRun.__table__, SqlTag.__table__
            session.execute(insert(tables[0]), [row])
            session.execute(insert(tables[1]), [{"key": k, "value": v, "run_uuid": run} for k, v in tags.items()])
        return run, uri


class Contents(NamedTuple):
    """All that a new run is to hold; metrics are (name, value, time in ms, step)."""

    metrics: list[tuple[str, float, int, int]]
    params: dict[str, str]
    tags: dict[str, str]
    status: str | None
    ended_ms: int | None


def fill(client: MlflowClient, run: str, new: Contents) -> None:
    """Give a run that holds none of this all of it, where the store is a database that this process opens itself.

    All of it is there afterwards, or nothing: it is one transaction. MLflow's own call makes an object of every entry,
    and takes ten times as long.

    Raises:
        Unavailable: the store is none, or its tables are other than expected.
    """
    with _as_expected():
        from mlflow.store.tracking.dbmodels.models import SqlLatestMetric, SqlMetric, SqlParam, SqlRun, SqlTag
        from sqlalchemy import insert, update

        store = client._tracking_client.store
        metrics: dict[Any, dict[str, Any]] = {}
        latest: dict[str, dict[str, Any]] = {}
        for key, value, timestamp, step in new.metrics:
            is_nan, value = store.sanitize_metric_value(value)
            row = {"key": key, "value": value, "timestamp": timestamp, "step": step, "is_nan": is_nan, "run_uuid": run}
            metrics[key, value, timestamp, step] = row
            if key not in latest or (step, timestamp, value) > tuple(latest[key][k] for k in _ORDER):
                latest[key] = row
        entries: list[tuple[Any, list[dict[str, Any]]]] = [
            (SqlParam, [{"key": key, "value": value, "run_uuid": run} for key, value in new.params.items()]),
            (SqlTag, [{"key": key, "value": value, "run_uuid": run} for key, value in new.tags.items()]),
            (SqlMetric, list(metrics.values())),
            (SqlLatestMetric, list(latest.values())),
        ]
        with store.ManagedSessionMaker(read_only=False) as session:
            for table, rows in entries:
                if rows:
                    session.execute(insert(table.__table__), rows)
            if new.status:
                ended = {"status": new.status, "end_time": new.ended_ms}
                session.execute(update(SqlRun.__table__).where(SqlRun.run_uuid == run).values(ended))


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
