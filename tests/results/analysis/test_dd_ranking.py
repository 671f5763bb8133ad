"""DD-Ranking's scores against its definition, worked out by hand."""

import math

import pytest
from frames import rows, seeds

from ppodd.errors import BadInput
from results.analysis.dd_ranking import robust_scores, score


def trials(method, accuracy, protocol="", **values):
    return [{**trial, "method": method, "accuracy": accuracy, "protocol": protocol} for trial in seeds(**values)]


EVALUATED = [
    *trials("podd", 60.0), *trials("podd", 50.0, "labels=hard"), *trials("podd", 56.0, "strategy=none"),
    *trials("downscaled", 40.0), *trials("downscaled", 44.0, "strategy=none"),
    *trials("full-data", 90.0),
]  # fmt: skip


def test_scores_follow_the_published_definition_with_accuracies_as_fractions():
    table = robust_scores(rows(EVALUATED)).table
    (row,) = table.to_dict("records")
    assert (row["method"], row["seeds"], row["HLR_pct"], row["IOR_pct"]) == ("podd", 3, 40.0, 20.0)
    normal = math.e - 1 / math.e
    assert row["LRS"] == pytest.approx((math.exp(0.5 * 0.2 - 0.5 * 0.4) - 1 / math.e) / normal)
    assert row["ARS"] == pytest.approx((math.exp(0.5 * 0.2 + 0.5 * 0.12) - 1 / math.e) / normal)


def test_a_score_is_0_for_the_worst_there_can_be_and_1_for_the_best():
    assert score(-1) == 0 and score(1) == 1 and 0 < score(0) < 0.5


def test_what_was_not_evaluated_has_no_score():
    soft = [trial for trial in EVALUATED if trial["protocol"] != "labels=hard"]
    (row,) = robust_scores(rows(soft)).table.to_dict("records")
    assert math.isnan(row["LRS"]) and row["ARS"] > 0
    with pytest.raises(BadInput, match=r"evaluate posters, random images .* `labels: .soft, hard.` for LRS"):
        robust_scores(rows(trials("podd", 60.0)))


def test_random_images_of_another_budget_are_not_laid_beside():
    other = [{**trial, "poster_width": 10} if trial["method"] == "downscaled" else trial for trial in EVALUATED]
    with pytest.raises(BadInput, match="no setting was evaluated"):
        robust_scores(rows(other))
