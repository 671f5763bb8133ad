"""The distributions that a sweep file's `sample` draws from. Light: needs neither torch nor Ray."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ppodd.registry import Entry, Registry


def _listed(values: Any) -> list[Any]:
    if not isinstance(values, list) or not values:
        raise ValueError
    return values


def _bounds(values: Any) -> list[Any]:
    low, high = map(float, values)
    if low > high:
        raise ValueError
    return [low, high]


def _positive_bounds(values: Any) -> list[Any]:
    low, high = _bounds(values)
    if low <= 0:
        raise ValueError
    return [low, high]


def _whole_bounds(values: Any) -> list[Any]:
    low, high = map(int, values)
    _bounds([low, high])
    return [low, high]


@dataclass(frozen=True)
class Family(Entry):
    """One kind of distribution.

    Attributes:
        read: its values as the file writes them, checked; whatever is wrong with them is a `TypeError` or `ValueError`.
        written: how they are written.
        listed: whether its values are the possible outcomes of a draw: then they may be of several fields.
        domain: a function of them that returns what Ray's searchers know as this distribution; without one, it is drawn
            but not searched.
    """

    read: Callable[[Any], list[Any]] = _listed
    written: str = "a list of values"
    listed: bool = False
    domain: Callable[[list[Any]], Any] | None = None


def _choice(source: random.Random, values: list[Any]) -> Any:
    return source.choice(values)


def _uniform(source: random.Random, values: list[Any]) -> float:
    return source.uniform(*values)


def _loguniform(source: random.Random, values: list[Any]) -> float:
    return math.exp(source.uniform(*map(math.log, values)))


def _randint(source: random.Random, values: list[Any]) -> int:
    return source.randint(*values)


def _searched(name: str) -> Entry:
    return Entry(f"tune.running.domains:{name}")


DISTRIBUTIONS = Registry(
    "distribution",
    Family,
    "ppodd.distributions",
    "a function (random.Random, the values as the sweep file lists them) -> one value of the field",
    {
        "choice": Family(_choice, "one of the values", listed=True, domain=_searched("choice")),
        "uniform": Family(_uniform, "between two bounds", _bounds, "[low, high]", domain=_searched("uniform")),
        "loguniform": Family(
            _loguniform, "its logarithm between two bounds", _positive_bounds, "[low, high], above 0",
            domain=_searched("loguniform"),
        ),
        "randint": Family(
            _randint, "a whole number, both bounds included", _whole_bounds, "[low, high]", domain=_searched("randint")
        ),
    },
)  # fmt: skip
