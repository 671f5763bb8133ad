"""Stage accuracies that trials wait for: a candidate's networks, shared out among the evaluators."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import NamedTuple


class Measurement(NamedTuple):
    """A work item: the networks `first` to `last` (excluded) on the candidate of a stage."""

    trial_url: str
    stage: int
    first: int
    last: int
    key: str


class MeasurementState(NamedTuple):
    """How a measurement stands.

    Accuracies (percent, one a network) once all are there; or failed; or in progress: an evaluator lives that works on
    it or will.
    """

    values: list[float] | None = None
    failed: bool = False
    in_progress: bool = False


@dataclass
class _Asked:
    items: dict[str, Measurement]
    asked_at: float  # the last time
    values: dict[str, list[float]] = field(default_factory=dict)
    failed: bool = False


class Measurements:
    """What trials asked for, by the names that they gave it."""

    def __init__(self) -> None:
        self._asked: dict[str, _Asked] = {}

    def ask(self, name: str, trial_url: str, stage: int, nets: int, parts: int, now: float = 0.0) -> list[Measurement]:
        """Ask for the accuracies of `nets` networks in about equal parts; returns the parts, the first time."""
        if name in self._asked:
            self._asked[name].asked_at = now
            return []
        parts = max(1, min(parts, nets))
        edges = [round(part * nets / parts) for part in range(parts + 1)]
        items = [
            Measurement(trial_url, stage, first, last, f"{name}[{first}:{last}]")
            for first, last in itertools.pairwise(edges)
        ]
        self._asked[name] = _Asked({item.key: item for item in items}, now)
        return items

    def finish(self, key: str, values: list[float] | None) -> None:
        """A item is done, or given up (`None`)."""
        for asked in self._asked.values():
            if key in asked.items:
                asked.failed |= values is None
                asked.values[key] = values or []

    def answer(self, name: str) -> MeasurementState:
        """How it stands; once it is answered, it is forgotten."""
        asked = self._asked[name]
        if asked.failed:
            del self._asked[name]
            return MeasurementState(failed=True)
        if len(asked.values) < len(asked.items):
            return MeasurementState()
        del self._asked[name]
        return MeasurementState([value for key in asked.items for value in asked.values[key]])

    def open(self, name: str) -> list[Measurement]:
        """The items that are not done."""
        asked = self._asked.get(name)
        return [item for key, item in asked.items.items() if key not in asked.values] if asked else []

    def silent(self, since: float) -> list[str]:
        """Measurements that nobody has asked for since then."""
        return [name for name, asked in self._asked.items() if asked.asked_at < since]

    def forget(self, name: str) -> None:
        """Nobody waits for it any more."""
        self._asked.pop(name, None)
