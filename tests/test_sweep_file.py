"""Sweep files: expansion, and errors that name file, line and key."""

import pytest

from ppodd.errors import BadInput
from tune.sweep_file import SWEEPS, load_sweep

GOOD = """\
name: mine
preset: digits-small
config:
  epochs: 6
grid:
  num_stages: [2, 3]
  poster_width, poster_height: [[28, 12], [38, 15]]
sample:
  lr: {loguniform: [1e-3, 1e-1]}
num_samples: 2
seeds: [0, 5]
evaluation:
  nets: 2
"""


def write(tmp_path, text):
    path = tmp_path / "sweep.yaml"
    path.write_text(text)
    return str(path)


def test_a_sweep_is_every_grid_point_sample_and_seed(tmp_path):
    sweep = load_sweep(write(tmp_path, GOOD))
    assert len(sweep.trials) == 2 * 2 * 2 * 2
    assert {(c.num_stages, c.poster_width, c.poster_height) for c in sweep.trials.values()} == {
        (2, 28, 12), (2, 38, 15), (3, 28, 12), (3, 38, 15)}  # fmt: skip
    assert {c.seed for c in sweep.trials.values()} == {0, 5} and all(c.epochs == 6 for c in sweep.trials.values())
    assert all(1e-3 <= c.lr <= 1e-1 for c in sweep.trials.values())
    assert all(c.name == name for name, c in sweep.trials.items())
    assert sweep.varied == ["num_stages", "poster_width", "poster_height", "lr", "seed"]


def test_both_seeds_share_a_sample_and_expansion_is_deterministic(tmp_path):
    first, again = (load_sweep(write(tmp_path, GOOD)) for _ in range(2))
    assert first.trials == again.trials
    rates = [c.lr for c in first.trials.values()]
    assert rates[0::2] == rates[1::2] and len(set(rates)) == 8


@pytest.mark.parametrize("name", [path.stem for path in SWEEPS.glob("*.yaml")])
def test_shipped_sweeps_are_valid(name):
    assert len(load_sweep(name).trials) > 1


def test_overrides(tmp_path):
    path = write(tmp_path, GOOD)
    sweep = load_sweep(path, ["num_stages=2", "num_samples=1", "seeds=[7]", "evaluation.nets=5", "lr=0.5"])
    assert len(sweep.trials) == 2 and {c.num_stages for c in sweep.trials.values()} == {2}
    assert {c.lr for c in sweep.trials.values()} == {0.5} and sweep.evaluations[0].nets == 5


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("grid:", "gird:", "line 5: unknown key 'gird'; did you mean 'grid'"),
        ("epochs: 6", "epoch: 6", "line 4: unknown config field 'epoch'; did you mean 'epochs'"),
        (
            "num_stages: [2, 3]",
            "num_stage: [2, 3]",
            "line 6: unknown config field 'num_stage'; did you mean 'num_stages'",
        ),
        ("num_stages: [2, 3]", "num_stages: 2", "line 6: grid.num_stages=2: "),
        ("[[28, 12], [38, 15]]", "[[28, 12], 38]", "line 7: 38 must be a list of 2 values"),
        ("[[28, 12], [38, 15]]", "[[28, 5]]", "line 7: trial .*poster_height=5.* is smaller than the image height 8"),
        ("loguniform", "lognormal", "line 9: unknown distribution 'lognormal'; did you mean 'loguniform'"),
        ("[1e-3, 1e-1]", "[1e-1, 1e-3]", r"line 9: loguniform: .* must be \[low, high\]"),
        ("num_samples: 2", "num_samples: 0", "line 10: num_samples=0: "),
        ("nets: 2", "nets: 0", "line 12: nets=0: "),
        ("nets: 2", "net: 2", "line 13: unknown config field 'net'; did you mean 'nets'"),
        ("preset: digits-small", "preset: digit", "line 2: unknown preset 'digit'; did you mean 'digits'"),
        ("name: mine", "name: my/sweep", "line 1: name='my/sweep'"),
        ("epochs: 6", "window: 50", r"line 4: trial .*: window=50 exceeds totwindow=30"),
        ("epochs: 6", "blend: dynamik", "unknown blend 'dynamik'; did you mean 'dynamic'"),
        ("seeds: [0, 5]", "seeds: [0, 0]", "appears twice"),
        ("seeds: [0, 5]", "seeds: [0, 5", "no valid YAML"),
        ("num_samples: 2", "name: again", "line 10: key 'name' appears twice"),
    ],
)
def test_errors_name_file_line_and_key(tmp_path, old, new, message):
    assert old in GOOD
    with pytest.raises(BadInput, match=message) as caught:
        load_sweep(write(tmp_path, GOOD.replace(old, new)))
    assert "sweep.yaml" in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("lr", "write key=value"),
        ("lrr=3", "unknown key 'lrr'; did you mean 'lr'"),
        ("poster_width=30", "varies together with other keys"),
        ("seeds=[", "is no YAML value"),
    ],
)
def test_bad_overrides(tmp_path, override, message):
    with pytest.raises(BadInput, match=message):
        load_sweep(write(tmp_path, GOOD), [override])


def test_a_missing_file_is_named_with_what_there_is():
    with pytest.raises(BadInput, match=r"no sweep file 'gone.yaml' \(shipped by name: quickstart"):
        load_sweep("gone.yaml")
    with pytest.raises(BadInput, match="unknown sweep 'quikstart'; did you mean 'quickstart'"):
        load_sweep("quikstart")


def test_paths_mean_the_same_in_every_working_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = "name: a\nconfig: {dataset: ./mine.parquet, root: data, class_order: d.csv, poster_class_num_x: 5}\n"
    (tmp_path / "a.yaml").write_text(text)
    (config,) = load_sweep("a.yaml").trials.values()
    assert (config.root, config.dataset) == (str(tmp_path / "data"), str(tmp_path / "data/mine.parquet"))
    assert config.class_order == str(tmp_path / "d.csv")
