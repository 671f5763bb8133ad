"""The inner optimisers: one differentiable update each (RaT-BPTT, section 3). Light: needs no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from ppodd.registry import Entry, Registry

if TYPE_CHECKING:
    import torch

    from ppodd.training import compiled

_BETA1, _BETA2, _EPS = 0.9, 0.999, 1e-8
_ROOT = 1e-30  # keeps the derivative of the square root finite where a parameter never had a gradient
MOMENTUM, WEIGHT_DECAY = 0.9, 5e-4


class State(NamedTuple):
    """A network in training: parameters `θ [D]`, the optimiser's moments `[D]`, and steps taken.

    Of several networks `[E, D]`, and the steps of each `[E, 1]` in float64.
    """

    theta: torch.Tensor
    first: torch.Tensor
    second: torch.Tensor
    steps: int | torch.Tensor

    @classmethod
    def start(cls, theta: torch.Tensor) -> State:
        """Before the first step."""
        return cls(theta, theta.new_zeros(theta.shape), theta.new_zeros(theta.shape), 0)


def updated(optim: str, state: State, gradient: torch.Tensor, lr: float | torch.Tensor) -> State:
    """An optimiser's step, by its name.

    Raises:
        BadInput: it is a user's own, and returns no state.
    """
    after = OPTIMISERS.get(optim)(state, gradient, lr)
    if not isinstance(after, State):
        raise OPTIMISERS.returned(optim, after)
    return after


def adam(state: State, gradient: torch.Tensor, lr: float | torch.Tensor) -> State:
    """Adam, as torch has it."""
    if fused := _Fused.of(state, gradient, lr):
        return fused.step()
    first, second, root, steps = _adam_moments(state, gradient)
    theta = state.theta.addcdiv(first * (lr / _bias(_BETA1, steps, first)), root + _EPS, value=-1)
    return State(theta, first, second, steps)


def adam_cotangents(
    state: State, gradient: torch.Tensor, lr: torch.Tensor, bar: State
) -> tuple[State, torch.Tensor, torch.Tensor]:
    """Those of `adam`: see `Optimiser`. A bar over a name is its cotangent.

    With `θ' = θ − α s`, `s = m' / (r + ε)`, `α = lr / (1 − β₁ᵗ)` and `r = √(v' / (1 − β₂ᵗ) + …)`, the cotangent of `s`
    is `−α θ̄'`.
    """
    if fused := _Fused.of(state, gradient, lr):
        return fused.cotangents(lr, bar)
    first, _, root, steps = _adam_moments(state, gradient)
    bias = _bias(_BETA1, steps, first)
    alpha, over = lr / bias, (root + _EPS).reciprocal_()
    step = first * over
    to_first = over * (bar.theta * alpha)  # of −m'
    to_second = (to_first * step).div_(root).mul_(0.5 / _bias(_BETA2, steps, root)).add_(bar.second)
    to_first = bar.first - to_first
    to_gradient = (gradient * to_second).mul_(2 * (1 - _BETA2)).add_(to_first, alpha=1 - _BETA1)
    to_lr = (bar.theta * step).sum(-1).view_as(lr) / -bias
    return State(bar.theta, _BETA1 * to_first, _BETA2 * to_second, state.steps), to_gradient, to_lr


def _adam_moments(
    state: State, gradient: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, int | torch.Tensor]:
    """Both moments after a step, the root of the second, unbiased, and the number of steps then."""
    steps = state.steps + 1
    first = state.first.lerp(gradient, 1 - _BETA1)
    second = (_BETA2 * state.second).addcmul(gradient, gradient, value=1 - _BETA2)
    return first, second, (second / _bias(_BETA2, steps, second) + _ROOT).sqrt(), steps


def _bias(beta: float, steps: int | torch.Tensor, like: torch.Tensor) -> float | torch.Tensor:
    """What a moment that began at 0 falls short by: `1 − βᵗ`, in float64 until it is done."""
    bias = 1 - beta**steps
    return bias if isinstance(bias, float) else bias.to(like.dtype)


class _Fused:
    """Adam by compiled functions, where a CPU has them and no graph is built: one pass over its numbers."""

    def __init__(self, functions: compiled.Functions, state: State, gradient: torch.Tensor, lr: float | torch.Tensor):
        from ppodd.training import compiled

        self._functions, self._state, self._like = functions, state, state.theta
        columns = self._like.shape[-1]
        self._rows = self._like.numel() // columns
        self._bias, second = self._biases(state.steps + 1)
        self._given = (
            compiled.Adam(self._rows, columns, _BETA1, _BETA2, _EPS, _ROOT),
            *(t.contiguous() for t in (state.first, state.second, gradient)),
            self._of_each(lr / self._bias),
            self._of_each(second),
        )

    def _biases(self, steps: int | torch.Tensor) -> tuple[Any, Any]:
        """`_bias` of both moments; of several networks `[E, 1]`, in as few operations as one."""
        if isinstance(steps, int):
            return _bias(_BETA1, steps, self._like), _bias(_BETA2, steps, self._like)
        both = (1 - steps.new_tensor([_BETA1, _BETA2]) ** steps).to(self._like.dtype)
        return both[:, :1], both[:, 1:]

    def _of_each(self, number: float | torch.Tensor) -> torch.Tensor:
        """Of each network its own, one after another in memory."""
        if isinstance(number, float) or number.numel() != self._rows:
            return self._like.new_ones(self._rows, 1) * number
        return number.contiguous()

    @classmethod
    def of(cls, state: State, gradient: torch.Tensor, lr: float | torch.Tensor) -> _Fused | None:
        """Where it can be."""
        import torch

        from ppodd.training import compiled

        if torch.is_grad_enabled():
            return None
        functions = compiled.functions(state.theta.dtype, state.theta.device)
        return cls(functions, state, gradient, lr) if functions else None

    def step(self) -> State:
        """The state after it."""
        theta, first, second = (self._like.new_empty(self._like.shape) for _ in range(3))
        self._functions.adam(*self._given, self._like.contiguous(), theta, first, second)
        return State(theta, first, second, self._state.steps + 1)

    def cotangents(self, lr: torch.Tensor, bar: State) -> tuple[State, torch.Tensor, torch.Tensor]:
        """See `adam_cotangents`."""
        first, second, gradient = (self._like.new_empty(self._like.shape) for _ in range(3))
        rate = self._like.new_empty(self._rows)
        bars = (t.contiguous() for t in bar[:3])
        self._functions.adam_cotangents(*self._given, *bars, first, second, gradient, rate)
        return State(bar.theta, first, second, self._state.steps), gradient, rate.view_as(lr) / -self._bias


def sgd(state: State, gradient: torch.Tensor, lr: float | torch.Tensor) -> State:
    """Gradient descent with momentum and weight decay, as torch has it."""
    theta, first, second, steps = state
    first = gradient + WEIGHT_DECAY * theta + MOMENTUM * first
    return State(theta - lr * first, first, second, steps + 1)


def sgd_cotangents(
    state: State, gradient: torch.Tensor, lr: torch.Tensor, bar: State
) -> tuple[State, torch.Tensor, torch.Tensor]:
    """Those of `sgd`: see `Optimiser`."""
    first = gradient + WEIGHT_DECAY * state.theta + MOMENTUM * state.first
    to_first = bar.first - lr * bar.theta
    to_lr = -(bar.theta * first).sum(-1).view_as(lr)
    before = State(bar.theta + WEIGHT_DECAY * to_first, MOMENTUM * to_first, bar.second, state.steps)
    return before, to_first, to_lr


@dataclass(frozen=True)
class Optimiser(Entry):
    """An inner optimiser.

    Attributes:
        fused: a function `(parameters, lr) -> torch.optim.Optimizer` of the same update, for which an evaluation trains
            its networks as ensembles; without it, one by one.
        cotangents: the update's derivative in closed form, a function `(state before, gradient, lr, cotangents of the
            state after) -> (cotangents of the state before, of the gradient, of lr)`; without it, autograd's.
    """

    fused: Entry | None = None
    cotangents: Entry | None = None


OPTIMISERS = Registry(
    "optimiser",
    Optimiser,
    "ppodd.optimisers",
    "a function (ppodd.training.State, gradient [D], learning rate) -> the State after the step, differentiable in "
    "all of them",
    {
        "Adam": Optimiser(
            adam, "as published", Entry("ppodd.training.ensemble_training:fused_adam"), Entry(adam_cotangents)
        ),
        "SGD": Optimiser(
            sgd,
            "with momentum 0.9 and weight decay 0.0005",
            Entry("ppodd.training.ensemble_training:fused_sgd"),
            Entry(sgd_cotangents),
        ),
    },
)
