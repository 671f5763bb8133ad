"""Posters of real training images, taken as they are: each stage's poster holds other ones than those before it.

Whole images of a class are chosen at random, or so that they stand for it: nearest to the centres of its clusters
(k-means), or so that their mean is its mean (herding, Welling 2009), both by the pixels that networks see.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F

from ppodd.config import DistillConfig
from ppodd.datasets import Dataset
from ppodd.errors import BadInput
from ppodd.machine import derived_seed, generator
from ppodd.posters import Layout

Order = Callable[[torch.Tensor, int, tuple[int | str, ...]], torch.Tensor]  # images [N, …], how many, key -> indices
Fit = Callable[[torch.Tensor, int, int], torch.Tensor]  # images [N, C, h, w], height, width of a tile


def downscaled(config: DistillConfig, dataset: Dataset, layout: Layout, stage: int) -> torch.Tensor:
    """Random images, one a class, scaled down."""
    return _tiled(config, dataset, layout, stage, at_random, scaled_down)


def cropped(config: DistillConfig, dataset: Dataset, layout: Layout, stage: int) -> torch.Tensor:
    """The same images' centres."""
    return _tiled(config, dataset, layout, stage, at_random, centre)


def random_images(config: DistillConfig, dataset: Dataset, layout: Layout, stage: int) -> torch.Tensor:
    """Random images, as many as fit."""
    return _tiled(config, dataset, layout, stage, at_random, centre)


def k_means(config: DistillConfig, dataset: Dataset, layout: Layout, stage: int) -> torch.Tensor:
    """Of each class the images nearest to its clusters' centres, those of large clusters first."""
    return _tiled(config, dataset, layout, stage, nearest_to_centres, centre)


def herding(config: DistillConfig, dataset: Dataset, layout: Layout, stage: int) -> torch.Tensor:
    """Of each class the images that keep their mean nearest to its mean; the same for every seed."""
    return _tiled(config, dataset, layout, stage, herded, centre)


def _tiled(config: DistillConfig, dataset: Dataset, layout: Layout, stage: int, order: Order, fit: Fit) -> torch.Tensor:
    """A poster with an image of its class on each tile."""
    assert layout.patch_classes is not None
    poster = dataset.train.x.new_zeros(layout.spec.channels, layout.height, layout.width)
    corners = [(x, y) for x in layout.patch_xs for y in layout.patch_ys]
    for label in range(layout.spec.classes):
        tiles = np.flatnonzero(layout.patch_classes == label)
        images = dataset.train.x[dataset.train.y == label]
        wanted = len(tiles) * config.num_stages
        if wanted > len(images):
            raise BadInput(
                f"method={config.method} takes {wanted} images of class {dataset.classes[label]} in "
                f"{config.num_stages} stages, and there are {len(images)}: choose fewer stages or a smaller poster"
            )
        chosen = order(images, wanted, (config.seed, "real images", label))[(stage - 1) * len(tiles) :]
        for tile, image in zip(tiles, fit(images[chosen], layout.patch_height, layout.patch_width), strict=False):
            x, y = corners[tile]
            poster[:, y : y + layout.patch_height, x : x + layout.patch_width] = image
    return poster


def at_random(images: torch.Tensor, count: int, key: tuple[int | str, ...]) -> torch.Tensor:
    """Indices of `count` images, none twice."""
    return torch.randperm(len(images), generator=generator(*key))[:count].to(images.device)


def nearest_to_centres(images: torch.Tensor, count: int, key: tuple[int | str, ...]) -> torch.Tensor:
    """Indices of the images nearest to the centres of `count` clusters, those of large clusters first."""
    from sklearn.cluster import KMeans

    pixels = images.flatten(1).double().cpu().numpy()
    found = KMeans(count, n_init=4, random_state=derived_seed(*key) % 2**32).fit(pixels)
    distances, members = found.transform(pixels), np.bincount(found.labels_, minlength=count)
    chosen: list[int] = []
    for cluster in np.argsort(-members, kind="stable"):
        near = np.argsort(distances[:, cluster], kind="stable")
        chosen.append(int(next(image for image in near if image not in chosen)))
    return torch.tensor(chosen, device=images.device)


def herded(images: torch.Tensor, count: int, key: tuple[int | str, ...]) -> torch.Tensor:
    """Indices of `count` images, each the one that brings the mean of those so far nearest to the mean of all."""
    del key
    pixels = images.flatten(1).double()
    mean, total = pixels.mean(0), torch.zeros_like(pixels[0])
    left = torch.ones(len(pixels), dtype=torch.bool, device=pixels.device)
    chosen = []
    for taken in range(count):
        off = ((total + pixels) / (taken + 1) - mean).norm(dim=1).masked_fill(~left, torch.inf)
        chosen.append(int(off.argmin()))
        left[chosen[-1]] = False
        total += pixels[chosen[-1]]
    return torch.tensor(chosen, device=images.device)


def scaled_down(images: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """The images at that size."""
    return F.interpolate(images, (height, width), mode="bilinear", antialias=True)


def centre(images: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """What lies in the middle of the images, of that size."""
    top, left = (images.shape[2] - height) // 2, (images.shape[3] - width) // 2
    return images[:, :, top : top + height, left : left + width]
