"""MLflow as it is used here: without telemetry, soon out of patience, and silent about what it raises as well."""

from __future__ import annotations

import logging
import os
from types import ModuleType

_log = logging.getLogger(__name__)
_ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    # a server that is away is said in seconds, one that hangs in twenty: the sync tries again anyway
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}


def our_mlflow() -> ModuleType:
    """The library, with these settings where the environment has no others."""
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    import mlflow

    if not _log.isEnabledFor(logging.DEBUG):
        for name in ("alembic", "mlflow", "sqlalchemy"):  # what they trace, they raise too, and we say it in a line
            logging.getLogger(name).setLevel(logging.CRITICAL)
    return mlflow
