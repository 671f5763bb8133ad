"""Curves over every axis, the published lines, and published tables beside measured ones."""

import itertools
import re

import pytest
from frames import rows, seeds, words
from matplotlib.figure import Figure
from PIL import Image

from ppodd.errors import BadInput
from results.analysis.curves import MARKERS, curve_points, lines
from results.analysis.published_numbers import TABLES, published, series
from results.reporting.curve_picture import _DASHES, COLUMN, PAGE, curve, width_inches
from results.reporting.paper import beside

BLENDS = [trial for blend in ("dynamic", "latest") for n in (1, 2) for trial in seeds(blend=blend, num_stages=n)]


def test_over_num_stages_a_point_is_a_last_stage():
    points = curve_points(rows(BLENDS), "num_stages")
    assert points[["line", "num_stages", "accuracy_pct", "seeds"]].values.tolist() == [
        ["blend dynamic", 1, 11, 3], ["blend dynamic", 2, 21, 3],
        ["blend latest", 1, 11, 3], ["blend latest", 2, 21, 3],
    ]  # fmt: skip


def test_over_stages_and_compute_every_stage_is_a_point():
    trials = seeds(num_stages=2, epochs=8)
    for x, at in (("stage", [1, 2]), ("meta_steps", [4, 8]), ("seconds", [5, 10])):
        points = curve_points(rows(trials), x)
        assert points[x].tolist() == at and points["accuracy_pct"].tolist() == [11, 21]


def test_over_training_budgets_every_budget_is_a_point():
    points = curve_points(rows(seeds(num_stages=2), (100, 200)), "steps")
    assert points["steps"].tolist() == [100, 200] and points["std_pct"].tolist() == [1, 1]


def test_sizes_are_lines_of_their_own_where_the_axis_is_no_ipc():
    trials = [*seeds(num_stages=1), *seeds(num_stages=2), *seeds(num_stages=2, poster_width=40)]
    assert set(curve_points(rows(trials), "num_stages")["line"]) == {"poster_ipc 0.5", "poster_ipc 1.0"}


@pytest.mark.parametrize("x", ["meta_steps", "steps", "num_stages"])
def test_courses_have_bands_and_points_have_bars(tmp_path, x):
    path = tmp_path / "c.svg"
    curve(rows([*seeds(num_stages=1), *seeds(num_stages=2)], (100, 200)), str(path), x)
    assert ("bars: std over seeds" if x == "num_stages" else "bands: std over seeds") in words(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"protocol": "nets=9"}, r"two protocols in one curve: protocol is '', nets=9; choose one with --where protoc"),
        ({"mode": "latest"}, "two protocols in one curve: mode is blend, latest"),
        ({"width": 8}, "two protocols in one curve: width is 4, 8"),
        ({"dataset": "cifar10"}, "dataset is cifar10, digits"),
    ],
)
def test_two_protocols_are_refused_in_one_curve_and_may_be_two_lines(change, message):
    mixed = rows([*seeds(num_stages=2), *seeds(num_stages=2, **change)])
    with pytest.raises(BadInput, match=message):
        curve_points(mixed, by=["num_stages"])
    (field,) = change
    assert curve_points(mixed, by=["num_stages", field])["line"].nunique() == 2
    assert curve_points(mixed)["line"].nunique() == 2


def test_trials_at_different_stages_are_not_averaged_at_one_compute():
    with pytest.raises(BadInput, match="add --by num_stages"):
        curve_points(rows(BLENDS), "meta_steps", ["blend"])


def test_lines_of_two_fields_are_told_apart_without_colour():
    """Colour and marker show the one field, dashes and faces the other: each pair is its own in black and white too."""
    looks = lines(rows(BLENDS), "poster_ipc", None, None).looks
    assert looks == {
        "num_stages 1, blend dynamic": (0, 0), "num_stages 1, blend latest": (1, 0),
        "num_stages 2, blend dynamic": (0, 1), "num_stages 2, blend latest": (1, 1),
    }  # fmt: skip


@pytest.mark.parametrize("width", [COLUMN, PAGE, 5.0])
def test_a_picture_has_the_width_asked_for_and_letters_of_a_paper(tmp_path, width):
    frame = rows(BLENDS)
    curve(frame, str(tmp_path / "c.png"), width=width)
    with Image.open(tmp_path / "c.png") as picture:
        assert picture.width == pytest.approx(width * picture.info["dpi"][0], abs=2)
    curve(frame, str(tmp_path / "c.svg"), width=width)
    svg = (tmp_path / "c.svg").read_text()
    assert float(re.search(r'<svg[^>]* width="([\d.]+)pt"', svg)[1]) == pytest.approx(72 * width, abs=0.5)
    sizes = {float(size) for size in re.findall(r"font-size: ([\d.]+)px", svg)}
    assert sizes == {8.0, 6.0}  # 8 pt at every width, the footnote 6


def test_the_default_width_is_a_papers_column(tmp_path):
    assert 3.25 <= COLUMN <= 3.5
    curve(rows(BLENDS), str(tmp_path / "c.svg"))
    assert f'width="{72 * COLUMN:g}pt"' in (tmp_path / "c.svg").read_text()


def test_widths_are_named_or_inches():
    assert (width_inches("column"), width_inches("page"), width_inches("5.5")) == (COLUMN, PAGE, 5.5)
    for bad in ("wide", "0.5", "nan", "100"):
        with pytest.raises(BadInput, match=f"--width {bad}: accepted are column .3.25 in., page .6.75 in., or inches"):
            width_inches(bad)


@pytest.mark.parametrize("trials", [BLENDS, [t for lr in range(1, 15) for t in seeds(lr=lr / 10)]])
def test_every_line_has_its_own_look_in_black_and_white(trials):
    """Without colour there are the marker, its face and the dashes."""
    looks = lines(rows(trials), "poster_ipc", None, None).looks.values()
    told = {(hue % len(MARKERS), look % 2, look % len(_DASHES)) for hue, look in looks}
    assert len(told) == len(looks)


def of(*fields):
    """Trials of every combination of the values of these fields."""
    names, values = zip(*fields, strict=True)
    return [t for point in itertools.product(*values) for t in seeds(**dict(zip(names, point, strict=True)))]


NINE = of(("blend", ["dynamic", "latest", "uniform"]), ("lr", [0.1, 0.01, 0.005]), ("inner_lr", [1e-3]))
NINE = [{**t, "inner_lr": t["lr"] / 16, "real_strategy": f"{t['blend']}_flip_rotate_scale"} for t in NINE]
SIXTEEN = of(("blend", ["dynamic", "latest"]), ("lr", [0.1, 0.01]), ("num_stages", [1, 2]), ("blend_decay", [0.3, 0.5]))
WORDY = of(("protocol", ["", "nets=9, width=128, inner_lr=0.00012345, strategy=flip_rotate_scale"]), ("lr", [1.0, 2.0]))


@pytest.fixture
def drawn(tmp_path, monkeypatch):
    """Draws a curve; returns its figure."""
    figures = []
    savefig = Figure.savefig
    monkeypatch.setattr(
        Figure, "savefig", lambda self, *a, **options: figures.append(self) or savefig(self, *a, **options)
    )

    def draw(trials, suffix="png", **options):
        curve(rows(trials, (100, 200)), str(tmp_path / f"c.{suffix}"), **options)
        figures[-1].draw_without_rendering()
        return figures[-1]

    return draw


@pytest.mark.parametrize("width", [2.0, COLUMN, PAGE])
@pytest.mark.parametrize("x", ["poster_ipc", "steps"])
@pytest.mark.parametrize("trials", [seeds(), BLENDS, NINE, SIXTEEN, WORDY], ids=["1", "4", "9", "16", "wordy"])
def test_all_of_the_picture_is_in_it_and_lies_on_nothing_else(drawn, trials, x, width):
    figure = drawn(trials, x=x, width=width)
    (axes,), legends = figure.axes, figure.legends
    boxes = [axes.get_tightbbox(), *(legend.get_window_extent() for legend in legends)]
    boxes.append(figure._supxlabel.get_window_extent())
    for box in boxes:
        assert box.x0 >= 0 and box.x1 <= figure.bbox.x1 and box.y0 >= 0 and box.y1 <= figure.bbox.y1
    assert not any(a.overlaps(b) for a, b in itertools.combinations(boxes, 2))
    assert axes.bbox.width > 0.4 * figure.bbox.width and axes.bbox.height > 0.4 * axes.bbox.width
    assert len(legends) == (trials != seeds())


@pytest.mark.parametrize("suffix", ["svg", "pdf"])
def test_a_picture_of_every_format_is_laid_out_alike(drawn, suffix):
    sizes = [drawn(NINE, suffix).get_size_inches().tolist() for suffix in ("png", suffix)]
    assert sizes[0] == sizes[1]


def test_a_legend_says_once_what_is_common_to_its_lines(drawn):
    (legend,) = drawn(SIXTEEN).legends
    assert legend.get_title().get_text() == "num_stages · blend · lr · blend_decay"
    entries = [text.get_text() for text in legend.get_texts()]
    assert len(entries) == 16 and entries[0] == "1 · dynamic · 0.01 · 0.3" and len({*entries}) == 16
    figure = drawn([*seeds(lr=0.1), *seeds(lr=0.2)], by=["lr", "blend"])
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["lr 0.1", "lr 0.2"]
    assert "blend dynamic" in figure._supxlabel.get_text()


def test_of_many_lines_the_legend_names_the_best(drawn):
    trials = [t for n in range(60) for t in seeds(lr=0.01 + n / 1000, accuracy=float(n))]
    figure = drawn(trials)
    entries = [text.get_text() for text in figure.legends[0].get_texts()]
    assert entries == [*(f"lr {0.01 + n / 1000:.3g}" for n in range(12, 60)), "… and 12 more, of lower accuracy"]
    assert len(figure.axes[0].containers) == 60  # all are drawn


def test_of_two_fields_of_many_values_the_legend_names_the_best_of_either(drawn):
    trials = [
        t
        for n in range(60)
        for stages in (1, 2)
        for t in seeds(lr=0.01 + n / 1000, num_stages=stages, accuracy=float(n + stages))
    ]
    figure = drawn(trials, x="poster_ipc")
    entries = [text.get_text() for text in figure.legends[0].get_texts()]
    rates = [f"lr {0.01 + n / 1000:.3g}" for n in range(12, 60)]
    told = [entry for entry in entries if entry]
    assert sorted(told) == sorted(["num_stages 1", "num_stages 2", *rates, "… and 12 more, of lower accuracy"])
    assert len(figure.axes[0].containers) == 120  # all are drawn


def test_values_that_differ_beyond_the_third_digit_are_told_apart(drawn):
    (legend,) = drawn([*seeds(lr=0.01), *seeds(lr=0.0100001)]).legends
    assert [text.get_text() for text in legend.get_texts()] == ["lr 0.01", "lr 0.0100001"]


def test_an_unknown_axis_is_named():
    with pytest.raises(BadInput, match=r"unknown x 'step'; did you mean 'steps'"):
        curve_points(rows(BLENDS), "step")


def test_published_lines_are_dashed_labelled_and_of_their_data_set_only(tmp_path):
    path = tmp_path / "c.svg"
    curve(rows([*seeds(dataset="cifar10"), *seeds(dataset="cifar10", poster_width=30)]), str(path), published=True)
    assert "published P-PoDD" in words(path) and "published PoDD" in words(path)
    with pytest.raises(BadInput, match="published numbers are of cifar10, these results of digits"):
        curve(rows(seeds()), str(path), published=True)
    with pytest.raises(BadInput, match="nothing was published over x=steps"):
        curve(rows(seeds()), str(path), "steps", published=True)


def test_the_published_numbers_are_those_of_the_tables():
    assert series("poster_ipc")["PoDD"] == [(0.6, 47.2), (0.7, 47.7), (0.8, 49.6), (0.9, 51.5)]
    assert series("poster_ipc")["PoDD, 100,000 meta-steps"] == [(0.3, 42.3), (0.5, 49.5), (1.0, 59.1)]
    assert series("num_stages")["P-PoDD"][2] == (5, 53.8) and series("steps") == {}
    assert {row.accuracy_pct for row in TABLES["boost"].rows} == {53.8, 51.2}


def near(ipc):
    """A poster of the height 16 whose IPC is as near as whole pixels come."""
    return {"poster_width": round(40 * ipc), "poster_height": 16}


def test_a_published_table_has_the_measured_numbers_beside_it():
    trials = [*seeds(blend="latest", num_stages=5, accuracy=50.0, **near(0.9))]
    trials += [*seeds(blend="released", num_stages=5, accuracy=52.0, leaks_test_set=True, **near(0.6))]
    table, notes = beside(rows(trials), published("ipc"))
    assert len(table) == 8 and table["published_pct"].tolist()[:2] == [51.5, 53.8]
    measured = table[table["seeds"] > 0]
    assert measured[["method", "poster_ipc", "blend", "accuracy_pct", "seeds", "leaks"]].values.tolist() == [
        ["PoDD", 0.9, "latest", 50, 3, False],
        ["P-PoDD", 0.6, "released", 52, 3, True],
    ]
    assert "measured on digits, published on cifar10: compare the direction, not the numbers" in notes
    assert "6 published rows have nothing measured beside them yet" in notes
    assert any("chose weights or posters by test accuracy" in note for note in notes)


@pytest.mark.parametrize(
    ("name", "trials"),
    [
        ("boost", [*seeds(blend_boost=1.0), *seeds(blend_boost=1.5)]),
        ("blend", [*seeds(blend="dynamic"), *seeds(blend="uniform")]),
        ("stages", [trial for n in range(3, 8) for trial in seeds(num_stages=n)]),
    ],
)
def test_every_table_finds_its_trials(name, trials):
    table, notes = beside(rows(trials), published(name))
    assert (table["seeds"] == 3).all() and not any("nothing measured" in note for note in notes)


def test_tables_that_cannot_be_laid_beside():
    with pytest.raises(BadInput, match=r"unknown table 'ipcs'; did you mean 'ipc'"):
        published("ipcs")
    with pytest.raises(BadInput, match=r"lr varies .0.1, 0.2., but the table 'blend' is of one value"):
        beside(rows([*seeds(lr=0.1), *seeds(lr=0.2)]), published("blend"))
    with pytest.raises(BadInput, match="no trial here stands for a row of the table 'blend'"):
        beside(rows(seeds(blend="accuracy")), published("blend"))
