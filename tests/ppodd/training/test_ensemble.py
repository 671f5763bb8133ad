"""Several networks as one: the same training as each alone, whatever the architecture, optimiser or augmentation."""

import itertools
import threading
import time

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from plugins import user_module

from ppodd.archive import PosterFile
from ppodd.config import DistillConfig, EvaluationConfig, build
from ppodd.datasets.loading import Split
from ppodd.datasets.sources import Spec
from ppodd.evaluation.accuracy import Task, evaluate, one_alone, one_ensemble, together
from ppodd.machine.seeding import generator
from ppodd.machine.threads import on_threads
from ppodd.posters.labels import fixed_labels
from ppodd.posters.layout import Layout
from ppodd.training import augment, compiled
from ppodd.training.architectures import ARCHITECTURES
from ppodd.training.convnet_derivatives import ConvNetDerivatives
from ppodd.training.ensemble import Ensemble, RectifiedPool
from ppodd.training.ensemble_training import AutogradTrainer, WrittenOutTrainer, augmented, batches, trainer
from ppodd.training.networks import fresh_network
from ppodd.training.optimisers import State
from ppodd.training.strategies import AUGMENTATIONS

CPU = torch.device("cpu")
SPEC = Spec(10, 3, 16, 16)
NOISE = {
    "dataset": "./noise", "poster_width": 48, "poster_height": 24, "class_area_width": 16, "class_area_height": 16,
    "patch_num_x": 4, "patch_num_y": 2, "distill_batch_size": 6,
}  # fmt: skip


@pytest.fixture
def threads():
    """Sets torch's number of threads, and puts it back."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def task(spec=SPEC, posters=2, learned=None, **values):
    """Posters of noise, judged in float64 so that rounding does not grow to a difference one can see."""
    config = build(DistillConfig, {**NOISE, "width": 4, "inner_lr": 0.01, "budgets": (2, 5)})
    layout = Layout.of(config.geometry, spec, np.arange(10).reshape(2, 5))
    random = generator("posters")
    shape = (spec.channels, layout.height, layout.width)
    labels = fixed_labels(layout).numpy() if learned is None else np.full((10, 2, 4), 0.5, np.float32)
    files = [
        PosterFile(torch.randn(shape, generator=random).numpy(), labels, layout.class_order, learned)
        for _ in range(posters)
    ]
    images = torch.randn(40, spec.channels, spec.height, spec.width, generator=random, dtype=torch.float64)
    (protocol,) = EvaluationConfig(nets=3, **values).protocols(config)
    protocol = protocol.model_copy(update={"inner_lr": None}) if learned is not None else protocol
    split = Split(images, torch.randint(10, (40,), generator=random))
    return Task.of(files, [1 / posters] * posters, layout, protocol, split)


def trained_alone(task, net, steps):
    """One network, and its parameters after `steps` steps of `InnerLoop`."""
    network = task.network(net)
    draws = list(itertools.islice(task.draws(net, task.split.x), steps))
    return network, task.inner.train(network, State.start(network.theta), task.posters, draws, task.lr).theta


def assert_trains_alike(task, steps=5):
    nets = range(task.protocol.nets)
    written_out = [WrittenOutTrainer] if ConvNetDerivatives.fits(task.network(0)) else []
    for kind in (AutogradTrainer, *written_out):
        training = kind([task.network(net) for net in nets], task.protocol.optim, task.lr)
        draws = [task.draws(net, torch.empty(0, dtype=torch.float64)) for net in nets]
        for batch in itertools.islice(batches(task.inner, task.posters, draws), steps):
            training.step(batch)
        ensemble = training.ensemble()
        ensemble.eval()
        with torch.no_grad():
            logits = ensemble.judge(task.split.x)
        for net in nets:
            network, theta = trained_alone(task, net, steps)
            network.module.eval()
            torch.testing.assert_close(logits[net], network(theta, task.split.x), rtol=1e-7, atol=1e-8)
            assert (logits[net] - logits[net - 1]).abs().max() > 1e-3


@pytest.mark.parametrize(("arch", "kind"), [("convnet", WrittenOutTrainer), ("convnetw2", AutogradTrainer)])
def test_derivatives_that_are_written_out_and_compiled_are_taken_where_there_are_any(arch, kind, monkeypatch):
    networks = [task(arch=(arch,)).network(0)]
    compiles = compiled.functions(torch.float64) is not None
    assert type(trainer(networks, "Adam", 0.01)) is (kind if compiles else AutogradTrainer)
    monkeypatch.setattr(compiled, "_chosen", "off")
    assert type(trainer(networks, "Adam", 0.01)) is AutogradTrainer


@pytest.mark.parametrize("arch", [name for name, network in ARCHITECTURES.own.items() if network.halvings])  # ConvNets
@pytest.mark.parametrize("optim", ["Adam", "SGD"])
def test_networks_train_together_as_each_alone(arch, optim):
    assert_trains_alike(task(arch=(arch,), optim=optim, strategy="flip_rotate"))


@pytest.mark.parametrize("strategy", [*AUGMENTATIONS.own, "none", "flip_rotate_scale_crop_color_cutout"])
def test_every_network_has_its_own_augmentation(strategy):
    assert_trains_alike(task(strategy=strategy), steps=3)


def test_composed_augmentations_decay_and_learned_rate_and_labels_are_each_networks_own():
    assert_trains_alike(task(strategy="rotate_crop_cutout", comp_aug=True, decay=True, learned=0.02))


@pytest.mark.parametrize("spec", [Spec(10, 1, 8, 8), Spec(10, 3, 20, 12)])
def test_grey_and_odd_sized_images_train_alike(spec):
    assert_trains_alike(task(spec, posters=1))


def test_images_pass_in_parts_where_they_are_too_many_at_once(monkeypatch):
    monkeypatch.setattr("ppodd.training.ensemble._CPU_BYTES", 2 * 3 * 4 * 256 * 8)  # two images of three networks
    assert Ensemble([task().network(n).module for n in range(3)]).images_at_once(16, 16) == 2
    assert_trains_alike(task())
    assert_trains_alike(task(arch=("convnetw2",)))  # statistics of a batch need it whole


def test_accuracies_are_those_of_one_after_another_at_every_budget():
    judged = {}
    for budgets in ((2,), (2, 5)):
        job = task(budgets=budgets)
        judged[budgets] = together(job, [job.network(net) for net in range(3)])
        assert judged[budgets] == [one_alone(job, job.network(net), net) for net in range(3)]
    assert [values[:1] for values in judged[2, 5]] == judged[2,]


def test_more_threads_and_smaller_ensembles_give_the_same_accuracies(threads, monkeypatch):
    job, ways = task(), []
    for count, limit in ((1, 2**23), (2, 2**23), (3, 2**23), (2, 1)):
        threads(count)
        monkeypatch.setattr("ppodd.training.ensemble._CPU_BYTES", limit)
        ways.append(together(job, [job.network(net) for net in range(3)]))
        assert torch.get_num_threads() == count
    assert all(way == ways[0] for way in ways)


@pytest.mark.parametrize(
    ("budget", "items", "running", "each"), [(1, 3, 1, 1), (2, 4, 2, 1), (4, 2, 2, 2), (3, 1, 1, 3)]
)
def test_no_more_threads_run_than_the_process_may_use(threads, budget, items, running, each):
    seen, lock, active, most = set(), threading.Lock(), 0, 0

    def work(item, stop):
        nonlocal active, most
        with lock:
            active += 1
            most = max(most, active)
            seen.add(torch.get_num_threads())
        torch.randn(50, 50) @ torch.randn(50, 50)
        with lock:
            active -= 1
        return item

    threads(budget)
    assert on_threads(work, list(range(items)), budget) == list(range(items))
    assert most <= running and seen == {each} and torch.get_num_threads() == budget


def test_an_error_in_a_thread_stops_the_others_and_the_threads_are_put_back(threads):
    def work(item, stop):
        assert item == "endless"
        return stop.wait(60)

    threads(2)
    started = time.monotonic()
    with pytest.raises(AssertionError):
        on_threads(work, ["wrong", "endless"], 2)
    assert torch.get_num_threads() == 2 and time.monotonic() - started < 30


def test_an_ensemble_that_is_told_to_stop_trains_no_further():
    job, stop = task(), threading.Event()
    stop.set()
    assert one_ensemble(job, [job.network(0)], [0], stop) == []


def test_a_users_own_network_is_trained_alone():
    job = task(arch=("user_networks:Linear",))
    with pytest.raises(AttributeError):
        together(job, [job.network(0)])
    values = [one_alone(job, job.network(net), net) for net in range(3)]
    assert len(values) == 3 and all(len(of_net) == 2 for of_net in values)


def test_an_optimiser_of_a_users_own_trains_networks_one_by_one(tmp_path, monkeypatch):
    module = user_module(tmp_path, monkeypatch, "from ppodd.training.optimisers import adam, sgd")
    job = task(optim="SGD", mode=("blend",))
    expected = [one_alone(job, job.network(net), net) for net in range(3)]
    theirs = task(optim=f"{module}:sgd", mode=("blend",))
    assert [one_alone(theirs, theirs.network(net), net) for net in range(3)] == expected
    with pytest.raises(AssertionError, match="has no fused form"):
        together(theirs, [theirs.network(net) for net in range(3)])


def test_building_an_ensemble_leaves_global_randomness_and_the_networks_alone():
    networks = [fresh_network("convnetw2", SPEC, 4, seed, CPU) for seed in (0, 1)]
    state, before = torch.get_rng_state(), networks[0].module.features[1].running_mean.clone()
    ensemble = Ensemble([network.module for network in networks])
    ensemble(torch.randn(4, 6, 16, 16, generator=generator("x"))).sum().backward()
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(networks[0].module.features[1].running_mean, before)
    assert all(parameter.grad is None for parameter in networks[0].module.parameters())


@pytest.mark.parametrize("sides", [(4, 4), (5, 4), (4, 5), (3, 7), (2, 2)])
def test_the_pool_is_a_relu_and_an_average_pool_of_two(sides):
    x = torch.randn(2, 3, *sides, dtype=torch.float64, generator=generator("pool")).requires_grad_()
    torch.testing.assert_close(RectifiedPool()(x), F.avg_pool2d(x.relu(), 2))
    assert torch.autograd.gradcheck(RectifiedPool(), x)


def test_batches_of_several_kinds_are_augmented_as_each_alone():
    random = generator("kinds")
    kinds = [augment.draw("flip_rotate_cutout", False, 4, random) for _ in range(9)]
    images = torch.randn(9, 4, 3, 16, 16, generator=random)
    expected = torch.stack([kind(batch) for kind, batch in zip(kinds, images, strict=True)])
    torch.testing.assert_close(augmented(images, kinds), expected)


def test_evaluate_chooses_by_the_network(monkeypatch):
    """ConvNets go together; the number of networks does not show in their accuracies."""
    monkeypatch.setattr("ppodd.evaluation.accuracy.one_alone", lambda *args: 1 / 0)
    job = task(posters=1)
    poster = PosterFile(job.posters.images[0].numpy(), job.posters.labels[0].numpy(), np.arange(10).reshape(2, 5))
    config = build(DistillConfig, NOISE)
    layout = Layout.of(config.geometry, SPEC, poster.class_order)
    values = [
        evaluate([poster], [1.0], layout, job.protocol.model_copy(update={"nets": nets}), job.split) for nets in (1, 3)
    ]
    assert all(values[0][budget] == values[1][budget][:1] for budget in values[0])


def test_networks_too_large_to_train_together_train_side_by_side_to_the_same_accuracies(monkeypatch):
    job = task(posters=2)
    expected = [one_alone(job, job.network(net), net) for net in range(3)]
    monkeypatch.setattr("ppodd.training.ensemble._CPU_BYTES", 1)
    monkeypatch.setattr("ppodd.evaluation.accuracy.one_ensemble", lambda *args: 1 / 0)
    assert together(job, [job.network(net) for net in range(3)]) == expected
