"""Sweep files: expansion, and errors that name file, line and key."""

import re

import pytest
from image_sets import tree
from plugins import installed_package, user_module

from ppodd.config import DistillConfig
from ppodd.errors import BadInput
from tune.sweep_file import DISTRIBUTIONS, SWEEPS, SweepFile, load_sweep

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
        ("nets: 2", "nets: 0", "line 13: nets=0: "),
        ("nets: 2", "net: 2", "line 13: unknown config field 'net'; did you mean 'nets'"),
        ("preset: digits-small", "preset: digit", "line 2: unknown preset 'digit'; did you mean 'digits'"),
        ("name: mine", "name: my/sweep", "line 1: name='my/sweep'"),
        ("epochs: 6", "window: 50", r"line 4: trial .*: window=50 exceeds totwindow=30"),
        ("epochs: 6", "blend: dynamik", "unknown blend 'dynamik'; did you mean 'dynamic'"),
        ("seeds: [0, 5]", "seeds: [0, 0]", "appears twice"),
        ("seeds: [0, 5]", "seeds: [0, 5", "no valid YAML"),
        (
            "seeds:",
            "resources: {gpus: 2}\nseeds:",
            "line 11: resources.gpus=2: a trial or an evaluator computes on one GPU",
        ),
        (
            "seeds:",
            "evaluators: {gpus: 1.5}\nseeds:",
            "line 11: evaluators.gpus=1.5: .*: write 1 or a fraction, and have",
        ),
        (
            "epochs: 6",
            "arch: convnet4",
            "line 4: trial .*: arch=convnet4: its 4 blocks are too many for images of 8 × 8 px, 12 px a side are "
            "the least: choose convnet, convnet2, convnetw, convnetw2, resnet18, .*$",
        ),
        (
            "nets: 2",
            "arch: [convnet, convnetw4]",
            "line 13: arch=convnetw4: its 4 blocks are too many for images of 8 × 8",
        ),
        ("epochs: 6", "arch: bogus", "line 4: trial .*: unknown arch(itecture)? 'bogus'"),
        ("epochs: 6", "class_order: clap", "line 4: trial .*: unknown class_order 'clap'; did you mean 'clip'"),
        ("epochs: 6", "engine: unroled", "line 4: trial .*: unknown engine 'unroled'; did you mean 'unrolled'"),
        ("epochs: 6", "precision: fp8", "line 4: trial .*precision.*fp8"),
        ("num_stages: [2, 3]", "blend: [dynmic]", "line 6: trial .*: unknown blend 'dynmic'; did you mean 'dynamic'"),
        ("nets: 2", "arch: [bogus]", "line 13: unknown arch(itecture)? 'bogus'"),
        ("num_samples: 2", "name: again", "line 10: key 'name' appears twice"),
        ("name: mine\n", "", "sweep.yaml: name is missing: write name: my-sweep$"),
        (
            "name: mine",
            "name: runs",
            "line 1: name='runs': the archive keeps files of its own there; choose another",
        ),
        ("seeds: [0, 5]", "seeds: 0", r"line 11: seeds=0: accepted is a list: write \[0\]$"),
        ("seeds: [0, 5]", "seeds: [0, a]", "line 11: seeds='a': input should be a valid integer"),
        (
            "num_stages: [2, 3]",
            "blend: dynamic",
            r"line 6: grid.blend='dynamic': accepted is a list: write \[dynamic\]$",
        ),
        ("lr: {loguniform: [1e-3, 1e-1]}", "lr: 0.1", r"line 9: sample.lr=0.1: accepted are keys with their values"),
        ("nets: 2", "budgets: 50", r"line 13: budgets=50: accepted is a list: write \[50\]$"),
        (
            "epochs: 6",
            "num_stages: 4",
            "line 4: num_stages varies under grid or sample: remove it",
        ),
        ("epochs: 6", "lr: 0.1", "line 4: lr varies under grid or sample: remove it there, or from config"),
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


def test_a_network_must_fit_the_images_as_they_are_resized(tmp_path):
    text = "name: a\npreset: cifar10\nconfig: {image_size: 15}\nevaluation:\n  - nets: 2\n  - {arch: [convnet4]}\n"
    with pytest.raises(BadInput, match="line 6: arch=convnet4: its 4 blocks are too many for images of 15 × 15 px"):
        load_sweep(write(tmp_path, text))
    load_sweep(write(tmp_path, text), ["image_size=16"])
    load_sweep(write(tmp_path, text), ["dataset=./mine.parquet"])  # what no one knows before it is read


CONDITIONAL = """\
name: mine
preset: digits-small
grid:
  blend: [dynamic, uniform, recency]
when:
  - if: {blend: [dynamic, recency]}
    grid: {blend_boost: [1.25, 1.5]}
  - if: {blend: recency, blend_boost: 1.5}
    sample: {blend_decay: {uniform: [0.1, 1]}}
num_samples: 3
"""


def settings(sweep, *fields):
    return [tuple(getattr(config, field) for field in fields) for config in sweep.trials.values()]


def test_a_field_varies_only_where_its_condition_holds_and_no_trial_is_repeated(tmp_path):
    sweep = load_sweep(write(tmp_path, CONDITIONAL))
    assert settings(sweep, "blend", "blend_boost") == [
        ("dynamic", 1.25), ("dynamic", 1.5), ("uniform", 1.5), ("recency", 1.25), *[("recency", 1.5)] * 3]  # fmt: skip
    drawn = [config.blend_decay for name, config in sweep.trials.items() if "blend_decay" in name]
    assert len(set(drawn)) == 3 and all(0.1 <= value <= 1 for value in drawn)
    assert sweep.varied == ["blend", "blend_boost", "blend_decay"]
    assert "uniform,seed=0" in next(name for name in sweep.trials if "uniform" in name)


def test_a_condition_may_ask_for_a_sampled_or_a_fixed_field(tmp_path):
    text = (
        "name: a\nconfig: {num_stages: 2}\nsample: {blend: {choice: [dynamic, uniform]}}\nnum_samples: 40\nwhen:\n"
        "  - {if: {blend: uniform}, sample: {lr: {uniform: [0.1, 0.2]}}}\n"
        "  - {if: {num_stages: 2}, grid: {width: [8, 16]}}\n"
    )
    sweep = load_sweep(write(tmp_path, text))
    found = settings(sweep, "blend", "lr", "width")
    # what is drawn twice is one trial
    assert found.count(("dynamic", 0.03, 8)) == found.count(("dynamic", 0.03, 16)) == 1
    assert len(found) > 10 and all(0.1 <= lr <= 0.2 for blend, lr, _ in found if blend == "uniform")


def test_what_varies_only_conditionally_has_the_configs_value_elsewhere(tmp_path):
    sweep = load_sweep(write(tmp_path, CONDITIONAL.replace("grid:\n", "config: {blend_boost: 2}\ngrid:\n", 1)))
    assert ("uniform", 2.0) in settings(sweep, "blend", "blend_boost")


def test_overrides_end_conditional_variation(tmp_path):
    path = write(tmp_path, CONDITIONAL)
    assert settings(load_sweep(path, ["blend_boost=3"]), "blend", "blend_boost") == [
        (blend, 3.0) for blend in ("dynamic", "uniform", "recency")]  # fmt: skip
    assert settings(load_sweep(path, ["blend=uniform"]), "blend", "blend_boost") == [("uniform", 1.5)]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "blend: recency, b",
            "blend: latest, b",
            "line 8: blend is never latest: here it is dynamic, uniform, recency",
        ),
        ("{blend: [d", "{blent: [d", "line 6: unknown config field 'blent'; did you mean 'blend'"),
        ("blend_boost: 1.5}", "blend_decay: 1}", "line 8: blend_decay is varied only here or further down"),
        (
            ", blend_boost: 1.5}\n    sample: {blend_decay",
            "}\n    sample: {blend_boost",
            "line 8: blend_boost is varied already where this holds",
        ),
        ("    grid: {blend_boost", "    gird: {blend_boost", "line 7: unknown when key 'gird'; did you mean 'grid'"),
        ("    grid: {blend_boost: [1.25, 1.5]}", "", "line 6: .*name what varies there"),
        ("  - if: {blend: [dynamic, recency]}\n    grid", "  - grid", "line 6: when.0.if is missing: write if: {blend"),
        ("uniform: [0.1, 1]}", "unifrom: [0.1, 1]}", "line 9: unknown distribution 'unifrom'"),
        ("grid:\n", "sample: {blend: {choice: [a]}}\ngrid:\n", "blend is both in grid and in sample"),
    ],
)
def test_errors_in_conditions_name_file_line_and_key(tmp_path, old, new, message):
    assert old in CONDITIONAL
    with pytest.raises(BadInput, match=message):
        load_sweep(write(tmp_path, CONDITIONAL.replace(old, new, 1)))


SEARCHED = """\
name: mine
preset: digits-small
sample:
  lr: {loguniform: [0.001, 0.1]}
  poster_width, poster_height: {choice: [[28, 12], [38, 15]]}
num_samples: 5
seeds: [0, 1]
search: {algorithm: optuna, seed: 3}
"""


def test_a_searched_sweep_has_no_trials_before_it_runs_but_each_suggestion_is_one_a_seed(tmp_path):
    sweep = load_sweep(write(tmp_path, SEARCHED))
    assert sweep.trials == {} and sweep.wanted == 10
    trials = sweep.suggestion({"lr": 0.01, "poster_width, poster_height": [28, 12]})
    assert list(trials) == [f"lr=0.01,poster_width=28,poster_height=12,seed={seed}" for seed in (0, 1)]
    with pytest.raises(BadInput, match=r"trial lr=-1.*: lr=-1: input should be greater than 0"):
        sweep.suggestion({"lr": -1, "poster_width, poster_height": [28, 12]})


def test_settings_that_differ_beyond_the_third_digit_are_two_trials(tmp_path):
    sweep = load_sweep(write(tmp_path, SEARCHED))
    for lr in (0.01, 0.0100001):
        sweep.trials.update(sweep.suggestion({"lr": lr, "poster_width, poster_height": [28, 12]}))
    assert len(sweep.trials) == 4 and len({config.lr for config in sweep.trials.values()}) == 2


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("seed: 3", "sed: 3", "line 8: unknown search key 'sed'; did you mean 'seed'"),
        ("optuna", "optina", "line 8: search.algorithm='optina'"),
        ("num_samples: 5\n", "", "line 7: say how many settings to try: num_samples"),
        ("search:", "grid: {lr: [1]}\nsearch:", "lr is both in grid and in sample"),
        ("search:", "grid: {width: [8]}\nsearch:", "line 8: a searched sweep tries no grid"),
        ("[0.001, 0.1]", "[0, 1]", r"line 4: loguniform: \[0, 1\] must be \[low, high\], above 0"),
        ("[28, 12], [38, 15]", "[28, 2], [38, 3]", "line 5: trial .*smaller than the image height 8"),
        ("search:", "config: {blend: released}\nsearch:", "released measures its stage accuracy on the test set"),
        ("search:", "scheduler: {grace_stage: 1}\nsearch:", "line 8: unknown scheduler key 'grace_stage'"),
        ("search:", "scheduler: {grace_stages: 2}\nsearch:", "line 8: nothing can be stopped: a trial of 2 stages"),
    ],
)
def test_errors_in_searches_and_schedulers_name_file_line_and_key(tmp_path, old, new, message):
    assert old in SEARCHED
    with pytest.raises(BadInput, match=message):
        load_sweep(write(tmp_path, SEARCHED.replace(old, new, 1)))


def test_of_many_names_the_nearest_are_said_and_where_all_are_of_few_all(tmp_path):
    fields = len(DistillConfig.model_fields) + 1  # and ipc
    for override, end in (
        ("config.blend_bost=1", f"; did you mean 'blend_boost' or .* (all {fields}: ppodd distill --help)"),
        ("config.xyzzy=1", f"'xyzzy' (all {fields}: ppodd distill --help)"),
        (
            "numsamples=3",
            f"'num_samples' or .* (all {fields + len(SweepFile.model_fields)}: docs/sweeps.md, ppodd dist",
        ),
        ("evaluation.net=1", "; did you mean 'nets'? (accepted: arch, batch, budgets, comp_aug, "),
    ):
        with pytest.raises(BadInput, match=re.escape(end).replace(r"\.\*", ".*")) as caught:
            load_sweep(write(tmp_path, GOOD), [override])
        assert len(str(caught.value).partition("unknown")[2]) < 200


def test_what_set_got_wrong_is_not_blamed_on_the_file(tmp_path):
    path = write(tmp_path, GOOD)
    for override, message in (
        ("grid.num_stage=[1]", r"--set 'grid.num_stage=\[1\]': unknown config field 'num_stage'; did you mean"),
        ("sample.width={uniform: [2, 1]}", "--set 'sample.width=.*uniform: .* must be .low, high"),
        ("num_samples=0", "--set 'num_samples=0': num_samples=0: "),
        ("evaluation.nets=0", "--set 'evaluation.nets=0': nets=0"),
        ("lr=-1", "--set 'lr=-1': trial .*lr=-1: "),
    ):
        with pytest.raises(BadInput, match=message):
            load_sweep(path, [override])


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


DRAWN = "def halved(source, values): return values[0] * 0.5 ** source.randint(0, values[1])"


def test_a_distribution_of_ones_own_is_drawn_by_import_path_and_from_an_installed_package(tmp_path, monkeypatch):
    module = installed_package(tmp_path, monkeypatch, DRAWN, {DISTRIBUTIONS.group: {"halved": "halved"}})
    path = tmp_path / "sweep.yaml"
    drawn = []
    for kind in (f"{module}:halved", "halved"):
        path.write_text(f"name: own\npreset: digits-small\nsample: {{lr: {{{kind}: [0.8, 6]}}}}\nnum_samples: 30\n")
        drawn.append({config.lr for config in load_sweep(str(path)).trials.values()})
    assert drawn[0] == drawn[1] and len(drawn[0]) > 3 and drawn[0] <= {0.8 * 0.5**n for n in range(7)}


def test_a_distribution_that_no_search_knows_is_refused_there(tmp_path, monkeypatch):
    module = user_module(tmp_path, monkeypatch, DRAWN)
    path = tmp_path / "sweep.yaml"
    sample = f"sample: {{lr: {{'{module}:halved': [0.8, 6]}}}}"
    path.write_text(f"name: own\npreset: digits-small\n{sample}\nnum_samples: 9\nsearch: {{}}\n")
    with pytest.raises(BadInput, match=rf"line 3: no search knows {module}:halved: register a Family whose domain"):
        load_sweep(str(path))


IPC = """\
name: mine
preset: digits-small
grid:
  ipc: [0.3, 0.9]
  num_stages: [1, 2]
"""


def test_a_layout_is_chosen_for_each_ipc_and_what_the_file_gives_of_it_stays(tmp_path):
    sweep = load_sweep(write(tmp_path, IPC))
    assert list(sweep.trials) == [f"ipc={i},num_stages={n},seed=0" for i in (0.3, 0.9) for n in (1, 2)]
    assert [c.geometry for c in sweep.trials.values()][::2] == [
        (24, 8, 10, 1, 8, 8, 17, 1),
        (38, 15, 5, 2, 8, 8, 15, 6),
    ]
    assert sweep.varied == ["poster_width", "poster_height", "num_stages"] and len(sweep.layouts) == 2
    given = load_sweep(write(tmp_path, IPC), ["poster_class_num_y=1", "patch_num_x=12", "distill_batch_size=9"])
    assert {(c.poster_class_num_x, c.patch_num_x, c.distill_batch_size) for c in given.trials.values()} == {(10, 12, 9)}
    assert {c.patch_num_y for c in load_sweep("quickstart", ["ipc=0.5"]).trials.values()} == {4}
    assert not load_sweep("quickstart").layouts


def test_an_ipc_can_be_searched(tmp_path):
    text = "name: a\nsearch: {}\nnum_samples: 3\nsample: {ipc: {uniform: [0.1, 0.9]}}\n"  # some cannot be met
    sweep = load_sweep(write(tmp_path, text))
    (config,) = sweep.suggestion({"ipc": 0.5}).values()
    assert (config.poster_width, config.poster_height) == (29, 11)


def test_a_layout_is_chosen_for_data_of_ones_own(tmp_path):
    tree(tmp_path / "photos", ("ant", "bee", "cow"), shape=(6, 9, 3))
    text = f"name: a\nconfig: {{dataset: {tmp_path}/photos}}\n"
    (config,) = load_sweep(write(tmp_path, text)).trials.values()
    assert (config.poster_class_num_x, config.poster_class_num_y, config.poster_width) == (3, 1, 24)
    assert (config.steps_per_epoch, config.inner_lr, config.lr) == (6, 0.001, 0.003)  # for larger images than digits
    (config,) = load_sweep(write(tmp_path, text), ["lr=0.1", "epochs=9"]).trials.values()
    assert (config.steps_per_epoch, config.inner_lr, config.lr) == (0, 0.001, 0.1)
    given = write(tmp_path, f"name: a\nconfig: {{dataset: {tmp_path}/gone, poster_width: 30}}\n")
    assert load_sweep(given).trials["seed=0"].patch_num_x == 5  # as in the preset, where a file says its layout


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["ipc=0.1"], r"--set 'ipc=0.1': ipc=0.1: .* nearest that a layout can meet is 0.1688"),
        (["ipc=much"], r"--set 'ipc=much': ipc='much': .* a valid number"),
        (["grid.ipc=[0.5, -1]"], r"--set 'grid.ipc=\[0.5, -1\]': ipc=-1: .* greater than 0"),
        (["poster_width=30", "poster_height=12"], "line 4: ipc=0.3 beside poster_width=30 and poster_height=12"),
        (["dataset=./gone"], "dataset '.*gone': .* does not exist.*; where the data is on a cluster alone, write its"),
    ],
)
def test_an_ipc_that_no_layout_can_meet_is_refused(tmp_path, overrides, message):
    with pytest.raises(BadInput, match=message):
        load_sweep(write(tmp_path, IPC), overrides)
