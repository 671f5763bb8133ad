"""What is at a place of a local disk, found before anything is written there."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path


def nearest_existing(path: Path) -> Path:
    """The path, or else the nearest folder above it that is there; `/` always is."""
    return next(place for place in _upwards(path) if os.path.exists(place))


def may_write(folder: Path) -> bool:
    """Whether this process may write files into the folder, or make it first."""
    return not no_place(folder)


def obstacle(folder: Path) -> str:
    """What is in the place of the folder, or of one above it, in words; empty where it is there or can be made."""
    there = next(place for place in _upwards(folder) if os.path.lexists(place))
    if os.path.isdir(there):
        return ""
    return f"{there} is a file" if os.path.exists(there) else f"{there} is a link that leads nowhere"


def no_place(folder: Path) -> str:
    """Why files cannot be written into a folder, in words; empty where they can.

    It is tried, by a file without a name: rights alone do not say that `/proc` takes none of root's either.
    """
    if why := obstacle(folder):
        return why
    there = nearest_existing(folder)
    try:
        with tempfile.TemporaryFile(dir=there):
            return ""
    except OSError as error:
        return f"{there} is no folder that this user may write ({error.strerror})"


def _upwards(path: Path) -> tuple[Path, ...]:
    return (path.absolute(), *path.absolute().parents)
