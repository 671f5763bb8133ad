"""Derivatives written out against autograd's, in float64, and convolutions against torch's."""

import pytest
import torch
import torch.nn.functional as F

from ppodd.datasets.sources import Spec
from ppodd.machine.seeding import generator
from ppodd.training import convnet_derivatives, convolution
from ppodd.training.convnet_derivatives import ConvNetDerivatives, derivatives_of
from ppodd.training.convolution import Direct, Winograd
from ppodd.training.derivatives import AutogradDerivatives
from ppodd.training.networks import fresh_network

CPU = torch.device("cpu")


def random(*shape, dtype=torch.float64, key="random"):
    return torch.randn(shape, generator=generator(key, *shape), dtype=dtype)


@pytest.mark.parametrize(
    "spec", [Spec(5, 3, 16, 16), Spec(4, 1, 28, 28), Spec(10, 1, 8, 8), Spec(3, 2, 18, 28)], ids=str
)
@pytest.mark.parametrize("winograd", [False, True])
def test_the_convnets_derivatives_equal_autograds(spec, winograd, monkeypatch):
    monkeypatch.setattr(convolution, "_WINOGRAD_CHANNELS", 1 if winograd else 1000)
    monkeypatch.setattr(convnet_derivatives, "_PIECE_BYTES", 3 * 8 * 6 * 32 * 32)  # several pieces, the last shorter
    network = fresh_network("convnet", spec, 6, 1, CPU, torch.float64)
    theta = network.theta + 0.1 * random(*network.theta.shape)  # norms that scale and shift
    images = random(11, *spec[1:])
    labels = random(11, spec.classes).softmax(1) * torch.linspace(0.5, 1.5, 11, dtype=torch.float64)[:, None]
    direction = random(*theta.shape, key="direction")
    written, oracle = derivatives_of(network, images.shape), AutogradDerivatives(network)
    assert isinstance(written, ConvNetDerivatives)
    for mine, expected in zip(
        (*written.gradient(theta, images, labels), *written.products(theta, images, labels, direction)),
        (*oracle.gradient(theta, images, labels), *oracle.products(theta, images, labels, direction)),
        strict=True,
    ):
        torch.testing.assert_close(mine, expected, rtol=1e-10, atol=1e-12)


def test_autograds_products_equal_differences_of_the_gradient():
    spec = Spec(4, 1, 8, 8)
    network = fresh_network("convnet2", spec, 3, 1, CPU, torch.float64)
    images, labels = random(5, 1, 8, 8), random(5, 4).softmax(1)
    derivatives, direction = AutogradDerivatives(network), random(*network.theta.shape)
    ahead, behind = (derivatives.gradient(network.theta + s * 1e-6 * direction, images, labels)[1] for s in (1, -1))
    product = derivatives.products(network.theta, images, labels, direction).theta
    torch.testing.assert_close(product, (ahead - behind) / 2e-6, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("arch, shape", [("convnet2", (16, 16)), ("convnetw2", (16, 16))])
def test_networks_that_the_written_out_ones_do_not_fit_get_autograds(arch, shape):
    network = fresh_network(arch, Spec(4, 3, *shape), 2, 1, CPU)
    assert isinstance(derivatives_of(network, shape), AutogradDerivatives)


@pytest.mark.parametrize("kind", [Winograd(), Direct(3, 8, 12, 1)], ids=["winograd", "direct"])
def test_a_convolutions_sums_of_products_and_gradients_equal_torchs(kind):
    (x, x2), (w, w2), g = (random(2, 2, 3, 8, 12), random(2, 4, 3, 3, 3), random(2, 4, 8, 12))
    leaves = [t.clone().requires_grad_() for t in (x, x2, w, w2)]
    y = F.conv2d(leaves[0], leaves[2], padding=1) + F.conv2d(leaves[1], leaves[3], padding=1)
    to_x, to_x2, to_w, to_w2 = torch.autograd.grad(y, leaves, g)
    ix, ix2, iw, iw2, ig = kind.image(x), kind.image(x2), kind.weight(w), kind.weight(w2), kind.map(g)
    torch.testing.assert_close(kind.product([(ix, iw), (ix2, iw2)]), y.detach())
    torch.testing.assert_close(kind.to_image([(ig, iw), (ig, iw2)]), to_x + to_x2)
    torch.testing.assert_close(kind.to_weight([(ix, ig), (ix2, ig)]), to_w + to_w2)


def test_winograd_rounds_a_few_times_as_much_as_a_direct_convolution():
    x, w = random(4, 64, 16, 16, dtype=torch.float32).relu(), random(64, 64, 3, 3, dtype=torch.float32)
    kind, exact = Winograd(), F.conv2d(x.double(), w.double(), padding=1)
    y = kind.product([(kind.image(x), kind.weight(w))])
    assert float((y - exact).norm() / exact.norm()) < 5e-6


def test_the_gradient_is_the_same_bit_for_bit_each_time():
    spec = Spec(10, 3, 16, 16)
    network = fresh_network("convnet", spec, 64, 1, CPU)
    images, labels = random(20, 3, 16, 16, dtype=torch.float32), random(20, 10, dtype=torch.float32).softmax(1)
    derivatives = derivatives_of(network, images.shape)
    first, second = (derivatives.gradient(network.theta, images, labels)[1] for _ in range(2))
    assert torch.equal(first, second)
