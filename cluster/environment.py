"""The environment of a process that works with Ray, made when it is asked for, never by an import.

A command or a program that drives Ray calls `prepare` before anything imports Ray, which reads its settings then. What
runs on a node calls `take_shipped`: a job's values travel with its code.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import secrets
import sys
from pathlib import Path

from ppodd.errors import BadInput, PpoddError

SHIPPED = "PPODD_ENVIRONMENT"  # names the file; the values themselves Ray would write to its logs on every node
_SETTINGS = {
    "RAY_AUTH_MODE": "token",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
}


@functools.cache
def prepare() -> bool:
    """Set what Ray reads, where the user has not, after taking up what was shipped.

    A Ray of our own listens on every interface, so nobody joins it without a token.

    Returns:
        Whether the token is one that was made here, for this process alone.

    Raises:
        PpoddError: Ray has been imported already, and so has read its settings.
        BadInput: the file that is to hold the token holds none.
    """
    if "ray" in sys.modules and "RAY_AUTH_MODE" not in os.environ:
        raise PpoddError("Ray was imported before its settings were made: call cluster.prepare() first")
    take_shipped()
    for name, value in _SETTINGS.items():
        os.environ.setdefault(name, value)
    if os.environ["RAY_AUTH_MODE"] != "token" or os.environ.get("RAY_AUTH_TOKEN") or _has_token_file():
        return False
    os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
    return True


def _has_token_file() -> bool:
    """Whether there is a file that holds a token. Raises `BadInput`: it is named, and holds none that can be read."""
    named = os.environ.get("RAY_AUTH_TOKEN_PATH")
    file = Path(named or os.path.expanduser("~/.ray/auth_token"))
    try:
        wrong = "" if file.read_text().strip() else "is empty"
    except FileNotFoundError as error:
        if not named:
            return False
        wrong = f"cannot be read: {error.strerror}"
    except (OSError, UnicodeDecodeError) as error:
        wrong = f"cannot be read: {getattr(error, 'strerror', None) or 'no text'}"
    if wrong:
        where = "RAY_AUTH_TOKEN_PATH names it" if named else "RAY_AUTH_TOKEN_PATH names another"
        raise BadInput(
            f"the file of Ray's token {file} {wrong} ({where}): make one with `ray get-auth-token --generate`"
        )
    return True


def take_shipped() -> None:
    """Take up the values that `ppodd submit --env` shipped with the job of this process, if it is part of one."""
    if (file := Path(os.environ.get(SHIPPED, ""))).is_file():
        with contextlib.suppress(OSError):
            file.chmod(0o600)
        os.environ.update(json.loads(file.read_bytes()))
