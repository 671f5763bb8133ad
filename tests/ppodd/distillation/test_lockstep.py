"""Distillations in lockstep come to what each comes to alone, and keep their failures and ends to themselves."""

import contextlib
import itertools
import logging
import os
import time

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from plugins import user_module
from tiny import TINY

from ppodd import logs
from ppodd.archive import Archive
from ppodd.config import DistillConfig, build
from ppodd.datasets.sources import SPECS, Spec, known_spec
from ppodd.distillation import joined_meta_steps, lockstep
from ppodd.distillation.archived_run import distillation_steps, run
from ppodd.distillation.lockstep import Lockstep
from ppodd.distillation.stages import Distillation, distill
from ppodd.errors import NonFinite
from ppodd.evaluation import data_of
from ppodd.training import CompiledConvNet, compiled, fresh_network
from ppodd.training.architectures import ARCHITECTURES, least_side, same_in_company

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


def to_the_bits_of_one_alone(values, members, place):
    """Whether the member at a place comes to every bit that it comes to alone: posters, labels, losses, accuracies."""
    scalars = [
        {"seed": seed, "lr": 0.02 + seed / 100, "inner_lr": 0.01 * (1 + seed % 3), "clip_coef": 0.5 + seed % 2 * 0.4}
        for seed in range(members)
    ]
    configs = [build(DistillConfig, {**values, **own}) for own in scalars]
    assert all(same_in_company(config.arch, config.width, data_of(config, CPU).spec) for config in configs)
    alone = list(distill(configs[place], data_of(configs[place], CPU)))
    came = [result for member, result in Lockstep(works_of(configs), exact=True) if member == place]
    for mine, expected in zip(came, alone, strict=True):
        np.testing.assert_array_equal(mine.poster.poster, expected.poster.poster, strict=True)
        np.testing.assert_array_equal(mine.poster.labels, expected.poster.labels)
        assert (mine.meta_loss, mine.accuracy.values) == (expected.meta_loss, expected.accuracy.values)
    return True


QUICK = {"epochs": 2, "steps_per_epoch": 2, "num_train_eval": 1, "stage_nets": 1, "stage_steps": 2}


@pytest.mark.usefixtures("to_the_bit")
@pytest.mark.parametrize(
    ("options", "members"),
    [
        ({"distill_batch_size": 1, "syn_strategy": "color", "num_stages": 1}, 2),
        ({"distill_batch_size": 1, "syn_strategy": "color"}, 8),
        ({"distill_batch_size": 3}, 2),  # rows of numbers that begin at odd addresses
        ({**LEARNED, "distill_batch_size": 3}, 8),
        ({**LEARNED, **AUGMENTED, "width": 32, "dtype": "float64"}, 5),
        ({**AUGMENTED, "width": 48, "window": 17, "totwindow": 21, "batch_size": 900}, 3),
    ],
    ids=str,
)
def test_in_any_company_each_comes_to_the_same_bits(tiny, together, options, members):
    values = {**tiny, "width": 16, **QUICK, **options}
    assert all(to_the_bits_of_one_alone(values, members, place) for place in (0, members - 1))
    assert members in together


SETTINGS = st.fixed_dictionaries(
    {
        "width": st.sampled_from([16, 32]),
        "distill_batch_size": st.integers(1, 12),
        "num_stages": st.integers(1, 2),
        "window": st.sampled_from([1, 3, 17]),
        "train_y": st.booleans(),
        "train_lr": st.booleans(),
        "inner_optim": st.sampled_from(["Adam", "SGD"]),
        "syn_strategy": st.sampled_from(["none", "color", "flip_rotate", "flip_rotate_scale_crop_color_cutout"]),
        "comp_aug": st.booleans(),
        "batch_size": st.sampled_from([1, 30, 257]),
        "real_chunk": st.sampled_from([7, 512]),
        "dtype": st.sampled_from(["float32", "float64"]),
    }
)


@pytest.mark.usefixtures("to_the_bit")
@settings(max_examples=int(os.environ.get("PPODD_EXAMPLES", "10")), deadline=None, derandomize=True, database=None)
@given(SETTINGS, st.integers(0, 2), st.integers(2, 4), st.sampled_from(["digits", "colours"]))
def test_at_any_settings_company_changes_no_bit(colours, options, place, members, data):
    values = {**TINY, **QUICK, **options, **(colours if data == "colours" else {})}
    values = {**values, "totwindow": options["window"] + 1, "width": 16 if data == "colours" else options["width"]}
    with contextlib.suppress(NonFinite):
        assert to_the_bits_of_one_alone(values, members, min(place, members - 1))


@pytest.fixture(scope="module")
def colours(tmp_path_factory):
    """Small pictures of three channels, and a poster of them."""
    root, random = tmp_path_factory.mktemp("colours"), np.random.default_rng(0)
    for kind in range(10):
        for number in range(12):
            folder = root / ("train" if number < 9 else "test") / f"kind{kind}"
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(random.integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(folder / f"{number}.png")
    area = {"class_area_width": 16, "class_area_height": 16, "poster_width": 48, "poster_height": 24}
    return {"dataset": str(root), **area}


@pytest.mark.parametrize("compile", ["auto", "off"])
def test_where_company_would_change_bits_each_goes_alone_unless_asked_otherwise(tiny, together, compile, caplog):
    caplog.set_level(logging.INFO, "ppodd")
    values = {**tiny, "width": 16, "compile": compile, **QUICK}
    configs = [build(DistillConfig, {**values, "seed": seed}) for seed in range(2)]
    compiled.choose_compiled(compile)  # as a trial's process does
    try:
        list(Lockstep(works_of(configs), exact=True))
        exact = bool(compiled.functions(torch.float32))
        assert set(together) == ({2} if exact else set())
        assert sum("taken one by one" in message for message in caplog.messages) == (not exact)
        together.clear()
        list(Lockstep(works_of(configs)))
        assert set(together) == {2}
    finally:
        compiled.choose_compiled("auto")


@pytest.mark.usefixtures("to_the_bit")
@pytest.mark.parametrize("arch", ["convnet", "convnet4", "convnetw"])
@pytest.mark.parametrize("channels", [1, 3, 4, 5])
def test_what_is_known_of_a_network_beforehand_is_what_this_machine_does(arch, channels):
    """A driver groups trials by the former, and their process joins meta-steps by the latter."""
    found = {True: 0, False: 0}
    for side, width in itertools.product((8, 10, 12, 13, 16, 17, 28, 32), (8, 16, 32, 40, 48, 64)):
        spec = Spec(10, channels, side, side)
        if side < least_side(ARCHITECTURES.known(arch), spec):
            continue
        foreseen = same_in_company(arch, width, spec)
        network = fresh_network(arch, spec, width, 0, CPU, torch.float32)
        fits = CompiledConvNet.fits(network, (1, *spec[1:]))
        # a driver does not know how long a node's vectors are: it takes the longest
        assert foreseen == (width % 16 == 0 and fits), (side, width)
        found[foreseen] += 1
    assert found[False] and (found[True] or channels > 4)


@pytest.mark.usefixtures("to_the_bit")
def test_what_winograd_takes_alone_is_not_the_same_in_company(tiny):
    """Images of 12 px have maps of 8, which several networks take otherwise than one, from 32 channels on."""
    larger = {
        "image_size": 12,
        "class_area_width": 12,
        "class_area_height": 12,
        "poster_width": 36,
        "poster_height": 18,
    }
    for width, same in ((16, True), (32, False)):
        config = build(DistillConfig, {**tiny, **larger, "width": width})
        step = next(Distillation(config, data_of(config, CPU), None).stages())
        assert joined_meta_steps.same_in_company(step.prepare()) is same


@pytest.mark.usefixtures("to_the_bit")
@pytest.mark.parametrize("width", [8, 24, 40])
def test_channels_of_any_number_of_whole_vectors_are_the_same_in_company(tiny, together, width):
    """Runs of channels end with a network's."""
    configs = [build(DistillConfig, {**tiny, **QUICK, "width": width, "dtype": "float64", "seed": s}) for s in range(3)]
    came = {}
    for member, result in Lockstep(works_of(configs), exact=True):
        came.setdefault(member, []).append(result.poster.poster)
    vectors = width % compiled.functions(torch.float64).lanes == 0
    assert set(together) == ({3} if vectors else set())
    for member, config in enumerate(configs):
        alone = [result.poster.poster for result in distill(config, data_of(config, CPU))]
        np.testing.assert_array_equal(came[member], alone)


@pytest.mark.usefixtures("to_the_bit")
@pytest.mark.parametrize("precision", ["plain=bf16", "window=bf16", "real=bf16"])
def test_reduced_precision_of_any_part_is_not_the_same_in_company(tiny, precision):
    config = build(DistillConfig, {**tiny, "width": 16})
    step = next(Distillation(config, data_of(config, CPU), None).stages())
    assert joined_meta_steps.same_in_company(step.prepare())
    reduced = config.model_copy(update={"precision": precision})  # whatever this machine has
    step = next(Distillation(reduced, data_of(config, CPU), None).stages())
    assert not joined_meta_steps.same_in_company(step.prepare())


@pytest.mark.usefixtures("to_the_bit")
def test_what_a_users_augmentation_of_real_images_draws_is_a_trials_own(tiny, together, tmp_path, monkeypatch):
    code = "import torch\ndef noise(x, u): return x + 0.1 * torch.randn(x.shape)"
    module = user_module(tmp_path, monkeypatch, code)
    assert to_the_bits_of_one_alone({**tiny, "width": 16, "real_strategy": f"{module}:noise"}, 3, 1)
    assert set(together) == {3}


def test_each_counts_its_share_of_the_seconds_that_are_spent_together(tiny, together, monkeypatch):
    """So that what a trial cost can be compared with another's, whatever company either had."""
    honest = lockstep._together
    monkeypatch.setattr(lockstep, "_together", lambda *steps: time.sleep(0.1) or honest(*steps))
    configs, started = [build(DistillConfig, {**tiny, "seed": seed}) for seed in range(4)], time.perf_counter()
    last = {member: result.seconds for member, result in Lockstep(works_of(configs))}
    assert together == [4] * 8 and 8 * 0.1 < sum(last.values()) < time.perf_counter() - started
    assert min(last.values()) > 8 * 0.1 / 4


def test_one_whose_chunk_was_halved_is_taken_by_itself(tiny, together):
    """As after it ran out of memory: every member's own chunk holds."""
    chunks = [64, 64, 32]
    configs = [build(DistillConfig, {**tiny, "width": 16, "seed": n, "real_chunk": c}) for n, c in enumerate(chunks)]
    came = {}
    for member, result in Lockstep(works_of(configs)):
        came.setdefault(member, []).append(result.poster.poster)
    assert set(together) == {2}
    alone = [result.poster.poster for result in distill(configs[2], data_of(configs[2], CPU))]
    np.testing.assert_array_equal(came[2], alone)


@pytest.mark.usefixtures("to_the_bit")
def test_what_fails_in_company_is_taken_one_by_one_from_there_on(tiny, monkeypatch, caplog):
    """Such as want of memory, of which one takes less than all."""
    honest, calls = lockstep._together, []

    def short(steps, prepared):
        calls.append(len(steps))
        if len(calls) == 3:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory")
        return honest(steps, prepared)

    monkeypatch.setattr(lockstep, "_together", short)
    configs = [build(DistillConfig, {**tiny, "width": 16, "seed": seed}) for seed in range(2)]
    came = {member: result.poster.poster for member, result in Lockstep(works_of(configs))}
    assert calls == [2, 2, 2] and sum("one by one from here on" in message for message in caplog.messages) == 1
    for member, config in enumerate(configs):
        *_, last = distill(config, data_of(config, CPU))
        np.testing.assert_array_equal(came[member], last.poster.poster)


def test_what_fails_before_a_meta_step_is_its_own(tiny, together, monkeypatch):
    """Such as want of memory for its real images."""
    configs = [build(DistillConfig, {**tiny, "seed": seed}) for seed in range(3)]
    honest, came = Distillation._real_batch, []

    def short(self, state):
        if self.config.seed == 1 and state.step == 2:
            raise MemoryError("not enough")
        return honest(self, state)

    def guarded(work):
        try:
            yield from work
        except MemoryError as error:
            came.append(error)

    monkeypatch.setattr(Distillation, "_real_batch", short)
    stages = [member for member, _ in Lockstep([guarded(work) for work in works_of(configs)])]
    assert sorted(stages) == [0, 0, 2, 2] and len(came) == 1 and together[-1] == 2


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
