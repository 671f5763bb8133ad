"""Ray, set up in one place: namespace, authentication, quiet logs, threads."""

from __future__ import annotations

import contextlib
import logging
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from typing import Any

from cluster.environment import prepare
from cluster.service.ray_start import check_address, ray_folder, reach
from ppodd import signals
from ppodd.errors import BadInput, PpoddError
from ppodd.machine import cores, memory_bytes

NAMESPACE = "ppodd"
COORDINATOR = "coordinator"
_OBJECT_STORE_BYTES = 200_000_000  # paths and small records travel, not data
_JOIN_S = 60.0
_ALONE = "leave --ray-address out to run on this machine"


def connect(address: str | None = None, cpus: int | None = None, otherwise: str = _ALONE) -> bool:
    """Join the cluster at `address`, or start one in this process; whether it lives in this process.

    `otherwise` is what else to do, in words, where none can be joined.

    Raises:
        BadInput: no cluster answers at `address`, or it is none.
    """
    with signals.kept():
        return _connect(address, cpus, otherwise)


def _connect(address: str | None, cpus: int | None, otherwise: str) -> bool:
    own_token = prepare()
    import ray

    if ray.is_initialized():
        return address is None
    options: dict[str, Any] = {"namespace": NAMESPACE, "log_to_driver": False, "logging_level": logging.ERROR}
    options["runtime_env"] = {"worker_process_setup_hook": _worker_setup()}
    if address is None:
        from cluster.service.ray_internals import init_alone

        options |= {"num_cpus": cpus or cores(), "include_dashboard": False}
        options["object_store_memory"] = _OBJECT_STORE_BYTES
        folder = ray_folder()
        try:
            with signals.answered_alone():
                init_alone(memory_bytes() - _OBJECT_STORE_BYTES, folder, **options)
        except UnicodeEncodeError as error:  # it notes the command's line, as UTF-8
            raise BadInput(f"Ray cannot note {' '.join(sys.argv)!a}, read as ASCII here: set PYTHONUTF8=1") from error
        except Exception as error:  # bare ones, too
            raise PpoddError(
                f"Ray did not start: {_said(error).rstrip('.')}; its logs are in {folder}/session_latest/logs"
            ) from error
        return True
    check_address(address)
    try:
        reach(address)
        with _silenced():
            ray.init(address=address, **options)
    except (OSError, RuntimeError, ValueError) as error:
        raise BadInput(
            f"no Ray cluster to join at {address!r}: {_said(error)}; start one with `ray start --head`, set "
            f"RAY_AUTH_MODE alike everywhere, or {otherwise}"
        ) from None
    if own_token and _takes_anyone(address):  # its calls to this process would be refused
        ray.shutdown()
        raise BadInput(
            f"the Ray cluster at {address!r} runs without a token: anyone who reaches it can run code there; start it "
            f"with RAY_AUTH_MODE=token and one (`ray get-auth-token --generate`), or set RAY_AUTH_MODE=disabled here"
        )
    return False


def _worker_setup() -> Callable[[], None]:
    """What every worker of this process does first: take up ppodd's own packages, and what was shipped with a job.

    It travels by value, being local to a function: found by its name it would import `cluster`, whichever there is.
    """

    def set_up() -> None:
        import contextlib

        with contextlib.suppress(Exception):  # Ray would start such a worker again for ever; `check_archive` says why
            from ppodd.own_packages import claim

            claim()
            from cluster.environment import take_shipped

            take_shipped()

    return set_up


def _takes_anyone(address: str) -> bool:
    """Whether a process without a token may join the cluster."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_AUTH")}
    join = f"import ray; ray.init(address={address!r}, log_to_driver=False)"
    with contextlib.suppress(subprocess.TimeoutExpired):
        command = [sys.executable, "-c", join]
        joined = subprocess.run(
            command, env={**environment, "RAY_AUTH_MODE": "disabled"}, capture_output=True, timeout=_JOIN_S
        )
        return joined.returncode == 0
    return False


@contextlib.contextmanager
def _silenced() -> Iterator[None]:
    """Without the lines that Ray's C++ writes to standard error, one for each attempt, where its error says it all."""
    kept = os.dup(2)
    with tempfile.TemporaryFile() as said:
        os.dup2(said.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)
        said.seek(0)
        sys.stderr.write(said.read().decode(errors="replace"))  # it joined: what was said meanwhile may matter


def _said(error: Exception) -> str:
    """What Ray's error says: its first line, but for unequal versions, which it lists below; and of a token why."""
    text = str(error)
    if "ersion mismatch" in text:
        return " ".join(text.split())
    first = (text.splitlines() or [type(error).__name__])[0]
    line = first.partition(". Please specify")[0]  # which names flags of Ray's own commands
    if "InvalidAuthToken" in str(error.__cause__):
        return f"{line}: it asks for another token than is here (RAY_AUTH_TOKEN_PATH, ~/.ray/auth_token)"
    return line


def named_evaluators() -> list[str]:
    """Names of the evaluators that exist, idle or not."""
    import ray

    actors = ray.util.list_named_actors(all_namespaces=True)
    names = [actor["name"] for actor in actors if actor["namespace"] == NAMESPACE]
    return sorted(name for name in names if name.startswith("evaluator-"))


def limit_gpu_memory(gpus: float) -> None:
    """Take no more of a GPU's memory than the share of it that is reserved."""
    import torch

    if 0 < gpus < 1 and torch.cuda.is_available():
        torch.cuda.set_per_process_memory_fraction(gpus)


def yield_cores() -> None:
    """Have this thread, and those it starts, take what others leave of the cores."""
    with contextlib.suppress(OSError):
        os.nice(19)
