"""Which trials share a process: those of one shape, where it is known to pay or asked for."""

import pytest
from sweeps import sweep_file

from ppodd.errors import BadInput
from tune.sweep_file import groups, load_sweep

SMALL = {"grid": {"num_stages": [1, 2], "blend": ["dynamic", "latest"]}, "seeds": [0, 1, 2]}


@pytest.fixture
def grouped(tiny, tmp_path):
    def grouped(at_once=1, config=None, **changes):
        fields = {
            k: v for k, v in {**tiny, "width": 16, **(config or {})}.items() if k not in changes.get("sample", {})
        }
        sweep = load_sweep(sweep_file(tmp_path, fields, **{**SMALL, **changes}))
        return groups(sweep.file, sweep.trials, at_once)

    return grouped


def test_trials_that_differ_in_scalars_share_a_process_and_those_of_other_shapes_do_not(grouped):
    found = grouped()
    assert [len(group) for group in found] == [6, 6]
    assert all(name.startswith("num_stages=1") for name in found[0])
    assert found == grouped(resources={"lockstep": "auto"})
    assert [len(group) for group in grouped(resources={"lockstep": "off"})] == [1] * 12
    assert [len(group) for group in grouped(resources={"lockstep": 4})] == [4, 2, 4, 2]


def test_no_process_is_left_without_work(grouped):
    assert [len(group) for group in grouped(at_once=4)] == [3, 3, 3, 3]
    assert [len(group) for group in grouped(at_once=12)] == [1] * 12
    methods = {"num_stages": [1], "method": ["p-podd", "chance", "full-data"]}  # two that take no meta-steps
    assert [len(group) for group in grouped(at_once=3, grid=methods)] == [1] * 9
    assert [len(group) for group in grouped(at_once=None)] == [1] * 12  # as many at a time as there are


@pytest.mark.parametrize(
    "config",
    [
        {"width": 512},
        {"arch": "convnet2"},
        {"engine": "unrolled"},
        {"cctype": 3},
        {"arch": "lab:Net"},
        {"width": 20},
        {"compile": "off"},
        {"precision": "real=bf16"},
        {"syn_strategy": "lab:mixed"},  # may mix images of several
    ],
    ids=str,
)
def test_trials_that_gain_nothing_or_cannot_be_joined_stay_alone(grouped, config):
    assert {len(group) for group in grouped(config=config)} == {1}


def test_trials_of_several_threads_are_joined_only_where_the_file_says_so(grouped):
    assert {len(group) for group in grouped(resources={"cpus": 2, "lockstep": "auto"})} == {1}
    assert {len(group) for group in grouped(resources={"cpus": 2, "lockstep": 3})} == {3}


def test_trials_whose_hours_are_limited_are_joined_only_where_the_file_says_so(grouped):
    """A trial's hours are by the clock, which company would share."""
    assert {len(group) for group in grouped(limits={"trial_hours": 1})} == {1}
    assert {len(group) for group in grouped(limits={"sweep_hours": 1})} == {6}
    assert {len(group) for group in grouped(limits={"trial_hours": 1}, resources={"lockstep": 3})} == {3}


def test_trials_on_a_gpu_are_joined_only_where_the_file_says_so(grouped):
    assert {len(group) for group in grouped(resources={"gpus": 0.5, "lockstep": "auto"})} == {1}
    assert {len(group) for group in grouped(resources={"gpus": 0.5, "lockstep": 3})} == {3}


@pytest.mark.parametrize(
    ("written", "meant"),
    [("off", "off"), ("'off'", "off"), ("auto", "auto"), ("4", 4), ("1", ""), ("on", ""), ("no", "off")],
)
def test_off_is_off_as_yaml_has_it(tmp_path, written, meant):
    """Which takes it for false, unless it is quoted."""
    path = tmp_path / "sweep.yaml"
    path.write_text(f"name: s\npreset: digits\nconfig: {{compile: off}}\nresources: {{lockstep: {written}}}\n")
    if meant:
        sweep = load_sweep(str(path))
        assert sweep.file.resources.lockstep == meant
        assert {config.compile for config in sweep.trials.values()} == {"off"}
    else:
        with pytest.raises(BadInput, match=r"line 4: resources\.lockstep=.*: accepted are auto, off, or so many"):
            load_sweep(str(path))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"grid": {"num_stages": [1, 2]}, "seeds": [0]}, "its num_stages=1 is 2 in num_stages=2"),
        ({"grid": {"arch": ["convnet", "convnet2"]}}, "arch=convnet2 .needed is a ConvNet with instance norm"),
        (
            {"grid": {}, "search": {}, "num_samples": 2, "sample": {"inner_lr": {"uniform": [0.1, 0.2]}}},
            "one setting after another",
        ),
    ],
)
def test_a_lockstep_that_cannot_be_is_refused_with_the_field_that_differs(grouped, changes, message):
    with pytest.raises(BadInput, match=rf"line \d+: lockstep: 2: .*{message}"):
        grouped(resources={"lockstep": 2}, **changes)
