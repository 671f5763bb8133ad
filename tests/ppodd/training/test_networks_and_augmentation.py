"""Networks and augmentation against METHOD.md §4."""

import math

import pytest
import torch
import torch.nn.functional as F
from plugins import installed_package, user_module
from torch import nn

from ppodd.config import DistillConfig, build, preset
from ppodd.datasets.loading import load_once
from ppodd.datasets.sources import SPECS, Spec
from ppodd.errors import BadInput, one_line
from ppodd.machine.seeding import generator
from ppodd.training import augment, strategies
from ppodd.training.architectures import ARCHITECTURES, check_architecture
from ppodd.training.networks import check_network, fresh_network
from ppodd.training.strategies import AUGMENTATIONS

CPU = torch.device("cpu")


def count(arch, spec=SPECS["cifar10"], width=128):
    return fresh_network(arch, spec, width, 0, CPU).theta.numel()


def test_convnet_has_the_parameters_of_three_blocks_and_one_linear_layer():
    blocks = (3 * 9 * 128 + 128) + 2 * (128 * 9 * 128 + 128) + 3 * 2 * 128
    assert count("convnet") == blocks + (128 * 4 * 4 * 10 + 10)
    assert count("convnet2") == count("convnet") - 3 * 2 * 128
    assert count("convnet4") == blocks + (128 * 9 * 128 + 128 + 2 * 128) + (128 * 2 * 2 * 10 + 10)


def test_wide_networks_double_their_width_each_block():
    convolutions = (3 * 9 * 128 + 128) + (128 * 9 * 256 + 256) + (256 * 9 * 512 + 512)
    assert count("convnetw") == convolutions + 2 * (128 + 256 + 512) + (512 * 16 * 10 + 10)
    assert count("convnetw2") == count("convnetw") and count("convnetw4") > count("convnetw")


@pytest.mark.parametrize("arch", ARCHITECTURES.own)
@pytest.mark.parametrize("spec", [SPECS["cifar10"], SPECS["tiny-imagenet-200"], Spec(5, 1, 28, 28), Spec(5, 3, 40, 24)])
def test_every_network_takes_grey_and_colour_images_of_any_size(arch, spec):
    network = fresh_network(arch, spec, 8, 0, CPU)
    assert network(network.theta, torch.zeros(2, spec.channels, spec.height, spec.width)).shape == (2, spec.classes)


def test_other_kinds_of_network_have_their_published_sizes_at_the_papers_width():
    assert count("resnet18") == 11_173_962  # for CIFAR-10, as He et al.'s with a 3×3 stem is counted everywhere
    assert count("vgg11") == 9_231_114  # with norms and one linear layer
    assert count("vit-tiny") == pytest.approx(5.36e6, rel=0.01)  # 5.7 million with 1000 classes and 224 px
    assert count("convnext-atto") == pytest.approx(3.38e6, rel=0.01)  # 3.7 million with 1000 classes
    assert count("alexnet") == pytest.approx(2.45e6, rel=0.01)


OTHERS = [name for name, known in ARCHITECTURES.own.items() if known.least]


@pytest.mark.parametrize("arch", OTHERS)
@pytest.mark.parametrize("side", [8, 64])
def test_other_kinds_of_network_tell_images_apart_and_have_the_derivatives_of_a_meta_step(arch, side):
    spec = Spec(5, 1, side, side)
    network = fresh_network(arch, spec, 16, 0, CPU, torch.float64)
    x = torch.randn(3, 1, side, side, generator=generator("x"), dtype=torch.float64).requires_grad_()
    theta = network.theta.requires_grad_()
    logits = network(theta, x)
    assert logits.detach().std(0).min() > 1e-6
    (gradient,) = torch.autograd.grad(logits.logsumexp(1).sum(), theta, create_graph=True)
    (second,) = torch.autograd.grad(gradient.square().sum(), x)
    assert gradient.isfinite().all() and second.isfinite().all() and second.abs().sum() > 0


@pytest.mark.slow
@pytest.mark.parametrize("arch", OTHERS)
def test_other_kinds_of_network_learn_real_digits(arch):
    """Half a minute of processor for all: what normalises away its own signal stays at chance."""
    data = load_once(build(DistillConfig, preset("digits")).data, CPU)
    network = fresh_network(arch, data.spec, 16, 0, CPU)
    optimiser = torch.optim.Adam(network.module.parameters(), 0.001)
    draws = generator("digits")
    for _ in range(150):
        picks = torch.randint(len(data.train.y), (16,), generator=draws)
        optimiser.zero_grad()
        nn.functional.cross_entropy(network.module(data.train.x[picks]), data.train.y[picks]).backward()
        optimiser.step()
    network.module.eval()
    right = network.module(data.test.x).argmax(1) == data.test.y
    assert right.float().mean() > 0.25


def test_28_pixel_images_count_as_32():
    grey, as_32 = fresh_network("convnet", Spec(10, 1, 28, 28), 8, 0, CPU), count("convnet", Spec(10, 3, 32, 32), 8)
    assert grey.theta.numel() == as_32 - 2 * 9 * 8


def test_too_small_an_image_for_a_network_is_refused():
    with pytest.raises(BadInput, match="4 blocks are too many for images of 8 × 8 px"):
        fresh_network("convnet4", Spec(10, 3, 8, 8), 8, 0, CPU)


@pytest.mark.parametrize("arch", ARCHITECTURES.own)
@pytest.mark.parametrize(
    "spec",
    [SPECS["digits"], SPECS["cifar10"], Spec(3, 3, 8, 8), Spec(3, 3, 15, 40), Spec(3, 1, 28, 3), Spec(3, 3, 4, 4)],
)
def test_what_is_said_to_fit_can_be_built_and_nothing_else(arch, spec):
    try:
        check_architecture(arch, spec)
    except BadInput:
        with pytest.raises(BadInput, match=r"too (many|deep) for"):
            fresh_network(arch, spec, 4, 0, CPU)
    else:
        network = fresh_network(arch, spec, 4, 0, CPU)
        assert network(network.theta, torch.zeros(2, spec.channels, spec.height, spec.width)).shape == (2, spec.classes)


def test_an_architecture_too_deep_for_the_images_says_the_least_size():
    with pytest.raises(BadInput, match=r"arch=convnet4: its 4 blocks .* 8 × 8 px, 16 px a side are the least: choose"):
        check_architecture("convnet4", Spec(3, 3, 8, 8))
    with pytest.raises(BadInput, match=r"arch=vgg11: it is too deep for images of 8 × 7 px, 8 px a side are the least"):
        check_architecture("vgg11", Spec(3, 3, 8, 7))


def test_instance_norm_ignores_the_scale_of_an_image():
    module = fresh_network("convnet", SPECS["cifar10"], 8, 0, CPU).module
    first = nn.Sequential(*list(module.features)[:2])
    module.features[0].bias.data.zero_()
    x = torch.randn(2, 3, 32, 32, generator=generator("x"))
    torch.testing.assert_close(first(x), first(7 * x), rtol=1e-3, atol=1e-3)


def test_a_seed_gives_the_same_network_and_leaves_global_randomness_alone():
    torch.manual_seed(5)
    state = torch.get_rng_state()
    first, again, other = (fresh_network("convnet", SPECS["digits"], 8, seed, CPU).theta for seed in (1, 1, 2))
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert torch.equal(torch.get_rng_state(), state)


def test_a_network_of_the_users_own_is_imported():
    assert count("user_networks:Linear", SPECS["digits"]) == 650
    with pytest.raises(
        BadInput, match=r"arch 'no\.such:Thing': cannot import no\.such: .*accepted is .*\(spec, width\)"
    ):
        count("no.such:Thing")


@pytest.mark.parametrize("returned", ["None", "[3]", "nn.ReLU()"])
def test_what_is_no_network_is_refused_with_the_signature(tmp_path, monkeypatch, returned):
    module = user_module(tmp_path, monkeypatch, f"from torch import nn\ndef f(spec, width): return {returned}")
    accepted = r"accepted is a function \(spec, width\) -> torch.nn.Module"
    with pytest.raises(BadInput, match=f"arch '{module}:f' returned .*; {accepted}"):
        count(f"{module}:f", SPECS["digits"])


def test_what_a_users_network_gets_wrong_says_where(tmp_path, monkeypatch):
    code = """
from torch import nn

class Tall(nn.Linear):
    def __init__(self, spec, width):
        super().__init__(spec.width, 3)

class Broken(Tall):
    def forward(self, x):
        return x @ x
"""
    module, x = user_module(tmp_path, monkeypatch, code), torch.zeros(2, 1, 4, 8)
    tall, broken = (fresh_network(f"{module}:{name}", Spec(10, 1, 4, 8), 4, 0, CPU) for name in ("Tall", "Broken"))
    message = r"network Tall returned \(2, 1, 4, 3\) for images \(2, 1, 4, 8\); accepted are logits .* \(2, 10\)"
    with pytest.raises(BadInput, match=message):
        tall(tall.theta, x)
    with pytest.raises(RuntimeError) as error:
        broken(broken.theta, x)
    assert one_line(error.value).endswith(f"({module}.py:10, in forward)")


WRONG_NETWORKS = {
    "another number of logits": (
        "flat(64, 3)",
        r"returned \(2, 3\) for images .*logits",
    ),
    "images of another size": (
        "flat(9, 10)",
        r"fails on images \(2, 1, 8, 8\): .*shape",
    ),
    "the images are not used": ("Blind()", "fails on images .*not .*used"),
    "no number": ("Infinite()", "its gradient for images .* is no number"),
    "no gradient of the images": ("Rounded()", "no gradient reaches the images, so that it distils no poster"),
}


@pytest.mark.parametrize("case", WRONG_NETWORKS)
def test_a_users_network_is_tried_before_it_trains(tmp_path, monkeypatch, case):
    made, words = WRONG_NETWORKS[case]
    code = f"""
import torch
from torch import nn

class Flat(nn.Linear):
    def __init__(self):
        super().__init__(64, 10)

class Blind(Flat):
    def forward(self, x):
        return super().forward(torch.ones(len(x), 64))

class Infinite(Flat):
    def forward(self, x):
        return super().forward(x.flatten(1)).abs().sqrt().mul(0).sqrt()

class Rounded(Flat):
    def forward(self, x):
        return super().forward(x.flatten(1).round())

def flat(*sizes):
    return nn.Sequential(nn.Flatten(), nn.Linear(*sizes))

def net(spec, width):
    return {made}
"""
    module = user_module(tmp_path, monkeypatch, code)
    with pytest.raises(BadInput, match=words):
        check_network(f"{module}:net", SPECS["digits"], 4)


def test_a_users_network_that_rounds_images_is_good_to_evaluate_and_one_that_ends_in_a_softmax_is_warned_of(
    tmp_path, monkeypatch, caplog
):
    code = """
from torch import nn

class Rounded(nn.Linear):
    def __init__(self, spec, width):
        super().__init__(64, 10)

    def forward(self, x):
        return super().forward(x.flatten(1).round())

def probable(spec, width):
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 10), nn.Softmax(1))
"""
    module = user_module(tmp_path, monkeypatch, code)
    check_network(f"{module}:Rounded", SPECS["digits"], 4, twice=False)
    assert not caplog.records
    check_network(f"{module}:probable", SPECS["digits"], 4)
    (record,) = caplog.records
    assert "probable' returns probabilities: cross-entropy takes logits" in record.getMessage()


@pytest.mark.parametrize("name", ["Linear", "Dropout", "Smooth"])
def test_a_network_that_works_is_taken_and_draws_no_randomness(name):
    before = torch.get_rng_state()
    check_network(f"user_networks:{name}", SPECS["digits"], 4)
    assert torch.equal(before, torch.get_rng_state())


# Augmentation


def images(batch=6):
    return torch.randn(batch, 3, 16, 16, generator=generator("images"), dtype=torch.float64)


def drawn(strategy, composed=False, seed=0, batch=6):
    return augment.draw(strategy, composed, batch, generator("draw", seed)).to(CPU, torch.float64)


def test_one_transform_of_the_strategy_is_drawn_a_step():
    names = [tuple(n for n, _ in drawn("flip_rotate", seed=seed).transforms) for seed in range(30)]
    assert set(names) == {("flip",), ("rotate",)}


def test_composed_is_flip_colour_and_cutout_plus_one_of_the_rest():
    names = {tuple(n for n, _ in drawn("flip_rotate_scale", composed=True, seed=s).transforms) for s in range(30)}
    assert names == {("flip", "color", "cutout", "rotate"), ("flip", "color", "cutout", "scale")}


@pytest.mark.parametrize("none", ["", "none"])
def test_no_strategy_changes_nothing(none):
    assert torch.equal(drawn(none)(images()), images())


@pytest.mark.parametrize("name", AUGMENTATIONS.own)
def test_every_transform_keeps_the_shape_and_changes_images(name):
    out = drawn(name)(images())
    assert out.shape == images().shape and not torch.equal(out, images())
    assert torch.equal(out, drawn(name)(images()))


def test_flip_mirrors_about_half_the_images():
    x, out = images(400), drawn("flip", batch=400)(images(400))
    mirrored = [torch.equal(o, i.flip(2)) for o, i in zip(out, x, strict=True)]
    same = [torch.equal(o, i) for o, i in zip(out, x, strict=True)]
    assert sum(mirrored) + sum(same) == 400 and 150 < sum(mirrored) < 250


def test_rotation_stays_within_15_degrees():
    # a bar through the centre, turned: its end moves by at most sin(15°) of the half side
    x = torch.zeros(200, 1, 33, 33, dtype=torch.float64)
    x[:, :, 16, :] = 1
    out = drawn("rotate", batch=200)(x)
    moved = (out[:, 0, :, 28].argmax(dim=1) - 16).abs()
    assert moved.max() <= round(12 * 0.268) + 1 and moved.max() >= 2


@pytest.mark.parametrize("name", ["rotate", "scale"])
@pytest.mark.parametrize("size", [(16, 16), (9, 13)], ids=str)
def test_what_turns_or_stretches_is_torchs_affine_grid_and_each_image_rounds_by_itself(name, size):
    x = torch.randn(40, 3, *size, generator=generator("images"), dtype=torch.float64)
    u = torch.rand(40, 3, generator=generator("numbers"), dtype=torch.float64)
    angle, factor = (u[:, 0] - 0.5) * 2 * math.radians(15), 1 / 1.2 + u[:, :2] * (1.2 - 1 / 1.2)
    cos, sin, none = angle.cos(), angle.sin(), torch.zeros(40, dtype=torch.float64)
    rows = {
        "rotate": [cos, -sin, none, sin, cos, none],
        "scale": [factor[:, 0], none, none, none, factor[:, 1], none],
    }
    grid = F.affine_grid(torch.stack(rows[name], 1).view(-1, 2, 3), list(x.shape), align_corners=False)
    expected = F.grid_sample(x, grid, align_corners=False)
    torch.testing.assert_close(getattr(augment, name)(x, u), expected, rtol=1e-10, atol=1e-10)
    x, u = x.float(), u.float()
    alone = torch.cat([getattr(augment, name)(x[at : at + 3], u[at : at + 3]) for at in range(0, 40, 3)])
    assert torch.equal(getattr(augment, name)(x, u), alone)


def test_cutout_zeroes_at_most_a_quarter():
    zeroed = (drawn("cutout", batch=200)(torch.ones(200, 1, 16, 16, dtype=torch.float64)) == 0).double().mean((1, 2, 3))
    assert zeroed.max() == pytest.approx(0.25) and zeroed.min() > 0.05


def test_crop_shifts_whole_pixels_and_fills_with_zeros():
    x = images()
    for out, image in zip(drawn("crop")(x), x, strict=True):
        shifts = [(dy, dx) for dy in range(-2, 3) for dx in range(-2, 3)]
        padded = torch.nn.functional.pad(image, (2, 2, 2, 2))
        assert any(torch.equal(out, padded[:, 2 + dy : 18 + dy, 2 + dx : 18 + dx]) for dy, dx in shifts)


def test_a_transform_of_a_users_own_is_one_function(tmp_path, monkeypatch):
    code = "def in_vert(x, u): return 1 - x\ndef crooked(x, u): return x[:1]\ndef none(x, u): pass"
    module, x = user_module(tmp_path, monkeypatch, code), images()
    alone = augment.draw(f"{module}:in_vert", False, 6, generator(0))
    assert torch.equal(alone(x), 1 - x)
    joined = {augment.draw(f"flip+{module}:in_vert", False, 6, generator(n)).transforms[0][0] for n in range(9)}
    assert joined == {"flip", f"{module}:in_vert"}
    for name, returned in (("crooked", r"a Tensor of shape \(1, .*"), ("none", "None")):
        with pytest.raises(BadInput, match=f"augmentation '{module}:{name}' returned {returned} for images .*accepted"):
            augment.draw(f"{module}:{name}", False, 6, generator(0))(x)


def test_a_registered_name_may_have_an_underscore(tmp_path, monkeypatch):
    names = {AUGMENTATIONS.group: {"in_vert": "f"}}
    installed_package(tmp_path, monkeypatch, "def f(x, u): return 1 - x", names)
    assert strategies.names("in_vert") == ["in_vert"] and strategies.names("flip+in_vert") == ["flip", "in_vert"]
    assert strategies.names("flip_rotate") == ["flip", "rotate"] and strategies.names("none") == []
    with pytest.raises(BadInput, match="unknown augmentation 'vert'; did you mean 'in_vert'"):
        AUGMENTATIONS.check("flip_vert")
