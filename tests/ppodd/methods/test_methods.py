"""Methods: what each one's posters hold, what of them is learned, and that all spend equal budgets."""

import numpy as np
import pytest
import torch
from plugins import user_module

from ppodd.archive import TrialArchive
from ppodd.config import METHODS, DistillConfig, EvaluationConfig, build
from ppodd.config.presets import preset
from ppodd.datasets.loading import load
from ppodd.distillation.archived_run import run
from ppodd.distillation.stages import Distillation, distill
from ppodd.errors import BadInput
from ppodd.evaluation.archived_stages import evaluate_archived
from ppodd.evaluation.work_items import works
from ppodd.methods.layouts import layout_of
from ppodd.methods.real_images import at_random, herded, nearest_to_centres, scaled_down
from ppodd.posters.patches import Patches

CPU = torch.device("cpu")
LARGE = {"poster_width": 80, "poster_height": 20, "class_area_width": 16, "class_area_height": 10}  # 20 whole images


def config_of(tiny, method, **changes):
    return build(DistillConfig, {**tiny, "method": method, **changes})


def stages_of(tiny, method, **changes):
    config = config_of(tiny, method, **changes)
    dataset = load(config.data, CPU)
    return config, dataset, list(distill(config, dataset))


def tiles_of(config, dataset, poster):
    """The poster's tiles as they lie on it, with the label of each."""
    layout = layout_of(config, dataset.spec, poster.class_order)
    width, height = layout.patch_width, layout.patch_height
    tiles = [poster.poster[:, y : y + height, x : x + width] for x in layout.patch_xs for y in layout.patch_ys]
    return torch.tensor(np.stack(tiles)), torch.tensor(poster.labels.argmax(1))


@pytest.mark.parametrize("method", ["random-images", "k-means", "herding"])
def test_whole_images_lie_on_the_poster_under_their_own_class_and_none_in_two_stages(tiny, method):
    config, dataset, stages = stages_of(tiny, method, **LARGE)
    used = []
    for stage in stages:
        tiles, labels = tiles_of(config, dataset, stage.poster)
        assert sorted(labels.tolist()) == sorted([*range(10)] * 2) and (stage.poster.labels.max(1) == 1).all()
        for tile, label in zip(tiles, labels, strict=True):
            (found,) = torch.nonzero((dataset.train.x == tile).flatten(1).all(1)).flatten().tolist()
            assert dataset.train.y[found] == label
            used.append(found)
    assert len(set(used)) == 40


def test_below_one_image_a_class_they_are_scaled_down_and_networks_see_them_scaled_up(tiny):
    config, dataset, stages = stages_of(tiny, "downscaled", poster_width=25, poster_height=15)  # tiles of 5 × 7 px
    small = scaled_down(dataset.train.x, 7, 5)
    tiles, labels = tiles_of(config, dataset, stages[0].poster)
    for tile, label in zip(tiles, labels, strict=True):
        near = (small - tile).flatten(1).abs().amax(1)
        assert near.min() < 1e-6 and dataset.train.y[near.argmin()] == label
    layout = layout_of(config, dataset.spec, stages[0].poster.class_order)
    seen = Patches(layout, CPU).all(torch.tensor(stages[0].poster.poster))
    assert seen.shape == (10, 1, 8, 8)
    found = [int((small - tile).flatten(1).abs().amax(1).argmin()) for tile in tiles]
    whole = dataset.train.x[found]
    assert torch.cosine_similarity(seen.flatten(1), whole.flatten(1)).min() > 0.8


def test_cropped_images_are_the_centres_of_the_same_images(tiny):
    size = {"poster_width": 32, "poster_height": 14}  # tiles of 6 × 7 px
    config, dataset, (first, _) = stages_of(tiny, "cropped", **size)
    tiles, labels = tiles_of(config, dataset, first.poster)
    for tile, label in zip(tiles, labels, strict=True):
        same = (dataset.train.x[:, :, 0:7, 1:7] == tile).flatten(1).all(1)
        assert same.sum() == 1 and dataset.train.y[same] == label


def test_chosen_images_stand_for_their_class_better_than_random_ones(tiny):
    dataset = load(config_of(tiny, "p-podd").data, CPU)
    images = dataset.train.x[dataset.train.y == 3]
    pixels = images.flatten(1)

    def off_the_mean(chosen):
        return float((pixels[chosen].mean(0) - pixels.mean(0)).norm())

    def off_the_nearest(chosen):
        return float(torch.cdist(pixels, pixels[chosen]).amin(1).mean())

    random = [at_random(images, 6, (seed,)) for seed in range(20)]
    herd, centres = herded(images, 6, (0,)), nearest_to_centres(images, 6, (0,))
    assert off_the_mean(herd) < min(map(off_the_mean, random))
    assert off_the_nearest(centres) < min(map(off_the_nearest, random))
    assert len(set(herd.tolist())) == len(set(centres.tolist())) == 6


@pytest.mark.parametrize("method", ["downscaled", "cropped", "random-poster", "podd-cumulative"])
@pytest.mark.parametrize("train_y", [False, True])
def test_a_baseline_spends_the_pixels_and_at_most_the_labels_of_the_posters_beside_it(tiny, tmp_path, method, train_y):
    def last(method):
        trial = TrialArchive(tmp_path / method / "t")
        config = config_of(tiny, method, name="t", train_y=train_y)
        return list(run(config, trial))[-1].budgets, config

    (ours, _), (theirs, config) = last("p-podd"), last(method)
    assert theirs.cumulative_ipc == pytest.approx(ours.cumulative_ipc, rel=1e-12)
    assert (theirs.label_floats > 0) == train_y
    assert theirs.storage_bytes.fp32 <= ours.storage_bytes.fp32
    assert theirs.meta_steps == (ours.meta_steps if config.learns else 0)


@pytest.mark.parametrize("method", ["random-poster", "downscaled"])
def test_labels_alone_are_learned_and_the_poster_stays(tiny, method):
    config = config_of(tiny, method, train_y=True, wd=0.1)
    dataset = load(config.data, CPU)
    start = Distillation(config, dataset, None).first_state().learned
    before = {name: tensor.clone() for name, tensor in start.items()}
    first, second = distill(config, dataset)
    assert np.array_equal(first.poster.poster, before["poster"].numpy())
    assert not np.array_equal(first.poster.labels, before["label_array"].numpy())
    assert first.meta_steps == 4 and not np.array_equal(second.poster.poster, first.poster.poster)


def test_a_batch_is_of_as_many_patches_as_there_are(tiny):
    """Whole images on a poster are fewer than overlapping windows: 10 here, of 12."""
    config = config_of(tiny, "downscaled", train_y=True, distill_batch_size=12)
    *_, last = distill(config, load(config.data, CPU))
    assert last.stage == 2 and Distillation(config, load(config.data, CPU), None).inner.batch == 10


def test_podd_takes_all_meta_steps_in_one_stage(tiny):
    (_, _, stages), (_, _, (one,)) = stages_of(tiny, "p-podd"), stages_of(tiny, "podd")
    assert one.meta_steps == stages[-1].meta_steps
    (_, _, (alone,)) = stages_of(tiny, "p-podd", num_stages=1)
    assert one.poster.digest == alone.poster.digest


@pytest.mark.parametrize(
    ("stages", "size"), [(2, (38, 30)), (3, (38, 45)), (4, (38, 60)), (6, (76, 45)), (1, (38, 15))]
)
def test_one_poster_of_all_stages_pixels_is_laid_out_as_densely(stages, size):
    given = {**preset("digits"), "num_stages": stages}
    config = build(DistillConfig, {**given, "method": "podd-cumulative"})
    assert (config.poster_width, config.poster_height, config.num_stages) == (*size, 1)
    assert config.patch_num_x * config.patch_num_y == 10 * stages
    assert build(DistillConfig, config.model_dump()) == config  # what it decided, it does not decide again


def test_the_whole_training_set_is_a_ceiling_and_a_blank_poster_chance(tiny, tmp_path):
    def evaluated(method):
        trial = TrialArchive(tmp_path / method / "t")
        config = config_of(tiny, method, name="t", width=8, distill_batch_size=12)
        (record,) = run(config, trial)
        (work,) = works(trial, 1, [EvaluationConfig(nets=3, budgets=(150,))])
        return record, evaluate_archived(work)

    record, full = evaluated("full-data")
    assert record.budgets.cumulative_ipc == full.budgets.poster_ipc == record.data.images["train"] / 10
    _, chance = evaluated("chance")
    assert full.accuracy[150].mean > 40
    assert abs(chance.accuracy[150].mean - 10) < 4


def test_an_archived_baseline_is_gone_on_with(tiny, tmp_path):
    trial, config = TrialArchive(tmp_path / "s" / "t"), config_of(tiny, "downscaled", name="t", num_stages=3)
    stages = run(config, trial)
    next(stages)
    stages.close()
    assert trial.stages() == [1]
    whole = TrialArchive(tmp_path / "s" / "whole")
    expected = [record.digests.poster for record in run(config, whole)]
    assert [record.digests.poster for record in run(config, trial, resume=True)] == expected


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"method": "k-means"},
            "method=k-means keeps images whole, and a poster of 24×12 px (0.45 IPC) holds 3 of 8×8 px, fewer than the "
            "10 classes: choose downscaled or cropped, which it can hold, or a poster of 40×16 px",
        ),
        (
            {"method": "downscaled", **LARGE},
            "method=downscaled scales images down or crops them, but a poster of 80×20 px (2.5 IPC) holds a whole "
            "image of each class: choose random-images, k-means or herding",
        ),
        ({"method": "kmeans"}, "unknown method 'kmeans'; did you mean 'k-means'?"),
    ],
)
def test_a_method_that_the_budget_cannot_hold_says_which_can(tiny, changes, said):
    with pytest.raises(BadInput) as error:
        build(DistillConfig, {**tiny, **changes})
    assert said in str(error.value) and "\n" not in str(error.value)


def test_images_and_labels_must_suffice(tiny):
    with pytest.raises(BadInput, match=r"=herding takes 200 images of class 0 in 100 stages, and there are 1\d\d"):
        stages_of(tiny, "herding", **LARGE, num_stages=100, epochs=100)
    with pytest.raises(BadInput, match=r"comp_ipc=1: 20 images want a label each, .* raise it to 2$"):
        stages_of(tiny, "herding", **LARGE, train_y=True, comp_ipc=1)


def test_a_users_own_baseline_is_a_function_named_by_its_import_path(tiny, tmp_path, monkeypatch):
    code = (
        "def means(config, dataset, layout, stage):\n"
        "    return dataset.train.x.mean(0).repeat(1, 2, 3)[:, :layout.height, :layout.width] * stage\n"
        "def number(config, dataset, layout, stage):\n"
        "    return 3\n"
    )
    module = user_module(tmp_path, monkeypatch, code)
    _, dataset, (first, second) = stages_of(tiny, f"{module}:means")
    assert np.allclose(first.poster.poster[0, :8, :8], dataset.train.x.mean(0)[0]) and first.meta_steps == 0
    assert np.allclose(second.poster.poster, 2 * first.poster.poster)
    with pytest.raises(BadInput, match="number' returned 3 for a poster of 24×12 px; accepted is a function"):
        stages_of(tiny, f"{module}:number")


def test_each_method_says_what_it_is():
    assert METHODS.names[0] == DistillConfig.model_fields["method"].default == "p-podd"
    assert all(METHODS.known(name).summary for name in METHODS.names)
