"""Poster geometry against hand-computed cases and METHOD.md §1."""

import numpy as np
import pytest
import torch

from ppodd.config import DistillConfig, build
from ppodd.config.presets import PRESETS, preset
from ppodd.datasets.sources import SPECS, Spec
from ppodd.errors import BadInput
from ppodd.machine.seeding import generator
from ppodd.posters.layout import Layout, positions
from ppodd.posters.patches import Patches, fade_blend, initial_poster
from ppodd.posters.pixel_budget import geometry_of


def layout_of(**values):
    config = build(DistillConfig, {**preset("cifar10"), **values})
    rows, columns = config.poster_class_num_y, config.poster_class_num_x
    return Layout.of(config.geometry, SPECS["cifar10"], np.arange(rows * columns).reshape(rows, columns))


@pytest.mark.parametrize(("name", "ipc"), [("cifar10", 0.896), ("cifar100", 0.897)])
def test_published_poster_sizes_have_the_published_ipc(name, ipc):
    assert build(DistillConfig, preset(name)).geometry.ipc(SPECS[name]) == pytest.approx(ipc, abs=5e-4)


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_is_a_valid_config(name):
    assert build(DistillConfig, preset(name)).num_stages >= 1


def test_windows_are_spread_by_rounded_linspace():
    assert positions(153, 32, 16) == [0, 8, 16, 24, 32, 40, 48, 56, 65, 73, 81, 89, 97, 105, 113, 121]
    assert positions(60, 32, 6) == [0, 6, 11, 17, 22, 28]
    assert positions(60, 32, 1) == [0]


def test_patches_are_enumerated_x_major():
    layout = layout_of()
    corners = layout.patch_pixels()[:, 0]
    assert corners[:7].tolist() == [0, 6 * 153, 11 * 153, 17 * 153, 22 * 153, 28 * 153, 8]


def test_a_batch_of_crops_equals_slices_of_the_posters():
    layout = layout_of()
    posters = torch.randn(3, 3, 60, 153, generator=generator("crops"))
    picks = torch.tensor([0, 95, 96 + 7, 2 * 96 + 50])
    crops = Patches(layout, torch.device("cpu")).crop(posters, picks)
    for crop, pick in zip(crops, picks.tolist(), strict=True):
        poster, patch = divmod(pick, 96)
        x, y = layout.patch_xs[patch // 6], layout.patch_ys[patch % 6]
        assert torch.equal(crop, posters[poster, :, y : y + 32, x : x + 32])


def test_the_gradient_of_crops_counts_how_often_a_pixel_is_used():
    layout = layout_of()
    poster = torch.zeros(3, 60, 153, requires_grad=True)
    Patches(layout, torch.device("cpu")).all(poster).sum().backward()
    counts = torch.zeros(60, 153)
    for x in layout.patch_xs:
        for y in layout.patch_ys:
            counts[y : y + 32, x : x + 32] += 1
    assert torch.equal(poster.grad[0], counts)


def test_tiles_fade_linearly_where_they_overlap():
    tiles = torch.stack([torch.zeros(1, 1, 4), torch.ones(1, 1, 4)])[None]
    blended = fade_blend(tiles, [0, 2], [0], 6, 1)
    assert blended.flatten().tolist() == pytest.approx([0, 0, 1 / 3, 2 / 3, 1, 1])


def test_equal_tiles_blend_to_themselves():
    image = torch.randn(2, 9, 13, generator=generator("image"))
    xs, ys = positions(13, 5, 4), positions(9, 4, 3)
    tiles = torch.stack([torch.stack([image[:, y : y + 4, x : x + 5] for x in xs]) for y in ys])
    torch.testing.assert_close(fade_blend(tiles, xs, ys, 13, 9), image)


def test_the_initial_posters_class_areas_have_unit_norm():
    layout = layout_of(poster_width=160, poster_height=64)  # areas side by side, no overlap
    poster = initial_poster(layout, generator(0))
    for x in layout.area_xs:
        for y in layout.area_ys:
            assert float(poster[:, y : y + 32, x : x + 32].norm()) == pytest.approx(1, abs=1e-5)


def test_the_initial_poster_depends_on_the_seed_alone():
    layout = layout_of()
    assert torch.equal(initial_poster(layout, generator(3)), initial_poster(layout, generator(3)))
    assert not torch.equal(initial_poster(layout, generator(3)), initial_poster(layout, generator(4)))


def test_a_spec_may_be_grey_and_oblong():
    config = build(DistillConfig, {**preset("digits"), "dataset": "./mine", "poster_width": 30, "poster_height": 20})
    layout = Layout.of(config.geometry, Spec(10, 1, 6, 9), np.arange(10).reshape(2, 5))
    assert Patches(layout, torch.device("cpu")).all(torch.zeros(1, 20, 30)).shape == (10, 1, 6, 9)


PUBLISHED = {  # poster, class grid, class areas, patches of PoDD's settings at 0.9 IPC; and of ours, where others
    "cifar10": ((153, 60), (5, 2), (32, 32), (16, 6), (153, 60, 5, 2, 32, 32, 15, 6)),
    "cifar100": ((303, 303), (10, 10), (32, 32), (20, 20), (304, 303, 10, 10, 32, 32, 30, 30)),
    "cub-200": ((610, 302), (20, 10), (32, 32), (60, 30), (608, 303, 20, 10, 32, 32, 60, 30)),
    "tiny-imagenet-200": ((1211, 608), (20, 10), (64, 64), (40, 20), (1214, 607, 20, 10, 64, 64, 60, 30)),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_layout_that_is_chosen_is_near_the_published_one(name):
    poster, grid, areas, patches, expected = PUBLISHED[name]
    chosen = geometry_of(0.9, SPECS[name], {})
    assert chosen == expected and chosen[2:6] == grid + areas
    assert max(abs(ours - theirs) for ours, theirs in zip(chosen[:2], poster, strict=True)) <= 3
    assert all(theirs * 0.9 <= ours <= theirs * 1.5 for ours, theirs in zip(chosen[6:], patches, strict=True))


@pytest.mark.parametrize("ipc", [0.2, 0.3, 0.55, 0.9, 1.0, 3.0, 10.0])
@pytest.mark.parametrize("classes", [2, 3, 7, 10, 37, 100, 101, 200, 1000])
@pytest.mark.parametrize("size", [(8, 8), (28, 28), (40, 20), (224, 224)], ids=str)
def test_a_layout_is_chosen_for_any_classes_and_images(ipc, classes, size):
    spec = Spec(classes, 3, *size)
    try:
        chosen = geometry_of(ipc, spec, {})
    except BadInput as error:
        nearest = float(str(error).rsplit(" ", 1)[-1])
        assert nearest > ipc and geometry_of(nearest, spec, {}).ipc(spec) == pytest.approx(nearest, rel=0.01)
        return
    chosen.check(spec)
    assert 0.8 * ipc < chosen.ipc(spec) <= ipc  # never more than asked for
    layout = Layout.of(chosen, spec, np.arange(classes).reshape(chosen.poster_class_num_y, chosen.poster_class_num_x))
    assert all(b - a <= spec.width / 2 + 1 for a, b in zip(layout.patch_xs, layout.patch_xs[1:], strict=False))
    assert all(b - a <= spec.height / 2 + 1 for a, b in zip(layout.patch_ys, layout.patch_ys[1:], strict=False))
    corners = [(x, y) for x in layout.patch_xs for y in layout.patch_ys]
    assert len(corners) >= classes and len(set(corners)) == len(corners)


def test_what_is_given_of_a_layout_is_kept_and_the_rest_chosen_for_it():
    spec = SPECS["cifar10"]
    tall = geometry_of(0.9, spec, {"poster_class_num_y": 10})
    assert (tall.poster_class_num_x, tall.poster_width, tall.poster_height) == (1, 32, 288)
    wide = geometry_of(0.9, spec, {"poster_width": 200, "patch_num_x": 4})
    assert (wide.poster_width, wide.poster_height, wide.patch_num_x) == (200, 46, 4)
    for geometry in (tall, wide):
        geometry.check(spec)


REFUSED = {
    "too few pixels": (0.05, {}, "ipc=0.05: .* the nearest that a layout can meet is 0.1161"),
    "a grid of other classes": (0.9, {"poster_class_num_x": 3}, "poster_class_num_x=3: 10 classes .* 1, 2, 5, 10"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_budget_that_no_layout_meets_is_refused(case):
    ipc, given, words = REFUSED[case]
    with pytest.raises(BadInput, match=words):
        geometry_of(ipc, SPECS["cifar10"], given)
