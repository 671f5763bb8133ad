"""The posters that a stage starts from: random, as a method distils them, or blank."""

from __future__ import annotations

import torch

from ppodd.config import METHODS, DistillConfig
from ppodd.datasets import Dataset
from ppodd.machine import generator
from ppodd.posters import Layout, initial_poster


def start_poster(config: DistillConfig, dataset: Dataset, layout: Layout, stage: int) -> torch.Tensor:
    """The poster `[C, H, W]` from which the config's method starts a stage. Raises `BadInput` for another shape."""
    poster = METHODS.get(config.method)(config, dataset, layout, stage)
    if not isinstance(poster, torch.Tensor) or poster.shape != (layout.spec.channels, layout.height, layout.width):
        raise METHODS.returned(config.method, poster, f"a poster of {layout.width}×{layout.height} px")
    return poster


def random_poster(config: DistillConfig, dataset: Dataset, layout: Layout, stage: int) -> torch.Tensor:
    """Gaussian class areas, as PoDD starts."""
    return initial_poster(layout, generator(config.seed, "initial poster", stage), dataset.train.x.dtype)


def blank_poster(config: DistillConfig, dataset: Dataset, layout: Layout, stage: int) -> torch.Tensor:
    """Nothing: its patches are alike, whatever their labels."""
    del config, stage
    return dataset.train.x.new_zeros(layout.spec.channels, layout.height, layout.width)
