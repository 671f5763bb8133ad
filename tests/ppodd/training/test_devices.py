"""Away from the CPU: everything is on one device, the host waits for it once a meta-step, and the numbers are the same.

On every machine, by a stand-in for the device; tests on a CUDA device are marked `gpu` beside what they test.
"""

import numpy as np
import pytest
import torch
from accelerator import DEVICE, Accelerator

from ppodd.config import DistillConfig, EvaluationConfig, build
from ppodd.datasets.loading import load
from ppodd.distillation.lockstep import Lockstep
from ppodd.distillation.stages import Distillation, distill
from ppodd.evaluation.accuracy import evaluate
from ppodd.posters.layout import Layout
from ppodd.training.ensemble_training import AutogradTrainer

CPU = torch.device("cpu")


LEARNED = {"train_y": True, "train_lr": True, "inner_optim": "SGD"}
AUGMENTED = {"syn_strategy": "flip_rotate_scale_crop_color_cutout", "comp_aug": True}
OPTIONS = [
    {}, LEARNED, AUGMENTED, {"engine": "unrolled", **LEARNED}, {"cctype": 1, "test_freq": 1}, {"cctype": 2},
    {"stage_start": "fresh", "decay": True}, {"offload": True, "window": 17, "totwindow": 18, "width": 1},
    {"arch": "user_networks:Linear"},
]  # fmt: skip


@pytest.fixture
def accelerator():
    with Accelerator() as accelerator:
        yield accelerator


def run(config, device):
    losses = []
    stages = list(distill(config, load(config.data, device), on_progress=lambda now: losses.append(now.meta_loss)))
    return losses, stages


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_a_distillation_elsewhere_is_that_of_the_cpu(tiny, options):
    config = build(DistillConfig, {**tiny, "dtype": "float64", **options})
    losses, stages = run(config, CPU)
    with Accelerator():
        others, elsewhere = run(config, DEVICE)
    assert others == pytest.approx(losses, rel=1e-9)
    for here, there in zip(stages, elsewhere, strict=True):
        np.testing.assert_allclose(there.poster.poster, here.poster.poster, rtol=1e-6, atol=1e-9)
        assert there.accuracy.values == here.accuracy.values


@pytest.mark.parametrize("options", [o for o in OPTIONS if o.get("cctype") != 1], ids=str)  # it reads a loss besides
def test_a_meta_step_waits_for_the_device_once_when_all_is_queued(tiny, options, accelerator):
    config = build(DistillConfig, {**tiny, "num_stages": 1, **options})
    steps = []

    def note(now):
        steps.append([wait.split()[1].partition(":")[0] for wait in accelerator.waits])
        accelerator.waits.clear()

    list(distill(config, load(config.data, DEVICE), on_progress=note))
    assert len(steps) >= 4
    for files in steps[1:]:
        # network and real batch go to the device while it has next to nothing to do
        *before, real_batch, last = files
        assert set(before) == {"networks.py"} and (real_batch, last) == ("stages.py", "outer_step.py"), files


@pytest.mark.parametrize("options", [{}, LEARNED, AUGMENTED], ids=str)
def test_distillations_in_lockstep_elsewhere_are_those_of_the_cpu_and_wait_once_each(tiny, options):
    configs = [build(DistillConfig, {**tiny, "dtype": "float64", **options, "seed": seed}) for seed in range(3)]

    def posters(device):
        works = [Distillation(config, load(config.data, device), None).stages() for config in configs]
        return [came.what.poster.poster for came in Lockstep(works)]

    here = posters(CPU)
    with Accelerator() as accelerator:
        there = posters(DEVICE)
    np.testing.assert_allclose(there, here, rtol=1e-6, atol=1e-9)
    assert sum("outer_step.py" in wait for wait in accelerator.waits) == 3 * 8
    assert not any("lockstep.py" in wait or "inner_loop.py" in wait for wait in accelerator.waits)


OTHERS = [pytest.param(arch, marks=pytest.mark.slow) for arch in ("resnet18-bn", "vit-tiny", "convnext-atto")]


@pytest.mark.parametrize("arch", ["convnet", "user_networks:Linear", *OTHERS])  # slow: half a minute of processor
def test_an_evaluation_elsewhere_is_that_of_the_cpu_and_waits_once_a_budget(tiny, arch, monkeypatch):
    config = build(DistillConfig, {**tiny, "dtype": "float64", "num_stages": 1, **AUGMENTED})
    (stage,) = distill(config, load(config.data, CPU))
    (protocol,) = EvaluationConfig(arch=(arch,), nets=3, budgets=(2, 5)).protocols(config)
    values = {}
    with Accelerator() as accelerator:
        monkeypatch.setattr(AutogradTrainer, "__init__", cleared(AutogradTrainer.__init__, accelerator.waits))
        for device in (CPU, DEVICE):
            dataset = load(config.data, device)
            layout = Layout.of(config.geometry, dataset.spec, stage.poster.class_order)
            values[device] = evaluate([stage.poster], [1.0], layout, protocol, dataset.test)
    assert values[DEVICE] == values[CPU]
    if arch == "convnet":
        assert len(accelerator.waits) == 2 and all("tolist" in wait for wait in accelerator.waits), accelerator.waits
    else:  # one network after another
        read = [wait for wait in accelerator.waits if "counts.tolist()" in wait]
        assert len(read) == 3 * 2, accelerator.waits


def test_networks_together_take_no_more_operations_than_one(tiny):
    """What bounds a GPU at these sizes: eight in turn would take eight times as many."""
    config = build(DistillConfig, {**tiny, "num_stages": 1})
    (stage,) = distill(config, load(config.data, CPU))

    def operations(nets, steps):
        (protocol,) = EvaluationConfig(nets=nets, budgets=(steps,)).protocols(config)
        with Accelerator() as accelerator:
            dataset = load(config.data, DEVICE)
            layout = Layout.of(config.geometry, dataset.spec, stage.poster.class_order)
            before = accelerator.operations
            evaluate([stage.poster], [1.0], layout, protocol, dataset.test)
            return accelerator.operations - before

    one, eight = (operations(nets, 30) - operations(nets, 10) for nets in (1, 8))
    print(f"20 steps of one network: {one} operations, of eight together: {eight}")  # shown by pytest -s
    assert 0 < eight < 1.2 * one


def test_a_step_takes_few_operations(tiny):
    """A GPU is bound by their number at these sizes; in the window, unrolled, there would be twice as many."""

    def operations(**steps):
        config = build(DistillConfig, {**tiny, "num_stages": 1, "cctype": 0, **steps})
        with Accelerator() as accelerator:
            run = Distillation(config, load(config.data, DEVICE), None)
            position, problems, before = run.first_state(), run.problems([]), accelerator.operations
            run.meta_step(position, problems, [1.0])
            return accelerator.operations - before

    def of_the_window(engine):
        return (operations(engine=engine, window=8, totwindow=8) - operations(engine=engine, window=4, totwindow=4)) / 4

    recomputed, unrolled = of_the_window("recomputed"), of_the_window("unrolled")
    plain = (operations(totwindow=10) - operations(totwindow=6)) / 4
    print(f"operations of a step of the window: recomputed {recomputed}, unrolled {unrolled}; of a plain step: {plain}")
    assert 0 < recomputed <= min(280, unrolled / 2) and 0 < plain <= 70


def cleared(honest, waits):
    def init(*args):
        waits.clear()
        honest(*args)

    return init


def test_the_stand_in_refuses_what_a_gpu_refuses_and_notes_what_waits(accelerator):
    x = torch.rand(3, 3).to(DEVICE, non_blocking=True)
    assert accelerator.waits == [] and (2 * x + torch.tensor(1.0)).device == DEVICE
    with pytest.raises(RuntimeError, match="on the same device"):
        x + torch.rand(3)
    with pytest.raises(RuntimeError, match="made of Python values"):
        torch.tensor(1.0, device=DEVICE)
    assert accelerator.waits == []
    waiting = [
        lambda: x.sum().item(), lambda: x[x > 0.5], lambda: x.cpu(), lambda: x.tolist(),
        lambda: torch.rand(3).to(DEVICE), lambda: x.copy_(torch.rand(3, 3)), lambda: x.nonzero(),
        lambda: bool((x > 2).any()),
    ]  # fmt: skip
    for count, wait in enumerate(waiting, start=1):
        wait()
        assert len(accelerator.waits) == count and "test_devices.py" in accelerator.waits[-1]
