"""The meta-gradient: how the loss on real images, after a window of inner steps, changes with posters and labels.

Truncated back-propagation through time (RaT-BPTT, section 3): the steps before the window are constants, the window is
differentiated exactly. This is the only way in: `meta_gradient` below.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from ppodd.inner_loop import Draw, InnerLoop, Posters, State
from ppodd.networks import Network

Learned = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Problem:
    """What is differentiated.

    Attributes:
        posters: posters and labels as a function of what is learned.
        lr: the inner learning rate as a function of what is learned.
    """

    inner: InnerLoop
    network: Network
    posters: Callable[[Learned], Posters]
    lr: Callable[[Learned], float | torch.Tensor]


def meta_gradient(
    problem: Problem,
    learned: Learned,
    state: State,
    window: Sequence[Draw],
    real: tuple[torch.Tensor, torch.Tensor],
    chunk: int = 512,
) -> tuple[torch.Tensor, Learned]:
    """Loss on real images after `window` steps from `state`, and its gradient to everything `learned`.

    Args:
        state: the network before the window; constant.
        real: images `[N, C, h, w]` and labels `[N]`.
        chunk: real images held in a graph at a time.

    Returns:
        The mean loss (a scalar tensor, not yet read by the host) and one gradient for each entry of `learned`.
    """
    learned = {name: tensor.detach().requires_grad_() for name, tensor in learned.items()}
    with torch.enable_grad():
        posters, lr = problem.posters(learned), problem.lr(learned)
        start = (
            state.theta.detach().requires_grad_()
        )  # a leaf, so that the first step has something to differentiate by
        end = State(start, state.first.detach(), state.second.detach(), state.steps)
        for draw in window:
            end = problem.inner.step(problem.network, end, posters, draw, lr, differentiable=True)
    loss, theta_gradient = real_loss(problem.network, end.theta, real, chunk)
    gradients = torch.autograd.grad(end.theta, list(learned.values()), theta_gradient)
    return loss, dict(zip(learned, gradients, strict=True))


def real_loss(
    network: Network, theta: torch.Tensor, real: tuple[torch.Tensor, torch.Tensor], chunk: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean cross-entropy on real images and its gradient to `θ`, in chunks so that memory does not grow with them."""
    images, labels = real
    theta = theta.detach().requires_grad_()
    loss, gradient = theta.new_zeros(()), torch.zeros_like(theta)
    with torch.enable_grad():
        for x, y in zip(images.split(chunk), labels.split(chunk), strict=True):
            part = F.cross_entropy(network(theta, x), y, reduction="sum") / len(images)
            gradient += torch.autograd.grad(part, theta)[0]
            loss += part.detach()
    return loss, gradient
