"""Meta-gradients of several meta-steps as one: networks of one shape trained and differentiated side by side.

An axis `E` is before all that is a distillation's own: posters `[E, T, C, H, W]`, parameters and moments `[E, D]`,
learning rates `[E, 1]`. On a CPU a meta-step alone is the case `E = 1`, and where compiled functions take each network
by itself, company changes no bit of it.

Plain steps differ in number: members are lined up by their last one, and those that begin later join then.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace

import torch

from ppodd.config import DistillConfig
from ppodd.distillation.meta_steps import Prepared
from ppodd.training import (
    FULL,
    OPTIMISERS,
    CompiledConvNet,
    ConvNetDerivatives,
    Learned,
    Network,
    Posters,
    Problem,
    State,
    meta_gradient,
)


def can_be_joined(config: DistillConfig, prepared: Sequence[Prepared]) -> bool:
    """Whether the networks can be differentiated as one; those of what a sweep puts together can, and most alone."""
    windows = {len(each.window) for each in prepared}
    own = config.engine == "recomputed" and config.inner_optim in OPTIMISERS.own
    return own and len(windows) == 1 and all(ConvNetDerivatives.fits(each.problem.network) for each in prepared)


def same_in_company(prepared: Prepared) -> bool:
    """Whether it comes to the same bits beside others as alone, in this process: that takes compiled functions."""
    problem, real = prepared.problem, prepared.real[0]
    return problem.precision == FULL and CompiledConvNet.fits(problem.network, real.shape)


def meta_gradients(
    config: DistillConfig, prepared: Sequence[Prepared], learned: Sequence[Learned]
) -> list[tuple[torch.Tensor, Learned]]:
    """Each meta-step's loss and its gradients to what is learned, for a config that they share but for rates."""
    # the longest training first: those that train at any step are the first so many
    order = sorted(range(len(prepared)), key=lambda number: -len(prepared[number].plain))
    members = [prepared[number] for number in order]
    problem = _joined([each.problem for each in members])
    leaves = {f"{place}.{name}": t for place, number in enumerate(order) for name, t in learned[number].items()}
    with torch.no_grad():
        posters, lr = problem.posters(leaves), problem.lr(leaves)
    assert isinstance(lr, torch.Tensor)
    state = _plain_steps(problem, members, posters, lr)
    windows = zip(*(each.window for each in members), strict=True)
    window = [problem.inner.joined(draws, posters.images.shape[1], posters.images) for draws in windows]
    images, labels = zip(*(each.real for each in members), strict=True)
    losses, gradients = meta_gradient(
        problem, leaves, state, window, (torch.stack(images), torch.stack(labels)), config.real_chunk, "recomputed",
        config.offload,
    )  # fmt: skip
    places = sorted(range(len(order)), key=order.__getitem__)  # of each number in the order
    return [
        (losses[place], {name: gradients[f"{place}.{name}"] for name in own})
        for place, own in zip(places, learned, strict=True)
    ]


def _joined(problems: Sequence[Problem]) -> Problem:
    """The problem of all members; what the member at place `e` learns is named `e.name`."""

    def own(learned: Learned, place: int) -> Learned:
        return {name.partition(".")[2]: t for name, t in learned.items() if name.startswith(f"{place}.")}

    def posters(learned: Learned) -> Posters:
        each = [problem.posters(own(learned, place)) for place, problem in enumerate(problems)]
        return Posters(*(torch.stack(tensors) for tensors in zip(*each, strict=True)))

    def lr(learned: Learned) -> torch.Tensor:
        rates = [problem.lr(own(learned, place)) for place, problem in enumerate(problems)]
        tensors = [rate for rate in rates if isinstance(rate, torch.Tensor)]
        if tensors:  # learned, by all
            return torch.stack(tensors)[:, None]
        like = problems[0].network.theta
        return torch.tensor(rates, dtype=like.dtype)[:, None].to(like.device, non_blocking=True)

    return replace(problems[0], posters=posters, lr=lr, networks=len(problems))


def _plain_steps(problem: Problem, members: Sequence[Prepared], posters: Posters, lr: torch.Tensor) -> State:
    """Every member's network after its plain steps, all of which end together; the longest are first."""
    networks = [each.problem.network for each in members]
    lengths = [len(each.plain) for each in members]
    state = _started(networks[:0], networks[0].theta)
    for left, ahead in itertools.pairwise([*sorted(set(lengths), reverse=True), 0]):
        training = sum(length >= left for length in lengths)
        state = _beside(state, _started(networks[len(state.theta) : training], networks[0].theta))
        now = Posters(*(tensor[:training] for tensor in posters))
        steps = zip(*(each.plain[len(each.plain) - left :][: left - ahead] for each in members[:training]), strict=True)
        draws = [problem.inner.joined(each, posters.images.shape[1], posters.images) for each in steps]
        state = problem.inner.train(
            problem.network, state, now, draws, lr[:training], training, problem.precision.plain
        )
    return state


def _beside(some: State, others: State) -> State:
    assert isinstance(some.steps, torch.Tensor) and isinstance(others.steps, torch.Tensor)
    theta, first, second = (torch.cat(pair) for pair in zip(some[:3], others[:3], strict=True))
    return State(theta, first, second, torch.cat([some.steps, others.steps]))


def _started(networks: Sequence[Network], like: torch.Tensor) -> State:
    """So many networks before their first step."""
    theta = torch.stack([network.theta for network in networks]) if networks else like.new_empty(0, len(like))
    steps = torch.zeros(len(networks), 1, dtype=torch.float64, device=like.device)
    return State(theta, torch.zeros_like(theta), torch.zeros_like(theta), steps)
