"""What is kept of an exception where it is caught, so that its line, process and log are found from elsewhere."""

from __future__ import annotations

import os
import socket
import sys
import sysconfig
import time
import traceback
from pathlib import Path
from types import TracebackType
from typing import Any

from ppodd.errors import PpoddError, hidden, one_line
from ppodd.logs import log_file

_HERE = Path(__file__).resolve().parents[1]
_OURS = tuple(f"{_HERE / package}{os.sep}" for package in ("ppodd", "results", "cluster", "tune"))
_INSTALLED = tuple(f"{sysconfig.get_path(kind)}{os.sep}" for kind in ("stdlib", "platstdlib", "purelib", "platlib"))


def failure_of(error: BaseException) -> dict[str, Any]:
    """The record of a failure: the exception whole, and the process, with its log, that it was caught in."""
    return {
        "error": said_with_place(error),
        "type": f"{type(error).__module__}.{type(error).__qualname__}",
        "message": hidden(str(error)),
        "traceback": hidden("".join(traceback.format_exception(error))),
        **this_process(),
        "failed_at": time.time(),
    }


def this_process() -> dict[str, Any]:
    """Where this process runs, and its log."""
    return {"node": socket.gethostname(), "pid": os.getpid(), "log_file": log_file()}


def said_with_place(error: BaseException) -> str:
    """The error in one line; where it is none of ours, with file and line of the user's code that it came from."""
    said, place = one_line(error), "" if isinstance(error, PpoddError) else user_place(error.__traceback__)
    return said if not place or place in said else f"{said} ({place})"


def user_place(trace: TracebackType | None) -> str:
    """`network.py:12, in forward`: the innermost line that is neither ours nor of what is installed; else nothing."""
    for frame in reversed(traceback.extract_tb(trace)):
        if os.path.isabs(frame.filename) and not _is_installed(frame.filename):
            return f"{_as_imported(frame.filename)}:{frame.lineno}, in {frame.name}"
    return ""


def _is_installed(path: str) -> bool:
    resolved = os.path.realpath(path)
    return "site-packages" in Path(resolved).parts or resolved.startswith((*_OURS, *_INSTALLED))


def _as_imported(path: str) -> str:
    """The path from the folder that the module was imported from."""
    roots = [root for root in map(os.path.abspath, sys.path) if path.startswith(root.rstrip(os.sep) + os.sep)]
    return os.path.relpath(path, max(roots, key=len)) if roots else path
