"""Many runs and all their metrics in a few questions to the store, for reading alone.

The tables of a database that this process opens itself are read, a server is asked for one metric of many runs; where
MLflow offers neither, its documented API is asked for one metric of one run.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from results.tracking import mlflow_internals, schema
from results.tracking.duplicates import told_apart
from results.tracking.store import Store, all_runs

if TYPE_CHECKING:
    import pandas as pd
    from mlflow import MlflowClient, entities

_RUNS_AT_ONCE = 100  # what a server takes; their values of one metric are far fewer than the 25,000 it answers with
_THREADS = 8
_COLUMNS = ("run_id", "key", "stage", "timestamp", "value")


@dataclass(order=True)
class StoredRun:
    """A run as the store has it: `status` is MLflow's own, `artifact_uri` the place of its artifacts."""

    id: str
    experiment: str
    tags: dict[str, str]
    params: dict[str, str]
    status: str
    artifact_uri: str

    @classmethod
    def of(cls, run: entities.Run) -> StoredRun:
        """A run that MLflow's client gave."""
        info, data = run.info, run.data
        return cls(info.run_id, info.experiment_id, data.tags, data.params, info.status, info.artifact_uri)


def local_artifacts(run: StoredRun) -> str:
    """The folder of a run's artifacts, where it is one on this machine; MLflow's own way there takes far longer."""
    uri = urlsplit(run.artifact_uri)
    return unquote(uri.path) if uri.scheme == "file" and not uri.netloc else ""


def read(store: Store, experiments: Sequence[str]) -> tuple[list[StoredRun], pd.DataFrame]:
    """The runs of ppodd in these experiments, and their metrics: `run_id`, `key`, `stage`, `value`.

    Runs of others are passed over, deleted ones too. Of runs that stand for one trial twice one is read. Of values
    logged twice for a stage the later one counts.
    """
    import pandas as pd  # which a sync does without

    found, values = _all(store, list(experiments))
    kept, besides = told_apart(found)
    metrics = pd.DataFrame(values, columns=list(_COLUMNS)).astype({"stage": "int64", "value": "float64"})
    metrics = metrics[~metrics["run_id"].isin([run.id for run in besides])]
    runs = [run for run in found if kept[run.tags[schema.KEY]] is run]
    in_time = metrics.sort_values("timestamp", kind="stable")
    latest = in_time.drop_duplicates(["run_id", "key", "stage"], keep="last")
    return runs, latest.drop(columns="timestamp").reset_index(drop=True)


def runs_of(store: Store, experiments: Sequence[str]) -> list[StoredRun]:
    """The runs of ppodd in these experiments, twins too, without their metrics."""
    try:
        return _in(mlflow_internals.tables(store, experiments, schema.KEY, with_metrics=False))
    except mlflow_internals.Unavailable:
        return [StoredRun.of(run) for run in all_runs(store.client, list(experiments)) if schema.KEY in run.data.tags]


def _all(store: Store, experiments: list[str]) -> tuple[list[StoredRun], list[mlflow_internals.Value]]:
    """The runs of ppodd, and every value of their metrics."""
    try:
        tables = mlflow_internals.tables(store, experiments, schema.KEY)
    except mlflow_internals.Unavailable:
        return _from_api(store.client, experiments)
    return _in(tables), tables.metrics


def _in(tables: mlflow_internals.Tables) -> list[StoredRun]:
    """The runs in a store's tables."""
    found = {run: StoredRun(run, experiment, {}, {}, status, uri) for run, experiment, status, uri in tables.runs}
    for run, name, value in tables.tags:
        if run in found:  # else it was made a moment ago
            found[run].tags[name] = value
    for run, name, value in tables.params:
        if run in found:
            found[run].params[name] = value
    return list(found.values())


def _from_api(client: MlflowClient, experiments: list[str]) -> tuple[list[StoredRun], list[mlflow_internals.Value]]:
    entities = [run for run in all_runs(client, experiments) if schema.KEY in run.data.tags]
    runs = [StoredRun.of(run) for run in entities]
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


def _history(client: MlflowClient, key: str, runs: list[str]) -> list[mlflow_internals.Value]:
    """The values of one metric of several runs."""
    try:
        return mlflow_internals.history(client, key, runs)
    except mlflow_internals.Unavailable:
        each = [(run, metric) for run in runs for metric in client.get_metric_history(run, key)]
        return [(run, key, metric.step, metric.timestamp, metric.value) for run, metric in each]
