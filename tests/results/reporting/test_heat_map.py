"""The heat map of posters by architecture."""

from frames import rows, spread

from results.reporting.heat_map import heat_map


def test_a_cell_for_each_setting_and_architecture_with_its_spread_over_seeds():
    networks = [("convnet", 60.0), ("vgg11", 40.0)]
    frame = rows(
        [trial for arch, mean in networks for trial in spread("dynamic", mean, mean + 2, eval_arch=arch)]
        + spread("uniform", 50.0, 50.0)
    )
    found = heat_map(frame)
    assert found.columns == ["convnet", "vgg11"]
    shown = {setting: [cell.text for cell in cells] for setting, cells in found.rows}
    assert shown == {"blend dynamic": ["61.0 ± 1.4", "41.0 ± 1.4"], "blend uniform": ["50.0 ± 0.0", "–"]}
    deepest, palest = found.rows[0][1]
    assert deepest.depth > found.rows[1][1][0].depth > palest.depth == 0 and deepest.seeds == 2
    assert "after 100 training steps" in found.note and "trained on: blend" in found.note


def test_hard_labels_are_a_column_of_their_own_and_other_modes_are_left_out():
    frame = rows(
        [
            *spread("dynamic", 60.0, 61.0),
            *spread("dynamic", 30.0, 31.0, protocol="labels=hard"),
            *spread("dynamic", 20.0, mode="latest", eval_arch="vgg11"),
        ]
    )
    assert heat_map(frame).columns == ["convnet", "convnet, labels=hard"]


def test_one_architecture_has_no_heat_map():
    assert heat_map(rows(spread("dynamic", 60.0, 61.0))).rows == []
    assert heat_map(rows(spread("dynamic", 60.0)).iloc[:0]).rows == []
