"""Versions that have to agree between a machine that submits and the cluster that runs."""

from __future__ import annotations

import importlib.metadata
import platform
from collections.abc import Mapping

from ppodd import __version__
from ppodd.errors import BadInput


def here() -> dict[str, str]:
    """Versions of ppodd, Python (major.minor: bytecode and pickles depend on it) and Ray of this process."""
    python = ".".join(platform.python_version_tuple()[:2])
    return {"ppodd": __version__, "python": python, "ray": importlib.metadata.version("ray")}


def require_equal(cluster: Mapping[str, str], submitter: Mapping[str, str]) -> None:
    """Raise `BadInput`, with both versions, for everything named on both sides that differs."""
    differ = [name for name in submitter if cluster.get(name, submitter[name]) != submitter[name]]
    if differ:
        on_cluster = ", ".join(f"{name} {cluster[name]}" for name in differ)
        at_submitter = ", ".join(f"{name} {submitter[name]}" for name in differ)
        raise BadInput(
            f"the cluster runs {on_cluster}, the submitting machine {at_submitter}: "
            f"use the same on both, or submit with --any-version"
        )


def parse(text: str) -> dict[str, str]:
    """`ppodd=0.1.0,python=3.11` as a mapping."""
    pairs = [part.partition("=") for part in text.split(",") if part]
    for name, equals, version in pairs:
        if not equals or not version or name not in here():
            raise BadInput(f"--require {text!r}: write NAME=VERSION,… with the names {', '.join(here())}")
    return {name: version for name, _, version in pairs}


def text(versions: Mapping[str, str]) -> str:
    """The inverse of `parse`."""
    return ",".join(f"{name}={version}" for name, version in versions.items())
