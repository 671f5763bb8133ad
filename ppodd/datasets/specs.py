"""What is known of a data set before any of it is read: enough to check a config in milliseconds."""

from __future__ import annotations

from typing import NamedTuple


class Spec(NamedTuple):
    """Shape of a data set: `classes` labels, images of `channels × height × width` pixels."""

    classes: int
    channels: int
    height: int
    width: int


# CUB-200's photographs are resized to 32×32, as PoDD does.
SPECS: dict[str, Spec] = {
    "digits": Spec(10, 1, 8, 8),
    "cifar10": Spec(10, 3, 32, 32),
    "cifar100": Spec(100, 3, 32, 32),
    "tiny-imagenet-200": Spec(200, 3, 64, 64),
    "cub-200": Spec(200, 3, 32, 32),
}


def is_path(dataset: str) -> bool:
    """Whether `dataset` names a file or folder rather than a known data set."""
    return dataset not in SPECS and ("/" in dataset or dataset.startswith(".") or dataset.endswith(".parquet"))
