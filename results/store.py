"""The MLflow store: where it is by default, and how it is opened."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING

from ppodd.errors import BadInput

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

_SQLITE = "sqlite:///"


def default_tracking_uri(archive_url: str) -> str:
    """`MLFLOW_TRACKING_URI` where it is set, else SQLite in the archive's folder (here, for a remote archive)."""
    uri = os.environ.get("MLFLOW_TRACKING_URI")
    return absolute(uri) if uri else f"sqlite:///{_beside(archive_url) / 'mlflow.db'}"


def absolute(tracking_uri: str) -> str:
    """The URI, the same from every working folder: a trial's, an actor's, the user's."""
    if not tracking_uri.startswith(_SQLITE):
        return tracking_uri
    return f"{_SQLITE}{Path(tracking_uri.removeprefix(_SQLITE)).absolute()}"


def artifact_folder(tracking_uri: str) -> str | None:
    """Where artifacts go for a local store: beside its database. A server knows its own place."""
    if not tracking_uri.startswith(_SQLITE):
        return None
    return (Path(tracking_uri.removeprefix(_SQLITE)).absolute().parent / "mlflow-artifacts").as_uri()


def _beside(archive_url: str) -> Path:
    return Path.cwd() if "://" in archive_url else Path(archive_url).absolute()


def open_store(tracking_uri: str) -> MlflowClient:
    """A client of the store, created first if need be (do that in one process, before others open it).

    Raises:
        BadInput: the URI is none that MLflow can open, or nothing answers there.
    """
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    import mlflow

    for name in ("alembic", "mlflow.store.db.utils", "mlflow.tracking.fluent"):
        logging.getLogger(name).setLevel(logging.ERROR)
    try:
        if tracking_uri.startswith(_SQLITE):
            Path(tracking_uri.removeprefix(_SQLITE)).parent.mkdir(parents=True, exist_ok=True)
        client = mlflow.MlflowClient(absolute(tracking_uri))
        client.search_experiments(max_results=1)
    except Exception as error:  # whatever the driver, the network or MLflow raises
        raise BadInput(
            f"cannot open the MLflow store {tracking_uri!r}: {str(error).splitlines()[0]}; accepted are "
            f"sqlite:////absolute/path.db, http://HOST:PORT, postgresql://…"
        ) from None
    require_file(tracking_uri)
    return client


def require_file(tracking_uri: str) -> None:
    """Raise `BadInput` where a store's file was removed while this process had it open: writes would be lost."""
    if tracking_uri.startswith(_SQLITE) and not os.path.exists(tracking_uri.removeprefix(_SQLITE)):
        raise BadInput(f"the MLflow store {tracking_uri} was removed while in use: start again, and it is made anew")


def all_runs(client: MlflowClient, experiments: list[str], filter_string: str = "") -> list[Run]:
    """Every run of the experiments that is not deleted and passes MLflow's filter: tags, params, latest metrics."""
    runs: list[Run] = []
    token = None
    while experiments:
        page = client.search_runs(experiments, filter_string, max_results=1000, page_token=token)
        runs += page
        token = page.token
        if not token:
            break
    return runs
