"""Derivatives written out against autograd's, in float64, and convolutions against torch's."""

import pytest
import torch
import torch.nn.functional as F

from ppodd.datasets.sources import Spec
from ppodd.machine.seeding import generator
from ppodd.training import compiled, compiled_convnet, convnet_derivatives, convolution
from ppodd.training.compiled_convnet import CompiledConvNet
from ppodd.training.convnet_derivatives import ConvNetDerivatives, derivatives_of
from ppodd.training.convolution import CompiledTiles, Direct, FewChannels, SmallMaps, TorchTiles, Winograd
from ppodd.training.derivatives import AutogradDerivatives
from ppodd.training.networks import fresh_network

CPU = torch.device("cpu")


def random(*shape, dtype=torch.float64, key="random"):
    return torch.randn(shape, generator=generator(key, *shape), dtype=dtype)


@pytest.mark.parametrize(
    "spec", [Spec(5, 3, 16, 16), Spec(4, 1, 28, 28), Spec(10, 1, 8, 8), Spec(3, 2, 18, 28)], ids=str
)
@pytest.mark.parametrize("winograd", [False, True])
@pytest.mark.parametrize("choice", ["auto", "off"])
def test_the_convnets_derivatives_equal_autograds(spec, winograd, choice, monkeypatch):
    monkeypatch.setattr(compiled, "_chosen", choice)
    monkeypatch.setattr(convolution, "_WINOGRAD_CHANNELS", dict.fromkeys([True, False], 1 if winograd else 1000))
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


@pytest.mark.skipif(isinstance(compiled._compiled(torch.float64), str), reason="no C compiler")
@pytest.mark.parametrize(
    ("spec", "width", "arch", "count"),
    [
        (Spec(10, 1, 8, 8), 16, "convnet", 11),
        (Spec(10, 1, 8, 8), 48, "convnet", 1),
        (Spec(7, 3, 16, 16), 16, "convnet", 5),
        (Spec(5, 4, 13, 15), 32, "convnet", 4),  # a last row and column that are not pooled
        (Spec(37, 2, 17, 14), 16, "convnet", 3),
        (Spec(2, 1, 12, 13), 16, "convnet4", 6),
        (Spec(4, 1, 10, 8), 16, "convnetw", 6),
    ],
    ids=str,
)
@pytest.mark.parametrize("pieces", [False, True])
def test_whole_compiled_networks_have_autograds_derivatives(spec, width, arch, count, pieces, monkeypatch):
    """Of three networks beside each other, too, whose numbers are not in order in memory."""
    if pieces:
        monkeypatch.setattr(compiled_convnet, "_PIECE_BYTES", 2 * 8 * width * (spec.height + 4) * (spec.width + 4))
    networks = [fresh_network(arch, spec, width, seed, CPU, torch.float64) for seed in range(3)]
    theta = torch.stack([network.theta for network in networks], 1).mT
    theta, direction = theta + 0.1 * random(*theta.shape), random(*theta.shape[::-1], key="direction").mT
    images = random(count, 3, *spec[1:]).transpose(0, 1)
    labels = random(3, count, spec.classes).softmax(2) * torch.linspace(-0.5, 1.5, count, dtype=torch.float64)[:, None]
    together = derivatives_of(networks[0], images.shape, 3)
    alone, oracle = derivatives_of(networks[0], images.shape), AutogradDerivatives(networks[0])
    assert isinstance(together, CompiledConvNet) and isinstance(alone, CompiledConvNet)
    beside = together.gradient(theta, images, labels) + together.products(theta, images, labels, direction)
    for each in range(3):
        one = theta[each], images[each], labels[each]
        mine = alone.gradient(*one) + alone.products(*one, direction[each])
        for found, same, expected in zip(
            mine, beside, oracle.gradient(*one) + oracle.products(*one, direction[each]), strict=True
        ):
            assert torch.equal(found, same[each])
            torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("spec", [Spec(5, 3, 16, 16), Spec(10, 1, 8, 8), Spec(3, 2, 18, 28)], ids=str)
def test_networks_that_are_differentiated_together_have_each_its_own_derivatives(spec):
    networks = [fresh_network("convnet", spec, 6, seed, CPU, torch.float64) for seed in range(3)]
    theta = torch.stack([network.theta for network in networks])
    theta, direction = theta + 0.1 * random(*theta.shape), random(*theta.shape, key="direction")
    images, labels = random(3, 7, *spec[1:]), random(3, 7, spec.classes).softmax(2)
    together, alone = ConvNetDerivatives(networks[0], images.shape, 3), ConvNetDerivatives(networks[0], images.shape)
    gradients, products = together.gradient(theta, images, labels), together.products(theta, images, labels, direction)
    for each in range(3):
        one = theta[each], images[each], labels[each]
        for mine, expected in zip(
            gradients + products, alone.gradient(*one) + alone.products(*one, direction[each]), strict=True
        ):
            torch.testing.assert_close(mine[each], expected, rtol=1e-10, atol=1e-12)


def test_autograds_products_equal_differences_of_the_gradient():
    spec = Spec(4, 1, 8, 8)
    network = fresh_network("convnet2", spec, 3, 1, CPU, torch.float64)
    images, labels = random(5, 1, 8, 8), random(5, 4).softmax(1)
    derivatives, direction = AutogradDerivatives(network), random(*network.theta.shape)
    ahead, behind = (derivatives.gradient(network.theta + s * 1e-6 * direction, images, labels)[1] for s in (1, -1))
    product = derivatives.products(network.theta, images, labels, direction).theta
    torch.testing.assert_close(product, (ahead - behind) / 2e-6, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(("arch", "shape"), [("convnet2", (16, 16)), ("convnetw2", (16, 16))])
def test_networks_that_the_written_out_ones_do_not_fit_get_autograds(arch, shape):
    network = fresh_network(arch, Spec(4, 3, *shape), 2, 1, CPU)
    assert isinstance(derivatives_of(network, shape), AutogradDerivatives)


functions = compiled.functions(torch.float64)
KINDS = pytest.mark.parametrize(
    ("kind", "groups"),
    [
        (Winograd(TorchTiles()), 1),
        pytest.param(
            Winograd(CompiledTiles(functions)), 1, marks=pytest.mark.skipif(not functions, reason="no C compiler")
        ),
        (Direct(1), 1),
        (Direct(1, 2), 2),
    ],
    ids=["winograd", "winograd compiled", "direct", "grouped"],
)


@KINDS
def test_a_convolution_and_its_gradients_equal_torchs(kind, groups):
    x, w, g = random(2, 6, 8, 12).requires_grad_(), random(4, 6 // groups, 3, 3).requires_grad_(), random(2, 4, 8, 12)
    expected = F.conv2d(x, w, padding=1, groups=groups)
    to_x, to_w = torch.autograd.grad(expected, (x, w), g)
    with torch.no_grad():
        inner = kind.weight(w)
        y, inside = kind.forward(x, inner)
        torch.testing.assert_close(y, expected)
        torch.testing.assert_close(kind.backward(inside, g, inner, True), (to_x, to_w))
        assert kind.backward(inside, g, inner, False)[0] is None


@KINDS
@pytest.mark.parametrize("moves", [True, False])
def test_a_convolution_along_a_direction_is_the_products_derivative(kind, groups, moves):
    """`y` and the gradients are bilinear: a difference over two steps of any length is their derivative."""
    (x, x_dot), (g, g_dot) = random(2, 2, 6, 8, 12), random(2, 2, 4, 8, 12)
    w, w_dot = random(2, 4, 6 // groups, 3, 3)
    inner, inner_dot = kind.weight(w), kind.weight(w_dot)
    x_dot = x_dot if moves else torch.zeros_like(x)

    def at(step):
        y, inside = kind.forward(x + step * x_dot, inner + step * inner_dot)
        return y, *kind.backward(inside, g + step * g_dot, inner + step * inner_dot, True)

    y, to_x, _ = at(0)
    y_dot, to_x_dot, to_w_dot = ((ahead - behind) / 2 for ahead, behind in zip(at(1), at(-1), strict=True))
    maps, inside = kind.forward_along(torch.cat([x_dot, x]) if moves else x, inner, inner_dot, moves)
    torch.testing.assert_close(maps, torch.cat([y_dot, y]))
    images, weight = kind.backward_along(inside, torch.cat([g, g_dot]), inner, inner_dot, moves)
    torch.testing.assert_close(images, torch.cat([to_x, to_x_dot]) if moves else to_x_dot)
    torch.testing.assert_close(weight, to_w_dot)


@pytest.mark.parametrize("choice", ["auto", "off"])
def test_winograd_rounds_a_few_times_as_much_as_a_direct_convolution(choice, monkeypatch):
    monkeypatch.setattr(compiled, "_chosen", choice)
    x, w = random(4, 64, 16, 16, dtype=torch.float32).relu(), random(64, 64, 3, 3, dtype=torch.float32)
    kind, exact = convolution.convolution(x, 64, 64, 16, 16, 1), F.conv2d(x.double(), w.double(), padding=1)
    assert isinstance(kind, Winograd)
    y, _ = kind.forward(x, kind.weight(w))
    assert float((y - exact).norm() / exact.norm()) < 5e-6


def test_the_gradient_is_the_same_bit_for_bit_each_time():
    spec = Spec(10, 3, 16, 16)
    network = fresh_network("convnet", spec, 64, 1, CPU)
    images, labels = random(20, 3, 16, 16, dtype=torch.float32), random(20, 10, dtype=torch.float32).softmax(1)
    derivatives = derivatives_of(network, images.shape)
    first, second = (derivatives.gradient(network.theta, images, labels)[1] for _ in range(2))
    assert torch.equal(first, second)


@pytest.mark.skipif(not functions, reason="no C compiler")
@pytest.mark.parametrize("groups", [1, 3])
@pytest.mark.parametrize("padding", [1, 3])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_a_compiled_convolution_of_few_channels_is_torchs(channels, padding, groups):
    x, w = random(2, groups * channels, 5, 9), random(groups * 10, channels, 3, 3)
    does_as(Direct(padding, groups), FewChannels(functions, padding, groups), x, w, False)


@pytest.mark.skipif(not functions, reason="no C compiler")
@pytest.mark.parametrize("moves", [False, True])
@pytest.mark.parametrize("groups", [1, 3])
@pytest.mark.parametrize(("channels", "out"), [(8, 8), (24, 16), (16, 40)])
@pytest.mark.parametrize(("images", "height", "width"), [(1, 1, 1), (3, 3, 3), (7, 2, 5), (10, 1, 4), (13, 3, 2)])
def test_a_compiled_convolution_of_small_maps_is_torchs(images, height, width, channels, out, groups, moves):
    """As many images as make runs of every length, the last of them shorter."""
    assert SmallMaps.fits(functions, channels, out, height, width, 1)
    x, w = random((1 + moves) * images, groups * channels, height, width), random(groups * out, channels, 3, 3)
    does_as(Direct(1, groups), SmallMaps(functions, groups), x, w, moves)


@pytest.mark.skipif(not functions, reason="no C compiler")
@pytest.mark.parametrize("moves", [False, True])
@pytest.mark.parametrize(("channels", "out"), [(8, 8), (24, 16), (16, 40), (12, 8)])
@pytest.mark.parametrize(("images", "height", "width"), [(1, 4, 4), (3, 8, 4), (17, 12, 8)])
def test_a_compiled_winograd_convolution_is_torchs(images, height, width, channels, out, moves):
    """Its products are compiled, too, where channels are whole vectors."""
    x, w = random((1 + moves) * images, channels, height, width), random(out, channels, 3, 3)
    does_as(Direct(1), Winograd(CompiledTiles(functions)), x, w, moves)


def does_as(torchs, ours, x, w, moves):
    """Forward, backward, and both along a direction."""
    inner, (expected, whole) = ours.weight(w), torchs.forward(x, w)
    maps, inside = ours.forward(x, inner)
    torch.testing.assert_close(maps, expected)
    g = random(*maps.shape)
    torch.testing.assert_close(ours.backward(inside, g, inner, True), torchs.backward(whole, g, w, True))
    w_dot, both = random(*w.shape, key="along"), random(*(g if moves else torch.cat([g, g])).shape, key="along")
    inner_dot = ours.weight(w_dot)
    mine, _ = ours.forward_along(x, inner, inner_dot, moves)
    torch.testing.assert_close(mine, torchs.forward_along(x, w, w_dot, moves)[0])
    for mine, expected in zip(
        ours.backward_along(inside, both, inner, inner_dot, moves),
        torchs.backward_along(whole, both, w, w_dot, moves),
        strict=True,
    ):
        torch.testing.assert_close(mine, expected)
