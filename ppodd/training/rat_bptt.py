"""The meta-gradient: how the loss on real images, after a window of inner steps, changes with posters and labels.

Truncated back-propagation through time (RaT-BPTT, arXiv 2311.07025, section 3): the steps before the window are
constants, the window is differentiated exactly. This is the only way in: `meta_gradient` below, with two engines.

`recomputed` keeps no graph beyond one step. The window runs forward; then, from its last step to its first, the
cotangent `(θ̄, m̄, v̄)` of the state after a step is pulled back through the optimiser's update to the state before it and
to the gradient, `ḡ`; and through the gradient by its products with second derivatives in the direction `ḡ`, which
are the step's share of the meta-gradient and of `θ̄`. Each step's gradient is kept, and the state of every `_KEEP`th
step: the states between are recomputed from the gradients by the update alone, bit for bit. So a step costs one copy of
`θ`, and little more.

`unrolled` keeps every step's graph and differentiates them as a whole. It is the reference that tests compare with.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, cast

import torch
import torch.nn.functional as F

from ppodd.machine import GlobalRandomness
from ppodd.training.convnet_derivatives import derivatives_of
from ppodd.training.derivatives import AutogradDerivatives, Derivatives
from ppodd.training.inner_loop import AnyDraw, Draw, InnerLoop, Posters
from ppodd.training.networks import Network
from ppodd.training.optimisers import OPTIMISERS, State
from ppodd.training.precision import FLOAT32, FULL, Precision, convolutions_in

Learned = dict[str, torch.Tensor]

_KEEP = 16  # steps from one kept state to the next


@dataclass(frozen=True)
class Problem:
    """What is differentiated.

    Attributes:
        posters: posters and labels as a function of what is learned.
        lr: the inner learning rate as a function of what is learned.
        networks: how many networks like `network` there are at once, each with its own posters, draws, real images and
            rate: all of these, and the state, then have a leading axis `E`, rates are `[E, 1]`. Only `recomputed`.
        precision: of convolutions; those of plain steps are none of its business.
    """

    inner: InnerLoop
    network: Network
    posters: Callable[[Learned], Posters]
    lr: Callable[[Learned], float | torch.Tensor]
    networks: int = 1
    precision: Precision = FULL


class _Inputs(NamedTuple):
    """What the window's steps are functions of, beside the state before them."""

    images: torch.Tensor  # [T, C, H, W]
    labels: torch.Tensor  # [T, P, K]
    lr: torch.Tensor  # scalar


def meta_gradient(
    problem: Problem,
    learned: Learned,
    state: State,
    window: Sequence[AnyDraw],
    real: tuple[torch.Tensor, torch.Tensor],
    chunk: int = 512,
    engine: str = "recomputed",
    offload: bool = False,
) -> tuple[torch.Tensor, Learned]:
    """Loss on real images after `window` steps from `state`, and its gradient to everything `learned`.

    Args:
        state: the network before the window; constant.
        real: images `[N, C, h, w]` and labels `[N]`.
        chunk: real images that the network is differentiated at together.
        offload: keep the gradients of a recomputed window in host memory: `len(window)` × the parameters.

    Returns:
        The mean loss (a scalar tensor, or `[E]`, not yet read by the host) and one gradient for each entry of
        `learned`.
    """
    leaves = {name: tensor.detach().requires_grad_() for name, tensor in learned.items()}
    with torch.enable_grad():
        lr = problem.lr(leaves)
        # filled in on the device: a copy of the number would wait for the plain steps
        inputs = _Inputs(*problem.posters(leaves), lr if torch.is_tensor(lr) else state.theta.new_full((), lr))
    with convolutions_in(problem.precision.window, state.theta.device):
        if engine == "unrolled":
            loss, cotangents = _unrolled(problem, inputs, state, cast("Sequence[Draw]", window), real, chunk)
        else:
            loss, cotangents = _recomputed(problem, inputs, state, window, real, chunk, offload)
    pairs = [(t, c) for t, c in zip(inputs, cotangents, strict=True) if t.requires_grad]
    gradients = torch.autograd.grad(
        [t for t, _ in pairs], list(leaves.values()), [c for _, c in pairs], materialize_grads=True
    )
    return loss, dict(zip(leaves, gradients, strict=True))


def real_loss(
    network: Network,
    theta: torch.Tensor,
    real: tuple[torch.Tensor, torch.Tensor],
    chunk: int,
    precision: str = FLOAT32,
    derivatives: Derivatives | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean cross-entropy on real images and its gradient to `θ`, in chunks so that memory does not grow with them."""
    images, labels = real
    derivatives = derivatives or derivatives_of(network, images.shape, precision=precision)
    loss, gradient = theta.new_zeros(()), torch.zeros_like(theta)
    with convolutions_in(precision, theta.device):
        for x, y in zip(images.split(chunk), labels.split(chunk), strict=True):
            part, slope = derivatives.gradient(theta, x, F.one_hot(y, network.classes).to(x.dtype))
            loss += part * (len(x) / len(images))
            gradient += slope * (len(x) / len(images))
    return loss, gradient


def _real_losses(
    problem: Problem, theta: torch.Tensor, real: tuple[torch.Tensor, torch.Tensor], chunk: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """`real_loss` of every network; one after another, for so many images leave nothing to gain by doing it at once."""
    network, precision = problem.network, problem.precision.real
    if theta.dim() == 1:
        return real_loss(network, theta, real, chunk, precision)
    each = [real_loss(network, t, (x, y), chunk, precision) for t, x, y in zip(theta, *real, strict=True)]
    losses, gradients = zip(*each, strict=True)
    return torch.stack(losses), torch.stack(gradients)


# Recomputed


@torch.no_grad()
def _recomputed(
    problem: Problem,
    inputs: _Inputs,
    state: State,
    window: Sequence[AnyDraw],
    real: tuple[torch.Tensor, torch.Tensor],
    chunk: int,
    offload: bool,
) -> tuple[torch.Tensor, _Inputs]:
    inner, posters = problem.inner, Posters(inputs.images.detach(), inputs.labels.detach())
    lr, device = inputs.lr.detach(), state.theta.device
    derivatives = derivatives_of(problem.network, real[0].shape, problem.networks, problem.precision.window)
    kept: list[State] = []
    # in one block, so as not to riddle the heap; pinned, so that copies to and from the device need no waiting
    kept_on, pinned = torch.device("cpu") if offload else device, offload and device.type == "cuda"
    size = (len(window), *state.theta.shape)
    gradients = torch.empty(size, dtype=state.theta.dtype, device=kept_on, pin_memory=pinned)
    randomness: list[GlobalRandomness] = []  # a user's network may have dropout
    for i, draw in enumerate(window):
        if i % _KEEP == 0:
            kept.append(state)
        randomness.append(GlobalRandomness.now(state.theta.device))
        images, labels = inner.batch_of(posters, draw)
        gradient = derivatives.gradient(state.theta, images, labels)[1]
        gradients[i].copy_(gradient, non_blocking=True)
        state = inner.update(state, gradient, draw.lr_factor * lr)
    loss, theta_bar = _real_losses(problem, state.theta, real, chunk)

    total = _Inputs(*(torch.zeros_like(t) for t in inputs))
    bar = State(theta_bar, torch.zeros_like(theta_bar), torch.zeros_like(theta_bar), state.steps)
    end = len(window)
    while kept:
        first = (len(kept) - 1) * _KEEP
        states = [kept.pop()]
        for i in range(first, end - 1):
            states.append(
                inner.update(states[-1], gradients[i].to(device, non_blocking=True), window[i].lr_factor * lr)
            )
        for i in reversed(range(first, end)):
            before, draw = states.pop(), window[i]
            bar, g_bar, lr_bar = _pull_back_update(
                inner, before, gradients[i].to(device, non_blocking=True), draw.lr_factor, lr, bar
            )
            with randomness[i].replayed():
                theta_bar = _pull_back_gradient(derivatives, inner, before.theta, posters, draw, g_bar, total)
            bar = bar._replace(theta=bar.theta + theta_bar)
            total.lr.add_(lr_bar)
        end = first
    return loss, total


def _pull_back_update(
    inner: InnerLoop,
    before: State,
    gradient: torch.Tensor,
    lr_factor: float | torch.Tensor,
    lr: torch.Tensor,
    bar: State,
) -> tuple[State, torch.Tensor, torch.Tensor]:
    """The cotangent of the state after an update, pulled back to the state before it, the gradient and the rate."""
    closed = OPTIMISERS.get(inner.optim).cotangents
    if closed:
        before_bar, g_bar, lr_bar = closed(before, gradient, lr_factor * lr, bar)
        return before_bar, g_bar, lr_factor * lr_bar
    leaves = [t.detach().requires_grad_() for t in (before.theta, before.first, before.second, gradient, lr)]
    theta, first, second, gradient, lr = leaves
    with torch.enable_grad():
        after = inner.update(State(theta, first, second, before.steps), gradient, lr_factor * lr)
    theta, first, second, g_bar, lr_bar = torch.autograd.grad(after[:3], leaves, bar[:3], materialize_grads=True)
    return State(theta, first, second, before.steps), g_bar, lr_bar


def _pull_back_gradient(
    derivatives: Derivatives,
    inner: InnerLoop,
    theta: torch.Tensor,
    posters: Posters,
    draw: AnyDraw,
    g_bar: torch.Tensor,
    total: _Inputs,
) -> torch.Tensor:
    """The cotangent of a step's gradient, pulled back to `θ` (returned), posters and labels (added to `total`)."""
    leaf = posters.images.detach().requires_grad_()
    with torch.enable_grad():
        images, labels = inner.batch_of(Posters(leaf, posters.labels), draw)
    products = derivatives.products(theta, images.detach(), labels, g_bar)
    total.images.add_(torch.autograd.grad(images, leaf, products.images)[0])
    total.labels.flatten(0, -2).index_add_(0, draw.picks, products.labels.flatten(0, -2))
    return products.theta


# Unrolled


def _unrolled(
    problem: Problem,
    inputs: _Inputs,
    state: State,
    window: Sequence[Draw],
    real: tuple[torch.Tensor, torch.Tensor],
    chunk: int,
) -> tuple[torch.Tensor, _Inputs]:
    inner, network = problem.inner, problem.network
    leaves = _Inputs(*(t.detach().requires_grad_() for t in inputs))
    # θ is a leaf, so that the first step has something to differentiate by
    end = State(state.theta.detach().requires_grad_(), *state[1:])
    with torch.enable_grad():
        for draw in window:
            step_loss = inner.loss(network, end.theta, Posters(leaves.images, leaves.labels), draw)
            (gradient,) = torch.autograd.grad(step_loss, end.theta, create_graph=True)
            end = inner.update(end, gradient, draw.lr_factor * leaves.lr)
    autograd, precision = AutogradDerivatives(network), problem.precision.real
    loss, theta_bar = real_loss(network, end.theta.detach(), real, chunk, precision, autograd)
    return loss, _Inputs(*torch.autograd.grad(end.theta, leaves, theta_bar, materialize_grads=True))
