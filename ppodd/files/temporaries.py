"""Temporary files that are renamed when they are whole: how they are named, and what a killed process left of them."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import time
from collections.abc import Iterator
from pathlib import Path

from ppodd.files.processes import has_ended, short_machine

_FORGOTTEN_S = 24 * 3600.0  # one that another machine wrote, or an older version
_NAME = re.compile(r"\..+\.(?P<machine>[0-9a-f]{8})-(?P<pid>\d+)\.\w{8}$|\..+\.(json|png|safetensors)\.[a-z0-9_]{8}$")


@contextlib.contextmanager
def beside(path: str | os.PathLike[str]) -> Iterator[str]:
    """An empty file beside `path`, to become it, for the time of the block; its name says which process writes it.

    Who may read and write it the umask says, or the folder, so that a group can share an archive.
    """
    path = Path(path)
    temporary = str(path.with_name(f".{path.name}.{short_machine()}-{os.getpid()}.{secrets.token_hex(4)}"))
    os.close(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666))
    try:
        yield temporary
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)


def stale(folder: str) -> list[str]:
    """What processes that have ended left below a local folder.

    A process of another machine cannot be asked: what it wrote counts after a day.
    """
    return [path for path in _temporaries(folder) if _is_stale(path)]


def _temporaries(folder: str) -> Iterator[str]:
    for where, _, names in os.walk(folder):
        yield from (f"{where}/{name}" for name in names if _NAME.fullmatch(name))


def _is_stale(path: str) -> bool:
    found = _NAME.fullmatch(os.path.basename(path))
    if found and found["machine"] == short_machine():
        return has_ended(int(found["pid"]))
    try:
        return time.time() - os.stat(path).st_mtime > _FORGOTTEN_S
    except OSError:
        return False
