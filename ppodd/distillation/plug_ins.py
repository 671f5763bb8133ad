"""What a config names of a user's own, called once on little before anything is computed or written."""

from __future__ import annotations

from ppodd.config import METHODS, DistillConfig
from ppodd.datasets import Dataset
from ppodd.methods import start_poster
from ppodd.posters import BLENDS, Layout, blend_weights
from ppodd.training import check_augmentation, check_network, check_optimiser

_ACCURACY = 50.0  # percent, of each stage that a blend is tried with


def try_plug_ins(config: DistillConfig, dataset: Dataset, layout: Layout) -> None:
    """Call a user's own network, blend, method, optimiser and augmentations as a distillation will; ours work.

    A class order is needed to make the layout.

    Raises:
        BadInput: one cannot be imported or called, fails, or returns something else; what is accepted is said.
    """
    check_network(config.arch, dataset.spec, config.width)
    with BLENDS.tried(config.blend) as own:
        for archived in range(config.num_stages if own else 0):
            blend_weights(config.blend, [_ACCURACY] * archived, config.blend_parameters)
    with METHODS.tried(config.method) as own:
        if own:
            start_poster(config, dataset, layout, stage=1)
    check_optimiser(config.inner_optim)
    for strategy in (config.syn_strategy, config.real_strategy):
        check_augmentation(strategy, dataset.spec)
