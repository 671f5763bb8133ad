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


def known_spec(dataset: str, image_size: int) -> Spec | None:
    """The shape of a data set whose images are resized to `image_size` (0: not), where it is known unread."""
    spec = SPECS.get(dataset)
    if spec is None or image_size == 0 or dataset == "digits":  # which is never resized
        return spec
    return spec._replace(height=image_size, width=image_size)


def is_path(dataset: str) -> bool:
    """Whether `dataset` names a file or folder rather than a known data set."""
    return dataset not in SPECS and ("/" in dataset or dataset.startswith(".") or dataset.endswith(".parquet"))
