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
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

CONFIDENCE = 0.95
ALPHA = 1 - CONFIDENCE
ENOUGH_SEEDS = 3  # two leave one degree of freedom: an interval of 9 stds to each side, which tells nothing
_EXACT_UP_TO = 16  # seeds whose 2ⁿ sign patterns are all looked at
_TIE = 1e-9  # percent points: differences below it are none
_CELLS = 1 << 20  # sums of sign patterns held at a time


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
    from scipy.special import stdtrit  # scipy.stats' own takes a second to import

    return float(stdtrit(n - 1, 0.5 + CONFIDENCE / 2))


def paired(a: Mapping[Any, float], b: Mapping[Any, float]) -> Paired:
    """Compare two settings over the seeds that both have; a seed that is missing or NaN in one is left out."""
    seeds = [seed for seed in a if seed in b]
    of_each = [np.array([values[seed] for seed in seeds], float)[:, None] for values in (a, b)]
    found = paired_columns(*of_each)
    difference, low, high, p, exact = (float(column[0]) for column in found[:5])
    return Paired(difference, low, high, p, exact, int(found.n[0]))


class PairedColumns(NamedTuple):
    """`Paired` of many pairs: an array of each."""

    difference: np.ndarray
    low: np.ndarray
    high: np.ndarray
    p: np.ndarray
    p_exact: np.ndarray
    n: np.ndarray


def paired_columns(a: np.ndarray, b: np.ndarray) -> PairedColumns:
    """`paired` of each column of two tables `[seeds, pairs]`: of hundreds of settings there are 100,000 pairs."""
    differences = np.asarray(a - b, float)
    known = ~np.isnan(differences)
    found = np.full((5, differences.shape[1]), math.nan)
    for seeds, pairs in alike(known):
        found[:, pairs] = _tested(np.ascontiguousarray(differences[np.ix_(seeds, pairs)].T))
    difference, low, high, p, exact = found
    return PairedColumns(difference, low, high, p, exact, known.sum(axis=0))


def alike(columns: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Each column that there is of a table of booleans, and the numbers of the columns equal to it."""
    if not columns.size or (columns == columns[:, :1]).all():  # of whole sweeps; to find out by sorting takes seconds
        there, which = columns[:, :1], np.zeros(columns.shape[1], int)
    else:
        there, which = np.unique(columns, axis=1, return_inverse=True)
    for number, column in enumerate(there.T):
        yield column, np.flatnonzero(which == number)


def _tested(differences: np.ndarray) -> np.ndarray:
    """Difference, low, high, p and exact p (rows) of the differences of pairs, `[pairs, seeds]`."""
    pairs, n = differences.shape
    found = np.full((5, pairs), math.nan)
    if n:
        found[0] = differences.mean(axis=1)
    if n < ENOUGH_SEEDS:
        return found
    from scipy.special import stdtr

    mean, std = found[0], differences.std(axis=1, ddof=1)
    half = t_quantile(n) * std / math.sqrt(n)
    exact = _sign_flips(differences)
    varies = std >= _TIE
    error = np.where(varies, std, 1.0) / math.sqrt(n)
    found[1:] = mean - half, mean + half, np.where(varies, 2 * stdtr(n - 1, -np.abs(mean) / error), exact), exact
    return found


def sign_flip_p(differences: Sequence[float] | np.ndarray) -> float:
    """The share of the 2ⁿ sign patterns that give a mean at least as far from 0; NaN for more than 16 differences."""
    return float(_sign_flips(np.asarray(differences, float)[None])[0])


def _sign_flips(differences: np.ndarray) -> np.ndarray:
    """`sign_flip_p` of each row."""
    pairs, n = differences.shape
    found = np.full(pairs, math.nan)
    if n > _EXACT_UP_TO:
        return found
    # integers, so that sums which are equal are equal as floats
    whole = np.rint(differences / _TIE)
    signs = _signs(n)
    at_once = max(1, _CELLS // len(signs))
    for start in range(0, pairs, at_once):
        some = whole[start : start + at_once]
        sums = some @ signs.T
        np.abs(sums, out=sums)
        found[start : start + at_once] = np.mean(sums >= np.abs(some.sum(axis=1))[:, None], axis=1)
    return found


@functools.lru_cache(maxsize=4)
def _signs(n: int) -> np.ndarray:
    """Every pattern of n signs but for those that are another's opposite, which are as far from 0; `[2ⁿ⁻¹, n]`."""
    return 1.0 - 2.0 * (np.arange(2 ** max(n - 1, 0))[:, None] >> np.arange(n) & 1)


def holm(ps: Sequence[float] | np.ndarray) -> list[float]:
    """Holm's step-down correction: p values that hold together for all comparisons made. NaN are no comparisons."""
    values = np.asarray(ps, float)
    order = np.argsort(values, kind="stable")[: np.count_nonzero(~np.isnan(values))]  # NaN are sorted last
    corrected = np.full(len(values), math.nan)
    steps = np.minimum(1.0, np.arange(len(order), 0, -1) * values[order])
    corrected[order] = np.maximum.accumulate(steps) if len(order) else steps
    return [float(p) for p in corrected]
