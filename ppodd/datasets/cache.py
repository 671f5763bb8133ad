"""Where things are kept between runs in `$PPODD_CACHE`: under a digest of everything that they were made from."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Iterable
from pathlib import Path

import PIL
import safetensors

from ppodd.errors import PpoddError
from ppodd.files import atomic_path, cached

_log = logging.getLogger(__name__)

_FORMAT = 4  # raise it when reading or whitening change their results
Stamp = tuple[str, str, int, int, int]


def stamps(files: Iterable[Path]) -> list[Stamp]:
    """What tells that a file is still the same: its path, where links on it lead, its size, and its times.

    The time of its last change tells a file that was put in another's place with that one's time of modification.
    """
    return [_stamp(path) for path in files]


def digest_of(*parts: object) -> str:
    """A digest of how things are read, as of this version and Pillow's, which decodes."""
    return hashlib.sha256(json.dumps([_FORMAT, PIL.__version__, *map(str, parts)]).encode()).hexdigest()


def place_of(kind: str, digest: str) -> Path:
    """The cached file of a kind."""
    return cached(f"{kind}-{digest[:24]}.safetensors")


def keep(path: Path, write: Callable[[str], None]) -> None:
    """Have what `write` writes to a path it is given there for the next process, if there is a place for it."""
    try:
        with atomic_path(path) as temporary:
            write(temporary)
    except (PpoddError, OSError, safetensors.SafetensorError) as error:
        _log.warning("not cached, each process prepares the data again: %s; $PPODD_CACHE names another folder", error)


def _stamp(path: Path) -> Stamp:
    try:
        found = path.stat()
    except OSError:  # it is not there, or a link that leads nowhere
        return str(path), "", 0, 0, 0
    return str(path.absolute()), str(path.resolve()), found.st_size, found.st_mtime_ns, found.st_ctime_ns
