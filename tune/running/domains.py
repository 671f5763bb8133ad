"""The distributions of a sweep file as Ray's searchers know them."""

from __future__ import annotations

import json
from typing import Any

import ray.tune
from ray.tune.search.sample import Domain


def category(value: Any) -> Any:
    """A choice as searchers take it: a scalar, or the text of what is none."""
    return value if isinstance(value, (str, int, float)) else json.dumps(value)


def choice(values: list[Any]) -> Domain:
    """One of the values, without an order."""
    return ray.tune.choice([category(value) for value in values])


def uniform(values: list[Any]) -> Domain:
    """Between the two bounds."""
    return ray.tune.uniform(*values)


def loguniform(values: list[Any]) -> Domain:
    """The logarithm between those of the two bounds."""
    return ray.tune.loguniform(*values)


def randint(values: list[Any]) -> Domain:
    """A whole number; Ray leaves the upper bound out, a sweep file does not."""
    return ray.tune.randint(values[0], values[1] + 1)
