"""How the poster of a method is cut into what networks train on."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ppodd.archive import PosterFile
from ppodd.config import METHODS, DistillConfig
from ppodd.datasets import Dataset, Spec
from ppodd.posters import Layout, Tiling, fixed_labels


def layout_of(config: DistillConfig, spec: Spec, class_order: np.ndarray) -> Layout:
    """The layout of the config's posters: overlapping windows, or tiles where its method has them."""
    tiling = METHODS.get(config.method).tiling
    if tiling is None:
        return Layout.of(config.geometry, spec, class_order)
    tiles = tiling(config.geometry, spec)
    # enumerated as patches are, column by column; a class grid's own place where there is one image a class
    classes = np.resize(class_order.T.flatten(), tiles.columns * tiles.rows)
    return Layout.tiled(config.poster_width, config.poster_height, spec, class_order, tiles, classes)


def trained_on(
    config: DistillConfig, dataset: Dataset, posters: Sequence[PosterFile]
) -> tuple[Sequence[PosterFile], Layout]:
    """What networks train on: the posters with their layout; in place of a ceiling's, the whole training set."""
    class_order = posters[-1].class_order
    if METHODS.get(config.method).role != "ceiling":
        return posters, layout_of(config, dataset.spec, class_order)
    spec, train = dataset.spec, dataset.train
    images, width = len(train.y), len(train.y) * spec.width
    layout = Layout.tiled(
        width, spec.height, spec, class_order, Tiling(images, 1, spec.width, spec.height), train.y.cpu().numpy()
    )
    side_by_side = train.x.permute(1, 2, 0, 3).reshape(spec.channels, spec.height, width)
    dtype = train.x.dtype
    whole = PosterFile(side_by_side.cpu().numpy(), fixed_labels(layout, dtype).numpy(), class_order)
    return [whole] * len(posters), layout
