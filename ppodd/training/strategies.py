"""Augmentation strategies: the names of transforms, joined by `_` or `+`. Light: needs no torch."""

from __future__ import annotations

from dataclasses import dataclass

from ppodd.registry import Entry, Registry, is_import_path


@dataclass(frozen=True)
class Transform(Entry):
    """A transform of images; `always`: composed strategies apply it at every step."""

    always: bool = False


def names(strategy: str) -> list[str]:
    """The transforms that a strategy names. Where a name has a `_` of its own, `+` joins them."""
    if strategy in ("", "none"):
        return []
    if "+" in strategy or is_import_path(strategy) or strategy in AUGMENTATIONS.names:
        return strategy.split("+")
    return strategy.split("_")


AUGMENTATIONS = Registry(
    "augmentation",
    Transform,
    "ppodd.augmentations",
    "a function (images [B, C, h, w], uniform numbers [B, 3]) -> images of the same shape, each by its own numbers "
    "and differentiable in them",
    {
        "flip": Transform("ppodd.training.augment:flip", "mirrored or not", always=True),
        "rotate": Transform("ppodd.training.augment:rotate", "by up to 15° either way"),
        "scale": Transform("ppodd.training.augment:scale", "by up to 1.2 either way, each axis by its own"),
        "crop": Transform("ppodd.training.augment:crop", "shifted by up to an eighth of the side"),
        "color": Transform("ppodd.training.augment:color", "brightness, saturation and contrast", always=True),
        "cutout": Transform("ppodd.training.augment:cutout", "a square of half the side blanked", always=True),
    },
    also=("several joined by _ (or +)", "none"),
    within=names,
)
