"""What a sweep file may say, as data: its sections and keys. Light: needs neither torch nor Ray."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

import pydantic
from pydantic import Field

from ppodd.config import check_name, switch

_SOME = 0.001  # of a GPU's model, as Ray asks for it: a node that has it has 1

_LEAST = 0.0001  # of a resource but memory, below which Ray reserves nothing


def _none_or_some(share: float) -> float:
    if 0 < share < _LEAST:
        raise ValueError(f"the least that Ray reserves is {_LEAST}: write that or more")
    return share


Share = Annotated[float, Field(ge=0, allow_inf_nan=False), pydantic.AfterValidator(_none_or_some)]
Amount = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Piece = Annotated[Amount, pydantic.AfterValidator(_none_or_some)]


class _Section(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(frozen=True, extra="forbid")


class Resources(_Section):
    """What a trial or an evaluator reserves; may be fractions of a CPU; of a GPU at most one, on which it computes."""

    cpus: Share = 1
    gpus: Share = 0

    @pydantic.field_validator("gpus")
    @classmethod
    def _one_gpu(cls, gpus: float) -> float:
        if gpus > 1:
            raise ValueError(
                "a trial or an evaluator computes on one GPU: write 1 or a fraction, and have more of them at once"
            )
        return gpus

    @property
    def others(self) -> dict[str, float]:
        """What is reserved beside cores and GPUs, by Ray's names."""
        return {}


def _company(value: Any) -> Any:
    value = switch(value)
    if value in ("auto", "off") or (isinstance(value, int) and value >= 2):
        return value
    raise ValueError("accepted are auto, off, or so many trials, 2 or more")


class TrialResources(Resources):
    """What a trial reserves, and how it shares that and bears the want of memory.

    Attributes:
        memory_gib: of the node's memory, for each trial.
        accelerator_type: the GPU's model, as Ray names it: A100, H100, T4, …
        custom: amounts of resources that the cluster's nodes were started with (`ray start --resources`).
        on_out_of_memory: whether a trial continues with half the `real_chunk` then.
        lockstep: how many trials of one shape share a process: as many as are known to pay, so many, or one.
    """

    memory_gib: Amount | None = None
    accelerator_type: Annotated[str, Field(pattern=r"^[\w-]+$")] | None = None
    custom: dict[Annotated[str, Field(pattern=r"^\S+$")], Piece] = {}
    on_out_of_memory: Literal["fail", "halve_chunk"] = "fail"
    lockstep: Annotated[Literal["auto", "off"] | int, pydantic.BeforeValidator(_company)] = "auto"

    @pydantic.model_validator(mode="after")
    def _what_ray_names_otherwise(self) -> TrialResources:
        if self.accelerator_type and not self.gpus:
            raise ValueError(f"accelerator_type {self.accelerator_type} is a GPU's: write gpus too, 1 or a fraction")
        if own := {"CPU", "GPU", "memory", "object_store_memory"} & set(self.custom):
            raise ValueError(f"custom {min(own)} is Ray's own: write cpus, gpus or memory_gib")
        return self

    @property
    def others(self) -> dict[str, float]:
        """What is reserved beside cores and GPUs, by Ray's names."""
        memory = {"memory": self.memory_gib * 2**30} if self.memory_gib else {}
        model = {f"accelerator_type:{self.accelerator_type}": _SOME} if self.accelerator_type else {}
        return {**memory, **model, **self.custom}


class Evaluators(Resources):
    """The pool: at most how many evaluators, what each reserves, after how long without work one gives that back.

    One of 0 CPUs takes what trials leave of the cores.
    """

    count: Annotated[int, Field(ge=1)] = 1
    idle_s: Amount = 120


def _listed(value: Any) -> Any:
    return [value] if isinstance(value, dict) else value


class When(_Section):
    """What is varied only where each field of `if` has that value (or one of a list)."""

    condition: Annotated[dict[str, Any], Field(min_length=1, alias="if")]
    grid: dict[str, Annotated[list[Any], Field(min_length=1)]] = {}
    sample: dict[str, dict[str, Any]] = {}

    @pydantic.model_validator(mode="after")
    def _varies(self) -> When:
        if not self.grid and not self.sample:
            raise ValueError("name what varies there: grid or sample")
        return self


class Search(_Section):
    """Who suggests the `num_samples` settings that are tried, out of `sample`, from the results of earlier ones."""

    algorithm: Literal["optuna", "hyperopt"] = "optuna"
    seed: Annotated[int, Field(ge=0)] = 0


class Scheduler(_Section):
    """Which trials are stopped before their last stage.

    Attributes:
        kind: `asha` keeps the best 1 in `reduction_factor` at each rung, rungs lying `reduction_factor` times further
            each; `median` stops what is worse than the median of at least `min_trials` others.
        grace_stages: stages that every trial finishes.
        compare_at: the progress at which trials are compared: equal epochs, or equal (counted) compute.
    """

    kind: Literal["asha", "median"] = "asha"
    grace_stages: Annotated[int, Field(ge=1)] = 1
    reduction_factor: Annotated[float, Field(gt=1)] = 2
    min_trials: Annotated[int, Field(ge=1)] = 3
    compare_at: Literal["epochs", "compute"] = "epochs"


class Limits(_Section):
    """How long may be computed, counted over all runs: then a checkpoint is archived, and `--resume` with more goes on.

    Attributes:
        trial_hours: of each trial.
        sweep_hours: of the sweep by the clock, as long as a driver runs it.
    """

    trial_hours: Amount | None = None
    sweep_hours: Amount | None = None


class SweepFile(_Section):
    """What a sweep file may say. `config`, `grid`, `sample` and `when` name fields of the distillation's config."""

    listed: ClassVar[str] = "docs/sweeps.md"

    name: Annotated[str, pydantic.AfterValidator(check_name)]
    description: str = ""
    preset: str = "digits"
    config: dict[str, Any] = {}
    grid: dict[str, Annotated[list[Any], Field(min_length=1)]] = {}
    sample: dict[str, dict[str, Any]] = {}
    when: list[When] = []
    num_samples: Annotated[int, Field(ge=1)] = 1
    seeds: Annotated[tuple[Annotated[int, Field(ge=0)], ...], Field(min_length=1)] = (0,)
    objective: Literal["stage_accuracy", "meta_loss"] = "stage_accuracy"
    search: Search | None = None
    scheduler: Scheduler | None = None
    resources: TrialResources = TrialResources()
    limits: Limits = Limits()
    evaluation: Annotated[list[dict[str, Any]], pydantic.BeforeValidator(_listed), Field(min_length=1)] = [{}]
    evaluators: Evaluators = Evaluators()
    max_concurrent: Annotated[int, Field(ge=1)] | None = None
    stage_accuracy: Literal["trial", "evaluators"] = "trial"

    @property
    def mode(self) -> Literal["min", "max"]:
        """Which end of the objective is the better one."""
        return "max" if self.objective == "stage_accuracy" else "min"


NESTED: dict[str, type[_Section]] = {
    "when": When,
    "search": Search,
    "scheduler": Scheduler,
    "resources": TrialResources,
    "limits": Limits,
    "evaluators": Evaluators,
}
