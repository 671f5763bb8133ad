"""The meta-gradient against finite differences and plain autograd, in float64."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from ppodd.config import DistillConfig, build
from ppodd.datasets.specs import Spec
from ppodd.geometry import Layout
from ppodd.inner_loop import InnerLoop, Posters, State
from ppodd.labels import LabelWindows, initial_label_array
from ppodd.meta_gradient import Problem, meta_gradient
from ppodd.networks import fresh_network
from ppodd.poster import Patches, initial_poster
from ppodd.seeding import generator

CPU = torch.device("cpu")
SPEC = Spec(4, 1, 4, 4)


class Smooth(nn.Module):
    """A network without kinks, so that finite differences converge."""

    def __init__(self, spec, width):
        super().__init__()
        self.first = nn.Linear(spec.channels * spec.height * spec.width, width)
        self.last = nn.Linear(width, spec.classes)

    def forward(self, x):
        return self.last(torch.tanh(self.first(x.flatten(1))))


def problem_of(optim, strategy="flip_rotate", composed=False, past=0, decay=False, arch="test_meta_gradient:Smooth"):
    config = build(
        DistillConfig,
        {
            "dataset": "./tiny", "poster_width": 9, "poster_height": 7, "poster_class_num_x": 2,
            "poster_class_num_y": 2, "class_area_width": 5, "class_area_height": 4, "patch_num_x": 3,
            "patch_num_y": 2, "distill_batch_size": 4,
        },
    )  # fmt: skip
    layout = Layout.of(config, SPEC, np.arange(4).reshape(2, 2))
    inner = InnerLoop(Patches(layout, CPU), optim, 4, strategy, composed, decay)
    start = generator("test", optim)
    learned = {
        "poster": initial_poster(layout, start, torch.float64) * 4,
        "label_array": initial_label_array(layout, 4, torch.float64) + 0.1,
        "log_inner_lr": torch.tensor(math.log(0.05), dtype=torch.float64),
    }
    windows = LabelWindows(layout, learned["label_array"].shape[1:], CPU)
    older = torch.randn(past, 1, 7, 9, generator=start, dtype=torch.float64)
    older_labels = torch.full((past, 6, 4), 0.25, dtype=torch.float64)

    def posters(learned):
        return Posters(
            torch.cat([older, learned["poster"][None]]),
            torch.cat([older_labels, windows.labels(learned["label_array"])[None]]),
        )

    network = fresh_network(arch, SPEC, 5, 3, CPU, torch.float64)
    blend = [1.0 / (past + 1)] * (past + 1)
    draws = list(inner.draws(blend, 5, ("draws",), 5, network.theta))
    real = torch.randn(20, 1, 4, 4, generator=start, dtype=torch.float64), torch.arange(20) % 4
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
