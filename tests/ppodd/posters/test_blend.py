"""Blend weights against METHOD.md §5."""

import math

import pytest
from plugins import user_module

from ppodd.errors import BadInput
from ppodd.posters.blend import BLENDS, BlendParameters, blend_weights, evaluation_weights

PARAMETERS = BlendParameters()
SEEN = [37.2, 43.4, 48.9, 51.7]


@pytest.mark.parametrize("strategy", BLENDS.own)
@pytest.mark.parametrize("stages", range(5))
def test_weights_are_a_distribution_over_all_posters_so_far(strategy, stages):
    for weights in (
        blend_weights(strategy, SEEN[:stages], PARAMETERS),
        evaluation_weights(strategy, SEEN[:stages], PARAMETERS),
    ):
        assert len(weights) == stages + 1
        assert math.fsum(weights) == pytest.approx(1)
        assert min(weights) >= 0


def test_released_gives_the_papers_figure():
    # slots of the published code: (in training, stage 1, stage 2); ours end with the one in training
    oldest, second, in_training = blend_weights("released", SEEN[:2], PARAMETERS)
    assert [round(w, 2) for w in (in_training, oldest, second)] == [0.46, 0.25, 0.29]


def test_released_works_beyond_five_stages():
    assert len(blend_weights("released", [30.0] * 9, PARAMETERS)) == 10


def test_released_evaluates_with_the_current_poster_counted_twice():
    weights = evaluation_weights("released", [], PARAMETERS)
    assert weights == pytest.approx([1.0])
    trained, evaluated = (f("released", SEEN[:2], PARAMETERS) for f in (blend_weights, evaluation_weights))
    assert evaluated[-1] > trained[-1]


def test_paper_is_the_algorithm_as_printed():
    # T = 2, A_1 = 40, guess 36: w = (40, 36)/76, d = (1, e^-0.5), boost 1.5 on the second
    first, second = 40 / 76, 36 / 76 * math.exp(-0.5) * 1.5
    assert blend_weights("paper", [40.0], PARAMETERS) == pytest.approx(
        [first / (first + second), second / (first + second)], rel=1e-5
    )


def test_dynamic_decays_by_age_and_boosts_the_poster_in_training():
    first, second = 40 / 76 * math.exp(-0.5), 36 / 76 * 1.5
    assert blend_weights("dynamic", [40.0], PARAMETERS) == pytest.approx(
        [first / (first + second), second / (first + second)], rel=1e-5
    )


def test_no_weight_falls_below_the_floor():
    weights = blend_weights("dynamic", [1e-9, 50.0, 50.0], PARAMETERS)
    assert weights[0] == pytest.approx(0.1 / 4, rel=0.03)


def test_simple_strategies():
    assert blend_weights("uniform", SEEN, PARAMETERS) == pytest.approx([0.2] * 5)
    assert blend_weights("latest", SEEN, PARAMETERS) == [0, 0, 0, 0, 1]
    assert blend_weights("accuracy", [40.0], PARAMETERS) == pytest.approx([40 / 76, 36 / 76])
    recency = blend_weights("recency", [40.0, 1.0], PARAMETERS)
    assert recency[1] / recency[0] == pytest.approx(math.exp(0.5))


def test_parameters_change_the_strategies_that_use_them():
    strong = BlendParameters(boost=3.0, decay=0.0, floor=0.0)
    assert blend_weights("dynamic", [50.0], strong) == pytest.approx([1 / 3.7, 2.7 / 3.7])


def test_a_strategy_of_a_users_own_is_one_function(tmp_path, monkeypatch):
    code = "def oldest(accuracies, parameters): return [1.0] + [0.0] * len(accuracies)"
    path = f"{user_module(tmp_path, monkeypatch, code)}:oldest"
    assert blend_weights(path, SEEN[:2], PARAMETERS) == evaluation_weights(path, SEEN[:2], PARAMETERS) == [1, 0, 0]


@pytest.mark.parametrize("returned", ["[1.0]", "[0.5, 0.6]", "[1.5, -0.5]", "[float('nan'), 1.0]", "3", "['a', 'b']"])
def test_what_are_no_weights_is_refused_with_the_signature(tmp_path, monkeypatch, returned):
    path = f"{user_module(tmp_path, monkeypatch, f'def f(accuracies, parameters): return {returned}')}:f"
    accepted = r"accepted is a function \(accuracies of .*\) -> T weights, none negative, that sum to 1"
    with pytest.raises(BadInput, match=f"blend '{path}' returned .* for T = 2; {accepted}"):
        blend_weights(path, [40.0], PARAMETERS)
