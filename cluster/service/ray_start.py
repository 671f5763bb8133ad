"""Settings with which Ray is started or joined: an address in one of its forms, and a folder that it can use."""

from __future__ import annotations

import logging
import os
import re
import socket
from collections.abc import Iterator
from pathlib import Path

from ppodd.errors import BadInput
from ppodd.files import may_write, own_temporary_folder

_log = logging.getLogger(__name__)
_PATH_BYTES = 40  # Ray adds 64 to it for a socket's path, which has 107 at most
_REACH_S = 5.0
_ADDRESS = re.compile(r"(ray://)?(?P<host>\[[0-9A-Fa-f:.%]+\]|[^\s:/\[\]@]+):(?P<port>\d{1,5})")
_FORMS = "accepted are auto, HOST:PORT, [IPv6]:PORT and ray://HOST:PORT"


def check_address(address: str) -> None:
    """Raise `BadInput` where an address, or the one in `$RAY_ADDRESS` that `auto` means, has none of Ray's forms."""
    given, what = address, f"--ray-address {address!r}"
    if address == "auto":
        given = os.environ.get("RAY_ADDRESS") or "auto"
        what = f"RAY_ADDRESS={given!r}"
    found = _ADDRESS.fullmatch(given)
    if given == "auto" or (found and 0 < int(found["port"]) < 2**16):
        return
    raise BadInput(f"{what} is no address of a Ray cluster{_hint(given)}: {_FORMS}")


def _hint(given: str) -> str:
    if given.startswith(("http://", "https://")):
        return ", but of a dashboard, for `ppodd submit --address`"
    if given.count(":") > 1 and "[" not in given and "://" not in given:
        return ", IPv6 is written in brackets"
    return "" if re.search(r":\d+$", given) or "://" in given else ", it names no port (Ray's own is 6379)"


def reach(address: str) -> None:
    """Raise `OSError` where nothing listens at `HOST:PORT`: Ray itself would go on trying for minutes."""
    if found := _ADDRESS.fullmatch(address):
        socket.create_connection((found["host"].strip("[]"), int(found["port"])), _REACH_S).close()


def ray_folder() -> str:
    """Where a Ray of our own keeps its sockets and logs: where Ray would, or where it can.

    Raises:
        BadInput: there is no such place.
    """
    asked = Path(os.environ.get("RAY_TMPDIR") or os.environ.get("TMPDIR") or "/tmp").absolute() / "ray"
    why = _unusable(asked)
    if not why:
        return str(asked)
    for folder in _others():
        if not _unusable(folder):
            _log.warning(
                "Ray cannot use %s, which %s: it uses %s; $RAY_TMPDIR names another folder", asked, why, folder
            )
            return str(folder)
    raise BadInput(
        f"Ray finds no place for its sockets: {asked} {why}; name a folder that you may write, of at most "
        f"{_PATH_BYTES - len('/ray')} bytes, by RAY_TMPDIR"
    )


def _others() -> Iterator[Path]:
    for place in (None, "/tmp", "/dev/shm"):
        try:
            yield own_temporary_folder(place) / "ray"
        except OSError:
            continue


def _unusable(folder: Path) -> str:
    """What keeps Ray from using a folder, if something does."""
    if len(os.fsencode(folder)) > _PATH_BYTES:
        return f"is longer than the {_PATH_BYTES} bytes that sockets leave for it"
    if not may_write(folder):
        return "cannot be written"
    cluster = folder / "ray_current_cluster"  # Ray writes its address there
    return "is that of another user's Ray" if cluster.exists() and not os.access(cluster, os.R_OK | os.W_OK) else ""
