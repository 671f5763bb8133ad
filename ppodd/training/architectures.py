"""The networks that are known by name, and the images that they fit. Light: needs no torch."""

from __future__ import annotations

from typing import NamedTuple

from ppodd.datasets import Spec
from ppodd.errors import BadInput


class Shape(NamedTuple):
    """A ConvNet: its blocks, by how much each has more channels than the one before, and its normalisation."""

    blocks: int
    growth: int = 1
    norm: str = "instance"


ARCHITECTURES: dict[str, Shape] = {
    "convnet": Shape(3),
    "convnet2": Shape(3, norm="none"),
    "convnet4": Shape(4),
    "convnetw": Shape(3, growth=2),
    "convnetw2": Shape(3, growth=2, norm="batch"),
    "convnetw4": Shape(4, growth=2),
}


def first_padding(spec: Spec) -> int:
    """Pixels around the image in the first block: of one channel, 28-pixel images count as 32."""
    return 3 if spec.channels == 1 else 1


def feature_size(spec: Spec, blocks: int) -> tuple[int, int]:
    """Height and width after so many blocks, each of which halves them; a 0 where there are too many."""
    more = 2 * first_padding(spec) - 2
    return (spec.height + more) >> blocks, (spec.width + more) >> blocks


def check_architecture(arch: str, spec: Spec) -> None:
    """Raise `BadInput` where a network known by name has too many blocks for images of `spec`."""
    fitting = [name for name, shape in ARCHITECTURES.items() if min(feature_size(spec, shape.blocks))]
    if arch in ARCHITECTURES and arch not in fitting:
        choice = (
            f"choose {', '.join(fitting)}" if fitting else "use larger images, or write a network (module:callable)"
        )
        raise BadInput(
            f"arch={arch}: its {ARCHITECTURES[arch].blocks} blocks are too many for images of {spec.height} × "
            f"{spec.width} px: {choice}"
        )
