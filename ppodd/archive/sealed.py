"""JSON files that hold a digest of themselves, so that readers detect any change.

The digest is of the values, not of the text: a file that was indented otherwise is the same. Each file also says which
version of ppodd wrote it, for a version that cannot read it. Files of earlier versions hold neither, and are taken as
they are.
"""

from __future__ import annotations

import json
from typing import Any, NamedTuple

from ppodd import __version__
from ppodd.errors import CorruptArchive
from ppodd.files import Folder, sha256

_DIGEST, _WRITER = "sha256", "ppodd"


class Unsealed(NamedTuple):
    """What a file holds, and the version of ppodd that wrote it; empty where it does not say."""

    values: dict[str, Any]
    writer: str


def write_sealed(folder: Folder, name: str, values: dict[str, Any]) -> None:
    """Write these values as JSON, then this version and the digest of it all."""
    folder.write_json(name, _seal(values))


def sealed(values: dict[str, Any]) -> bytes:
    """The same as bytes, for a file that one of several makes."""
    return json.dumps(_seal(values), indent=1).encode()


def unsealed(data: bytes, where: str) -> Unsealed:
    """What the file `where` holds, its digest checked.

    Raises:
        CorruptArchive: it is no JSON object, or its digest is another.
    """
    try:
        values = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise CorruptArchive(f"{where} is damaged: {error}") from None
    if not isinstance(values, dict):
        raise CorruptArchive(f"{where} is damaged: it holds a {type(values).__name__}, not keys with values")
    digest = values.pop(_DIGEST, None)
    if digest is not None and digest != _digest(values):
        raise CorruptArchive(f"{where} is damaged: its digest differs from the one it holds")
    return Unsealed(values, str(values.pop(_WRITER, "")))


def _seal(values: dict[str, Any]) -> dict[str, Any]:
    signed = {**values, _WRITER: __version__}
    return {**signed, _DIGEST: _digest(signed)}


def _digest(values: dict[str, Any]) -> str:
    return sha256(json.dumps(values, sort_keys=True).encode())
