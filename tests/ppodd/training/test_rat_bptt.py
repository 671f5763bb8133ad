"""The meta-gradient against finite differences, plain autograd and the unrolled engine, in float64."""

import gc
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from plugins import user_module

from ppodd.config import DistillConfig, build
from ppodd.datasets.loading import load_once
from ppodd.datasets.sources import Spec
from ppodd.distillation.stages import distill
from ppodd.errors import BadInput
from ppodd.machine.seeding import generator
from ppodd.posters.labels import LabelWindows, initial_label_array
from ppodd.posters.layout import Layout
from ppodd.posters.patches import Patches, initial_poster
from ppodd.training import rat_bptt as module
from ppodd.training.architectures import ARCHITECTURES
from ppodd.training.inner_loop import InnerLoop, Posters
from ppodd.training.networks import fresh_network
from ppodd.training.optimisers import State
from ppodd.training.rat_bptt import Problem, meta_gradient

CPU = torch.device("cpu")
SPEC = Spec(4, 1, 4, 4)


def problem_of(
    optim, strategy="flip_rotate", composed=False, past=0, decay=False, arch="user_networks:Smooth",
    spec=SPEC, steps=5, width=5, dtype=torch.float64,
):  # fmt: skip
    wide, high = spec.width + 5, spec.height + 3
    config = build(
        DistillConfig,
        {
            "dataset": "./tiny", "poster_width": wide, "poster_height": high, "poster_class_num_x": 2,
            "poster_class_num_y": 2, "class_area_width": wide // 2 + 1, "class_area_height": high // 2 + 1,
            "patch_num_x": 3, "patch_num_y": 2, "distill_batch_size": 4,
        },
    )  # fmt: skip
    layout = Layout.of(config.geometry, spec, np.arange(4).reshape(2, 2))
    inner = InnerLoop(Patches(layout, CPU), optim, 4, strategy, composed, decay)
    start = generator("test", optim)
    learned = {
        "poster": initial_poster(layout, start, dtype) * 4,
        "label_array": initial_label_array(layout, 4, dtype=dtype) + 0.1,
        "log_inner_lr": torch.tensor(math.log(0.05), dtype=dtype),
    }
    windows = LabelWindows(layout, learned["label_array"].shape[1:], CPU)
    older = torch.randn(past, spec.channels, high, wide, generator=start, dtype=dtype)
    older_labels = torch.full((past, 6, 4), 0.25, dtype=dtype)

    def posters(learned):
        return Posters(
            torch.cat([older, learned["poster"][None]]),
            torch.cat([older_labels, windows.labels(learned["label_array"])[None]]),
        )

    network = fresh_network(arch, spec, width, 3, CPU, dtype)
    blend = [1.0 / (past + 1)] * (past + 1)
    draws = list(inner.draws(blend, steps, ("draws",), steps, network.theta))
    real = torch.randn(20, *spec[1:], generator=start, dtype=dtype), torch.arange(20) % 4
    return Problem(inner, network, posters, lambda learned: learned["log_inner_lr"].exp()), learned, draws, real


def outer_loss(problem, learned, draws, real):
    """The loss after the whole inner loop, by its plain steps alone."""
    state = State.start(problem.network.theta)
    end = problem.inner.train(problem.network, state, problem.posters(learned), draws, float(problem.lr(learned)))
    return float(F.cross_entropy(problem.network(end.theta, real[0]), real[1]))


@pytest.mark.parametrize("optim", ["Adam", "SGD"])
@pytest.mark.parametrize("strategy", ["flip_rotate", "scale_crop", "color_cutout"])
@pytest.mark.parametrize("past", [0, 2])
def test_the_gradient_of_a_full_window_equals_finite_differences(optim, strategy, past):
    problem, learned, draws, real = problem_of(
        optim, strategy, composed=strategy == "flip_rotate", past=past, decay=True
    )
    loss, gradients = meta_gradient(problem, learned, State.start(problem.network.theta), draws, real, chunk=7)
    assert float(loss) == pytest.approx(outer_loss(problem, learned, draws, real), rel=1e-12)
    random = generator("directions", strategy)
    for name, gradient in gradients.items():
        direction = torch.randn(gradient.shape, generator=random, dtype=torch.float64)
        h = 1e-6
        ahead, behind = ({**learned, name: learned[name] + s * h * direction} for s in (1, -1))
        slope = (outer_loss(problem, ahead, draws, real) - outer_loss(problem, behind, draws, real)) / (2 * h)
        assert float((gradient * direction).sum()) == pytest.approx(slope, rel=2e-5, abs=1e-8), name


@pytest.mark.parametrize("past", [0, 2])
def test_the_gradient_equals_that_of_torchs_own_adam_written_out(past):
    """An independent inner loop: no flat vector, no `Draw` reuse of the update, plain autograd throughout."""
    problem, learned, draws, real = problem_of("Adam", past=past)
    _, gradients = meta_gradient(problem, learned, State.start(problem.network.theta), draws, real)
    leaves = {name: tensor.clone().requires_grad_() for name, tensor in learned.items()}
    posters, lr = problem.posters(leaves), problem.lr(leaves)
    theta = problem.network.theta.clone().requires_grad_()
    m = v = torch.zeros_like(theta)
    for t, draw in enumerate(draws, 1):
        (g,) = torch.autograd.grad(problem.inner.loss(problem.network, theta, posters, draw), theta, create_graph=True)
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
        theta = theta - lr * (m / (1 - 0.9**t)) / ((v / (1 - 0.999**t)).sqrt() + 1e-8)
    F.cross_entropy(problem.network(theta, real[0]), real[1]).backward()
    for name, gradient in gradients.items():
        torch.testing.assert_close(gradient, leaves[name].grad, rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize("optim", ["Adam", "SGD"])
def test_plain_steps_equal_torchs_optimisers(optim):
    problem, learned, draws, _ = problem_of(optim)
    posters = problem.posters(learned)
    end = problem.inner.train(problem.network, State.start(problem.network.theta), posters, draws, 0.05)
    theta = problem.network.theta.clone().requires_grad_()
    torchs = (
        torch.optim.Adam([theta], 0.05) if optim == "Adam" else torch.optim.SGD([theta], 0.05, 0.9, weight_decay=5e-4)
    )
    for draw in draws:
        torchs.zero_grad()
        problem.inner.loss(problem.network, theta, posters, draw).backward()
        torchs.step()
    torch.testing.assert_close(end.theta, theta.detach(), rtol=1e-10, atol=1e-12)


def test_a_window_shorter_than_the_loop_ignores_the_steps_before_it():
    problem, learned, draws, real = problem_of("Adam")
    start = State.start(problem.network.theta)
    _, full = meta_gradient(problem, learned, start, draws, real)
    middle = problem.inner.train(
        problem.network, start, problem.posters(learned), draws[:3], float(problem.lr(learned))
    )
    _, truncated = meta_gradient(problem, learned, middle, draws[3:], real)
    assert not torch.allclose(full["poster"], truncated["poster"])
    # patches that the window's steps do not draw get no gradient
    used = torch.zeros(7, 9)
    pixels = problem.inner.patches._pixels
    for draw in draws[3:]:
        for pick in draw.picks.tolist():
            used.view(-1)[pixels[pick]] = 1
    assert not (truncated["poster"][0] * (1 - used)).any()


def test_the_real_batch_in_chunks_gives_the_same_gradient():
    problem, learned, draws, real = problem_of("Adam")
    start = State.start(problem.network.theta)
    (loss, whole), (chunked_loss, chunked) = (meta_gradient(problem, learned, start, draws, real, c) for c in (20, 3))
    assert float(loss) == pytest.approx(float(chunked_loss), rel=1e-12)
    torch.testing.assert_close(whole, chunked)


def test_parameters_that_never_had_a_gradient_do_not_make_it_nan():
    problem, learned, draws, real = problem_of("Adam", arch="convnet", strategy="none")
    learned = {**learned, "poster": torch.zeros_like(learned["poster"])}  # every convolution's gradient is 0
    _, gradients = meta_gradient(problem, learned, State.start(problem.network.theta), draws, real)
    assert all(torch.isfinite(gradient).all() for gradient in gradients.values())


def equal_to_unrolled(problem, learned, draws, real, rtol=1e-9):
    """Both engines' gradients, compared entry by entry relative to the gradient's largest."""
    start = State.start(problem.network.theta)
    loss, gradients = meta_gradient(problem, learned, start, draws, real, chunk=7)
    expected_loss, expected = meta_gradient(problem, learned, start, draws, real, chunk=7, engine="unrolled")
    assert float(loss) == pytest.approx(float(expected_loss), rel=rtol)
    for name, gradient in expected.items():
        assert gradient.abs().max() > 0, name
        error = (gradients[name] - gradient).abs().max() / gradient.abs().max()
        assert error < rtol, (name, float(error))


@pytest.mark.parametrize("optim", ["Adam", "SGD"])
@pytest.mark.parametrize("strategy", ["none", "flip", "rotate", "scale", "crop", "color", "cutout", "composed"])
@pytest.mark.parametrize("past", [0, 2])
def test_the_recomputed_gradient_equals_the_unrolled_one(optim, strategy, past):
    composed = strategy == "composed"
    strategy = "flip_rotate_color_cutout_crop" if composed else strategy
    equal_to_unrolled(*problem_of(optim, strategy, composed, past, decay=True, steps=6))


OPTIMISER = """
def descent(state, gradient, lr):
    first = 0.5 * state.first + gradient
    return state._replace(theta=state.theta - lr * first, first=first, steps=state.steps + 1)

def forgetful(state, gradient, lr):
    return state.theta - lr * gradient
"""


def test_it_does_so_for_an_optimiser_of_a_users_own(tmp_path, monkeypatch):
    path = user_module(tmp_path, monkeypatch, OPTIMISER)
    equal_to_unrolled(*problem_of(f"{path}:descent"))
    message = f"optimiser '{path}:forgetful' returned a Tensor of shape \\(109,\\); accepted is .* the State after"
    with pytest.raises(BadInput, match=message):
        equal_to_unrolled(*problem_of(f"{path}:forgetful"))


@pytest.mark.parametrize("steps", [1, 16, 35])
def test_it_does_so_for_windows_of_any_length_and_after_plain_steps(steps):
    """States between the kept ones, 16 steps apart, are recomputed from the gradients."""
    problem, learned, draws, real = problem_of("Adam", steps=steps + 3)
    with torch.no_grad():
        posters, lr = problem.posters(learned), problem.lr(learned)
    start = problem.inner.train(problem.network, State.start(problem.network.theta), posters, draws[:3], lr)
    (_, gradients), (_, expected) = (
        meta_gradient(problem, learned, start, draws[3:], real, engine=engine) for engine in ("recomputed", "unrolled")
    )
    for name in expected:
        torch.testing.assert_close(gradients[name], expected[name], rtol=1e-9, atol=1e-15)


@pytest.mark.parametrize("arch", [*ARCHITECTURES.own, "user_networks:Noisy"])
def test_it_does_so_for_every_architecture(arch):
    """Batch norm changes its buffers as it goes, dropout draws from the global generator: both once a step."""
    spec = Spec(4, 3, 16, 16)
    problem, learned, draws, real = problem_of("Adam", arch=arch, spec=spec, steps=3, width=2)
    problem = replace(problem, lr=lambda learned: 0.01 * learned["log_inner_lr"].exp())
    buffers = {name: buffer.clone() for name, buffer in problem.network.module.named_buffers()}
    start, results = State.start(problem.network.theta), {}
    for engine in ("recomputed", "unrolled"):
        problem.network.module.load_state_dict(buffers, strict=False)
        torch.manual_seed(7)
        loss, gradients = meta_gradient(problem, learned, start, draws, real, engine=engine)
        after = {name: buffer.clone() for name, buffer in problem.network.module.named_buffers()}
        results[engine] = loss, gradients, after, torch.rand(3)
    (loss, gradients, after, drawn), (expected_loss, expected, expected_after, expected_drawn) = results.values()
    assert float(loss) == pytest.approx(float(expected_loss), rel=1e-9)
    for name, gradient in expected.items():
        torch.testing.assert_close(gradients[name], gradient, rtol=1e-9, atol=1e-9 * float(gradient.abs().max()))
    torch.testing.assert_close(after, expected_after)
    assert torch.equal(drawn, expected_drawn)


def test_fixed_labels_and_a_fixed_rate_need_no_gradient():
    problem, learned, draws, real = problem_of("Adam")
    fixed = problem.posters(learned).labels.detach()
    problem = replace(problem, posters=lambda now: Posters(now["poster"][None], fixed), lr=lambda _: 0.05)
    equal_to_unrolled(problem, {"poster": learned["poster"]}, draws, real)


def test_in_float32_the_engines_agree_to_rounding():
    problem, learned, draws, real = problem_of("SGD", arch="convnet", spec=Spec(4, 3, 16, 16), dtype=torch.float32)
    equal_to_unrolled(problem, learned, draws, real, rtol=1e-4)


@pytest.mark.parametrize(
    "device",
    [
        "cpu",
        pytest.param(
            "cuda",
            marks=[pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")],
        ),
    ],
)
def test_a_window_kept_in_host_memory_gives_the_same_gradient(tiny, device):
    posters = []
    for offload in (False, True):
        config = build(DistillConfig, {**tiny, "offload": offload, "window": 20, "totwindow": 20, "num_stages": 1})
        (stage,) = distill(config, load_once(config.data, torch.device(device)))
        posters.append(stage.poster.poster)
    np.testing.assert_allclose(posters[0], posters[1], rtol=0 if device == "cpu" else 1e-4)


def test_the_window_keeps_one_gradient_a_step_and_every_sixteenth_state():
    """Memory when the window has been run forward, counted in copies of θ."""

    def alive(steps):
        problem, learned, draws, real = problem_of("Adam", arch="convnet", strategy="none", steps=steps, width=7)
        size, counts = problem.network.theta.nbytes, []

        def count(*args):
            gc.collect()
            held = {
                t.data_ptr(): t.nbytes
                for t in gc.get_objects()
                if torch.is_tensor(t) and t.layout is torch.strided and t.nbytes % size == 0
            }
            counts.append(sum(held.values()) // size)
            return honest(*args)

        honest = module.real_loss
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(module, "real_loss", count)
            meta_gradient(problem, learned, State.start(problem.network.theta), draws, real)
        return counts[0]

    assert alive(32) - alive(16) == 16 + 3


def test_the_chosen_engine_is_the_one_that_runs(tiny, monkeypatch):
    used, honest = [], module._unrolled
    monkeypatch.setattr(module, "_unrolled", lambda *args: used.append("unrolled") or honest(*args))
    config = build(DistillConfig, {**tiny, "engine": "unrolled", "epochs": 2, "steps_per_epoch": 1})
    list(distill(config, load_once(config.data, CPU)))
    assert used == ["unrolled"] * 2
    with pytest.raises(BadInput, match="recomputed, unrolled"):
        build(DistillConfig, {**tiny, "engine": "unroled"})
