"""Fixed and learned labels against hand-computed cases (METHOD.md §3)."""

import numpy as np
import pytest
import torch

from ppodd.config import DistillConfig, build
from ppodd.config.presets import preset
from ppodd.datasets.sources import SPECS, Spec
from ppodd.posters.labels import LabelWindows, fixed_labels, initial_label_array, label_array_shape
from ppodd.posters.layout import Layout


def layout_of(name, order=None, **values):
    config = build(DistillConfig, {**preset(name), **values})
    rows, columns = config.poster_class_num_y, config.poster_class_num_x
    spec = SPECS.get(config.dataset, Spec(2, 1, 2, 2))
    return Layout.of(
        config.geometry, spec, np.arange(rows * columns).reshape(rows, columns) if order is None else order
    )


def test_a_patch_is_labelled_by_the_softmax_of_the_pixels_it_shares_with_each_class():
    # two classes side by side on 5 × 2 px, areas of 3 × 2 that overlap in column 2; patches of 2 × 2 at x = 0, 1, 3
    order = np.array([[1, 0]])
    layout = layout_of(
        "digits", order, dataset="./mine", poster_width=5, poster_height=2, poster_class_num_x=2, poster_class_num_y=1,
        class_area_width=3, class_area_height=2, patch_num_x=3, patch_num_y=1, distill_batch_size=3,
    )  # fmt: skip
    assert layout.patch_xs == [0, 2, 3]
    # pixels of (class 0, class 1): columns 0–1 are class 1 alone, column 2 both, columns 3–4 class 0 alone
    counts = torch.tensor([[0.0, 4.0], [4.0, 2.0], [4.0, 0.0]], dtype=torch.float64)
    torch.testing.assert_close(fixed_labels(layout, torch.float64), counts.softmax(1))


def test_fixed_labels_sum_to_one_and_a_patch_inside_one_area_is_that_class():
    layout = layout_of("cifar10", np.array([[0, 8, 5, 7, 4], [1, 9, 3, 2, 6]]))
    labels = fixed_labels(layout)
    torch.testing.assert_close(labels.sum(1), torch.ones(96))
    assert labels[0].argmax() == 0 and labels[5].argmax() == 1 and labels[-1].argmax() == 6


@pytest.mark.parametrize(
    ("name", "floats_in_percent"), [("cifar100", 3.6), ("cub-200", 7.2), ("tiny-imagenet-200", 1.8)]
)
def test_learned_labels_cost_the_storage_that_the_method_facts_state(name, floats_in_percent):
    layout = layout_of(name)
    rows, columns = label_array_shape(layout, 1)
    floats = layout.spec.classes * rows * columns
    assert 100 * floats / (3 * layout.width * layout.height) == pytest.approx(floats_in_percent, abs=0.15)


def test_the_label_array_has_as_many_cells_as_fit():
    assert label_array_shape(layout_of("cifar100"), 1) == (10, 10)
    rows, columns = label_array_shape(layout_of("cifar10"), 10)
    assert rows * columns <= 100 and rows * columns >= 90


@pytest.mark.parametrize(
    ("name", "cells"),
    [("cifar10", (1, 6)), ("cifar100", (10, 9)), ("cub-200", (9, 21)), ("tiny-imagenet-200", (10, 19))],
)
def test_the_released_code_took_fewer_cells_than_fit(name, cells):
    assert label_array_shape(layout_of(name), 1, released=True) == cells


def test_ten_of_100_classes_start_without_a_cell_of_the_released_array():
    array = initial_label_array(layout_of("cifar100"), 1, released=True)
    assert array.shape == (100, 10, 9) and int((array.sum((1, 2)) == 0).sum()) == 10


def test_the_initial_label_array_is_one_hot_blocks_over_the_class_grid():
    order = np.array([[0, 8, 5, 7, 4], [1, 9, 3, 2, 6]])
    array = initial_label_array(layout_of("cifar10", order), 10)
    assert torch.equal(array.sum(0), torch.ones(array.shape[1:]))
    assert array.argmax(0)[0, 0] == 0 and array.argmax(0)[0, -1] == 4 and array.argmax(0)[-1, -1] == 6


def test_a_patchs_learned_label_is_the_normalised_sum_of_its_window():
    layout = layout_of("cifar100")
    array = torch.rand(100, 10, 10, generator=torch.Generator().manual_seed(0))
    labels = LabelWindows(layout, (10, 10), torch.device("cpu")).labels(array)
    # a 32 px patch on 303 px covers one of 10 cells; the last patch has the last cell
    torch.testing.assert_close(labels[-1], array[:, 9, 9] / array[:, 9, 9].sum())
    torch.testing.assert_close(labels.sum(1), torch.ones(400))
