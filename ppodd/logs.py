"""Log lines: the standard `logging`, a logger a module, and fields that say what sweep, trial or stage it is about.

A program that uses ppodd as a library configures `logging` as it likes. The command line and every process of a cluster
call `start`; lines go to standard error, which Ray keeps in a file of each worker.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import time
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from pathlib import Path
from types import MappingProxyType

from ppodd.errors import hidden, unknown

FIELDS = ("sweep", "trial", "stage", "ticket", "evaluator", "attempt")
LEVELS = ("debug", "info", "warning", "error", "critical")
VARIABLE = "PPODD_LOG_LEVEL"
_PACKAGES = ("ppodd", "results", "cluster", "tune")

_NOTHING: Mapping[str, object] = MappingProxyType({})
_known: ContextVar[Mapping[str, object]] = ContextVar("fields", default=_NOTHING)


@contextlib.contextmanager
def about(**fields: object) -> Iterator[None]:
    """Every line that is logged in the block, by whichever module, carries these of the `FIELDS`."""
    before = _known.set({**_known.get(), **fields})
    try:
        yield
    finally:
        _known.reset(before)


def start(level: str) -> None:
    """Write lines of this level and above to standard error. Raises `BadInput` for a level that there is not."""
    if level.lower() not in LEVELS:
        raise unknown("log level", level, LEVELS)
    for name in _PACKAGES:
        package = logging.getLogger(name)
        package.setLevel(level.upper())
        for handler in [handler for handler in package.handlers if isinstance(handler, _StandardError)]:
            package.removeHandler(handler)
        package.addHandler(_StandardError())


def start_worker() -> None:
    """Write lines of a process that nobody watches: from `info` on, unless `$PPODD_LOG_LEVEL` says otherwise."""
    level = os.environ.get(VARIABLE, "").lower()
    start(level if level in LEVELS else "info")


def log_file() -> str:
    """The file that this process's lines go to; empty where that is a terminal, a pipe, or cannot be told."""
    try:
        path = os.readlink(f"/proc/self/fd/{sys.__stderr__.fileno() if sys.__stderr__ else 2}")
    except (OSError, ValueError):
        return ""
    return path if Path(path).is_file() else ""


class _StandardError(logging.Handler):
    """Writes to what is standard error at that moment: a progress bar puts itself in its place."""

    def __init__(self) -> None:
        super().__init__()
        self.addFilter(_add_fields)
        self.setFormatter(_Line())

    def emit(self, record: logging.LogRecord) -> None:
        try:
            sys.stderr.write(self.format(record) + "\n")
            sys.stderr.flush()
        except Exception:
            self.handleError(record)


def _add_fields(record: logging.LogRecord) -> bool:
    """Give a record the fields of the block that it was logged in; those it was given itself stay."""
    for name, value in _known.get().items():
        if not hasattr(record, name):
            setattr(record, name, value)
    return True


class _Line(logging.Formatter):
    """`2026-01-31T12:00:00Z INFO ppodd.module [sweep=… trial=…] what happened`, without passwords."""

    def __init__(self) -> None:
        super().__init__("%(asctime)sZ %(levelname)s %(name)s%(fields)s %(message)s", "%Y-%m-%dT%H:%M:%S")
        self.converter = time.gmtime

    def format(self, record: logging.LogRecord) -> str:
        found = [f"{name}={getattr(record, name)}" for name in FIELDS if hasattr(record, name)]
        record.fields = f" [{' '.join(found)}]" if found else ""
        return hidden(super().format(record))
