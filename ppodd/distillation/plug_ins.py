"""What a config names of a user's own, called once on little before anything is computed or written."""

from __future__ import annotations

import torch

from ppodd.config import METHODS, DistillConfig
from ppodd.datasets import Dataset
from ppodd.methods import start_poster
from ppodd.posters import BLENDS, Layout, blend_weights
from ppodd.training import AUGMENTATIONS, OPTIMISERS, InnerLoop, State, augment

_ACCURACY = 50.0  # percent, of each stage that a blend is tried with


def try_plug_ins(config: DistillConfig, dataset: Dataset, layout: Layout, inner: InnerLoop) -> None:
    """Call a user's own blend, method, optimiser and augmentations as a distillation will; ours are known to work.

    Networks have a check of their own, and a class order is needed to make the layout.

    Raises:
        BadInput: one cannot be imported or called, fails, or returns something else; what is accepted is said.
    """
    with BLENDS.tried(config.blend) as own:
        for archived in range(config.num_stages if own else 0):
            blend_weights(config.blend, [_ACCURACY] * archived, config.blend_parameters)
    with METHODS.tried(config.method) as own:
        if own:
            start_poster(config, dataset, layout, stage=1)
    with OPTIMISERS.tried(config.inner_optim) as own:
        if own:
            _try_step(inner)
    images = torch.rand(2, *dataset.spec[1:], generator=torch.Generator().manual_seed(0))
    for name in {name for given in (config.syn_strategy, config.real_strategy) for name in AUGMENTATIONS.within(given)}:
        with AUGMENTATIONS.tried(name) as own:
            if own:
                augment.Augmentation(((name, torch.full((2, 3), 0.5)),))(images)


def _try_step(inner: InnerLoop) -> None:
    theta, gradient = (torch.full((4,), value, requires_grad=True) for value in (0.5, 0.1))
    after = inner.update(State.start(theta), gradient, 0.01)
    torch.autograd.grad(after.theta.sum(), (theta, gradient))
