"""The data of a sweep: read once before anything runs, known by its content wherever it lies."""

import pytest
from image_sets import picture, tree
from plugins import user_module
from tiny import TINY

from ppodd.archive import Archive
from ppodd.archive.verification import damage
from ppodd.cli.main import parser_of
from ppodd.cli.options import overrides
from ppodd.datasets import loading
from ppodd.distillation import run
from ppodd.errors import BadInput
from tune.running.claim import check_claim, write_claim
from tune.running.data import DataOfTrials, check_alike, check_data, check_own, record_first
from tune.running.job import job_of
from tune.running.trial import _run
from tune.sweep_file import load_sweep

FIELDS = {
    **{name: list(value) if isinstance(value, tuple) else value for name, value in TINY.items()},
    "poster_class_num_x": 2,
    "poster_class_num_y": 1,
    "poster_height": 8,
    "class_area_width": 12,
    "patch_num_y": 1,
    "num_stages": 1,
}


@pytest.fixture
def sweep_of(tmp_path):
    """A sweep of two trials on the data set at a path."""

    def make(path, more="grid: {blend: [latest, uniform]}", **fields):
        lines = [f"  {name}: {value}" for name, value in {**FIELDS, "dataset": str(path), **fields}.items()]
        text = "\n".join(["name: mine", "config:", *lines, more])
        (tmp_path / "mine.yaml").write_text(text)
        return load_sweep(str(tmp_path / "mine.yaml"))

    return make


def test_what_was_read_is_said_once_for_all_trials(sweep_of, tmp_path):
    tree(tmp_path / "photos")
    said = []
    check_data(sweep_of(tmp_path / "photos"), Archive(tmp_path / "archive"), said.append)
    (block,) = said
    assert block.count("data: ") == 1 and "every fifth image of each class is cut off to test" in block


@pytest.mark.parametrize("which", ["arch: [{}]", "optim: {}", "strategy: {}"])
def test_what_a_sweep_evaluates_with_of_a_users_own_is_tried_first(sweep_of, tmp_path, monkeypatch, which):
    tree(tmp_path / "photos")
    own = f"{user_module(tmp_path, monkeypatch, 'def theirs(*given): raise KeyError(3)')}:theirs"
    sweep = sweep_of(tmp_path / "photos", f"evaluation: {{{which.format(own)}}}")
    with pytest.raises(BadInput, match=f"{own}' fails when it is tried"):
        check_data(sweep, Archive(tmp_path / "archive"))


def test_what_a_sweep_on_a_cluster_evaluates_with_of_a_users_own_is_tried_before_a_meta_step(
    sweep_of, tmp_path, monkeypatch
):
    tree(tmp_path / "photos")
    module = user_module(tmp_path, monkeypatch, "def theirs(*given): raise KeyError(3)")
    sweep = sweep_of(tmp_path / "photos", f"evaluation: {{arch: [{module}:theirs]}}")
    check_own(sweep)  # which knows the shape of no data but the named
    archive, (name,) = Archive(tmp_path / "archive"), sweep.trials
    _run(job_of(sweep, archive, name))
    assert "theirs' fails when it is tried" in archive.trial("mine", name).failure().error
    assert not archive.trial("mine", name).stages() and not archive.trial("mine", name).progress()
    shape = {"poster_class_num_x": 5, "poster_class_num_y": 2}
    named = {"dataset": "digits", "image_size": 0, **shape, "poster_width": 24, "poster_height": 12}
    digits = sweep_of("digits", f"evaluation: {{arch: [{module}:theirs]}}", **named)
    with pytest.raises(BadInput, match="theirs' fails when it is tried"):
        check_own(digits)
    check_own(sweep_of("digits", "evaluation: {arch: [not_on_this_machine:Net]}", **named))


def test_a_sweep_that_takes_hours_on_a_cpu_says_so_first(sweep_of, tmp_path):
    tree(tmp_path / "photos")
    for epochs, notes in ((4, []), (200_000, ["note: 2 trials take about"])):
        said = []
        check_data(sweep_of(tmp_path / "photos", epochs=epochs), Archive(tmp_path / "archive"), said.append)
        assert [line[: len(notes[0])] for line in said[1:]] == notes
    gpus = sweep_of(tmp_path / "photos", "grid: {blend: [latest, uniform]}\nresources: {gpus: 1}", epochs=200_000)
    check_data(gpus, Archive(tmp_path / "archive"), said.append)
    assert len([line for line in said if line.startswith("note")]) == 1


def test_what_trials_have_read_elsewhere_is_said_once_as_soon_as_one_has_recorded_it(sweep_of, tmp_path):
    tree(tmp_path / "photos")
    archive, sweep, said = Archive(tmp_path / "archive"), sweep_of(tmp_path / "photos"), []
    of_trials = DataOfTrials(sweep, archive, said.append)
    of_trials.say_new()
    assert not said
    for name, config in sweep.trials.items():
        list(run(config, archive.trial("mine", name)))
        of_trials.say_new()
    assert said == ["\n".join(archive.trial("mine", name).data().report.lines())]


def test_a_poster_that_does_not_fit_is_refused_before_anything_runs(sweep_of, tmp_path):
    tree(tmp_path / "photos", ("ant", "bee", "cow"))
    with pytest.raises(BadInput, match="the data set has 3 classes: choose a layout whose product is 3"):
        check_data(sweep_of(tmp_path / "photos"), Archive(tmp_path / "archive"))


def test_a_sweep_goes_on_with_equal_data_elsewhere_and_refuses_other_data(sweep_of, tmp_path):
    tree(tmp_path / "photos")
    archive, sweep = Archive(tmp_path / "archive"), sweep_of(tmp_path / "photos")
    write_claim(sweep, archive)
    name, config = next(iter(sweep.trials.items()))
    list(run(config, archive.trial("mine", name)))
    (tmp_path / "photos").rename(tmp_path / "moved")
    moved = sweep_of(tmp_path / "moved")
    assert check_claim(moved, archive, resume=True)
    check_data(moved, archive)
    (tmp_path / "moved/ant/0.png").write_bytes(picture("test"))
    with pytest.raises(BadInput, match="was distilled from other data than"):
        check_data(moved, archive)


def test_a_sweeps_data_is_taken_from_where_the_command_says_that_it_lies_now(sweep_of, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tree(tmp_path / "far/My photos: 2")
    sweep_of("./gone")
    line = [f"{tmp_path}/mine.yaml", "--dataset=./My photos: 2", "--root=far"]
    sweep = load_sweep(line[0], overrides(parser_of("sweep").parse(line)))
    assert {config.dataset for config in sweep.trials.values()} == {str(tmp_path / "far/My photos: 2")}
    check_data(sweep, Archive(tmp_path / "archive"))


def test_trials_of_a_sweep_whose_nodes_have_other_data_by_one_name_are_refused(sweep_of, tmp_path):
    tree(tmp_path / "photos")
    archive, sweep = Archive(tmp_path / "archive"), sweep_of(tmp_path / "photos", num_stages=1)
    (one, config), (other, its_config) = sweep.trials.items()
    first, second = archive.trial("mine", one), archive.trial("mine", other)
    for _ in range(2):  # as a trial that goes on does
        list(run(config, first, resume=True, check_dataset=lambda data: check_alike(first, config, data.digest)))
    (tmp_path / "photos/ant/0.png").write_bytes(picture("test"))
    loading._last.clear()  # another node's process has none
    words = f"data .*photos as node .* is not what trial {one} read on node .*: put the same data on every node"
    with pytest.raises(BadInput, match=words):
        list(run(its_config, second, check_dataset=lambda data: check_alike(second, its_config, data.digest)))
    assert not second.stages() and not second.holds_run()
    assert archive.trials("mine") == [one] and not damage(archive, "mine")


def test_what_archived_trials_read_is_what_those_to_come_are_compared_with_wherever_it_lies(sweep_of, tmp_path):
    tree(tmp_path / "photos")
    archive, sweep = Archive(tmp_path / "archive"), sweep_of(tmp_path / "photos")
    name, config = next(iter(sweep.trials.items()))
    list(run(config, archive.trial("mine", name)))
    moved = sweep_of(tmp_path / "moved")
    record_first(moved, archive)
    config = moved.trials[name]
    check_alike(archive.trial("mine", "another"), config, archive.trial("mine", name).stage(1).data.digest)
    with pytest.raises(BadInput, match=f"is not what trial {name} read"):
        check_alike(archive.trial("mine", "another"), config, "other")


def test_a_searched_sweep_goes_on_with_its_data_elsewhere(sweep_of, tmp_path):
    tree(tmp_path / "photos")
    archive, more = (
        Archive(tmp_path / "archive"),
        "search: {}\nnum_samples: 2\nsample: {blend_boost: {uniform: [1.1, 2.2]}}",
    )
    write_claim(sweep_of(tmp_path / "photos", more=more), archive)
    assert check_claim(sweep_of(tmp_path / "moved", more=more), archive, resume=True)
