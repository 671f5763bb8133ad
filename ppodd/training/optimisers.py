"""The inner optimisers: one differentiable update each (RaT-BPTT, section 3). Light: needs no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from ppodd.registry import Entry, Registry

if TYPE_CHECKING:
    import torch

_BETA1, _BETA2, _EPS = 0.9, 0.999, 1e-8
_ROOT = 1e-30  # keeps the derivative of the square root finite where a parameter never had a gradient
MOMENTUM, WEIGHT_DECAY = 0.9, 5e-4


class State(NamedTuple):
    """A network in training: parameters `θ [D]`, the optimiser's moments `[D]`, and steps taken."""

    theta: torch.Tensor
    first: torch.Tensor
    second: torch.Tensor
    steps: int

    @classmethod
    def start(cls, theta: torch.Tensor) -> State:
        """Before the first step."""
        return cls(theta, theta.new_zeros(theta.shape), theta.new_zeros(theta.shape), 0)


def adam(state: State, gradient: torch.Tensor, lr: float | torch.Tensor) -> State:
    """Adam, as torch has it."""
    theta, first, second, steps = state
    steps += 1
    first = _BETA1 * first + (1 - _BETA1) * gradient
    second = _BETA2 * second + (1 - _BETA2) * gradient * gradient
    root = (second / (1 - _BETA2**steps) + _ROOT).sqrt()
    return State(theta - lr * (first / (1 - _BETA1**steps)) / (root + _EPS), first, second, steps)


def sgd(state: State, gradient: torch.Tensor, lr: float | torch.Tensor) -> State:
    """Gradient descent with momentum and weight decay, as torch has it."""
    theta, first, second, steps = state
    gradient = gradient + WEIGHT_DECAY * theta
    first = MOMENTUM * first + gradient if steps else gradient
    return State(theta - lr * first, first, second, steps + 1)


@dataclass(frozen=True)
class Optimiser(Entry):
    """An inner optimiser.

    Attributes:
        fused: a function `(parameters, lr) -> torch.optim.Optimizer` of the same update, for which an evaluation trains
            its networks as ensembles; without it, one by one.
    """

    fused: Entry | None = None


OPTIMISERS = Registry(
    "optimiser",
    Optimiser,
    "ppodd.optimisers",
    "a function (ppodd.training.State, gradient [D], learning rate) -> the State after the step, differentiable in "
    "all of them",
    {
        "Adam": Optimiser(adam, "as published", Entry("ppodd.training.ensemble_training:fused_adam")),
        "SGD": Optimiser(
            sgd, "with momentum 0.9 and weight decay 0.0005", Entry("ppodd.training.ensemble_training:fused_sgd")
        ),
    },
)
