"""Types of fields that several configs have."""

from __future__ import annotations

import typing
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import pydantic
from pydantic import Field
from pydantic.fields import FieldInfo
from pydantic_core import core_schema

from ppodd.config.methods import METHODS
from ppodd.datasets import SOURCES
from ppodd.errors import unknown
from ppodd.posters import BLENDS, CLASS_ORDERS
from ppodd.registry import Registry
from ppodd.training import ARCHITECTURES, AUGMENTATIONS, OPTIMISERS

Positive = Annotated[int, Field(ge=1)]
NonNegative = Annotated[int, Field(ge=0)]
PositiveFloat = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NonNegativeFloat = Annotated[float, Field(ge=0, allow_inf_nan=False)]


def _each_once(steps: tuple[int, ...]) -> tuple[int, ...]:
    """In order. Raises `ValueError` where one is there twice."""
    again = [step for number, step in enumerate(steps) if step in steps[:number]]
    if again:
        raise ValueError(f"{again[0]} appears twice: name each once")
    return tuple(sorted(steps))


Steps = Annotated[tuple[Positive, ...], pydantic.AfterValidator(_each_once)]


def _as_text(value: Any) -> Any:
    """A list whose numbers are text: classes are chosen by number, too."""
    return tuple(str(v) if isinstance(v, int) else v for v in value) if isinstance(value, (list, tuple)) else value


ClassNames = Annotated[tuple[str, ...], pydantic.BeforeValidator(_as_text)]


def switch(value: Any) -> Any:
    """`on` and `off`, which YAML takes for true and false unless they are quoted."""
    return ("on" if value else "off") if isinstance(value, bool) else value


def one_of(what: str, value: str, accepted: tuple[str, ...]) -> str:
    """`value`, if it is accepted. Raises `BadInput` with the nearest accepted one."""
    if value not in accepted:
        raise unknown(what, value, accepted)
    return value


@dataclass(frozen=True)
class Names:
    """Marks a field that holds names of a registry: they are checked there, and help lists them."""

    registry: Registry[Any]

    def __get_pydantic_core_schema__(self, source: Any, handler: pydantic.GetCoreSchemaHandler) -> Any:
        return core_schema.no_info_after_validator_function(self.registry.check, handler(source))


def registry_of(field: FieldInfo) -> Registry[Any] | None:
    """The registry whose names a field holds, alone, in a list or optionally."""
    return next((mark.registry for mark in _marks(field.annotation, field.metadata)), None)


def _marks(annotation: Any, metadata: Sequence[Any] = ()) -> Iterator[Names]:
    yield from (mark for mark in (*metadata, *getattr(annotation, "__metadata__", ())) if isinstance(mark, Names))
    for part in typing.get_args(annotation):
        yield from _marks(part)


MethodName = Annotated[str, Names(METHODS)]
BlendName = Annotated[str, Names(BLENDS)]
ClassOrder = Annotated[str, Names(CLASS_ORDERS)]
Architecture = Annotated[str, Names(ARCHITECTURES)]
Augmentation = Annotated[str, Names(AUGMENTATIONS)]
Optimiser = Annotated[str, Names(OPTIMISERS)]
DataSource = Annotated[str, Names(SOURCES)]
