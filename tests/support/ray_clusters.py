"""Real Ray clusters for tests: a head and any number of raylets on loopback, each a process group of its own.

    with RayCluster(tmp_path) as cluster:
        worker = cluster.add_node(cpus=1)
        subprocess.run([...], env=cluster.env)   # has the token; cluster.dashboard and cluster.address say where
        cluster.kill(worker)

The token is that of the tests' own process, so that commands run in it work too. Nothing here
calls `ray stop`, which would end every Ray of this user.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any

import ray

ROOT = Path(__file__).parents[2]
_START_S = 300.0  # on a busy machine
_OBJECT_STORE_BYTES = 80_000_000


class RayCluster:
    """A cluster with a dashboard and token authentication; `address` is for drivers, `dashboard` for job clients."""

    def __init__(self, folder: Path, cpus: int = 2, gpus: int = 0, scales_to: int = 0, auth: str = "token"):
        """With `cpus` and `gpus` on the head, which Ray takes on faith; its autoscaler adds up to `scales_to` nodes of
        one core where there is need.
        """
        self.token = folder / "ray-token"
        self.token.write_text(_own_token())
        self.token.chmod(0o600)
        self.env = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "MLFLOW_"))},
            "RAY_AUTH_MODE": auth,
            "RAY_AUTH_TOKEN_PATH": str(self.token),
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "PYTHONPATH": str(ROOT),
            # a node's and a job's `ray` and `python` are these tests' own, on whatever PATH they were begun
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)]),
        }
        self._cpus, self._gpus, self._port, self._dashboard_port = cpus, gpus, free_port(), free_port()
        # with an autoscaler, Ray takes the host's own address, whatever is said
        host = ray.util.get_node_ip_address() if scales_to else "127.0.0.1"
        self.address = f"{host}:{self._port}"
        self._scaling = folder / "autoscaling.json" if scales_to else None
        if self._scaling:
            self._scaling.write_text(json.dumps(_autoscaling(scales_to, self.address)))
            self.env |= {"RAY_FAKE_CLUSTER": "1", "AUTOSCALER_UPDATE_INTERVAL_S": "1"}
        self.dashboard = f"http://127.0.0.1:{self._dashboard_port}"
        self.logs = Path(tempfile.mkdtemp(prefix="ppodd-ray-", dir="/tmp"))  # sockets need a short path
        self._nodes: list[subprocess.Popen[Any]] = []
        self._begun = 0

    def __enter__(self) -> RayCluster:
        try:
            head = ["--head", f"--port={self._port}", "--include-dashboard=true", "--dashboard-host=127.0.0.1"]
            client = f"--ray-client-server-port={free_port()}"
            head += [f"--autoscaling-config={self._scaling}"] if self._scaling else []
            self._start([*head, f"--dashboard-port={self._dashboard_port}", client], self._cpus, self._gpus)
            self._wait(self._serves_jobs, "the dashboard")
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()

    @property
    def head(self) -> subprocess.Popen[Any]:
        """The process that began the head's own."""
        return self._nodes[0]

    def add_node(self, cpus: int = 1) -> subprocess.Popen[Any]:
        """A raylet of its own; returns when it is part of the cluster."""
        before = self._alive()
        node = self._start([f"--address={self.address}"], cpus)
        self._wait(lambda: self._alive() > before, "the new node")
        return node

    def kill(self, node: subprocess.Popen[Any]) -> None:
        """SIGKILL a node: its raylet and every worker on it."""
        end_session(node)
        self._nodes.remove(node)

    def stop(self) -> None:
        for node in reversed(list(self._nodes)):
            self.kill(node)
        shutil.rmtree(self.logs, ignore_errors=True)

    def _start(self, arguments: list[str], cpus: int, gpus: int = 0) -> subprocess.Popen[Any]:
        # a folder of its own: nodes of one host would clear away each other's working directories
        self._begun += 1
        folder = self.logs / f"n{self._begun}"
        command = [
            str(Path(sys.executable).with_name("ray")), "start", "--block", "--node-ip-address=127.0.0.1",
            f"--num-cpus={cpus}", f"--num-gpus={gpus}",
            f"--object-store-memory={_OBJECT_STORE_BYTES}", f"--temp-dir={folder}", "--include-log-monitor=false",
            f"--dashboard-agent-listen-port={free_port()}", *arguments,
        ]  # fmt: skip
        with open(f"{folder}.log", "wb") as log:
            node = subprocess.Popen(command, env=self.env, stdout=log, stderr=log, start_new_session=True)
        self._nodes.append(node)
        return node

    def _wait(self, there: Any, what: str) -> None:
        end = time.monotonic() + _START_S
        while not there():
            said = "".join(path.read_text() for path in self.logs.glob("*.log"))
            assert all(node.poll() is None for node in self._nodes), said
            assert time.monotonic() < end, f"{what} did not come up in {_START_S:g} s: {said}"
            time.sleep(0.1)

    def _alive(self) -> int:
        rows = self.get("/api/v0/nodes?filter_keys=state&filter_predicates=%3D&filter_values=ALIVE")
        return rows.count('"node_id"')

    def _serves_jobs(self) -> bool:
        with contextlib.suppress(OSError):
            return self.get("/api/jobs/") == "[]" and self._alive() == 1
        return False

    def get(self, path: str) -> str:
        """What the dashboard answers to an authenticated GET."""
        header = {"Authorization": f"Bearer {self.token.read_text()}"}
        with urllib.request.urlopen(urllib.request.Request(self.dashboard + path, headers=header), timeout=10) as said:
            return said.read().decode()


def _autoscaling(nodes: int, gcs_address: str) -> dict[str, Any]:
    """A cluster of Ray's own provider for tests, whose nodes are raylets on this host."""
    return {
        "cluster_name": "scaling",
        "max_workers": nodes,
        "idle_timeout_minutes": 0.1,
        "upscaling_speed": 1.0,
        "provider": {"type": "fake_multinode", "gcs_address": gcs_address},
        "available_node_types": {
            "ray.head.default": {"resources": {}, "node_config": {}, "max_workers": 0},
            "worker": {"resources": {"CPU": 1}, "node_config": {}, "min_workers": 0, "max_workers": nodes},
        },
        "head_node_type": "ray.head.default",
        "file_mounts": {},
        "cluster_synced_files": [],
        "auth": {},
        **{f"{name}_commands": [] for name in ("worker_setup", "worker_start_ray")},
    }


def _own_token() -> str:
    """What `cluster` made for this process, or found."""
    if token := os.environ.get("RAY_AUTH_TOKEN"):
        return token
    return Path(os.environ.get("RAY_AUTH_TOKEN_PATH", "~/.ray/auth_token")).expanduser().read_text().strip()


def end_session(leader: subprocess.Popen[Any]) -> None:
    """SIGKILL everything in the session that a process began: workers have process groups of their own there."""
    while members := _session(leader.pid):
        for pid in members:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        leader.poll()
        time.sleep(0.02)
    leader.wait()


def _session(leader: int) -> list[int]:
    """Living processes of the session that `leader` began."""
    found = []
    for pid in (int(name) for name in os.listdir("/proc") if name.isdecimal()):
        with contextlib.suppress(ProcessLookupError, FileNotFoundError):
            if os.getsid(pid) == leader and Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z":
                found.append(pid)
    return found


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
