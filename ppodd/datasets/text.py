"""Lists that come with data sets."""

from __future__ import annotations

from pathlib import Path

from ppodd.errors import BadInput


def lines(path: Path) -> list[str]:
    """The lines of a file that are not empty. Raises `BadInput` where it cannot be read."""
    try:
        return [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except OSError as error:
        raise BadInput(f"{path}: {error.strerror}; fetch the data set again") from None
