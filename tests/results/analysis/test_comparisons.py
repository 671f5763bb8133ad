"""What is averaged, what is told apart, and what is said beside it."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from frames import rows, seeds, spread, words

from ppodd.errors import BadInput
from results.analysis.answer import answers, main_protocol, scope
from results.analysis.comparisons import OVERALL, compare
from results.analysis.curves import curve_points
from results.analysis.statistics import holm, mean_interval, paired
from results.analysis.tidy_frame import remarks
from results.reporting.curve_picture import curve
from results.reporting.tables import as_text, table
from results.reporting.tables import notes as table_notes


def test_means_and_stds_are_over_seeds_alone():
    result = compare(rows([*seeds(num_stages=1), *seeds(num_stages=2)]), "num_stages").table
    assert result[["num_stages", "accuracy_pct", "std_pct", "seeds"]].values.tolist() == [[1, 11, 1, 3], [2, 21, 1, 3]]


def test_trials_that_took_an_unknown_time_are_left_out_where_seconds_count_and_counted():
    imported = seeds(num_stages=3, seconds=float("nan"), origin="imported")
    frame = rows([*seeds(num_stages=1), *seeds(num_stages=2), *imported])
    result = compare(frame, "num_stages", at="seconds")
    assert set(result.table["num_stages"]) == {1, 2}
    assert "left out: 3 trials of unknown seconds (imported posters)" in result.notes
    assert set(compare(frame, "num_stages").table["num_stages"]) == {1, 2, 3}
    assert len(curve_points(frame, "seconds")) == 1 + 2
    with pytest.raises(BadInput, match="two protocols in one curve: origin is distilled, imported"):
        curve_points(frame, "meta_steps", by=["num_stages"])
    alone = rows(imported)
    for look in (lambda: compare(alone, "lr", at="seconds"), lambda: curve_points(alone, "seconds")):
        with pytest.raises(BadInput, match="not known \\(they were imported\\): compare at meta_steps"):
            look()


def test_a_seed_run_twice_counts_once():
    again = rows([*seeds(num_stages=1), *seeds(num_stages=2), {"seed": 0, "sweep": "again"}])
    result = compare(again, "num_stages").table
    assert result.loc[0, ["accuracy_pct", "std_pct", "seeds"]].tolist() == [11, 1, 3]
    assert table(again).loc[0, ["seeds", "100 steps"]].tolist() == [3, "11.0 ± 1.0"]


def test_other_settings_keep_rows_of_their_own():
    trials = [trial for n in (1, 2) for lr in (0.1, 0.2) for trial in seeds(num_stages=n, lr=lr)]
    result = compare(rows(trials), "num_stages").table
    assert result[["lr", "num_stages", "seeds"]].values.tolist() == [[0.1, 1, 3], [0.1, 2, 3], [0.2, 1, 3], [0.2, 2, 3]]


def test_epochs_that_vary_by_themselves_are_not_averaged_over():
    trials = [trial for n in (1, 2) for epochs in (8, 16) for trial in seeds(num_stages=n, epochs=epochs)]
    result = compare(rows(trials), "num_stages").table
    assert len(result) == 4 and set(result["seeds"]) == {3} and "epochs" in result


def test_a_field_that_changes_along_is_named_not_hidden():
    result, *_, notes = compare(rows([*seeds(num_stages=1, lr=0.1), *seeds(num_stages=2, lr=0.2)]), "num_stages")
    assert len(result) == 2
    assert "lr changes along with num_stages (1: 0.1, 2: 0.2): a difference may be due to either" in notes


def test_posters_of_one_ipc_and_two_shapes_are_two_settings():
    sizes = [{"poster_width": 20, "poster_height": 16}, {"poster_width": 16, "poster_height": 20}]
    trials = [trial for n in (1, 2) for size in sizes for trial in seeds(num_stages=n, **size)]
    result = compare(rows(trials), "num_stages").table
    assert len(result) == 4 and set(result["seeds"]) == {3} and "poster_width" in result
    assert len(table(rows(trials))) == 4
    assert len(set(curve_points(rows(trials))["line"])) == 4


def test_stages_of_one_cumulative_ipc_are_not_averaged():
    """The latest poster alone is as many pixels at every stage."""
    trials = [*seeds(num_stages=2, blend="latest"), *seeds(num_stages=2, blend="dynamic")]
    result, *_, notes = compare(rows(trials), "blend", at="cumulative_ipc")
    latest = result[result["blend"] == "latest"]
    assert latest[["stage", "accuracy_pct", "seeds"]].values.tolist() == [[1, 11, 3], [2, 21, 3]]
    assert "not every blend was measured at cumulative_ipc=1.0: only dynamic" in notes


def test_few_large_posters_meet_many_small_ones_at_equal_cumulative_ipc():
    trials = [*seeds(num_stages=1, poster_width=40), *seeds(num_stages=2, poster_width=20)]
    result, *_, notes = compare(rows(trials), "num_stages", at="cumulative_ipc")
    equal = result[result["cumulative_ipc"] == 1]
    assert equal[["num_stages", "poster_ipc", "seeds"]].values.tolist() == [[1, 1, 3], [2, 0.5, 3]]
    unequal = "at cumulative_ipc=1.0 the poster_ipc is not equal (1 stage 1: 1.000, 2 stage 2: 0.500)"
    assert any(unequal in note for note in notes)


def test_unequal_compute_is_said():
    trials = [*seeds(blend="dynamic", epochs=8), *seeds(blend="uniform", epochs=16)]
    *_, notes = compare(rows(trials), "blend")
    assert any("the meta_steps is not equal (dynamic: 8, uniform: 16)" in note for note in notes)


def test_modes_and_protocols_can_be_compared_and_are_never_mixed():
    trials = [trial for mode in ("blend", "latest") for trial in seeds(mode=mode)]
    assert list(compare(rows(trials), "mode").table["mode"]) == ["blend", "latest"]
    mixed = rows([*seeds(num_stages=1), *seeds(num_stages=2), *seeds(num_stages=2, protocol="nets=9")])
    result, *_, notes = compare(mixed, "num_stages")
    assert result[["protocol", "num_stages", "seeds"]].values.tolist() == [["", 1, 3], ["", 2, 3], ["nets=9", 2, 3]]
    assert "not every num_stages was measured at poster_ipc=0.5, protocol=nets=9: only 2" in notes
    assert "evaluated with nets=9" in notes[0]


def test_half_the_seeds_and_trials_under_way_are_said():
    under_way = {"blend": "uniform", "seed": 1, "num_stages": 2, "stages_done": 1}
    frame = rows([*seeds(blend="dynamic"), {"blend": "uniform"}, under_way])
    result, *_, notes = compare(frame, "blend")
    assert result["seeds"].tolist() == [3, 1] and pd.isna(result["std_pct"][1])
    assert "one seed in some rows: no spread or interval can be given for them" in notes and "–" in as_text(result)
    assert remarks(frame) == ["1 trial without results of the last stage (yet): t4"]


def test_a_half_finished_sweep_is_shown_with_what_is_missing():
    under_way = [{"blend": "uniform", "seed": seed, "num_stages": 2, "stages_done": 1} for seed in (0, 1)]
    missing = {"blend": "dynamic", "seed": 2, "num_stages": 2, "stages_done": 1, "status": "failed"}
    frame = rows([*seeds(blend="dynamic", num_stages=2)[:2], missing, *under_way])
    shown = table(frame)
    assert shown[["blend", "seeds", "100 steps", "unfinished"]].values.tolist() == [
        ["dynamic", 2, "20.5 ± 0.7", 1], ["uniform", 0, "", 2],
    ]  # fmt: skip
    assert as_text(shown).splitlines()[-1].split()[:4] == ["uniform", "0.5", "–", "0"]
    assert table_notes(frame)[0] == (
        "test accuracy on digits in percent, of the last stage, mean ± std over seeds; 3 networks of width 4 "
        "(convnet); trained on: blend; 8 meta-steps; window 2"
    )
    assert shown["validation"].tolist() == ["42.0 ± 0.0", ""]
    assert table_notes(frame)[1] == "two seeds: no interval can be given, and a difference may be chance"
    assert table_notes(frame)[2] == "3 trials without results of the last stage (yet): t2, t3, t4"
    nothing = table(rows(under_way))
    assert nothing["seeds"].tolist() == [0] and nothing["unfinished"].tolist() == [2]


def test_a_stopped_trial_is_neither_a_result_nor_half_finished():
    stopped = {"seed": 2, "num_stages": 3, "stages_done": 2, "status": "stopped"}
    frame = rows([*seeds(num_stages=3)[:2], stopped])
    assert remarks(frame) == ["1 trial stopped early, before the last stage: t2"]
    assert table(frame)["seeds"].tolist() == [2]
    assert curve_points(frame, "stage")["seeds"].tolist() == [3, 3, 2]


def test_trials_of_one_name_in_two_sweeps_are_two_trials():
    done, behind = {"num_stages": 2, "trial": "t"}, {"num_stages": 2, "stages_done": 1, "trial": "t", "sweep": "other"}
    assert remarks(rows([done, behind])) == ["1 trial without results of the last stage (yet): other/t"]


def test_trials_not_measured_at_the_training_budget_are_said():
    frame = rows([*seeds(blend="dynamic"), *seeds(blend="latest"), *seeds(blend="uniform")], (100, 200))
    frame = frame[(frame["blend"] != "uniform") | (frame["steps"] == 100)]
    assert set(compare(frame, "blend").notes[0].split()) >= {"100"}  # what all have, not what two in three have
    *_, notes = compare(frame, "blend", steps=200)
    assert "3 trials without results at this training budget: name another with --steps" in notes
    shown = table(frame).set_index("blend")
    assert shown.loc["uniform", "200 steps"] == "" and shown.loc["latest", "200 steps"] == "21.0 ± 1.0"


def test_one_trial_read_at_more_steps_does_not_stand_for_all():
    frame = rows([*seeds(num_stages=1), *seeds(num_stages=2)], (100, 200))
    frame = frame[(frame["trial"] == "t0") | (frame["steps"] == 100)]
    assert len(compare(frame, "num_stages").table) == 2
    with pytest.raises(BadInput, match="num_stages has one value at 200 training steps, 1: nothing to compare"):
        compare(frame, "num_stages", steps=200)
    (answer,) = answers(frame)
    assert answer.steps == 100
    assert scope(frame) == "" and scope(frame, 200) == (
        "Of 6 finished trials the answer counts 1: evaluated alike and read after 200 training steps."
    )
    two = rows([*seeds(num_stages=1), *seeds(num_stages=2, sweep="other")])
    assert "Of 6 finished trials of 2 sweeps (other, s; --sweep takes one) the answer counts 6" in scope(two)


def test_a_setting_that_plays_no_part_in_one_stage_is_not_compared_there_nor_told_apart():
    alike = [trial for blend in ("dynamic", "uniform") for trial in seeds(blend=blend, num_stages=1)]
    later = [*seeds(blend="dynamic", num_stages=2, accuracy=30.0), *seeds(blend="uniform", num_stages=2, accuracy=31.0)]
    frame = rows([*alike, *later])
    result = compare(frame, "blend")
    assert result.pairs["num_stages"].tolist() == [2] and result.overall.empty
    assert "left out: first stages beside each other, in which blend plays no part" in result.notes
    with pytest.raises(BadInput, match="blend plays no part in a first stage"):
        compare(rows(alike), "blend")
    with pytest.raises(BadInput, match="blend has one value at 100 training steps, dynamic"):
        compare(rows([*alike, *later[:3]]), "blend")
    assert set(compare(frame, "num_stages").table["num_stages"]) == {1, 2}  # it is the others' baseline
    (answer,) = answers(frame)
    assert answer.others == 2  # num_stages 1, whatever the blend, and one blend of 2 stages


def test_pairs_are_in_one_order_in_every_row_and_over_all():
    """The first row lacks the least value."""
    trials = [t for lr in (0.1, 0.2) for n in (1, 2, 4) if (lr, n) != (0.1, 1) for t in seeds(num_stages=n, lr=lr)]
    result = compare(rows(trials), "num_stages")
    pairs = set(zip(result.pairs["a"], result.pairs["b"], strict=True))
    assert pairs == {("2", "1"), ("4", "1"), ("4", "2")}
    assert set(zip(result.overall["a"], result.overall["b"], strict=True)) <= pairs


def test_leaking_rows_are_marked():
    frame = rows([*seeds(blend="dynamic"), *seeds(blend="released", leaks_test_set=True)])
    assert table(frame).set_index("blend")["leaks"].to_dict() == {"dynamic": False, "released": True}
    assert any("LEAK" in note for note in compare(frame, "blend").notes)


@pytest.mark.parametrize("by", ["accuracy_pct", "trial", "stage", "nonsense"])
def test_what_is_no_setting_cannot_be_compared(by):
    with pytest.raises(BadInput, match=f"unknown field '{by}'.*accepted: num_stages"):
        compare(rows([*seeds(num_stages=1), *seeds(num_stages=2)]), by)


def test_nothing_measured_says_what_to_do():
    for make in (lambda f: compare(f, "blend"), lambda f: curve_points(f)):
        with pytest.raises(BadInput, match="no finished results yet"):
            make(rows(seeds()).iloc[:0])
    assert table(rows(seeds()).iloc[:0]).empty


def test_a_table_can_be_markdown():
    lines = as_text(table(rows([*seeds(num_stages=1), *seeds(num_stages=2)])), markdown=True).splitlines()
    assert lines[0].startswith("| num_stages | poster_ipc |") and lines[1].startswith("| ---------: |")
    assert lines[3].endswith("| 21.0 ± 1.0 |") and len({len(line) for line in lines}) == 1


def test_a_pooled_curve_says_so_and_its_bars_stay_those_of_seeds(tmp_path):
    trials = [
        trial
        for n in (1, 2)
        for blend, accuracy in (("dynamic", 50.0), ("uniform", 30.0))
        for trial in seeds(num_stages=n, blend=blend, accuracy=accuracy)
    ]
    by = ["num_stages"]
    path = tmp_path / "curve.svg"
    points = curve(rows(trials), str(path), by=by)
    assert by == ["num_stages"] and list(points["line"]) == ["num_stages 1", "num_stages 2"]
    assert points[["accuracy_pct", "std_pct", "seeds"]].values.tolist() == [[40, 0, 3], [40, 0, 3]]
    assert "averaged over blend" in words(path)
    curve(rows(trials[:-3]), str(path), by=by)
    assert "averaged over blend (not the same values at every point)" in words(path)


def test_a_curve_is_the_same_file_each_time_and_whole_or_absent(tmp_path, monkeypatch):
    frame = rows([*seeds(num_stages=1), *seeds(num_stages=2)])
    first, second = tmp_path / "a.svg", tmp_path / "b.svg"
    curve(frame, str(first))
    curve(frame, str(second))
    assert first.read_bytes() == second.read_bytes()

    def half(self, path, **_):
        Path(path).write_text("half")
        raise RuntimeError("full")

    monkeypatch.setattr("matplotlib.figure.Figure.savefig", half)
    with pytest.raises(RuntimeError):
        curve(frame, str(first))
    assert first.read_bytes() == second.read_bytes() and len(list(tmp_path.iterdir())) == 2


def test_many_lines_are_told_apart():
    trials = [trial for lr in range(1, 15) for trial in seeds(lr=lr / 10)]
    assert len(set(curve_points(rows(trials))["line"])) == 14


def test_intervals_and_paired_differences_are_those_of_the_statistics():
    frame = rows([*spread("dynamic", 52.0, 53.0, 51.0), *spread("uniform", 50.0, 51.5, 49.2)])
    cells, pairs, _, notes = compare(frame, "blend")
    assert cells.loc[0, ["low_pct", "high_pct"]].tolist() == pytest.approx(mean_interval([52.0, 53.0, 51.0])[2:4])
    expected = paired({0: 50.0, 1: 51.5, 2: 49.2}, {0: 52.0, 1: 53.0, 2: 51.0})
    (pair,) = pairs.to_dict("records")
    assert (pair["a"], pair["b"], pair["seeds"], pair["verdict"]) == ("uniform", "dynamic", 3, "lower")
    assert (pair["difference_pct"], pair["p"], pair["p_exact"]) == pytest.approx(
        (expected.difference, expected.p, expected.p_exact)
    )
    assert pair["p_holm"] == pair["p"] and any("(Holm)" in note for note in notes)


def test_all_pairs_or_against_one():
    frame = rows([*spread("a", 5.0, 6.0), *spread("b", 6.0, 7.0), *spread("c", 9.0, 9.5)])
    assert compare(frame, "blend").pairs[["a", "b"]].values.tolist() == [["b", "a"], ["c", "a"], ["c", "b"]]
    assert compare(frame, "blend", against="b").pairs[["a", "b"]].values.tolist() == [["a", "b"], ["c", "b"]]
    with pytest.raises(BadInput, match=r"unknown value of blend 'd' .accepted: a, b, c"):
        compare(frame, "blend", against="d")


def test_many_comparisons_are_corrected_together():
    trials = [*spread("a", 5.0, 6.0, 5.4), *spread("b", 6.0, 7.3, 6.1), *spread("c", 9.0, 9.5, 9.9)]
    pairs = compare(rows(trials), "blend").pairs
    assert pairs["p_holm"].tolist() == pytest.approx(holm(list(pairs["p"]))) and (pairs["p_holm"] > pairs["p"]).any()


def test_other_settings_are_tested_one_by_one_and_all_together():
    trials = [*spread("a", 5.0, 6.0, 7.0, lr=0.1), *spread("b", 6.0, 7.5, 7.5, lr=0.1)]
    trials += [*spread("a", 1.0, 2.0, 3.0, lr=0.2), *spread("b", 4.0, 5.2, 5.3, lr=0.2)]
    _, pairs, overall, _ = compare(rows(trials), "blend")
    assert pairs["lr"].tolist() == [0.1, 0.2] and overall["lr"].tolist() == [OVERALL]
    # seed 0: (1 + 3) / 2, seed 1: (1.5 + 3.2) / 2, seed 2: (0.5 + 2.3) / 2; three seeds, not six values
    expected = paired({0: 2.0, 1: 2.35, 2: 1.4}, dict.fromkeys(range(3), 0.0))
    found = overall.iloc[0][["difference_pct", "p", "seeds"]].tolist()
    assert found == pytest.approx([expected.difference, expected.p, 3])


def test_rows_that_lack_seeds_are_left_out_of_what_is_taken_together():
    trials = [trial for lr in (0.1, 0.2) for b in ("a", "b") for trial in spread(b, 5.0, 6.0, lr=lr)]
    trials += [*spread("a", 1.0, lr=0.3), *spread("b", 9.0, lr=0.3)]
    overall = compare(rows(trials), "blend").overall
    assert overall.loc[0, ["lr", "difference_pct", "seeds"]].tolist() == ["2 of these 3", 0, 2]


def test_two_seeds_give_a_spread_but_no_interval_and_no_test():
    cells, pairs, _, notes = compare(rows([*spread("a", 5.0, 6.0), *spread("b", 6.0, 8.0)]), "blend")
    assert cells["std_pct"].notna().all() and cells[["low_pct", "high_pct"]].isna().all(axis=None)
    assert pairs.loc[0, ["difference_pct", "verdict"]].tolist() == [1.5, "2 seeds: too few to tell"]
    assert pairs[["low_pct", "high_pct", "p", "p_holm"]].isna().all(axis=None)
    assert "two seeds: no interval can be given, and a difference may be chance" in notes
    assert "no pair of values shares three seeds: no difference can be tested" in notes


def test_a_pair_of_two_seeds_is_no_comparison_that_others_are_corrected_for():
    trials = [*spread("a", 5.0, 6.0, 7.1), *spread("b", 6.0, 7.5, 8.0), *spread("c", 9.0, 9.9)]
    pairs = compare(rows(trials), "blend").pairs
    (tested,) = pairs[pairs["p"].notna()].to_dict("records")
    assert (tested["a"], tested["b"]) == ("b", "a") and tested["p_holm"] == tested["p"]


def test_a_failed_trial_or_a_missing_stage_leaves_its_seed_out():
    trials = [*spread("a", 5.0, 6.0, 7.0, num_stages=2), *spread("b", 6.0, 7.5, num_stages=2)]
    trials.append({"blend": "b", "seed": 2, "accuracy": 9.0, "num_stages": 2, "stages_done": 1, "status": "failed"})
    _, pairs, _, notes = compare(rows(trials), "blend")
    assert pairs.loc[0, ["difference_pct", "seeds"]].tolist() == [1.25, 2]
    assert "1 trial without results of the last stage (yet): t5" in notes


def test_one_seed_gives_no_interval_and_no_test():
    cells, pairs, _, notes = compare(rows([*spread("a", 5.0), *spread("b", 6.0)]), "blend")
    assert cells["low_pct"].isna().all() and cells["seeds"].tolist() == [1, 1]
    assert pairs.loc[0, "difference_pct"] == 1 and pairs.loc[0, "verdict"] == "one seed: cannot tell"
    assert "one seed: no spread or interval can be given, and a difference may be chance" in notes


def test_stages_meet_at_equal_meta_steps():
    trials = [*seeds(num_stages=1, epochs=8), *seeds(num_stages=2, epochs=8)]
    cells, *_, notes = compare(rows(trials), "num_stages", at="meta_steps")
    assert cells[["meta_steps", "num_stages", "stage"]].values.tolist() == [[4, 2, 1], [8, 1, 1], [8, 2, 2]]
    assert any("at meta_steps=8 the cumulative_ipc is not equal" in note for note in notes)


def test_at_equal_seconds_each_trial_counts_with_what_it_had_by_then():
    trials = [*seeds(blend="dynamic", num_stages=2, seconds=5.0), *seeds(blend="uniform", num_stages=2, seconds=10.0)]
    cells, pairs, *_ = compare(rows(trials), "blend", at="seconds")
    assert cells[["seconds", "blend", "stage"]].values.tolist() == [[10.0, "dynamic", 2], [10.0, "uniform", 1]]
    assert pairs.loc[0, ["a", "difference_pct"]].tolist() == ["uniform", -10.0]


def test_at_equal_seconds_all_seeds_of_a_setting_count_with_the_same_stage():
    """Two of the three seeds happened to be done with their second stage too."""
    slow = [{"seed": seed, "blend": "uniform", "seconds": s} for seed, s in ((0, 5.4), (1, 5.0), (2, 12.0))]
    cells = compare(rows([*seeds(blend="dynamic", seconds=5.0), *slow]), "blend", at="seconds").table
    assert cells[["blend", "stage", "seeds"]].values.tolist() == [["dynamic", 2, 3], ["uniform", 1, 3]]


def test_at_equal_seconds_sweeps_are_pooled_and_unfinished_trials_wait():
    """One setting in two sweeps, the second on a slower machine, and a seed that has come to its first stage."""
    uniform = [*seeds(blend="uniform", seconds=4.9), {"blend": "uniform", "seed": 3, "stages_done": 1}]
    slower = [{"blend": "uniform", "seed": seed, "seconds": 7.0, "sweep": "other"} for seed in (4, 5)]
    frame = rows([*seeds(blend="dynamic", seconds=5.0), *uniform, *slower])
    cells = compare(frame, "blend", at="seconds").table
    assert cells[["blend", "stage", "seeds"]].values.tolist() == [["dynamic", 2, 3], ["uniform", 1, 5]]


def test_no_answer_yet_beside_a_finished_import_is_none(tmp_path):
    frame = rows([{"num_stages": 2, "stages_done": 1}, *seeds(origin="imported", leaks_test_set=True)])
    assert answers(frame) == [] and scope(frame) == ""


def test_what_leaks_is_no_part_of_what_a_setting_was_chosen_by():
    honest = seeds(blend="dynamic", num_stages=1, accuracy=50.0)
    leaking = [{**trial, "blend": "released", "leaks_test_set": True} for trial in honest]
    frame = rows([*honest, *leaking, *seeds(num_stages=2, accuracy=40.0)])
    frame.loc[frame["leaks_test_set"], "stage_accuracy_pct"] = 90.0
    (answer,) = answers(frame)
    assert answer.best == "num_stages 2, blend dynamic" and answer.validation == 42.0 and answer.others == 1
    assert answer.sentences[-1] == "Settings that leak the test set were not chosen."
    (answer,) = answers(rows([*leaking, *seeds(num_stages=2, blend="released", leaks_test_set=True)]))
    assert "in validation" not in answer.sentences[0] and answer.sentences[-1].startswith("All of these settings leak")


def test_a_settings_validation_accuracy_is_that_of_all_its_trials():
    frame = rows(seeds(num_stages=1), (100, 200))
    frame = frame[(frame["trial"] == "t0") | (frame["steps"] == 100)]
    frame.loc[frame["trial"] == "t0", "stage_accuracy_pct"] = 44.0
    assert table(frame)["validation"].tolist() == ["42.0 ± 1.7"]


def test_trials_of_several_networks_count_with_their_own_unless_one_judges_all():
    own = rows([
        {"arch": arch, "eval_arch": arch.replace(":", "."), "seed": seed, "accuracy": accuracy + seed}
        for arch, accuracy in (("convnet", 50.0), ("my:net", 70.0)) for seed in (0, 1, 2)
    ])  # fmt: skip
    assert len(main_protocol(own)) == 6
    (answer,) = answers(own)
    assert (answer.best, answer.others) == ("arch convnet", 1) and "70.0" not in answer.sentences[0]
    crossed = own[own["arch"] == "my:net"].assign(eval_arch="convnet", accuracy_pct=10.0)
    both = pd.concat([own, crossed], ignore_index=True)
    assert set(main_protocol(both)["eval_arch"]) == {"convnet"} and len(main_protocol(both)) == 6


def test_two_seeds_give_no_verdict_however_small_p_is():
    from results.analysis.comparisons import verdict

    assert verdict(0.001, -3.0, 2) == "2 seeds: too few to tell" and verdict(0.001, -3.0, 3) == "lower"
