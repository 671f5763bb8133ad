"""`resume/state.safetensors`: all that an interrupted run needs to go on, in one file, its digest inside."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import safetensors.numpy

from ppodd import __version__
from ppodd.archive.poster_file import tensors_of
from ppodd.archive.records import SCHEMA, another_schema
from ppodd.errors import CorruptArchive
from ppodd.files import sha256

_UNNUMBERED = "1"  # of checkpoints from before they said so


def to_bytes(tensors: dict[str, np.ndarray], position: dict[str, Any]) -> bytes:
    """These arrays and this JSON-able position."""
    tensors = {k: np.asarray(v, order="C") for k, v in tensors.items()}
    text = json.dumps(position)
    version = {"schema": str(SCHEMA), "ppodd": __version__}
    return safetensors.numpy.save(tensors, {**version, "position": text, "digest": _digest(tensors, text)})


def from_bytes(data: bytes, where: str) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """The inverse of `to_bytes`.

    Raises:
        CorruptArchive: the file is damaged.
        LaterVersion: it is of another schema; the version to use is named.
    """
    tensors = tensors_of(data, where)
    metadata = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")]).get("__metadata__", {})
    if (schema := metadata.get("schema", _UNNUMBERED)) != str(SCHEMA):
        raise another_schema(where, schema, metadata.get("ppodd"))
    if metadata.get("digest") != _digest(tensors, metadata.get("position", "")):
        raise CorruptArchive(f"{where} is damaged: its digest differs from the one it holds")
    return tensors, json.loads(metadata["position"])


def _digest(tensors: dict[str, np.ndarray], text: str) -> str:
    parts = [f"{name}{array.dtype}{array.shape}".encode() + array.tobytes() for name, array in sorted(tensors.items())]
    return sha256(b"".join([text.encode(), *parts]))
