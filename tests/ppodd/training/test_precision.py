"""Convolutions in reduced precision: of which parts, refused where they cannot be, near to float32's, repeatable."""

import numpy as np
import pytest
import torch
from accelerator import DEVICE, Accelerator

from ppodd.archive import TrialArchive
from ppodd.config import DistillConfig, build
from ppodd.config.distillation import difference
from ppodd.datasets.loading import load, load_once
from ppodd.distillation.archived_run import run
from ppodd.distillation.lockstep import Lockstep
from ppodd.distillation.stages import Distillation, distill
from ppodd.errors import BadInput
from ppodd.training import precision as module
from ppodd.training.precision import Precision, convolutions_in

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
PARTS = ("plain", "window", "real")


@pytest.fixture
def machine(monkeypatch):
    """A processor that has these instructions."""
    return lambda *names: monkeypatch.setattr(module, "instructions", lambda: frozenset(names))


@pytest.fixture
def able(machine):
    machine("avx512_bf16")


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("bf16", "bf16"), ("plain=bf16", "plain=bf16"), ("real=tf32, plain=bf16", "plain=bf16,real=tf32"),
        ("plain=bf16,window=bf16,real=bf16", "bf16"), ("window=float32", "float32"),
    ],
)  # fmt: skip
def test_a_precision_is_of_all_parts_or_of_some(said, meant):
    assert build(DistillConfig, {"precision": said}).precision == meant


@pytest.mark.parametrize(
    ("values", "why"),
    [
        ({"precision": "bf17"}, "unknown precision 'bf17'; did you mean 'bf16'. .*float32, tf32"),
        ({"precision": "plane=bf16"}, "unknown part of precision 'plane'; did you mean 'plain'"),
        ({"precision": "real=bf16,real=tf32"}, "precision=real=bf16,real=tf32: real appears twice"),
        ({"precision": "tf32", "dtype": "float64"}, "precision=tf32 needs dtype=float32, not float64"),
        ({"precision": "real=bf16", "arch": "resnet18"}, "bf16 needs a ConvNet with instance norm, not arch=resnet18"),
        ({"precision": "bf16", "engine": "unrolled"}, "bf16 needs engine=recomputed, not unrolled"),
    ],
)
def test_a_precision_that_cannot_be_is_refused(values, why):
    with pytest.raises(BadInput, match=why) as refusal:
        build(DistillConfig, values)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("precision", "has", "why"),
    [
        ("bf16", "avx512f", "precision=bf16: this CPU has none of AMX, AVX-512 BF16, Arm's BF16: leave it at float32"),
        ("real=bf16", "", "precision=real=bf16: this CPU has none of AMX"),
        ("tf32", "amx_bf16", "precision=tf32: a CPU has no TF32, which a GPU of CUDA capability 8.0 has"),
    ],
)
def test_a_machine_that_cannot_says_what_it_lacks_before_anything_is_written(
    tiny, tmp_path, machine, precision, has, why
):
    machine(has)
    config, trial = build(DistillConfig, {**tiny, "precision": precision}), TrialArchive(tmp_path / "sweep" / "trial")
    with pytest.raises(BadInput, match=why):
        list(run(config, trial))
    with pytest.raises(BadInput, match=why):
        list(distill(config, load_once(config.data, CPU)))
    assert not (tmp_path / "sweep").exists()


@pytest.mark.parametrize("instructions", ["amx_bf16", "avx512_bf16", "bf16"])
def test_a_cpu_with_any_of_the_instructions_can(machine, instructions):
    machine(instructions)
    Precision.read("bf16").check_device(CPU)


@pytest.mark.parametrize("precision", ["tf32", "window=bf16"])
def test_an_older_gpu_is_told_what_is_needed(monkeypatch, precision):
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "Tesla T4")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (7, 5))
    with pytest.raises(BadInput, match=f"precision={precision}: Tesla T4 has CUDA capability 7.5, needed is 8.0"):
        Precision.read(precision).check_device(CUDA)
    Precision.read("float32").check_device(CUDA)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (8, 0))
    Precision.read(precision).check_device(CUDA)


def test_a_gpus_convolutions_are_rounded_to_tf32_where_it_is_chosen_and_nowhere_else():
    found = []
    for precision in ("float32", "tf32", "bf16", None):
        with convolutions_in(precision, CUDA):
            found.append(torch.backends.cudnn.allow_tf32)
        assert torch.backends.cudnn.allow_tf32  # as torch has it
    assert found == [False, True, False, True]


def meta_gradient(values, precision, device=CPU):
    """By gradient descent: what Adam divides by is near 0 at first, and makes much of rounding."""
    changes = {"precision": precision, "cctype": 0, "totwindow": 6, "window": 3, "inner_optim": "SGD"}
    config = build(DistillConfig, {**values, **changes})
    distillation = Distillation(config, load(config.data, device), None)
    state = distillation.first_state()
    return distillation._meta_gradient(state, distillation.problems([]), [1.0])[1]["poster"].cpu()


def error(gradient, exact):
    return float((gradient - exact).norm() / exact.norm())


def test_each_part_has_its_own_and_is_near_to_float32(tiny, able):
    exact = meta_gradient(tiny, "float32")
    errors = {part: error(meta_gradient(tiny, f"{part}=bf16"), exact) for part in PARTS}
    errors["all"] = error(meta_gradient(tiny, "bf16"), exact)
    assert all(1e-4 < size < 0.3 for size in errors.values()), errors
    assert len(set(errors.values())) == 4


def test_an_accelerators_are_near_to_float32_too(tiny, able):
    exact = meta_gradient(tiny, "float32")
    with Accelerator():
        assert 1e-4 < error(meta_gradient(tiny, "bf16", DEVICE), exact) < 0.3


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("precision", ["tf32", "bf16"])
def test_a_gpus_are_near_to_float32(tiny, precision):
    exact, reduced = (meta_gradient({**tiny, "device": "cuda"}, kind, CUDA) for kind in ("float32", precision))
    assert 1e-6 < error(reduced, exact) < 0.3


def test_trials_in_lockstep_share_it(tiny, able):
    configs = [build(DistillConfig, {**tiny, "precision": "bf16", "seed": seed}) for seed in range(3)]
    works = [Distillation(config, load_once(config.data, CPU), None).stages() for config in configs]
    together = {member: result for member, result in Lockstep(works) if result.stage == 1}
    for member, config in enumerate(configs):
        alone = next(distill(config, load_once(config.data, CPU)))
        assert together[member].meta_loss.first == pytest.approx(alone.meta_loss.first, rel=1e-2)


def test_a_run_in_bf16_repeats_and_resumes_bit_for_bit(tiny, tmp_path, able):
    config = build(DistillConfig, {**tiny, "precision": "plain=bf16,real=bf16"})
    trials = [TrialArchive(tmp_path / "sweep" / name) for name in ("whole", "in parts")]
    list(run(config, trials[0]))
    parts = run(config, trials[1])
    next(parts)
    parts.close()
    assert len(list(run(config, trials[1], resume=True))) == 2
    posters = [[trial.poster(stage).poster for stage in (1, 2)] for trial in trials]
    np.testing.assert_array_equal(*posters)
    exact = list(distill(build(DistillConfig, tiny), load_once(config.data, CPU)))
    assert not np.array_equal(posters[0][1], exact[1].poster.poster)


def test_a_resumed_run_keeps_its_precision(tiny, tmp_path, able):
    mine, other = (build(DistillConfig, {**tiny, "precision": precision}) for precision in ("float32", "real=bf16"))
    assert difference(mine, other) == "precision"
    trial = TrialArchive(tmp_path / "sweep" / "trial")
    list(run(mine, trial))
    with pytest.raises(BadInput, match="precision"):
        list(run(other, trial, resume=True))
