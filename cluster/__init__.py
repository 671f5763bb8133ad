"""Evaluators on Ray: detached actors that judge archived stages, and the coordinator that hands out the work."""

import contextlib
import json
import os
import secrets
from pathlib import Path

# What `ppodd submit --env` ships comes in a file: Ray writes the values of a runtime_env to its logs on every node.
_shipped = Path(os.environ.get("PPODD_ENVIRONMENT", ""))
if _shipped.is_file():
    with contextlib.suppress(OSError):
        _shipped.chmod(0o600)
    os.environ.update(json.loads(_shipped.read_text()))

# Ray reads these when it is imported, so they are set before any module here can import it.
_ENVIRONMENT = {
    "RAY_AUTH_MODE": "token",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
}

for _name, _value in _ENVIRONMENT.items():
    os.environ.setdefault(_name, _value)
_has_token = any(os.environ.get(name) for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"))
OWN_TOKEN = os.environ["RAY_AUTH_MODE"] == "token" and not (
    _has_token or Path("~/.ray/auth_token").expanduser().exists()
)
if OWN_TOKEN:
    # a Ray of our own listens on every interface: nobody joins it without this process's token
    os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
