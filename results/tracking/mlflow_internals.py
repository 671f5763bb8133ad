"""All that is used of MLflow beyond its documented API, for speed alone.

What is here may be missing or different in another MLflow: each function then raises `Unavailable`, and who calls it
asks the documented API for the same, which takes longer.
"""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from results.tracking.store_file import read_only, sqlite_path

if TYPE_CHECKING:
    from mlflow import MlflowClient

_BULK = "/ajax-api/2.0/mlflow/metrics/get-history-bulk"  # what MLflow's own pages ask for

_NAME = "mlflow.runName"
_LOCKED_S = 60.0  # that a writer may keep an SQLite file to itself
_ORDER = ("step", "timestamp", "value")  # by which a metric's latest value is chosen

Value = tuple[str, str, int, int, float]
"""Run, metric, step, time in ms since the epoch, value."""


class Unavailable(Exception):
    """This MLflow, or this store, does not offer it."""


class OpenedStore(Protocol):
    """Where a store is, and MLflow's client of it, which is opened when it is first asked for."""

    @property
    def uri(self) -> str:
        """Its URI, absolute."""

    @property
    def client(self) -> MlflowClient:
        """MLflow's own."""


class Tables(NamedTuple):
    """Rows of a store's tables.

    They are (run, experiment, status, artifacts' URI), (run, name, value) of tags and of params, and metrics.
    """

    runs: list[tuple[str, str, str, str]]
    tags: list[tuple[str, str, str]]
    params: list[tuple[str, str, str]]
    metrics: list[Value]


class Experiment(NamedTuple):
    """An experiment of a store; `active` unless it was deleted."""

    id: str
    name: str
    active: bool
    tags: dict[str, str]


@contextlib.contextmanager
def _as_expected() -> Iterator[None]:
    try:
        yield
    except Exception as error:  # whatever a name, a column or an answer that has changed leads to
        raise Unavailable(f"{type(error).__name__}: {error}") from error


@contextlib.contextmanager
def _query(store: OpenedStore) -> Iterator[Callable[[str], Iterable[Any]]]:
    """What asks a database in SQL, an SQLite file without MLflow. `Unavailable` where the store is none."""
    with _as_expected():
        if path := sqlite_path(store.uri):
            connection: Any = read_only(path, timeout=_LOCKED_S)
        else:
            connection = store.client._tracking_client.store.engine.raw_connection()
        with contextlib.closing(connection):

            def ask(sql: str) -> Iterable[Any]:
                cursor = connection.cursor()
                cursor.execute(sql)
                return cursor

            yield ask


def experiments(store: OpenedStore) -> list[Experiment]:
    """Every experiment of a store that is a database, deleted ones too. Raises as `tables`."""
    with _query(store) as ask:
        tags: dict[int, dict[str, str]] = {}
        for number, name, value in ask("select t.experiment_id, t.key, t.value from experiment_tags t"):
            tags.setdefault(number, {})[name] = value
        found = ask("select e.experiment_id, e.name, e.lifecycle_stage from experiments e")
        return [Experiment(str(n), name, stage == "active", tags.get(n, {})) for n, name, stage in found]


def tables(
    store: OpenedStore, experiments: Sequence[str], tag: str, with_params: bool = True, with_metrics: bool = True
) -> Tables:
    """What the store holds of these experiments' active runs that have the tag, where it is a database.

    It must be one that this process opens itself. Its tables are read by four queries; MLflow's search would make an
    object of every param and tag, and ask for the metrics run by run.

    Raises:
        Unavailable: the store is none, or its tables are other than expected.
    """
    those = ", ".join(str(int(experiment)) for experiment in experiments) or "null"
    active = f"r.lifecycle_stage = 'active' and r.experiment_id in ({those})"
    has_tag = f"exists (select 1 from tags t where t.run_uuid = r.run_uuid and t.key = '{tag}')"
    wanted = f"(select r.run_uuid from runs r where {active} and {has_tag})"
    known: dict[str, str] = {}  # each text once: names, and most values, come again with every run

    def one(text: str) -> str:
        return known.setdefault(text, text)

    with _query(store) as ask:

        def pairs(table: str) -> list[tuple[str, str, str]]:
            rows = ask(f"select e.run_uuid, e.key, e.value from {table} e where e.run_uuid in {wanted}")
            return [(one(run), one(key), one(value)) for run, key, value in rows]

        columns = "r.run_uuid, r.experiment_id, r.status, r.artifact_uri"
        rows = ask(f"select {columns} from runs r where {active} and {has_tag}")
        runs = [(one(run), str(experiment), one(status), artifacts) for run, experiment, status, artifacts in rows]
        tags, params = pairs("tags"), pairs("params") if with_params else []
        columns = "m.run_uuid, m.key, m.step, m.timestamp, m.value, m.is_nan"
        found = ask(f"select {columns} from metrics m where m.run_uuid in {wanted}") if with_metrics else ()
        metrics = [
            (one(run), one(key), step, timestamp, float("nan") if is_nan else value)
            for run, key, step, timestamp, value, is_nan in found
        ]
    return Tables(runs, tags, params, metrics)


class NewRun(NamedTuple):
    """A run that is to be made: its tags, one of which names it, and when it began."""

    tags: dict[str, str]
    start_ms: int


def create(client: MlflowClient, experiment: str, new: Sequence[NewRun]) -> list[tuple[str, str]]:
    """Make these runs; the id of each and its artifacts' URI. As `fill`.

    Raises:
        Unavailable: the store is none, or its tables are other than expected.
    """
    with _as_expected():
        from mlflow.store.tracking.dbmodels.models import SqlExperiment, SqlRun, SqlTag
        from mlflow.utils.uri import append_to_uri_path
        from sqlalchemy import select

        place: Any = SqlExperiment.artifact_location
        where: Any = SqlExperiment.experiment_id == int(experiment)
        with client._tracking_client.store.ManagedSessionMaker(read_only=False) as session:
            base = session.execute(select(place).where(where)).scalar_one()
            made = [(run := uuid.uuid4().hex, append_to_uri_path(base, run, "artifacts")) for _ in new]
            of_all = {
                "experiment_id": int(experiment), "source_type": "UNKNOWN", "source_name": "", "entry_point_name": "",
                "source_version": "", "user_id": "unknown", "status": "RUNNING", "lifecycle_stage": "active",
            }  # fmt: skip
            pairs = list(zip(made, new, strict=True))
            runs = [
                {**of_all, "run_uuid": run, "name": n.tags[_NAME], "artifact_uri": uri, "start_time": n.start_ms}
                for (run, uri), n in pairs
            ]
            _insert(session, SqlRun, runs)
            _insert(session, SqlTag, [row for (run, _), n in pairs for row in _named(run, n.tags)])
        return made


class Contents(NamedTuple):
    """All that a new run is to hold; metrics are (name, value, time in ms, step)."""

    run: str
    metrics: list[tuple[str, float, int, int]]
    params: dict[str, str]
    tags: dict[str, str]
    status: str | None
    ended_ms: int | None


def fill(client: MlflowClient, new: Sequence[Contents]) -> None:
    """Give runs that hold none of this all of it, where the store is a database that this process opens itself.

    All of it is there afterwards, or nothing: it is one transaction. MLflow's own call makes an object of every entry,
    and takes ten times as long.

    Raises:
        Unavailable: the store is none, or its tables are other than expected.
    """
    with _as_expected():
        from mlflow.store.tracking.dbmodels.models import SqlLatestMetric, SqlMetric, SqlParam, SqlRun, SqlTag
        from sqlalchemy import update

        store = client._tracking_client.store
        metrics: list[dict[str, Any]] = []
        latest: list[dict[str, Any]] = []
        for of in new:
            rows, last = _metric_rows(store, of)
            metrics += rows
            latest += last
        with store.ManagedSessionMaker(read_only=False) as session:
            _insert(session, SqlParam, [row for of in new for row in _named(of.run, of.params)])
            _insert(session, SqlTag, [row for of in new for row in _named(of.run, of.tags)])
            _insert(session, SqlMetric, metrics)
            _insert(session, SqlLatestMetric, latest)
            for of in new:
                if of.status:
                    ended = {"status": of.status, "end_time": of.ended_ms}
                    session.execute(update(SqlRun.__table__).where(SqlRun.run_uuid == of.run).values(ended))


def _named(run: str, values: dict[str, str]) -> list[dict[str, str]]:
    return [{"key": key, "value": value, "run_uuid": run} for key, value in values.items()]


def _metric_rows(store: Any, of: Contents) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The rows of a run's metrics, and those of the latest value of each."""
    metrics: dict[Any, dict[str, Any]] = {}
    latest: dict[str, dict[str, Any]] = {}
    for key, value, timestamp, step in of.metrics:
        is_nan, value = store.sanitize_metric_value(value)
        row = {"key": key, "value": value, "timestamp": timestamp, "step": step, "is_nan": is_nan, "run_uuid": of.run}
        metrics[key, value, timestamp, step] = row
        if key not in latest or (step, timestamp, value) > tuple(latest[key][k] for k in _ORDER):
            latest[key] = row
    return list(metrics.values()), list(latest.values())


def _insert(session: Any, table: Any, rows: list[dict[str, Any]]) -> None:
    from sqlalchemy import insert

    if rows:
        session.execute(insert(table.__table__), rows)


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
