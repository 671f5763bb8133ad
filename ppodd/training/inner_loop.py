"""The inner loop: one network trained on patches of posters (RaT-BPTT, section 3; PoDD, section 3).

Everything random in it is drawn beforehand as `Draw`s, so that steps can be run, differentiated or run again alike.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F

from ppodd.machine import generator
from ppodd.posters import Patches
from ppodd.training import augment
from ppodd.training.convnet_derivatives import derivatives_of
from ppodd.training.networks import Network
from ppodd.training.optimisers import State, updated
from ppodd.training.precision import FLOAT32, convolutions_in


class Posters(NamedTuple):
    """What is trained on: `T` stacked posters and the labels of their patches; of `E` trainings with a leading axis.

    Attributes:
        images: `[T, C, H, W]`, oldest first.
        labels: `[T, P, K]`.
    """

    images: torch.Tensor
    labels: torch.Tensor


class Draw(NamedTuple):
    """One inner step's randomness: patches (`[B]`, pick `t·P + p`), their augmentation, and its rate's factor."""

    picks: torch.Tensor
    augmentation: augment.Augmentation
    lr_factor: float


class JoinedDraw(NamedTuple):
    """That of one step of `E` trainings: picks `[E·B]`, counted through all their posters, and factors `[E, 1]`."""

    picks: torch.Tensor
    augmentation: augment.EachAugmentation
    lr_factor: torch.Tensor


AnyDraw = Draw | JoinedDraw


@dataclass(frozen=True)
class InnerLoop:
    """How networks are trained on posters: optimiser, batch, augmentation, learning-rate decay."""

    patches: Patches
    optim: str
    batch: int
    strategy: str
    composed: bool
    decay: bool

    def draws(
        self, blend: Sequence[float], steps: int, key: tuple[int | str, ...], horizon: int, like: torch.Tensor
    ) -> Iterator[Draw]:
        """Randomness of the first `steps` steps of a training of `horizon` steps, on the device and dtype of `like`.

        Each patch's stage is drawn from the blend; then that many patches of it, without replacement. A step's numbers
        do not depend on how many steps follow.
        """
        which, how = generator(*key, "patches"), generator(*key, "augmentation")
        picks = torch.stack([self._picks(blend, which) for _ in range(steps)]) if steps else torch.empty(0, 0)
        picks = picks.to(like.device, non_blocking=True)
        for step in range(steps):
            augmentation = augment.draw(self.strategy, self.composed, self.batch, how)
            factor = 0.5 * (1 + math.cos(math.pi * step / horizon)) if self.decay else 1.0
            yield Draw(picks[step], augmentation.to(like.device, like.dtype), factor)

    def _picks(self, blend: Sequence[float], which: torch.Generator) -> torch.Tensor:
        weights = torch.tensor(blend, dtype=torch.float64)
        stages = torch.multinomial(weights, self.batch, replacement=True, generator=which)
        counts = torch.bincount(stages, minlength=len(blend)).tolist()
        count = self.patches.count
        return torch.cat([t * count + torch.randperm(count, generator=which)[:n] for t, n in enumerate(counts) if n])

    def batch_of(self, posters: Posters, draw: AnyDraw) -> tuple[torch.Tensor, torch.Tensor]:
        """The drawn patches, augmented, `[B, C, h, w]`, and their labels `[B, K]`; differentiable in the posters.

        Of `E` trainings both with a leading axis.
        """
        images = draw.augmentation(self.patches.crop(posters.images.flatten(0, -4), draw.picks))
        each = (*posters.images.shape[:-4], self.batch)
        return images.unflatten(0, each), posters.labels.flatten(0, -2)[draw.picks].unflatten(0, each)

    def joined(self, draws: Sequence[Draw], posters: int, like: torch.Tensor) -> JoinedDraw:
        """One step's draws of trainings on so many posters each; on the device and dtype of `like`."""
        each = posters * self.patches.count
        picks = torch.cat([draw.picks + number * each for number, draw in enumerate(draws)])
        factors = torch.tensor([[draw.lr_factor] for draw in draws], dtype=like.dtype)
        augmentation = augment.EachAugmentation(tuple(draw.augmentation for draw in draws))
        return JoinedDraw(picks, augmentation, factors.to(like.device, non_blocking=True))

    def loss(self, network: Network, theta: torch.Tensor, posters: Posters, draw: Draw) -> torch.Tensor:
        """Cross-entropy with the soft labels of the drawn patches."""
        images, labels = self.batch_of(posters, draw)
        return F.cross_entropy(network(theta, images), labels)

    def update(self, state: State, gradient: torch.Tensor, lr: float | torch.Tensor) -> State:
        """The optimiser's step along the loss's `gradient [D]`; differentiable, and elementwise but for that.

        Ours take any leading axes, with learning rates that fit them.
        """
        return updated(self.optim, state, gradient, lr)

    def train(
        self,
        network: Network,
        state: State,
        posters: Posters,
        draws: Sequence[AnyDraw],
        lr: float | torch.Tensor,
        networks: int = 1,
        precision: str | None = None,
    ) -> State:
        """Plain training: no graph is kept, nothing waits for the device. With `networks`, of as many at once.

        Its convolutions in a `precision`, or as torch has them.
        """
        derivatives = derivatives_of(network, self.patches.shape, networks, precision or FLOAT32)
        with torch.no_grad(), convolutions_in(precision, state.theta.device):
            for draw in draws:
                _, gradient = derivatives.gradient(state.theta, *self.batch_of(posters, draw))
                state = self.update(state, gradient, draw.lr_factor * lr)
        return state
