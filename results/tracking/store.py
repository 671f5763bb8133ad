"""The MLflow store: where it is by default, and how it is opened."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from functools import cached_property
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from ppodd.errors import BadInput, PpoddError, StorageError, hidden, near_miss
from ppodd.files import cache_folder, is_remote, sha256
from ppodd.proxies import bypass_for_loopback, through_proxy
from results.tracking import mlflow_internals
from results.tracking.mlflow_internals import Experiment
from results.tracking.mlflow_settings import our_mlflow
from results.tracking.store_file import check_file, holds_nothing, make_or_check, sqlite_path, sqlite_uri

if TYPE_CHECKING:
    from mlflow import MlflowClient, entities
    from mlflow.entities import Run

_DATABASES = ("postgresql", "mysql", "mssql")
_KINDS = ("sqlite", "http", "https", "databricks", *_DATABASES)
_FORMS = "accepted are sqlite:////absolute/path.db, http://HOST:PORT, postgresql+psycopg2://…"
_CONNECT_S = 10
_ARTIFACTS = "mlflow-artifacts"
_opened: set[Path] = set()  # by this process


def default_tracking_uri(archive_url: str, cluster: bool = False) -> str:
    """`MLFLOW_TRACKING_URI` where it is set, else SQLite in the archive's folder.

    A remote archive holds no database: its view is in this machine's cache folder, made again by `ppodd results sync`.

    Raises:
        BadInput: neither will do: a remote archive, and a `cluster` whose nodes do not share this machine's disk.
    """
    if uri := os.environ.get("MLFLOW_TRACKING_URI"):
        return absolute(uri)
    if not is_remote(archive_url):
        return sqlite_uri(Path(archive_url).absolute() / "mlflow.db")
    if cluster:
        raise BadInput(
            f"a cluster that writes to {archive_url} needs an MLflow store that every node reaches: name a server, "
            f"--tracking-uri http://HOST:PORT (or $MLFLOW_TRACKING_URI)"
        )
    name = re.sub(r"\W+", "-", archive_url)
    folder = cache_folder().absolute() / "mlflow" / f"{name}-{sha256(archive_url.encode())[:8]}"
    return sqlite_uri(folder / "mlflow.db")


def absolute(tracking_uri: str) -> str:
    """The URI, the same from every working folder: a trial's, an actor's, the user's."""
    path = sqlite_path(tracking_uri)
    return sqlite_uri(path) if path else tracking_uri


def artifact_folder(tracking_uri: str, archive_url: str) -> str | None:
    """Where artifacts go: beside an SQLite file, in the archive for another database; a server knows its own place."""
    if path := sqlite_path(tracking_uri):
        return (path.parent / _ARTIFACTS).as_uri()
    if not tracking_uri.startswith(_DATABASES):
        return None
    if is_remote(archive_url):
        return f"{archive_url}/{_ARTIFACTS}"
    return (Path(archive_url).absolute() / _ARTIFACTS).as_uri()


class Store:
    """A store to read and write. An SQLite file is read without MLflow, whose import alone takes seconds."""

    def __init__(self, tracking_uri: str):
        """Raises as `open_store`; what MLflow itself says of an SQLite store, when it is first written."""
        self.uri = absolute(tracking_uri)
        if (path := sqlite_path(tracking_uri)) is None:
            self.open()
        else:
            with _opening(tracking_uri):
                _require_sqlite(tracking_uri, path)

    @cached_property
    def client(self) -> MlflowClient:
        """MLflow's own client of it."""
        return open_store(self.uri)

    def open(self) -> None:
        """Have MLflow open it now. Raises as `open_store`."""
        self.client  # noqa: B018  (it is cached)

    def experiments(self) -> list[Experiment]:
        """Those that were not deleted."""
        try:
            return [found for found in mlflow_internals.experiments(self) if found.active]
        except mlflow_internals.Unavailable:
            return list(map(_experiment, self.client.search_experiments()))

    def experiment(self, name: str) -> Experiment | None:
        """The one of this name, even if it was deleted."""
        try:
            return next((found for found in mlflow_internals.experiments(self) if found.name == name), None)
        except mlflow_internals.Unavailable:
            found = self.client.get_experiment_by_name(name)
            return _experiment(found) if found else None


def _experiment(found: entities.Experiment) -> Experiment:
    return Experiment(found.experiment_id, found.name, found.lifecycle_stage == "active", dict(found.tags))


def open_store(tracking_uri: str) -> MlflowClient:
    """A client of the store, created first if need be (do that in one process, before others open it).

    Raises:
        BadInput: the URI is none that MLflow can open, or what answers there is no store.
        StorageError: nothing answers there.
    """
    check_form(tracking_uri)
    bypass_for_loopback(tracking_uri)
    mlflow = our_mlflow()
    with _opening(tracking_uri):
        if path := sqlite_path(tracking_uri):
            _require_sqlite(tracking_uri, path)
        elif tracking_uri.startswith(_DATABASES):
            _require_database(tracking_uri)
        client: MlflowClient = mlflow.MlflowClient(absolute(tracking_uri))
        client.search_experiments(max_results=1)
    return client


def _require_sqlite(tracking_uri: str, path: Path) -> None:
    if path in _opened:  # MLflow still has it open, wherever its name is gone
        require_file(tracking_uri)
    make_or_check(path)
    _opened.add(path)


@contextlib.contextmanager
def _opening(tracking_uri: str) -> Iterator[None]:
    """One line of ours for whatever the driver, the network or MLflow raises in the block."""
    try:
        yield
    except PpoddError:
        raise
    except Exception as error:
        why = f"cannot open the MLflow store {tracking_uri!r}: {said(error)}{through_proxy(tracking_uri)}"
        if sqlite_path(tracking_uri) is None and _is_away(error):
            raise StorageError(f"{why}; see that it runs and can be reached from here, or name another") from None
        raise BadInput(f"{why}; {_FORMS}") from None


def check_form(tracking_uri: str) -> None:
    """Raise `BadInput` where a URI is of no kind of store: a bare path, a folder, a misspelt word.

    MLflow itself would say so in a paragraph, after seconds.
    """
    word, colon, rest = tracking_uri.partition(":")
    kind, path = word.partition("+")[0], re.sub("^file:(//)?", "", tracking_uri)
    kinds = [*_KINDS, *(plugin.name for plugin in entry_points(group="mlflow.tracking_store"))]
    is_path = not colon or kind == "file"
    if kind == "sqlite" and sqlite_path(tracking_uri) is None:
        hint = "; three slashes follow sqlite, or four"
    elif kind in ("http", "https") and not _names_server(tracking_uri):
        hint = ", for it names no host, or no port"
    elif tracking_uri == "databricks" or (kind in kinds and rest.startswith("//")):
        return
    elif not is_path:
        hint = near_miss(kind, kinds)
    elif os.environ.get("MLFLOW_ALLOW_FILE_STORE"):
        return
    elif os.path.isdir(path):
        hint = ", but a folder; `mlflow migrate-filestore` makes an SQLite file of one that MLflow once wrote"
    else:
        hint = f"; a file of that name is sqlite:///{path}"
    raise BadInput(f"{hidden(tracking_uri)!r} is no MLflow store{hint}: {_FORMS}")


def _names_server(url: str) -> bool:
    """Whether an HTTP address can be one."""
    try:
        parts = urlsplit(url)
        return bool(parts.hostname and parts.port != 0 and not re.search(r"\s", url))
    except ValueError:  # of brackets, of a port
        return False


def check_place(tracking_uri: str) -> None:
    """Raise `BadInput` where a store has no form of one, or is a file that could never be made, without making it."""
    check_form(tracking_uri)
    if path := sqlite_path(tracking_uri):
        with _opening(tracking_uri):
            check_file(path)


def _is_away(error: BaseException | None) -> bool:
    """Whether a server or database could not be reached, as the error or one that it came of says by its type."""
    from sqlalchemy.exc import OperationalError

    while error is not None:
        if isinstance(error, (OSError, OperationalError)):
            return True
        error = error.__cause__ or error.__context__
    return False


def _require_database(uri: str) -> None:
    """Raise where a database cannot be opened: MLflow itself would go on trying for most of an hour."""
    import sqlalchemy

    try:
        engine = sqlalchemy.create_engine(uri, connect_args={"connect_timeout": _CONNECT_S})
    except ModuleNotFoundError as error:
        psycopg2 = ", such as psycopg2-binary, and write postgresql+psycopg2://…" if uri.startswith("postgres") else ""
        raise BadInput(f"{hidden(uri)}: {error}: install its driver{psycopg2}") from None
    try:
        engine.connect().close()
    finally:
        engine.dispose()


def said(error: Exception) -> str:
    """The first line of a store's error; of requests' four nested errors, the innermost reason."""
    text = (str(error).splitlines() or [type(error).__name__])[0]
    if "Max retries exceeded" not in text:
        return text
    reason = re.search(r"\[Errno -?\d+\] ([\w ]+)", text)
    return f"no answer ({reason[1] if reason else 'timed out'})"


def exists(tracking_uri: str) -> bool:
    """Whether a store's file is there; of what is no file that is not asked."""
    path = sqlite_path(tracking_uri)
    return path is None or not holds_nothing(path)


def require_store(tracking_uri: str) -> None:
    """Raise `BadInput` where a store that is to be read is none, or a file that is not there."""
    check_form(tracking_uri)
    if not exists(tracking_uri):
        raise BadInput(f"there is no MLflow store {tracking_uri}: `ppodd results sync` makes one, or name another")


def require_file(tracking_uri: str) -> None:
    """Raise `BadInput` where a store's file was removed while this process had it open: writes would be lost."""
    if not exists(tracking_uri):
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
