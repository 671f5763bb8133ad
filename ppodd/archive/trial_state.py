"""What a trial has, read out of the names of its files: one listing tells of a whole sweep."""

from __future__ import annotations

import re
from collections.abc import Iterable

_STAGE = re.compile(r"stage-(\d\d+)/stage\.json$")


def stage_name(stage: int) -> str:
    return f"stage-{stage:02d}"


def stages_in(names: Iterable[str]) -> list[int]:
    """Numbers of the finished stages among the names of a trial's files (`Archive.listing`), in order."""
    return sorted(int(match[1]) for name in names if (match := _STAGE.match(name)))


def tickets_in(names: Iterable[str], stage: int) -> list[str]:
    """Tickets of a stage's evaluations among the names of a trial's files (`Archive.listing`), in order."""
    return _json_in(names, f"{stage_name(stage)}/evaluations/")


def failures_in(names: Iterable[str], stage: int) -> list[str]:
    """Tickets of a stage's evaluations that were given up, likewise."""
    return _json_in(names, f"{stage_name(stage)}/failures/")


def _json_in(names: Iterable[str], start: str) -> list[str]:
    found = (name.removeprefix(start) for name in names if name.startswith(start) and name.endswith(".json"))
    return sorted(name.removesuffix(".json") for name in found)
