"""What every accuracy stands beside: random real images at the same budget, the whole training set."""

import pytest
from frames import rows, seeds, words

from results.analysis.answer import answers
from results.analysis.baselines import with_baselines
from results.analysis.comparisons import compare
from results.analysis.curves import level, lines
from results.analysis.tidy_frame import settings
from results.reporting.charts import chart
from results.reporting.curve_picture import curve
from results.reporting.tables import notes, table


def each_seed(method, *accuracies, **values):
    return [{"seed": s, "method": method, "accuracy": a, **values} for s, a in enumerate(accuracies)]


def study(*more):
    """Two stages of P-PoDD 20 points over real images, which lie 5 points apart over seeds."""
    trials = [
        *each_seed("p-podd", 70.0, 75.0, 80.0, num_stages=2, blend="dynamic"),
        *each_seed("podd", 60.0, 65.0, 72.0),
        *each_seed("downscaled", 50.0, 54.0, 61.0, num_stages=2, blend="dynamic"),
        *each_seed("full-data", 90.0),
        *each_seed("chance", 10.0, 10.0),
        *more,
    ]
    frame = rows(trials)
    return with_baselines(frame.assign(stage_accuracy_pct=frame["accuracy_pct"]))


def test_an_accuracy_stands_beside_real_images_of_as_many_pixels_and_its_own_seed():
    frame = study()
    ours = frame[(frame["method"] == "p-podd") & (frame["stage"] == 2)]
    assert ours["over_random_pct"].tolist() == [20, 21, 19]
    assert ours["of_full_data_pct"].tolist() == pytest.approx([100 * a / 90 for a in (70, 75, 80)])
    # PoDD's one poster beside the first stage of real images, not the two posters of both stages
    first = frame[(frame["method"] == "podd")]
    assert (first["cumulative_ipc"] == 0.5).all() and first["over_random_pct"].tolist() == [10, 11, 11]
    assert frame[frame["method"].isin(["downscaled", "full-data", "chance"])]["over_random_pct"].isna().all()


@pytest.mark.parametrize("different", [{"eval_arch": "convnetw"}, {"mode": "latest"}, {"width": 8}, {"dataset": "x"}])
def test_what_was_evaluated_otherwise_is_no_baseline(different):
    frame = study(*each_seed("p-podd", 70.0, 70.0, 70.0, **different))
    (name,) = different
    there = frame[frame[name] == different[name]]
    assert len(there) == 3 and there[["over_random_pct", "of_full_data_pct"]].isna().all(axis=None)


def test_the_table_shows_both_and_says_what_they_are():
    shown = table(study()).set_index("method")
    assert shown["over random"].to_dict() == {
        "p-podd": "+20.0", "podd": "+10.7", "downscaled": "–", "full-data": "–", "chance": "–"}  # fmt: skip
    assert shown.loc["p-podd", "of full data"] == "83 %"
    assert any(line.startswith("over random: points above random real images") for line in notes(study()))
    without = table(with_baselines(rows(each_seed("p-podd", 70.0, 75.0, 80.0))))
    assert not {"over random", "of full data"} & set(without.columns)


def test_what_a_method_decides_is_no_setting_beside_it():
    assert settings(study()) == ["method"]
    more = each_seed("p-podd", 71.0, 74.0, 79.0, num_stages=4, blend="dynamic")
    assert set(settings(study(*more))) == {"method", "num_stages"}


def test_a_comparison_of_methods_leaves_out_what_has_no_budget_and_says_so():
    found = compare(study(), "method", against="downscaled")
    assert set(found.table["method"]) == {"p-podd", "podd", "downscaled"}
    pair = found.pairs.set_index("a").loc["p-podd"]
    assert pair["difference_pct"] == 20 and pair["verdict"] == "higher"
    assert "left out, being of no pixel budget: chance (10.0), full-data (90.0)" in found.notes
    assert found.table.set_index("method")["over_random_pct"].round(1).to_dict()["p-podd"] == 20
    assert not any("changes along" in line for line in found.notes)


def test_the_answer_says_both_first():
    (answer,) = answers(study())
    assert answer.best == "method p-podd"
    assert answer.sentences[1] == (
        "That is +20.0 points over random real images of as many pixels (95% interval 17.5 to 22.5, n = 3 seeds) and "
        "83% of the accuracy that the whole training set gives."
    )


def test_references_are_level_lines_of_a_curve(tmp_path):
    shown = lines(study(), "cumulative_ipc", None, None)
    assert shown.references == {"chance": 10, "full-data": 90} and not shown.points["line"].str.contains("full").any()
    curve(study(), str(tmp_path / "c.svg"), "cumulative_ipc")
    assert "full-data (90.0)" in words(tmp_path / "c.svg")
    *_, full = chart(shown, "cumulative_ipc", "", level(shown, "cumulative_ipc")).series
    assert full.label == "full-data (90.0)" and len({point.y for point in full.points}) == 1
    assert {"full-data", "chance"} < set(lines(study(), "steps", None, None).rows["method"])


def test_frames_without_baselines_stay_as_they_are():
    frame = with_baselines(rows([{**trial, "method": "p-podd"} for trial in seeds(num_stages=1)]))
    (answer,) = answers(frame)
    assert len(answer.sentences) == 1


def test_a_baseline_of_other_preprocessing_is_not_compared_with():
    trials = [
        trial | {"zca": zca, "accuracy": trial["accuracy"] + shift}
        for zca, shift in ((True, 0.0), (False, 10.0))
        for trial in (*each_seed("p-podd", 70.0), *each_seed("full-data", 80.0), *each_seed("downscaled", 50.0))
    ]
    frame = rows(trials)
    found = with_baselines(frame.assign(stage_accuracy_pct=frame["accuracy_pct"]))
    assert set(found.loc[found["method"] == "full-data", "of_full_data_pct"]) == {100.0}
