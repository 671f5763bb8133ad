"""What can be said of few values: means with 95% intervals, paired differences with a test, many comparisons at once.

The values are accuracies of seeds, each a mean over networks and thousands of test images, so Student's t fits them as
well as anything does. The paired t-test is the one reported: it takes out what a seed does to both settings, and it
can tell a difference from three seeds. The exact sign-flip test needs no normal distribution, but its least p of n
seeds is 2 / 2ⁿ: 0.25 for three, below 0.05 only from six on. It stands beside the t-test as a check, and in its place
where every difference is the same number (rounded accuracies do that): no variance, hence no t. Of fewer than three
seeds nothing is claimed: no interval, no test.

Both are written here on scipy's distributions: `scipy.stats.ttest_rel` and `permutation_test` take milliseconds a
pair, minutes for the pairs of hundreds of settings, and tell sums that differ by rounding apart. A test holds that they
agree.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

CONFIDENCE = 0.95
ALPHA = 1 - CONFIDENCE
ENOUGH_SEEDS = 3  # two leave one degree of freedom: an interval of 9 stds to each side, which tells nothing
_EXACT_UP_TO = 16  # seeds whose 2ⁿ sign patterns are all looked at
_TIE = 1e-9  # percent points: differences below it are none


class Mean(NamedTuple):
    """A mean with its sample standard deviation and 95% t-interval; one value gives neither, two no interval (NaN)."""

    mean: float
    std: float
    low: float
    high: float
    n: int


class Paired(NamedTuple):
    """The mean of the differences `a − b` over the shared seeds, its 95% interval, and the p of "there is none".

    Fewer than three shared seeds give a difference and nothing else (NaN); none gives NaN throughout.
    """

    difference: float
    low: float
    high: float
    p: float
    p_exact: float
    n: int


def mean_interval(values: Sequence[float]) -> Mean:
    """Mean, std and 95% t-interval of the values that are numbers."""
    kept = np.array([v for v in values if not math.isnan(v)], float)
    n = len(kept)
    mean = float(kept.mean()) if n else math.nan
    if n < 2:
        return Mean(mean, math.nan, math.nan, math.nan, n)
    std = float(kept.std(ddof=1))
    if n < ENOUGH_SEEDS:
        return Mean(mean, std, math.nan, math.nan, n)
    half = t_quantile(n) * std / math.sqrt(n)
    return Mean(mean, std, mean - half, mean + half, n)


def few_seeds(counts: Iterable[int]) -> list[str]:
    """What must be said of means over so many seeds each, where some are too few for an interval."""
    there = set(counts) - {0}
    notes = []
    for n, seeds, what in ((1, "one seed", "spread or interval"), (2, "two seeds", "interval")):
        if there == {n}:
            notes.append(f"{seeds}: no {what} can be given, and a difference may be chance")
        elif n in there:
            notes.append(f"{seeds} in some rows: no {what} can be given for them")
    return notes


@functools.cache
def t_quantile(n: int) -> float:
    """How many standard errors the 95% interval of n values reaches from their mean."""
    from scipy.stats import t

    return float(t.ppf(0.5 + CONFIDENCE / 2, n - 1))


def paired(a: Mapping[Any, float], b: Mapping[Any, float]) -> Paired:
    """Compare two settings over the seeds that both have; a seed that is missing or NaN in one is left out."""
    seeds = [s for s in a if s in b and not math.isnan(a[s]) and not math.isnan(b[s])]
    differences = np.array([a[s] - b[s] for s in seeds], float)
    mean, std, low, high, n = mean_interval(list(differences))
    if n < ENOUGH_SEEDS:
        return Paired(mean, math.nan, math.nan, math.nan, math.nan, n)
    exact = sign_flip_p(differences)
    if std < _TIE:
        return Paired(mean, low, high, exact, exact, n)
    from scipy.special import stdtr

    p = 2 * float(stdtr(n - 1, -abs(mean) / (std / math.sqrt(n))))
    return Paired(mean, low, high, p, exact, n)


def sign_flip_p(differences: Sequence[float] | np.ndarray) -> float:
    """The share of the 2ⁿ sign patterns that give a mean at least as far from 0; NaN for more than 16 differences."""
    if len(differences) > _EXACT_UP_TO:
        return math.nan
    # integers, so that sums which are equal are equal as floats
    whole = np.rint(np.asarray(differences, float) / _TIE)
    return float(np.mean(np.abs(_signs(len(whole)) @ whole) >= abs(whole.sum())))


@functools.lru_cache(maxsize=4)
def _signs(n: int) -> np.ndarray:
    """Every pattern of n signs, `[2ⁿ, n]`."""
    return 1.0 - 2.0 * (np.arange(2**n)[:, None] >> np.arange(n) & 1)


def holm(ps: Sequence[float]) -> list[float]:
    """Holm's step-down correction: p values that hold together for all comparisons made. NaN are no comparisons."""
    order = sorted((i for i, p in enumerate(ps) if not math.isnan(p)), key=lambda i: ps[i])
    corrected, least = [math.nan] * len(ps), 0.0
    for rank, i in enumerate(order):
        least = max(least, min(1.0, (len(order) - rank) * ps[i]))
        corrected[i] = least
    return corrected
