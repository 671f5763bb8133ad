"""Where trials and evaluators find place on a cluster: what could never run is refused, what would starve is said."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from cluster.dispatch import Pool
from ppodd.errors import BadInput
from tune.sweep_file import Resources, SweepFile

_ROUNDING = 1e-6


@dataclass
class Node:
    """What a node still has: its cores, the free share of each of its GPUs, and all else by Ray's names."""

    cpus: float
    gpus: list[float] = field(default_factory=list)
    others: dict[str, float] = field(default_factory=dict)

    def take(self, wanted: Resources) -> bool:
        """Reserve it, as Ray does: the share of a GPU on one of them. Whether there was room."""
        device = next((i for i, free in enumerate(self.gpus) if free >= wanted.gpus - _ROUNDING), None)
        if self.cpus < wanted.cpus - _ROUNDING or (wanted.gpus and device is None):
            return False
        if any(self.others.get(name, 0) < amount for name, amount in wanted.others.items()):
            return False
        self.others = {name: amount - wanted.others.get(name, 0) for name, amount in self.others.items()}
        self.cpus -= wanted.cpus
        if device is not None:
            self.gpus[device] -= wanted.gpus
        return True


@dataclass(frozen=True)
class Placement:
    """How a sweep is placed: its pool, whether that is there before the trials, trials at once (`None`: no limit)."""

    pool: Pool
    beside: bool
    at_once: int | None
    notice: str = ""


def placement(file: SweepFile, nodes: Sequence[Node], autoscaling: bool = False) -> Placement:
    """Place evaluators, then as many trials as there is room for beside them.

    Where not even one trial fits beside the evaluators, they reserve no cores, or wait until trials leave GPUs. An
    `autoscaling` cluster adds nodes for what is asked of it: what those that live have says nothing of it.

    Raises:
        BadInput: no node has what one trial or one evaluator asks for.
    """
    trial, evaluator = file.resources, file.evaluators
    pool = Pool(evaluator.count, evaluator.cpus, evaluator.gpus, evaluator.idle_s)
    if autoscaling:
        return Placement(pool, True, None)
    require_place("resources: a trial", trial, nodes)
    require_place("evaluators: one", evaluator, nodes)
    left = _copy(nodes)
    beside = all(_take(left, evaluator) for _ in range(evaluator.count))
    at_once = _how_many(left, trial)
    if beside and at_once != 0:
        return Placement(pool, True, at_once)
    if evaluator.gpus:
        return Placement(
            pool,
            False,
            None,
            f"evaluators: {evaluator.count} × {evaluator.gpus:g} GPU do not fit beside a trial's {trial.gpus:g}: "
            f"they wait until trials leave some (lower evaluators.gpus or resources.gpus to run both at once)",
        )
    return Placement(
        replace(pool, cpus=0),
        True,
        _how_many(_copy(nodes), trial),
        f"evaluators: {evaluator.count} × {evaluator.cpus:g} CPU do not fit beside a trial's {trial.cpus:g}: "
        f"they reserve none and take what trials leave",
    )


def nodes() -> list[Node]:
    """The living nodes of the cluster that this process has joined, as if nothing ran on them."""
    import ray

    alive = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    return [Node(there.get("CPU", 0.0), [1.0] * int(there.get("GPU", 0)), dict(there)) for there in alive]


def require_place(
    who: str,
    wanted: Resources,
    nodes: Sequence[Node],
    otherwise: str = "say --autoscaling where nodes are to come",
) -> None:
    """Raise `BadInput` where no node could ever give `wanted`: lower it, or do what `otherwise` says."""
    if any(node.take(wanted) for node in _copy(nodes)):
        return
    raise BadInput(
        f"{who} asks for {_said(wanted)}, which no node of the cluster has ({_offered(nodes, wanted)}): "
        f"ask for less, or {otherwise}"
    )


def starving(wanted: Resources) -> str:
    """What is said while no trial finds a place."""
    return (
        f"no trial has found a place yet: each asks for {_said(wanted)}, the cluster has {_offered(nodes(), wanted)}; "
        f"others may hold it, or its autoscaler is still to add it: `ray status` on the head says if it cannot"
    )


def _said(wanted: Resources) -> str:
    return f"{wanted.cpus:g} CPU and {wanted.gpus:g} GPU{_listed(wanted.others)}"


def _listed(amounts: Mapping[str, float]) -> str:
    """Resources beside cores and GPUs, in words."""
    return "".join(f" and {_amount(name, amount)}" for name, amount in sorted(amounts.items()))


def _amount(name: str, amount: float) -> str:
    if name == "memory":
        return f"{amount / 2**30:.3g} GiB of memory"
    kind, _, model = name.partition("accelerator_type:")
    return f"GPU model {model}" if model else f"{amount:g} {kind}"


def _offered(nodes: Sequence[Node], wanted: Resources) -> str:
    """What the nodes have: of resources beside cores and GPUs what is wanted, and every model where one is."""
    kind = {name.partition(":")[0] for name in wanted.others}

    def others(node: Node) -> str:
        return _listed({name: amount for name, amount in node.others.items() if name.partition(":")[0] in kind})

    kinds = ", ".join(
        sorted({f"{node.cpus:g} CPU and {len(node.gpus)} GPU{others(node)}" for node in nodes}, reverse=True)
    )
    return f"{len(nodes)} nodes, of {kinds or 'nothing'}"


def _copy(nodes: Sequence[Node]) -> list[Node]:
    return [Node(node.cpus, list(node.gpus), dict(node.others)) for node in nodes]


def _take(nodes: list[Node], wanted: Any) -> bool:
    return any(node.take(wanted) for node in nodes)


def _how_many(nodes: list[Node], trial: Resources) -> int | None:
    """Trials that there is room for; `None` where they reserve nothing."""
    if not trial.cpus and not trial.gpus and not trial.others:
        return None
    count = 0
    while _take(nodes, trial):
        count += 1
    return count
