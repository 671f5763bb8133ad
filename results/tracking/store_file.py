"""An SQLite store as a file: made whole or not at all, known for what it is, and written by one process at a time."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import sqlite3
import tempfile
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import filelock

from ppodd.errors import BadInput, PpoddError, StorageError
from ppodd.files import no_place, storage_errors
from results.tracking.mlflow_settings import our_mlflow

SQLITE = "sqlite:///"
_URI = re.compile(r"sqlite(\+pysqlite)?:///(?P<path>.*)", re.DOTALL)
_WAIT_S = 120.0  # for another process that writes: a first sync of thousands of trials takes a minute
_HEADER = b"SQLite format 3\0"
_TABLES = {"experiments", "runs", "metrics", "params", "tags"}  # of every MLflow store that is whole


def sqlite_path(tracking_uri: str) -> Path | None:
    """The file of an SQLite store; `None` for a server or another database. Raises `BadInput`: it is in memory."""
    found = _URI.fullmatch(tracking_uri)
    if not found:
        return None
    path = found["path"]
    if path in ("", ":memory:"):
        raise BadInput(f"the MLflow store {tracking_uri} is in no file: write {SQLITE}PATH")
    return Path(_as_sqlalchemy_reads(tracking_uri) if re.search("[%?]", path) else path).absolute()


def sqlite_uri(path: Path) -> str:
    """The URI of an SQLite store's file.

    Raises:
        BadInput: it would be read as another file's: quoted, MLflow would still make the folder of the quoted name.
    """
    uri = f"{SQLITE}{path}"
    if re.search("[%?]", str(path)) and _as_sqlalchemy_reads(uri) != str(path):
        raise BadInput(
            f"{uri} would be read as the URI of another file: choose an archive's folder without ? and %, or name "
            f"another --tracking-uri"
        )
    return uri


def _as_sqlalchemy_reads(uri: str) -> str:
    """The file's path in a URI: SQLAlchemy decodes `%41` since its version 2.1."""
    from sqlalchemy.engine import make_url

    return make_url(uri).database or ""


def make_or_check(path: Path) -> None:
    """Make an empty store where there is none, else see that it is whole.

    MLflow takes seconds to make its tables, one after another, and cannot go on with a part of them. So they are made
    in a temporary folder, and the file gets its name when it is complete.

    Raises:
        BadInput: the file is half-made, cut short, or no MLflow store; or it can never be made.
        OSError: it cannot be written.
    """
    if holds_nothing(path):
        check_file(path)
        place = _led_to(path)
        place.parent.mkdir(parents=True, exist_ok=True)
        with one_writer(sqlite_uri(path)):
            if holds_nothing(place):  # still: another process may have made it meanwhile
                _make(place)
    _require_whole(path)


def check_file(path: Path) -> None:
    """Raise as `make_or_check`, but make nothing."""
    if not holds_nothing(path):
        _require_whole(path)
    elif os.path.islink(place := _led_to(path)):
        raise BadInput(f"the MLflow store {SQLITE}{path} is a link that leads to itself: name another --tracking-uri")
    elif why := no_place(place.parent):
        raise BadInput(f"cannot make the MLflow store {SQLITE}{path}: {why}; name another --tracking-uri")


def holds_nothing(path: Path) -> bool:
    """Whether no file is there, or an empty one."""
    return not path.exists() or (path.is_file() and path.stat().st_size == 0)


def _led_to(path: Path) -> Path:
    """The file that a link stands for, which need not be there yet."""
    return Path(os.path.realpath(path))


def _make(path: Path) -> None:
    mlflow = our_mlflow()
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder, "mlflow.db")
        mlflow.MlflowClient(sqlite_uri(made)).search_experiments(max_results=1)
        temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
        try:
            temporary.write_bytes(made.read_bytes())
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)


def read_only(path: Path, **how: Any) -> sqlite3.Connection:
    """A connection that changes nothing, and makes no file where there is none; `how` as `sqlite3.connect` has it."""
    return sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True, **how)


def _require_whole(path: Path) -> None:
    if path.is_dir():
        raise BadInput(f"the MLflow store {path} is a folder: name a file in it, such as {path}/mlflow.db")
    with path.open("rb") as file:
        header = file.read(32)
    if not header.startswith(_HEADER):
        raise BadInput(f"{path} is no SQLite file: name another --tracking-uri")
    page = int.from_bytes(header[16:18], "big")
    pages, size = int.from_bytes(header[28:32], "big"), path.stat().st_size
    if size < pages * (65536 if page == 1 else page):  # 1 stands for 65,536
        raise _broken(path, f"cut short: {size} bytes of {pages} pages")
    try:
        with contextlib.closing(read_only(path)) as database:
            tables = {name for (name,) in database.execute("select name from sqlite_master where type = 'table'")}
            known = "alembic_version" in tables and database.execute("select * from alembic_version").fetchone()
    except sqlite3.OperationalError:
        return  # locked by who writes it, for the moment
    except sqlite3.DatabaseError as error:
        raise _broken(path, str(error)) from None
    if tables and not tables & {*_TABLES, "alembic_version"}:
        raise BadInput(
            f"{path} is no MLflow store (it holds {', '.join(sorted(tables)[:3])}): name another --tracking-uri"
        )
    if not known or not tables >= _TABLES:
        raise _broken(path, "half-made")


def _broken(path: Path, why: str) -> BadInput:
    return BadInput(
        f"the MLflow store {path} is {why}: deleting it loses nothing, since `ppodd results sync` makes it anew from "
        f"the archive; `ppodd results sync --rebuild` does both"
    )


def set_aside(path: Path) -> Path:
    """Give the file of a store another name, for a new one to be made. Returns that name."""
    place = _led_to(path)
    old = place.with_name(f"{place.name}.old")
    with storage_errors("rename", place):
        os.replace(place, old)
    return old


@contextlib.contextmanager
def one_writer(tracking_uri: str) -> Iterator[None]:
    """Be the one process that writes an SQLite store while the block runs; others wait their turn.

    The lock is the operating system's: it ends with the process that holds it. A server has none: see
    `results.tracking.duplicates`.

    Raises:
        PpoddError: another process has been writing for two minutes.
        StorageError: this user may not write it.
    """
    path = sqlite_path(tracking_uri)
    if path is None:
        yield
        return
    lock = filelock.FileLock(f"{_led_to(path)}.lock", timeout=_WAIT_S)  # the same by every name of the file
    try:
        with storage_errors("write", lock.lock_file):
            # filelock takes a file that can never be made for one that another process holds, and waits
            os.makedirs(os.path.dirname(lock.lock_file) or ".", exist_ok=True)
            os.close(os.open(lock.lock_file, os.O_RDWR | os.O_CREAT, 0o666))
            lock.acquire()
    except FileNotFoundError as error:
        raise StorageError(f"cannot write {lock.lock_file}: {error.strerror}: name another store") from None
    except filelock.Timeout:
        raise PpoddError(
            f"another process has been writing the MLflow store {path} for {_WAIT_S:.0f} s: wait for its end (a sweep "
            f"or `ppodd results sync`), then try again"
        ) from None
    try:
        yield
    finally:
        lock.release()


class Changes:
    """Whether anybody else has written an SQLite store since this process last did."""

    def __init__(self, tracking_uri: str):
        self._path = sqlite_path(tracking_uri)
        self._database: sqlite3.Connection | None = None
        self._seen: tuple[int, int] | None = None

    def since_last(self) -> bool:
        """Whether there are changes since `remember`; never of a server, which is not asked."""
        return self._seen is not None and self._state() != self._seen

    def remember(self) -> None:
        """Take what is there now for written by this process."""
        self._seen = self._state()

    def _state(self) -> tuple[int, int] | None:
        """Which file it is, and SQLite's count of what other connections wrote to it."""
        if self._path is None:
            return None
        inode = self._path.stat().st_ino
        if self._database is None or self._seen is None or self._seen[0] != inode:
            if self._database is not None:
                self._database.close()
            self._database = read_only(self._path, check_same_thread=False)
            weakref.finalize(self, self._database.close)
        return inode, self._database.execute("pragma data_version").fetchone()[0]
