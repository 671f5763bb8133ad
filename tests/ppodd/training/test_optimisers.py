"""The inner optimisers' cotangents in closed form against autograd's, in float64."""

import pytest
import torch

from ppodd.training.optimisers import OPTIMISERS, State


@pytest.mark.parametrize("steps", [0, 3])
@pytest.mark.parametrize("rates", [(), (3, 1)], ids=["one network", "three, each at its rate"])
@pytest.mark.parametrize("name", list(OPTIMISERS.own))
def test_an_updates_cotangents_equal_autograds(name, rates, steps):
    source = torch.Generator().manual_seed(0)

    def random(*shape):
        return torch.randn(shape, generator=source, dtype=torch.float64)

    optimiser, shape = OPTIMISERS.get(name), (*rates[:1], 7)
    theta, first, second, gradient = random(*shape), random(*shape), random(*shape).square(), random(*shape)
    if steps == 0:
        first, second = first * 0, second * 0
    lr = random(*rates).square() + 0.1
    leaves = [t.requires_grad_() for t in (theta, first, second, gradient, lr)]
    after = optimiser(State(theta, first, second, steps), gradient, lr)
    bars = [random(*shape) for _ in range(3)]
    expected = torch.autograd.grad(after[:3], leaves, bars, materialize_grads=True)
    with torch.no_grad():
        bar, *others = optimiser.cotangents(State(*leaves[:3], steps), gradient, lr, State(*bars, steps + 1))
    for mine, theirs in zip([*bar[:3], *others], expected, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-10, atol=1e-12)
