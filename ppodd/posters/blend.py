"""Blend weights π over the posters of all stages so far (P-PoDD; the published code and the paper's text differ).

Every strategy maps the accuracies of the archived stages `A_1 … A_{T−1}` (percent, oldest first) to `T` weights that
sum to 1: one for each archived poster, oldest first, and the last for the poster in training. Add a strategy by writing
one function and naming it in `BLENDS`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from ppodd.registry import Entry, Registry

# What the algorithm expects of the stage in training: nine tenths of the stage before it.
_GUESS = 0.9
_TINY = 1e-5
_ROUNDING = 1e-6


class BlendParameters(NamedTuple):
    """β (`boost`), λ (`decay`) and ε (`floor`) of the paper's algorithm."""

    boost: float = 1.5
    decay: float = 0.5
    floor: float = 0.1


Strategy = Callable[[Sequence[float], BlendParameters], list[float]]


def _normalised(weights: Sequence[float]) -> list[float]:
    total = math.fsum(weights)
    return [w / total for w in weights]


def _shares(accuracies: Sequence[float]) -> list[float]:
    """`w_t = (A_t + 1e-5) / Σ`: each poster's share of the accuracy."""
    return _normalised([a + _TINY for a in accuracies])


def _with_guess(accuracies: Sequence[float]) -> list[float]:
    """The archived accuracies and the guess for the stage in training; one share each before any is known."""
    return [*accuracies, _GUESS * accuracies[-1] if accuracies else 1.0]


def _decay(ages: Sequence[int], parameters: BlendParameters) -> list[float]:
    return [math.exp(-parameters.decay * age) for age in ages]


def _boosted(weights: Sequence[float], boosted: int, parameters: BlendParameters) -> list[float]:
    """Boost one slot, normalise, raise every weight to at least ε/T, normalise again."""
    weights = list(weights)
    weights[boosted] *= parameters.boost
    floor = parameters.floor / len(weights)
    return _normalised([max(w, floor) for w in _normalised(weights)])


def dynamic(accuracies: Sequence[float], parameters: BlendParameters) -> list[float]:
    """The paper's algorithm as its text intends: own accuracy, decay by age, boost to the poster in training."""
    shares = _shares(_with_guess(accuracies))
    decays = _decay(range(len(shares) - 1, -1, -1), parameters)
    return _boosted([w * d for w, d in zip(shares, decays, strict=True)], -1, parameters)


def paper(accuracies: Sequence[float], parameters: BlendParameters) -> list[float]:
    """The paper's algorithm as printed: `d_t = exp(−λ (t−1))` decays with t, so the oldest poster is favoured."""
    shares = _shares(_with_guess(accuracies))
    decays = _decay(range(len(shares)), parameters)
    return _boosted([w * d for w, d in zip(shares, decays, strict=True)], -1, parameters)


def released(accuracies: Sequence[float], parameters: BlendParameters) -> list[float]:
    """What the published code computed. Its slots are (in training, stage 1, …, stage T−1).

    The accuracies are not moved to those slots, the guess made at T = 2 stays in the list for good, and the boost goes
    to the latest archived poster.
    """
    slots = len(accuracies) + 1
    seen = [*accuracies[:1], *([_GUESS * accuracies[0]] if accuracies else [1.0]), *accuracies[1:]][:slots]
    decays = _decay(range(slots), parameters)
    in_training, *archived = _boosted([w * d for w, d in zip(_shares(seen), decays, strict=True)], -1, parameters)
    return [*archived, in_training]


def uniform(accuracies: Sequence[float], parameters: BlendParameters) -> list[float]:
    """Every poster alike: `π_t = 1/T`."""
    del parameters
    return _normalised([1.0] * (len(accuracies) + 1))


def accuracy(accuracies: Sequence[float], parameters: BlendParameters) -> list[float]:
    """By accuracy alone: `π_t = w_t`."""
    del parameters
    return _shares(_with_guess(accuracies))


def recency(accuracies: Sequence[float], parameters: BlendParameters) -> list[float]:
    """By age alone: `π_t ∝ exp(−λ · age)`."""
    return _normalised(_decay(range(len(accuracies), -1, -1), parameters))


def latest(accuracies: Sequence[float], parameters: BlendParameters) -> list[float]:
    """The poster in training alone: plain PoDD, run on in segments."""
    del parameters
    return [0.0] * len(accuracies) + [1.0]


def _released_evaluation(accuracies: Sequence[float], parameters: BlendParameters) -> list[float]:
    """All `T` posters are archived, and the last one is counted a second time as the poster in training."""
    *archived, again = released([*accuracies, _GUESS * accuracies[-1] if accuracies else 1.0], parameters)
    archived[-1] += again
    return archived


@dataclass(frozen=True)
class Blend(Entry):
    """A blend strategy.

    Attributes:
        evaluation: the weights to evaluate with, where they are not those that the last stage was trained under.
        leaks: whether its accuracies are measured on the test set, as the published runs did: then its results leak.
    """

    evaluation: Strategy | None = None
    leaks: bool = False


BLENDS = Registry(
    "blend",
    Blend,
    "ppodd.blends",
    "a function (accuracies of the T − 1 archived stages, BlendParameters) -> T weights, none negative, that sum to 1",
    {
        "dynamic": Blend(dynamic, "the paper's algorithm as its text intends"),
        "paper": Blend(paper, "the paper's algorithm as printed: the oldest poster is favoured"),
        "released": Blend(released, "as the published code computes it", _released_evaluation, leaks=True),
        "uniform": Blend(uniform, "every poster alike"),
        "accuracy": Blend(accuracy, "by accuracy alone"),
        "recency": Blend(recency, "by age alone"),
        "latest": Blend(latest, "the poster in training alone: plain PoDD"),
    },
)


def blend_weights(strategy: str, accuracies: Sequence[float], parameters: BlendParameters) -> list[float]:
    """π while stage `T = len(accuracies) + 1` is trained: `T` weights, oldest poster first, summing to 1.

    Raises:
        BadInput: a user's own strategy cannot be imported, or returns something else.
    """
    returned = BLENDS.get(strategy)(accuracies, parameters)
    weights = _numbers(returned)
    count, total = len(accuracies) + 1, math.fsum(weights)
    if len(weights) != count or min(weights) < 0 or not abs(total - 1) < _ROUNDING:
        raise BLENDS.returned(strategy, returned, f"T = {count}")
    return weights


def _numbers(returned: Any) -> list[float]:
    """Any sequence or array of numbers as a list; an empty one for whatever else."""
    try:
        return [float(weight) for weight in returned]
    except (TypeError, ValueError):
        return []


def evaluation_weights(strategy: str, accuracies: Sequence[float], parameters: BlendParameters) -> list[float]:
    """π to evaluate the posters of the `T = len(accuracies) + 1` archived stages with; the last accuracy is not used.

    It is the π that the last stage was trained under, unless the strategy says otherwise.
    """
    evaluation = BLENDS.get(strategy).evaluation
    return evaluation(accuracies, parameters) if evaluation else blend_weights(strategy, accuracies, parameters)
