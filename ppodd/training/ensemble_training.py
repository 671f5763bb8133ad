"""Plain training of several networks at once on posters that stay as they are (METHOD: evaluation).

Nothing is differentiated but the networks, so the patches of many steps are cut and augmented in one go beforehand.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple, Protocol, cast

import torch
import torch.nn.functional as F
from torch.nn.utils import vector_to_parameters

from ppodd.training import compiled
from ppodd.training.augment import augmented
from ppodd.training.convnet_derivatives import ConvNetDerivatives, derivatives_of
from ppodd.training.derivatives import Derivatives
from ppodd.training.ensemble import Ensemble
from ppodd.training.inner_loop import Draw, InnerLoop, Posters
from ppodd.training.networks import ConvNet, Network
from ppodd.training.optimisers import MOMENTUM, OPTIMISERS, WEIGHT_DECAY, State

_AHEAD_BYTES = 2**25  # of patches prepared ahead of their steps


class Batch(NamedTuple):
    """One step of `N` networks: images `[B, N·C, h, w]`, soft labels `[N, B, K]`, and the rate's factor."""

    images: torch.Tensor
    labels: torch.Tensor
    lr_factor: float


def batches(inner: InnerLoop, posters: Posters, draws: Sequence[Iterable[Draw]]) -> Iterator[Batch]:
    """The steps of `N` trainings, one iterable of draws (on the CPU) for each."""
    channels, height, width = inner.patches.shape
    step_bytes = len(draws) * inner.batch * channels * height * width * posters.images.element_size()
    steps = zip(*draws, strict=True)
    while ahead := list(itertools.islice(steps, max(1, _AHEAD_BYTES // step_bytes))):
        yield from _prepared(inner, posters, ahead)


def _prepared(inner: InnerLoop, posters: Posters, steps: Sequence[Sequence[Draw]]) -> Iterator[Batch]:
    """Batches of `S` steps, each the draws of `N` networks."""
    count, nets = len(steps), len(steps[0])
    draws = [draw for step in steps for draw in step]
    picks = torch.cat([draw.picks for draw in draws]).to(posters.images.device, non_blocking=True)
    images = inner.patches.crop(posters.images, picks).reshape(count * nets, inner.batch, *inner.patches.shape)
    images = augmented(images, [draw.augmentation for draw in draws]).unflatten(0, (count, nets))
    images = images.transpose(1, 2).flatten(2, 3)  # [S, B, N·C, h, w]
    labels = posters.labels.flatten(0, 1)[picks].unflatten(0, (count, nets, inner.batch))
    for step in range(count):
        yield Batch(images[step], labels[step], steps[step][0].lr_factor)


def fused_adam(parameters: Sequence[torch.nn.Parameter], lr: float) -> torch.optim.Optimizer:
    """The update of `optimisers.adam`, not differentiable."""
    return torch.optim.Adam(parameters, lr, fused=True)


def fused_sgd(parameters: Sequence[torch.nn.Parameter], lr: float) -> torch.optim.Optimizer:
    """The update of `optimisers.sgd`, not differentiable."""
    return torch.optim.SGD(parameters, lr, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY, fused=True)


def trainer(networks: Sequence[Network], optim: str, lr: float) -> Trainer:
    """The fastest there is for ConvNets of one shape, which become the ensemble's own."""
    assert OPTIMISERS.get(optim).fused, f"{optim} is for one network at a time: it has no fused form"
    theta = networks[0].theta
    written_out = compiled.functions(theta.dtype, theta.device) and ConvNetDerivatives.fits(networks[0])
    return WrittenOutTrainer(networks, optim, lr) if written_out else AutogradTrainer(networks, optim, lr)


class Trainer(Protocol):
    """An ensemble in training: one optimiser over all its parameters, the update of each network its own."""

    def step(self, batch: Batch) -> None:
        """One step of every network; nothing waits for the device."""

    def ensemble(self) -> Ensemble:
        """The networks as they are now."""


class AutogradTrainer:
    """By autograd through the wide network, and torch's optimisers."""

    def __init__(self, networks: Sequence[Network], optim: str, lr: float):
        self._ensemble, self._lr = Ensemble(_modules(networks)), lr
        fused = OPTIMISERS.get(optim).fused
        assert fused, optim
        self._optimiser: torch.optim.Optimizer = fused(list(self._ensemble.parameters()), lr)

    def ensemble(self) -> Ensemble:
        """See `Trainer`."""
        return self._ensemble

    def step(self, batch: Batch) -> None:
        """See `Trainer`."""
        self._optimiser.zero_grad()
        at_once = len(batch.images)
        if self._ensemble.per_image():
            at_once = min(at_once, self._ensemble.images_at_once(*batch.images.shape[2:]))
        for images, labels in zip(batch.images.split(at_once), batch.labels.split(at_once, dim=1), strict=True):
            with torch.enable_grad():
                logits = self._ensemble(images).flatten(0, 1)
                # a sum over networks: each has the gradient of its own mean
                loss = F.cross_entropy(logits, labels.flatten(0, 1), reduction="sum") / len(batch.images)
            loss.backward()
        for group in self._optimiser.param_groups:
            group["lr"] = self._lr * batch.lr_factor
        self._optimiser.step()


class WrittenOutTrainer:
    """By the derivatives and the updates of the inner loop, which on a CPU are compiled: in half the time or less."""

    def __init__(self, networks: Sequence[Network], optim: str, lr: float):
        self._modules, self._update, self._lr = _modules(networks), OPTIMISERS.get(optim), lr
        self._network = networks[0]
        self._derivatives: Derivatives | None = None  # made when the images' size is known
        self._state = State.start(torch.stack([network.theta for network in networks]))

    def ensemble(self) -> Ensemble:
        """See `Trainer`."""
        for theta, module in zip(self._state.theta, self._modules, strict=True):
            vector_to_parameters(theta, module.parameters())
        return Ensemble(self._modules)

    @torch.no_grad()
    def step(self, batch: Batch) -> None:
        """See `Trainer`."""
        images = batch.images.unflatten(1, (len(self._modules), -1)).transpose(0, 1)
        if self._derivatives is None:
            self._derivatives = derivatives_of(self._network, images.shape, len(images))
        _, gradient = self._derivatives.gradient(self._state.theta, images, batch.labels)
        self._state = self._update(self._state, gradient, self._lr * batch.lr_factor)


def _modules(networks: Sequence[Network]) -> list[ConvNet]:
    return [cast("ConvNet", network.module) for network in networks]
