"""Real servers for tests, on this machine alone: PostgreSQL on a socket of its own, MLflow's on loopback."""

from __future__ import annotations

import contextlib
import glob
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest


def _wait_for(ready: Callable[[], bool], process: subprocess.Popen, seconds: float = 180) -> None:
    end = time.monotonic() + seconds
    while not ready():
        assert process.poll() is None, f"{process.args} ended"
        assert time.monotonic() < end, f"{process.args} does not answer"
        time.sleep(0.1)


def _stop(process: subprocess.Popen, how: signal.Signals) -> None:
    os.killpg(process.pid, how)
    process.wait(60)


@contextlib.contextmanager
def postgres() -> Iterator[str]:
    """A PostgreSQL server's URI; skips the test where it is not installed. It listens on no network."""
    psycopg2 = pytest.importorskip("psycopg2")
    found = shutil.which("initdb") or max(glob.glob("/usr/lib/postgresql/*/bin/initdb"), default=None)
    if found is None:
        pytest.skip("no PostgreSQL (apt-get install postgresql)")
    programs = Path(found).resolve().parent
    folder = tempfile.mkdtemp(prefix="pg-")  # short: it holds the socket, and the server's user has to get at it
    user = ["runuser", "-u", "postgres", "--"] if os.getuid() == 0 else []  # it refuses to run as root
    if user:
        shutil.chown(folder, "postgres")
    data = f"{folder}/data"
    initialise = [*user, programs / "initdb", "-D", data, "-U", "ppodd", "-A", "trust", "--no-sync"]
    subprocess.run(initialise, check=True, capture_output=True, cwd="/")
    serve = [*user, programs / "postgres", "-D", data, "-k", folder, "-h", "", "-c", "fsync=off"]
    process = subprocess.Popen(
        serve, cwd="/", start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:

        def ready() -> bool:
            with contextlib.suppress(psycopg2.OperationalError):
                psycopg2.connect(host=folder, user="ppodd", dbname="postgres").close()
                return True
            return False

        _wait_for(ready, process)
        yield f"postgresql+psycopg2://ppodd@/postgres?host={folder}"
    finally:
        _stop(process, signal.SIGQUIT)  # at once
        shutil.rmtree(folder, ignore_errors=True)


class MlflowServer:
    """`mlflow server` on a loopback port that stays the same when it is started again."""

    def __init__(self, store: str, artifacts: Path):
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        self._command = [
            *(sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"),
        ]
        self._environment = {
            "MLFLOW_BACKEND_STORE_URI": store,
            "MLFLOW_ARTIFACTS_DESTINATION": str(artifacts),
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # seven processes that nobody needs here
        }
        self._process: subprocess.Popen | None = None
        self.start()

    def start(self) -> None:
        environment = {**os.environ, **self._environment}
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        self._process = subprocess.Popen(self._command, env=environment, start_new_session=True, **quiet)
        _wait_for(self._healthy, self._process)

    def stop(self) -> None:
        if self._process:
            _stop(self._process, signal.SIGKILL)
        self._process = None

    def _healthy(self) -> bool:
        with contextlib.suppress(OSError), urllib.request.urlopen(f"{self.url}/health", timeout=5) as answer:
            return answer.status == 200
        return False
