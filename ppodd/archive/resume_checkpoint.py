"""`resume/state.safetensors`: all that an interrupted run needs to go on, in one file, its digest inside."""

from __future__ import annotations

import json

import numpy as np
import pydantic
import safetensors.numpy

from ppodd import __version__
from ppodd.archive.poster_file import tensors_of
from ppodd.archive.records import SCHEMA, ResumePosition, another_schema
from ppodd.errors import CorruptArchive, later_version, wrong_field
from ppodd.files import sha256

_UNNUMBERED = "1"  # of checkpoints from before they said so


def to_bytes(tensors: dict[str, np.ndarray], position: ResumePosition) -> bytes:
    """These arrays and this position."""
    tensors = {k: np.asarray(v, order="C") for k, v in tensors.items()}
    text = json.dumps(position.to_json())
    version = {"schema": str(SCHEMA), "ppodd": __version__}
    return safetensors.numpy.save(tensors, {**version, "position": text, "digest": _digest(tensors, text)})


def from_bytes(data: bytes, where: str) -> tuple[dict[str, np.ndarray], ResumePosition]:
    """The inverse of `to_bytes`.

    Raises:
        CorruptArchive: the file is damaged.
        LaterVersion: it is of another schema, or holds more than this version knows; the version to use is named.
    """
    tensors = tensors_of(data, where)
    metadata = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")]).get("__metadata__", {})
    schema, writer = metadata.get("schema", _UNNUMBERED), metadata.get("ppodd", "")
    if schema.isdecimal() and int(schema) != SCHEMA:
        raise another_schema(where, int(schema), writer)
    if metadata.get("digest") != _digest(tensors, metadata.get("position", "")):
        raise CorruptArchive(f"{where} is damaged: its digest differs from the one it holds")
    return tensors, _position(metadata.get("position", ""), where, writer)


def _position(text: str, where: str, writer: str) -> ResumePosition:
    try:
        held = json.loads(text)
        position = ResumePosition.model_validate(held, strict=True)
    except pydantic.ValidationError as error:
        raise CorruptArchive(f"{where} is damaged: its position: {wrong_field(error)}") from None
    except (ValueError, RecursionError) as error:
        raise CorruptArchive(f"{where} is damaged: its position is no JSON: {error}") from None
    if unknown := held.keys() - ResumePosition.model_fields.keys():
        raise later_version(where, f" holds {min(unknown)!r}, which this ppodd does not know", writer)
    return position


def _digest(tensors: dict[str, np.ndarray], text: str) -> str:
    parts = [f"{name}{array.dtype}{array.shape}".encode() + array.tobytes() for name, array in sorted(tensors.items())]
    return sha256(b"".join([text.encode(), *parts]))
