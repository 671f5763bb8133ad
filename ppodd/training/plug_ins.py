"""A user's own optimiser and augmentations, called once on little; ours are known to work. Networks: see `networks`."""

from __future__ import annotations

import torch

from ppodd.datasets import Spec
from ppodd.training import augment
from ppodd.training.optimisers import OPTIMISERS, State, updated
from ppodd.training.strategies import AUGMENTATIONS


def check_optimiser(optim: str, twice: bool = True) -> None:
    """Take a step of it, and differentiate that where it is to be differentiated `twice`, as a meta-step does.

    Raises:
        BadInput: it cannot be imported or called, fails, or returns something else.
    """
    with OPTIMISERS.tried(optim) as own:
        if own:
            theta, gradient = (torch.full((4,), value, requires_grad=twice) for value in (0.5, 0.1))
            after = updated(optim, State.start(theta), gradient, 0.01)
            if twice:
                torch.autograd.grad(after.theta.sum(), (theta, gradient))


def check_augmentation(strategy: str, spec: Spec) -> None:
    """Turn two images by each of its transforms.

    Raises:
        BadInput: one cannot be imported or called, fails, or returns something else.
    """
    images = torch.rand(2, *spec[1:], generator=torch.Generator().manual_seed(0))
    for name in set(AUGMENTATIONS.within(strategy)):
        with AUGMENTATIONS.tried(name) as own:
            if own:
                augment.Augmentation(((name, torch.full((2, 3), 0.5)),))(images)
