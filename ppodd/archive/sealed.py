"""JSON files that hold a digest of themselves, so that readers detect any change.

The digest is of the values, not of the text: a file that was indented otherwise is the same. Files of earlier versions
hold none, and are taken as they are.
"""

from __future__ import annotations

import json
from typing import Any

from ppodd.errors import CorruptArchive
from ppodd.files import Folder, sha256

_DIGEST = "sha256"


def write_sealed(folder: Folder, name: str, values: dict[str, Any]) -> None:
    """Write these values as JSON, their digest last."""
    folder.write_json(name, {**values, _DIGEST: _digest(values)})


def sealed(values: dict[str, Any]) -> bytes:
    """These values as JSON, their digest last, for a file that one of several makes."""
    return json.dumps({**values, _DIGEST: _digest(values)}, indent=1).encode()


def unsealed(data: bytes, where: str) -> dict[str, Any]:
    """The values in the file `where`, without its digest.

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
    return values


def _digest(values: dict[str, Any]) -> str:
    return sha256(json.dumps(values, sort_keys=True).encode())
