"""Labelled image sets as whitened tensors on a device. `specs` is light; everything else needs torch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ppodd.datasets.loading import Dataset as Dataset
    from ppodd.datasets.loading import Split as Split
    from ppodd.datasets.loading import load as load
    from ppodd.datasets.loading import load_once as load_once


def __getattr__(name: str) -> Any:
    # so that the command line reads `specs` without importing torch
    if name in ("Dataset", "Split", "load", "load_once"):
        from ppodd.datasets import loading

        return getattr(loading, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
