"""Types of fields that several configs have."""

from __future__ import annotations

from typing import Annotated

import pydantic
from pydantic import Field

from ppodd.datasets import SPECS, is_path
from ppodd.errors import unknown
from ppodd.training import ARCHITECTURES

OPTIMISERS = ("Adam", "SGD")
AUGMENTATIONS = ("flip", "rotate", "scale", "crop", "color", "cutout")
Positive = Annotated[int, Field(ge=1)]
NonNegative = Annotated[int, Field(ge=0)]
PositiveFloat = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NonNegativeFloat = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Steps = Annotated[tuple[Positive, ...], pydantic.AfterValidator(lambda v: tuple(sorted(set(v))))]


def one_of(what: str, value: str, accepted: tuple[str, ...]) -> str:
    if value not in accepted:
        raise unknown(what, value, accepted)
    return value


def _architecture(value: str) -> str:
    """A name of `ARCHITECTURES`, or `module:attribute` of the user's own network."""
    return value if ":" in value else one_of("arch", value, tuple(ARCHITECTURES))


def _augmentation(value: str) -> str:
    for name in value.split("_") if value not in ("", "none") else ():
        one_of("augmentation in strategy", name, AUGMENTATIONS)
    return value


def _dataset(value: str) -> str:
    return value if is_path(value) else one_of("dataset", value, tuple(SPECS))


Architecture = Annotated[str, pydantic.AfterValidator(_architecture)]
Augmentation = Annotated[str, pydantic.AfterValidator(_augmentation)]
Optimiser = Annotated[str, pydantic.AfterValidator(lambda v: one_of("optimiser", v, OPTIMISERS))]
DataSource = Annotated[str, pydantic.AfterValidator(_dataset)]
