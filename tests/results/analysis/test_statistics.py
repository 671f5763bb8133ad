"""Intervals, tests and corrections against numbers worked by hand."""

import math
import warnings

import numpy as np
import pytest
from scipy import stats

from results.analysis.statistics import few_seeds, holm, mean_interval, paired, paired_columns, sign_flip_p

A = {0: 51.2, 1: 52.9, 2: 50.4, 3: 53.1}
B = {0: 50.1, 1: 52.0, 2: 50.6, 3: 51.0}


def test_an_interval_is_that_of_student():
    values = list(A.values())
    found = mean_interval(values)
    low, high = stats.t.interval(0.95, len(values) - 1, np.mean(values), stats.sem(values))
    assert (found.low, found.high) == pytest.approx((low, high)) and found.n == 4
    assert found.std == pytest.approx(np.std(values, ddof=1))
    # by hand: three values 1, 2, 3 have the standard error 1/√3 and the quantile 4.3027
    assert mean_interval([1.0, 2.0, 3.0]).high == pytest.approx(2 + 4.30265 / math.sqrt(3), abs=1e-4)


def test_one_value_has_a_mean_and_no_interval_and_none_has_nothing():
    one, none = mean_interval([50.0]), mean_interval([])
    assert one.mean == 50 and one.n == 1 and all(map(math.isnan, (one.std, one.low, one.high)))
    assert none.n == 0 and all(map(math.isnan, none[:4]))


def test_two_values_have_a_spread_and_no_interval_and_no_test():
    """An interval of two would reach 9 stds to each side, below 0% and above 100%."""
    two = mean_interval([50.0, 60.0])
    assert (two.mean, two.n) == (55, 2) and two.std == pytest.approx(np.std([50, 60], ddof=1))
    assert math.isnan(two.low) and math.isnan(two.high)
    difference = paired({0: 51.0, 1: 53.0}, {0: 50.0, 1: 51.0})
    assert difference[:1] == (1.5,) and difference.n == 2 and all(map(math.isnan, difference[1:5]))


@pytest.mark.parametrize(
    ("counts", "said"),
    [
        ([3, 5, 0], []),
        ([1, 1], ["one seed: no spread or interval can be given, and a difference may be chance"]),
        ([2, 2], ["two seeds: no interval can be given, and a difference may be chance"]),
        (
            [3, 2, 1],
            [
                "one seed in some rows: no spread or interval can be given for them",
                "two seeds in some rows: no interval can be given for them",
            ],
        ),
    ],
)
def test_few_seeds_are_said(counts, said):
    assert few_seeds(counts) == said


def test_a_paired_difference_is_as_worked_by_hand():
    """Mean 0.975, std 0.943: t = 2.068 with 3 degrees of freedom; the quantile is 3.182."""
    found = paired(A, B)
    assert found.difference == pytest.approx(0.975) and found.n == 4
    assert found.p == pytest.approx(0.13049624685919217, rel=1e-9)
    assert (found.low, found.high) == pytest.approx((-0.525453966483762, 2.475453966483762), rel=1e-9)
    differences = np.array(list(A.values())) - np.array(list(B.values()))
    half = 3.182446 * differences.std(ddof=1) / math.sqrt(4)
    assert (found.low, found.high) == pytest.approx((0.975 - half, 0.975 + half), abs=1e-6)


@pytest.mark.parametrize(
    ("differences", "p"),
    [
        ([1.0, 2.0, 3.0], 2 / 2**3),
        ([1.1, 0.9, -0.2, 2.1], 4 / 2**4),
        ([0.5, 0.5, -0.5], 1.0),
        ([0.0, 0.0, 1.0, 1.0, 1.0], 2 / 2**3),
        ([2.0, 1.0, 3.0, 2.5, 1.5, 0.5], 2 / 2**6),
    ],
    ids=["three of one sign", "plain", "ties in size", "ties at zero", "six of one sign"],
)
def test_the_exact_test_counts_sign_patterns(differences, p):
    assert sign_flip_p(differences) == p


@pytest.mark.parametrize("seeds", [3, 5, 8, 12])
def test_test_interval_and_exact_p_are_those_of_scipy(seeds):
    """Ours do hundreds of settings in seconds, where scipy's own functions take minutes. Eighths have exact sums."""
    for draw in np.random.default_rng(seeds).integers(300, 320, (20, 2, seeds)) / 8:
        a, b = (dict(enumerate(values)) for values in draw)
        found = paired(a, b)
        if np.ptp(draw[0] - draw[1]) == 0:
            continue
        expected = stats.ttest_rel(*draw)
        interval = expected.confidence_interval(0.95)
        assert (found.p, found.low, found.high) == pytest.approx((expected.pvalue, interval.low, interval.high))
        exact = stats.permutation_test(
            [draw[0] - draw[1]], np.mean, permutation_type="samples", n_resamples=np.inf, vectorized=True
        )
        assert found.p_exact == pytest.approx(exact.pvalue)


def test_sums_that_are_equal_but_for_rounding_are_ties():
    """0.3 - 0.1 - 0.2 is not 0 as floats add it, and scipy alone would then count 30 of the 32 patterns."""
    assert sign_flip_p([0.3, -0.1, -0.2, 0.1, -0.1]) == 1.0


def test_equal_differences_have_no_t_and_the_exact_p_stands_in():
    """scipy gives p = 0 here: a certainty that three rounded numbers do not hold."""
    higher = paired({0: 51.0, 1: 52.0, 2: 53.0}, {0: 50.0, 1: 51.0, 2: 52.0})
    assert higher.difference == 1 and higher.p == higher.p_exact == 0.25
    same = paired(A, A)
    assert same.difference == 0 and same.p == 1 and (same.low, same.high) == (0, 0)


def test_only_shared_seeds_count():
    """A failed trial or a missing stage leaves a seed out, as a NaN or as no value at all."""
    found = paired({**A, 4: 99.0, 5: math.nan}, {**B, 5: 1.0, 6: 1.0})
    assert found == paired(A, B)


def test_many_pairs_at_once_are_what_each_is_by_itself():
    """Whatever seeds they share; equal differences and more seeds than sign patterns are looked at among them."""
    random = np.random.default_rng(0)
    for seeds in (0, 1, 3, 10, 18):
        a, b = random.normal(50, 3, (2, seeds, 40)).round(1)
        a[random.random(a.shape) < 0.1] = math.nan
        b[:, :5] = a[:, :5] - 1
        columns = paired_columns(a, b)
        for pair in range(a.shape[1]):
            found = paired(dict(enumerate(a[:, pair])), dict(enumerate(b[:, pair])))
            together = tuple(float(column[pair]) for column in columns)
            assert found == pytest.approx(together, rel=1e-15, abs=0, nan_ok=True)


def test_one_shared_seed_gives_a_difference_and_no_claim():
    one, none = paired({0: 51.0, 1: 2.0}, {0: 50.0, 2: 3.0}), paired({0: 1.0}, {1: 1.0})
    assert one.difference == 1 and one.n == 1 and all(map(math.isnan, (one.low, one.high, one.p, one.p_exact)))
    assert none.n == 0 and math.isnan(none.difference)


def test_holm_is_as_worked_by_hand():
    # sorted .01 .03 .04 times 3 2 1 = .03 .06 .04, then never falling: .03 .06 .06
    assert holm([0.04, 0.01, 0.03]) == pytest.approx([0.06, 0.03, 0.06])
    assert holm([0.5, 0.9]) == [1.0, 1.0] and holm([]) == []
    with_nan = holm([0.01, math.nan, 0.02])
    assert with_nan[0] == 0.02 and math.isnan(with_nan[1]) and with_nan[2] == 0.02


def test_nothing_warns():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        paired(A, dict.fromkeys(A, 1.0))
        paired({}, {})
        assert math.isnan(sign_flip_p([1.0] * 17))
