"""The networks that are known by name, and the images that they fit. Light: needs no torch."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ppodd.datasets import Spec
from ppodd.errors import BadInput
from ppodd.registry import OWN, Entry, Registry

# Which kind of convolution on a CPU is for what: see `ppodd.training.convolution`.
FEW_CHANNELS = 4  # of an image, at most
SMALL_PIXELS = 64  # of a map, at most
WINOGRAD_CHANNELS, WINOGRAD_SIDE = 32, 4  # at least, and what sides are multiples of
_VECTOR = 16  # numbers in the widest vector


@dataclass(frozen=True)
class Architecture(Entry):
    """A network.

    Attributes:
        halvings: how many blocks it has that each halve an image's sides; 0 where that is not known, or fits the image.
        least: the shortest side (px) of the images that it is made for; 0 where its halvings alone say it.
        options: what its function is given beside `(spec, width)`.
    """

    halvings: int = 0
    least: int = 0
    options: Mapping[str, Any] = field(default_factory=dict)


def _convnet(blocks: int, growth: int = 1, norm: str = "instance") -> Architecture:
    """A ConvNet: its blocks, by how much each has more channels than the one before, and its normalisation."""
    summary = f"{blocks} blocks{f', {growth} × wider each' if growth > 1 else ''}, normalisation: {norm}"
    options = {"blocks": blocks, "growth": growth, "norm": norm}
    return Architecture("ppodd.training.networks:convnet", summary, halvings=blocks, options=options)


def _other(function: str, summary: str, **options: str) -> Architecture:
    """A network of another kind, to judge posters with."""
    return Architecture(f"ppodd.training.other_architectures:{function}", summary, least=8, options=options)


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
        "resnet18": _other("resnet18", "ResNet-18 for small images, normalisation: instance", norm="instance"),
        "resnet18-bn": _other("resnet18", "the same, normalisation: batch", norm="batch"),
        "vgg11": _other("vgg11", "VGG-11 with one linear layer, normalisation: batch", norm="batch"),
        "alexnet": _other("alexnet", "like AlexNet: 5 convolutions, no normalisation"),
        "vit-tiny": _other("vit_tiny", "ViT-Ti, about 8 × 8 patches an image"),
        "convnext-atto": _other("convnext_atto", "ConvNeXt-A for small images"),
    },
)


def written_out(arch: str) -> bool:
    """Whether it is one of our ConvNets with instance norm, whose derivatives are written out."""
    known = ARCHITECTURES.own.get(arch)
    return known is not None and known.halvings > 0 and known.options["norm"] == "instance"


def first_padding(spec: Spec) -> int:
    """Pixels around the image in the first block: of one channel, 28-pixel images count as 32."""
    return 3 if spec.channels == 1 else 1


def feature_size(spec: Spec, blocks: int) -> tuple[int, int]:
    """Height and width after so many blocks, each of which halves them; a 0 where there are too many."""
    more = 2 * first_padding(spec) - 2
    return (spec.height + more) >> blocks, (spec.width + more) >> blocks


def same_in_company(arch: str, width: int, spec: Spec) -> bool:
    """Whether one of our ConvNets, differentiated beside others, comes to the bits that it comes to alone.

    So it is on a CPU with compiled functions where every convolution is one of those that take each network by itself
    (`ppodd.training.compiled_convnet`): few channels, or small maps of whole vectors, and not Winograd's, which is for
    one. That a machine has the functions is not known here.
    """
    if not written_out(arch) or spec.channels > FEW_CHANNELS or width % _VECTOR:
        return False
    known = ARCHITECTURES.own[arch]
    for blocks in range(1, known.halvings):
        sides, channels = feature_size(spec, blocks), width * known.options["growth"] ** (blocks - 1)
        tiled = all(side % WINOGRAD_SIDE == 0 for side in sides)
        if math.prod(sides) > SMALL_PIXELS or (tiled and channels >= WINOGRAD_CHANNELS):
            return False
    return True


def least_side(architecture: Architecture, spec: Spec) -> int:
    """The shortest side (px) of images like those of `spec` that a network takes, as far as it is known."""
    more = 2 * first_padding(spec) - 2
    return max(architecture.least, (1 << architecture.halvings) - more, 1)


def check_architecture(arch: str, spec: Spec) -> None:
    """Raise `BadInput` where images of `spec` are known to be too small for a network."""
    side, architecture = min(spec.height, spec.width), ARCHITECTURES.known(arch)
    least = least_side(architecture, spec)
    if side >= least:
        return
    fitting = [name for name, known in ARCHITECTURES.own.items() if side >= least_side(known, spec)]
    choice = f"choose {', '.join(fitting)}" if fitting else f"use larger images, or write a network ({OWN})"
    images = f"images of {spec.height} × {spec.width} px"
    halvings = architecture.halvings
    why = f"its {halvings} blocks are too many for {images}" if halvings else f"it is too deep for {images}"
    raise BadInput(f"arch={arch}: {why}, {least} px a side are the least: {choice}", "arch")
