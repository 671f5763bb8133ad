"""Distillations in lockstep come to what each comes to alone, and keep their failures and ends to themselves."""

import logging

import numpy as np
import pytest
import torch

from ppodd import logs
from ppodd.archive import Archive
from ppodd.config import DistillConfig, build
from ppodd.datasets.sources import SPECS, known_spec
from ppodd.distillation import lockstep
from ppodd.distillation.archived_run import distillation_steps, run
from ppodd.distillation.lockstep import Lockstep
from ppodd.distillation.stages import Distillation, distill
from ppodd.errors import NonFinite
from ppodd.evaluation import data_of
from ppodd.training.architectures import same_in_company

CPU = torch.device("cpu")
LEARNED = {"train_y": True, "train_lr": True, "inner_optim": "SGD"}
AUGMENTED = {"syn_strategy": "flip_rotate_scale_crop_color_cutout", "comp_aug": True, "decay": True}


@pytest.fixture
def together(monkeypatch):
    """How many meta-steps were taken at once, each time that it was more than one."""
    counts, honest = [], lockstep._together
    monkeypatch.setattr(lockstep, "_together", lambda steps, more: counts.append(len(steps)) or honest(steps, more))
    return counts


def works_of(configs):
    return [Distillation(config, data_of(config, CPU), None).stages() for config in configs]


@pytest.mark.parametrize(
    "options", [{}, LEARNED, AUGMENTED, {"cctype": 1, "test_freq": 1}, {"window": 17, "totwindow": 21}], ids=str
)
def test_each_comes_to_what_it_comes_to_alone(tiny, options, together):
    different = [
        {"seed": 0},
        {"seed": 1, "blend": "latest", "lr": 0.1, "outer_decay": True},
        {"seed": 2, "inner_lr": 0.02, "clip_coef": 0.5},
    ]
    configs = [build(DistillConfig, {**tiny, "dtype": "float64", **options, **change}) for change in different]
    came = {}
    for member, result in Lockstep(works_of(configs)):
        came.setdefault(member, []).append(result)
    assert together == [3] * 8
    for member, config in enumerate(configs):
        alone = list(distill(config, data_of(config, CPU)))
        for mine, expected in zip(came[member], alone, strict=True):
            np.testing.assert_allclose(mine.poster.poster, expected.poster.poster, rtol=1e-6, atol=1e-9)
            assert mine.meta_loss.last == pytest.approx(expected.meta_loss.last, rel=1e-9)
            assert (mine.accuracy.values, mine.blend) == (expected.accuracy.values, expected.blend)


@pytest.mark.usefixtures("to_the_bit")
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    "options", [{}, {"width": 32}, {"width": 48}, {**LEARNED, "width": 32}, AUGMENTED, {"window": 17, "totwindow": 21}],
    ids=str,
)  # fmt: skip
def test_in_any_company_each_comes_to_the_same_bits(tiny, options, dtype):
    """For most settings; a batch of one patch is among those that come to rounding: see `same_in_company`."""
    values = {**tiny, "width": 16, "batch_size": 256, "dtype": dtype, "num_stages": 1, **options}
    configs = [build(DistillConfig, {**values, "seed": seed, "lr": 0.02 + seed / 100}) for seed in range(5)]
    assert same_in_company(configs[0].arch, configs[0].width, SPECS["digits"])
    (alone,) = distill(configs[0], data_of(configs[0], CPU))
    for company in ([1], [1, 2], [1, 2, 3, 4]):
        members = [*company, 0]
        came = dict(Lockstep(works_of([configs[number] for number in members])))
        np.testing.assert_array_equal(came[len(company)].poster.poster, alone.poster.poster, strict=True)
        assert came[len(company)].accuracy.values == alone.accuracy.values


@pytest.mark.parametrize(
    ("config", "same"),
    [
        (("convnet", 32, "digits"), True),
        (("convnet", 20, "digits"), False),  # no whole vectors
        (("convnet2", 16, "digits"), False),  # no instance norm
        (("convnet", 16, "mnist"), False),  # maps of 16 × 16
        (("convnet", 16, "cifar10"), False),
        (("lab:Net", 16, "digits"), False),
    ],
    ids=str,
)
def test_which_networks_are_the_same_in_company(config, same):
    *network, data = config
    assert same_in_company(*network, SPECS[data]) is same


@pytest.mark.parametrize(("width", "same"), [(16, True), (32, False)])
def test_winograds_convolution_is_for_one(width, same):
    assert same_in_company("convnet", width, known_spec("cifar10", 16)) is same


def test_a_failure_ends_one_and_not_the_others(tiny, together):
    configs = [build(DistillConfig, {**tiny, "inner_optim": "SGD", "inner_lr": lr}) for lr in (0.01, 1e30, 0.02)]
    works, failures = works_of(configs), []

    def guarded(work):
        try:
            yield from work
        except NonFinite as error:
            failures.append(error)

    came = [member for member, _ in Lockstep([guarded(work) for work in works])]
    assert sorted(came) == [0, 0, 2, 2] and together[0] == 3 and set(together[1:]) == {2}
    (failure,) = failures
    assert "stage 1, meta-step 1" in str(failure)


def test_one_that_is_dropped_ends_there_and_the_others_go_on(tiny, together):
    group, came = Lockstep(works_of([build(DistillConfig, {**tiny, "seed": seed}) for seed in range(3)])), []
    for member, _ in group:
        came.append(member)
        if member == 1:
            group.drop(1)
    assert sorted(came) == [0, 0, 1, 2, 2] and together == [3] * 4 + [2] * 4


def test_an_interrupted_group_goes_on_bit_for_bit(tiny, tmp_path, together):
    configs = [build(DistillConfig, {**tiny, "name": f"seed={seed}", "seed": seed}) for seed in range(2)]

    def trials(archive):
        return [Archive(tmp_path / archive).trial("mine", config.name) for config in configs]

    def go_on(archive, until=None):
        works = [distillation_steps(c, trial, resume=True) for c, trial in zip(configs, trials(archive), strict=True)]
        for _, record in Lockstep(works):
            if record.stage == until:
                return

    go_on("whole")
    go_on("parts", until=1)  # one has archived its first stage, the other not
    assert sorted(len(trial.stages()) for trial in trials("parts")) == [0, 1]
    go_on("parts")
    for mine, expected in zip(trials("parts"), trials("whole"), strict=True):
        assert [mine.stage(s).digests.poster for s in (1, 2)] == [expected.stage(s).digests.poster for s in (1, 2)]


@pytest.mark.parametrize("by", ["notice", "Ctrl-C"])
def test_each_leaves_a_checkpoint_of_the_same_meta_step_when_interrupted(tiny, tmp_path, monkeypatch, by):
    configs = [build(DistillConfig, {**tiny, "checkpoint_every": 100, "seed": seed}) for seed in range(3)]
    trials = [Archive(tmp_path).trial("mine", str(config.seed)) for config in configs]
    asked, honest = iter(range(100)), lockstep._together

    def stop():
        return by == "notice" and next(asked) >= 6  # as the first of three has taken two meta-steps

    def pressed(steps, prepared):
        if by == "Ctrl-C" and steps[0].state.step == 2:
            raise KeyboardInterrupt
        return honest(steps, prepared)

    monkeypatch.setattr(lockstep, "_together", pressed)
    with pytest.raises(KeyboardInterrupt):
        list(Lockstep([distillation_steps(c, trial, stop=stop) for c, trial in zip(configs, trials, strict=True)]))
    assert [trial.resume()[1].step for trial in trials] == [2, 2, 2]


@pytest.mark.usefixtures("to_the_bit")
def test_one_that_is_behind_catches_up_and_comes_to_the_same_bits(tiny, tmp_path, together):
    """As after a kill between two checkpoints: of the same group, and of one that another machine forms."""
    values = {**tiny, "width": 16}
    configs = [build(DistillConfig, {**values, "name": f"seed={seed}", "seed": seed}) for seed in range(2)]
    trials, alone = ([Archive(tmp_path).trial(sweep, c.name) for c in configs] for sweep in ("mine", "alone"))
    next(iter(run(configs[0], trials[0])))  # the first stage, 4 meta-steps
    list(Lockstep([distillation_steps(c, trial, resume=True) for c, trial in zip(configs, trials, strict=True)]))
    assert [trial.stages() for trial in trials] == [[1, 2]] * 2 and together == [2] * 4
    for config, mine, expected in zip(configs, trials, alone, strict=True):
        list(run(config, expected))
        assert [mine.stage(s).digests.poster for s in (1, 2)] == [expected.stage(s).digests.poster for s in (1, 2)]


def test_log_lines_of_each_are_about_its_own(tiny, caplog):
    def said(name, work):
        with logs.about(trial=name):
            yield next(work)
            logging.getLogger("ppodd.test").warning("%s: about %s", name, logs._known.get()["trial"])

    configs = [build(DistillConfig, {**tiny, "seed": seed}) for seed in range(2)]
    list(Lockstep([said(name, work) for name, work in zip("ab", works_of(configs), strict=True)]))
    assert sorted(caplog.messages) == ["a: about a", "b: about b"] and "trial" not in logs._known.get()


def test_networks_that_cannot_be_joined_are_taken_one_by_one(tiny, together):
    configs = [build(DistillConfig, {**tiny, "arch": "convnet2", "seed": seed}) for seed in range(2)]
    came = [member for member, _ in Lockstep(works_of(configs))]
    assert sorted(came) == [0, 0, 1, 1] and together == []
