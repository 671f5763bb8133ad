"""The networks that are known by name, and the images that they fit. Light: needs no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ppodd.datasets import Spec
from ppodd.errors import BadInput
from ppodd.registry import OWN, Entry, Registry


@dataclass(frozen=True)
class Architecture(Entry):
    """A network.

    Attributes:
        halvings: how often it halves an image's sides; 0 where that is not known.
        options: what its function is given beside `(spec, width)`.
    """

    halvings: int = 0
    options: Mapping[str, Any] = field(default_factory=dict)


def _convnet(blocks: int, growth: int = 1, norm: str = "instance") -> Architecture:
    """A ConvNet: its blocks, by how much each has more channels than the one before, and its normalisation."""
    summary = f"{blocks} blocks{f', {growth} × wider each' if growth > 1 else ''}, normalisation: {norm}"
    options = {"blocks": blocks, "growth": growth, "norm": norm}
    return Architecture("ppodd.training.networks:convnet", summary, blocks, options)


ARCHITECTURES = Registry(
    "arch",
    Architecture,
    "ppodd.architectures",
    "a function (spec, width) -> torch.nn.Module with parameters that maps images [B, C, h, w] to logits [B, K]",
    {
        "convnet": _convnet(3),
        "convnet2": _convnet(3, norm="none"),
        "convnet4": _convnet(4),
        "convnetw": _convnet(3, growth=2),
        "convnetw2": _convnet(3, growth=2, norm="batch"),
        "convnetw4": _convnet(4, growth=2),
    },
)


def first_padding(spec: Spec) -> int:
    """Pixels around the image in the first block: of one channel, 28-pixel images count as 32."""
    return 3 if spec.channels == 1 else 1


def feature_size(spec: Spec, blocks: int) -> tuple[int, int]:
    """Height and width after so many blocks, each of which halves them; a 0 where there are too many."""
    more = 2 * first_padding(spec) - 2
    return (spec.height + more) >> blocks, (spec.width + more) >> blocks


def check_architecture(arch: str, spec: Spec) -> None:
    """Raise `BadInput` where a network is known to halve images of `spec` too often."""
    halvings = ARCHITECTURES.known(arch).halvings
    if min(feature_size(spec, halvings)):
        return
    fitting = [name for name, known in ARCHITECTURES.own.items() if min(feature_size(spec, known.halvings))]
    choice = f"choose {', '.join(fitting)}" if fitting else f"use larger images, or write a network ({OWN})"
    raise BadInput(
        f"arch={arch}: its {halvings} blocks are too many for images of {spec.height} × {spec.width} px: {choice}"
    )
