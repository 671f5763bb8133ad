"""Configs as archives hold them: this version reads what any earlier one wrote.

A field may be added, with a default that says what was done before there was one. A field may go, once it is listed in
its config's `retired`. A field that is neither known nor listed is one of a later version.
"""

from __future__ import annotations

import logging
from functools import cache
from typing import Any

from ppodd.config.validation import C, Config, build
from ppodd.errors import BadInput, CorruptArchive, later_version

_log = logging.getLogger(__name__)


def rebuild(kind: type[C], values: Any, where: str, writer: str = "") -> C:
    """The config that the file `where` holds, which the version `writer` of ppodd wrote, if that is known.

    A field that is gone is left out, with a note if it had an effect.

    Raises:
        CorruptArchive: it is no valid config.
        LaterVersion: it has fields that this version does not know.
    """
    if not isinstance(values, dict):
        raise CorruptArchive(f"{where} is damaged: it holds a {type(values).__name__}, a config has keys with values")
    for field, value in retired(kind, values).items():
        _note(f"{where}: {field}={value!r} is of an earlier version and left out: what comes of it differs from there")
    try:
        return build(kind, _without_retired(kind, values))
    except BadInput as error:
        if values.keys() <= {*kind.model_fields, *kind.retired}:
            raise CorruptArchive(f"{where}: {error}") from None
        raise later_version(f"{where}: ", str(error), writer) from None


def retired(kind: type[Config], values: dict[str, Any]) -> dict[str, Any]:
    """The fields among these values that are gone and had an effect."""
    return {name: values[name] for name, idle in kind.retired.items() if values.get(name, idle) != idle}


def as_of_now(kind: type[Config], values: dict[str, Any]) -> dict[str, Any]:
    """An archived config's values, to compare with those of this version: what it lacks is at its default."""
    idle = [name for name in kind.retired if name not in retired(kind, values)]
    defaults = kind.model_construct().model_dump(mode="json")
    return {**defaults, **{name: value for name, value in values.items() if name not in idle}}


def _without_retired(kind: type[Config], values: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if name not in kind.retired}


@cache
def _note(text: str) -> None:
    """Say it once: configs are read again and again."""
    _log.warning("%s", text)
