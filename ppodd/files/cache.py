"""Where this machine caches what can be made again, for every user: failing to cache is never an error."""

from __future__ import annotations

import functools
import logging
import os
import re
import stat
import tempfile
from pathlib import Path

from ppodd.files.places import may_write

_log = logging.getLogger(__name__)
_URL = re.compile(r"[a-z0-9]+:/")  # of which a path leaves one slash


def cache_folder() -> Path:
    """`$PPODD_CACHE`, by default `~/.cache/ppodd`; where that cannot be written, a temporary folder of this user's."""
    folder = _asked()
    return folder if may_write(folder) and not _URL.match(str(folder)) else _instead(folder)


def cached(name: str) -> Path:
    """A file of the cache: one that is there may be read where this user may not write."""
    there = _asked() / name
    return there if os.path.exists(there) else cache_folder() / name


def give_home() -> None:
    """A temporary home for a user who has none, a container's, say: libraries end without one.

    And a place for Matplotlib's files where a home cannot be written.
    """
    if not os.path.isabs(os.path.expanduser("~")):
        os.environ["HOME"] = str(own_temporary_folder())
        _log.warning(
            "user %d has no home: %s takes its place; set HOME to keep what is cached", os.getuid(), os.environ["HOME"]
        )
    if not all(may_write(Path(os.path.expanduser(f"~/{own}/matplotlib"))) for own in (".config", ".cache")):
        os.environ.setdefault("MPLCONFIGDIR", str(own_temporary_folder()))  # else it tells so in two lines


def own_temporary_folder(place: str | None = None) -> Path:
    """A folder that this user alone may write to, the same one each time unless another has taken its name.

    Raises:
        OSError: none can be made at this place, which by default is that of temporary files.
    """
    folder = Path(place or tempfile.gettempdir(), f"ppodd-{os.getuid()}")
    folder.mkdir(mode=0o700, exist_ok=True)
    found = folder.lstat()
    if stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & 0o022:
        return folder
    return _unlike_any(place)


@functools.cache
def _unlike_any(place: str | None) -> Path:
    return Path(tempfile.mkdtemp(prefix="ppodd-", dir=place))


def _asked() -> Path:
    return Path(os.path.expanduser(os.environ.get("PPODD_CACHE") or "~/.cache/ppodd"))


@functools.cache
def _instead(folder: Path) -> Path:
    """Where files go that cannot be written into a folder; said once."""
    other = own_temporary_folder()
    _log.warning("the cache %s cannot be written, so %s is used: $PPODD_CACHE names another", folder, other)
    return other
