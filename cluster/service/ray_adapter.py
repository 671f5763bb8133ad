"""What is asked of Ray: evaluators, the coordinator's place, its answers, what is lost."""

from __future__ import annotations

import contextlib
from typing import Any

import ray

from cluster.dispatch import ResourceShare, ServiceTimings
from cluster.service.ray_internals import dead_processes
from cluster.service.ray_runtime import NAMESPACE, named_evaluators
from ppodd.errors import PpoddError

_HEAD = "node:__internal_head__"  # a resource that Ray gives the head alone
_A_LITTLE = 0.001


class RayEvaluators:
    """Detached, named actors of this class, which Ray starts again when their process dies."""

    def __init__(self, evaluator: type):
        self._actor: Any = ray.remote(max_restarts=-1)(evaluator)

    def start(self, name: str, share: ResourceShare) -> None:
        """See `EvaluatorProcesses`; one of this name that is there stays."""
        options = {"name": name, "num_cpus": share.cpus, "num_gpus": share.gpus}
        actor = self._actor.options(namespace=NAMESPACE, lifetime="detached", get_if_exists=True, **options)
        actor.remote(name, *share)

    def stop(self, name: str) -> None:
        """See `EvaluatorProcesses`."""
        kill(name)

    def names(self) -> list[str]:
        """See `EvaluatorProcesses`."""
        return named_evaluators()

    def living_nodes(self) -> set[str]:
        """See `EvaluatorProcesses`."""
        return {node["NodeID"] for node in ray.nodes() if node["Alive"]}


def kill(name: str) -> None:
    """End an actor of ours for good, if it is there."""
    with contextlib.suppress(ValueError):
        ray.kill(ray.get_actor(name, NAMESPACE), no_restart=True)


def on_the_head() -> dict[str, Any]:
    """Options of an actor that stays on the cluster's head: losing any other node cannot take it.

    An affinity to the node would not do: Ray does not keep it for an actor that reserves nothing. So the actor reserves
    a little of a resource that only the head has; where none has it, it may run anywhere.
    """
    heads = [node for node in ray.nodes() if node["Alive"] and _HEAD in node["Resources"]]
    return {"resources": {_HEAD: _A_LITTLE}} if heads else {}


def answer(reference: Any, limit_s: float | None = None) -> Any:
    """What an actor answers. Raises `PpoddError` where it has not in `limit_s` seconds (default: `answer_s`)."""
    limit_s = ServiceTimings().answer_s if limit_s is None else limit_s
    try:
        return ray.get(reference, timeout=limit_s)
    except ray.exceptions.GetTimeoutError:
        raise PpoddError(
            f"the coordinator of the evaluators has not answered for {limit_s:g} s: `ray status` shows whether the "
            f"cluster has room for it; what is archived stays, and the same command goes on from there"
        ) from None


def lost_part() -> str:
    """Which part of Ray this process has lost, in words; empty while all are there. It hangs where the GCS does."""
    if dead := dead_processes():
        return f"{' and '.join(dead)} ended"
    mine = ray.get_runtime_context().get_node_id()
    alive = {node["NodeID"] for node in ray.nodes() if node["Alive"]}
    return "" if mine in alive else "the node that this process has joined is gone"
