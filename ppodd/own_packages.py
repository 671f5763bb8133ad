"""The packages beside `ppodd`, told from others of their names: `results`, `cluster` and `tune` are common ones.

A command, and a worker that it starts, take them from where `ppodd` is, whatever stands before that on Python's path. A
program that imports `ppodd` as a library keeps its own modules of these names: nothing here happens on import.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

from ppodd.errors import BadInput

NAMES = ("results", "cluster", "tune")
HOME = Path(__file__).resolve().parents[1]


class _Finder(importlib.abc.MetaPathFinder):
    """Finds the packages in `HOME` before anything else on the path is looked at."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        return importlib.machinery.PathFinder.find_spec(fullname, [str(HOME)]) if fullname in NAMES else None


def claim() -> None:
    """Have `results`, `cluster` and `tune` be this distribution's in this process, from now on.

    Raises:
        BadInput: another module of such a name was imported before, or one of ours is not there.
    """
    for name in NAMES:
        ours = HOME / name
        if not (ours / "__init__.py").is_file():
            raise BadInput(f"ppodd in {HOME} lacks its package {name!r}: install or ship ppodd whole")
        if (module := sys.modules.get(name)) and (place := _place(module)) != ours:
            raise BadInput(
                f"the module {name!r} of {place} was imported in place of ppodd's, which is in {ours}: rename it, or "
                f"use an environment without it"
            )
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


def _place(module: ModuleType) -> Path:
    """Where a module was imported from: its folder, or its file where it is no package."""
    if paths := list(getattr(module, "__path__", [])):
        return Path(paths[0]).resolve()
    return Path(getattr(module, "__file__", None) or "Python itself")
