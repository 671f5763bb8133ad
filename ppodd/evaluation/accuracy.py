"""Evaluation: fresh networks trained on archived posters, accuracy read at each training budget.

The last budget and every one before it are reported; none is chosen by its accuracy.
"""

from __future__ import annotations

import itertools
import math
import platform
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from threading import Event
from typing import NamedTuple, cast

import torch
from torch.nn.utils import vector_to_parameters

from ppodd import __version__
from ppodd.archive import PixelBudget, PosterFile, drawn_posters, storage_bytes
from ppodd.config import EvaluationProtocol
from ppodd.datasets import Spec, Split
from ppodd.machine import derived_seed, on_threads, seeded
from ppodd.posters import LabelWindows, Layout, Patches
from ppodd.training import (
    OPTIMISERS,
    ConvNet,
    ConvNetDerivatives,
    Draw,
    Ensemble,
    InnerLoop,
    Network,
    Posters,
    State,
    batches,
    fresh_network,
    trainer,
)

_TEST_BATCH = 1024  # images of a network that is judged alone


def evaluate(
    posters: Sequence[PosterFile],
    blend: Sequence[float],
    layout: Layout,
    protocol: EvaluationProtocol,
    split: Split,
    nets: range | None = None,
) -> dict[int, list[float]]:
    """Accuracy (percent) on `split` of each network at each training budget; otherwise as `judge`."""
    judged = judge(posters, blend, layout, protocol, split, nets)
    return {budget: [one.accuracy for one in of_nets] for budget, of_nets in judged.items()}


def judge(
    posters: Sequence[PosterFile],
    blend: Sequence[float],
    layout: Layout,
    protocol: EvaluationProtocol,
    split: Split,
    nets: range | None = None,
) -> dict[int, list[ClassCounts]]:
    """What each of the protocol's networks (or `nets` of them) gets right of `split`, at each training budget.

    Deterministic for a protocol's seed. Posters of weight 0 are not touched. ConvNets train together, whatever else a
    user brings, network or optimiser, one after another, on no more threads than torch uses in the calling thread.
    """
    task = Task.of(posters, blend, layout, protocol, split)
    nets = range(protocol.nets) if nets is None else nets
    networks = [task.network(net) for net in nets]
    fused = OPTIMISERS.get(protocol.optim).fused
    if fused and all(type(network.module) is ConvNet for network in networks):
        values = together(task, networks, nets.start)
    else:
        values = []
        for net, network in zip(nets, networks, strict=True):
            with seeded(task.split.x.device, protocol.seed, "dropout", net):
                values.append(one_alone(task, network, net))
    return {budget: [of_net[i] for of_net in values] for i, budget in enumerate(protocol.budgets)}


class ClassCounts(NamedTuple):
    """Images of each class that a network gets right, and how many there are."""

    hits: tuple[int, ...]
    images: tuple[int, ...]

    @property
    def accuracy(self) -> float:
        """Percent of all images."""
        return 100.0 * sum(self.hits) / sum(self.images)

    @property
    def per_class(self) -> list[float]:
        """Percent of each class's images; of a class that has none, not a number."""
        return [100.0 * hits / count if count else math.nan for hits, count in zip(*self, strict=True)]

    @property
    def balanced(self) -> float:
        """The mean over the classes that have images, each counting as much: of imbalanced sets the fair number."""
        return statistics.fmean(share for share, count in zip(self.per_class, self.images, strict=True) if count)


@dataclass(frozen=True)
class Task:
    """What the networks of an evaluation have in common: how and on what they train, what they are judged by."""

    inner: InnerLoop
    posters: Posters
    weights: list[float]
    lr: float
    spec: Spec
    protocol: EvaluationProtocol
    split: Split

    @classmethod
    def of(
        cls,
        posters: Sequence[PosterFile],
        blend: Sequence[float],
        layout: Layout,
        protocol: EvaluationProtocol,
        split: Split,
    ) -> Task:
        """The task of these posters, drawn from with the weights of the blend."""
        drawn = [(poster, weight) for poster, weight in zip(posters, blend, strict=True) if weight > 0]
        lr = protocol.inner_lr if protocol.inner_lr is not None else drawn[-1][0].inner_lr
        assert lr is not None, "a protocol without a learning rate needs posters with a learned one"
        patches = Patches(layout, split.x.device)
        batch = min(protocol.batch, patches.count)
        inner = InnerLoop(patches, protocol.optim, batch, protocol.strategy, protocol.comp_aug, protocol.decay)
        stacked = stack([poster for poster, _ in drawn], layout, split.x.device, split.x.dtype)
        if protocol.labels == "hard":
            stacked = stacked._replace(labels=hard(stacked.labels))
        return cls(inner, stacked, [weight for _, weight in drawn], lr, layout.spec, protocol, split)

    def network(self, net: int) -> Network:
        """Network `net`, newly initialised."""
        protocol, x = self.protocol, self.split.x
        return fresh_network(protocol.arch, self.spec, protocol.width, derived_seed(*self._key(net)), x.device, x.dtype)

    def draws(self, net: int, like: torch.Tensor) -> Iterator[Draw]:
        """The randomness of all of a network's steps, on the device and dtype of `like`."""
        steps = self.protocol.budgets[-1]
        return self.inner.draws(self.weights, steps, self._key(net), steps, like)

    def _key(self, net: int) -> tuple[int | str, ...]:
        return (self.protocol.seed, "evaluate", self.protocol.arch, net)

    def steps_between(self) -> list[int]:
        """Steps to train before each reading of the accuracy."""
        budgets = self.protocol.budgets
        return [later - earlier for earlier, later in zip((0, *budgets), budgets, strict=False)]


def one_alone(task: Task, network: Network, net: int, stop: Event | None = None) -> list[ClassCounts]:
    """What one network of any kind gets right, at each budget; nothing once `stop` is set."""
    draws, state, values = task.draws(net, task.split.x), State.start(network.theta), []
    for count in task.steps_between():
        for draw in itertools.islice(draws, count):
            if stop is not None and stop.is_set():
                return []
            state = task.inner.train(network, state, task.posters, [draw], task.lr)
        values.append(_judged(network, state.theta, task.split))
    return values


def _judged(network: Network, theta: torch.Tensor, split: Split) -> ClassCounts:
    if type(network.module) is ConvNet:
        vector_to_parameters(theta, network.module.parameters())
        return judged(Ensemble([network.module]), split)[0]
    network.module.eval()
    with torch.no_grad():
        right = [
            (network(theta, x).argmax(1) == y)[None]
            for x, y in zip(split.x.split(_TEST_BATCH), split.y.split(_TEST_BATCH), strict=True)
        ]
    network.module.train()
    return _by_class(right, split.y, network.classes)[0]


def together(task: Task, networks: Sequence[Network], first: int = 0) -> list[list[ClassCounts]]:
    """What every ConvNet gets right at each budget, trained as ensembles, as many at a time as there are threads.

    The networks are the task's `first` and those after it.

    On a CPU each thread trains ensembles of its own: at these sizes that beats sharing the work of one operation. Where
    an ensemble would hold one network, the derivatives written out for it are faster than the ensemble's.
    """
    modules = [cast("ConvNet", network.module) for network in networks]
    threads = torch.get_num_threads() if task.split.x.device.type == "cpu" else 1
    fit = Ensemble(modules[:1]).images_at_once(*task.split.x.shape[2:]) // task.inner.batch
    size = max(1, min(-(-len(modules) // threads), fit))
    groups = [range(first, min(first + size, len(modules))) for first in range(0, len(modules), size)]

    alone = fit <= 1 and ConvNetDerivatives.fits(networks[0])

    def train(group: range, stop: Event) -> list[list[ClassCounts]]:
        if alone:
            return [one_alone(task, networks[group[0]], first + group[0], stop)]
        return one_ensemble(task, [networks[net] for net in group], [first + net for net in group], stop)

    return [values for group in on_threads(train, groups, threads) for values in group]


def one_ensemble(task: Task, networks: Sequence[Network], nets: Sequence[int], stop: Event) -> list[list[ClassCounts]]:
    """What the networks `nets` get right at each budget: `[N][budgets]`; nothing once `stop` is set."""
    training = trainer(networks, task.protocol.optim, task.lr)
    on_host = torch.empty(0, dtype=task.split.x.dtype)
    steps, read = batches(task.inner, task.posters, [task.draws(net, on_host) for net in nets]), []
    for count in task.steps_between():
        for batch in itertools.islice(steps, count):
            if stop.is_set():
                return []
            training.step(batch)
        read.append(judged(training.ensemble(), task.split))
    return [list(of_net) for of_net in zip(*read, strict=True)]


def judged(ensemble: Ensemble, split: Split) -> list[ClassCounts]:
    """What each network gets right of `split`, batch statistics frozen."""
    batch = ensemble.images_at_once(*split.x.shape[2:])
    ensemble.eval()
    with torch.no_grad():
        right, classes = [], 0
        for x, y in zip(split.x.split(batch), split.y.split(batch), strict=True):
            logits = ensemble.judge(x)
            classes = logits.shape[2]
            right.append(logits.argmax(2) == y)
    ensemble.train()
    return _by_class(right, split.y, classes)


def _by_class(right: list[torch.Tensor], y: torch.Tensor, classes: int) -> list[ClassCounts]:
    """Batches of what is right `[N, B]` as counts of each class; read from the device at once."""
    every = torch.cat([*right], 1)
    every = torch.cat([every, torch.ones_like(every[:1])])
    counts = torch.zeros(len(every), classes, dtype=torch.int64, device=y.device).index_add_(1, y, every.long())
    *hits, images = (tuple(row) for row in counts.tolist())
    return [ClassCounts(of_net, images) for of_net in hits]


def stack(posters: Sequence[PosterFile], layout: Layout, device: torch.device, dtype: torch.dtype) -> Posters:
    """Posters and the labels of their patches as tensors on the device."""
    images = torch.stack([torch.from_numpy(p.poster) for p in posters]).to(device, dtype)
    labels = [torch.from_numpy(p.labels).to(device, dtype) for p in posters]
    if posters[0].learned_labels:
        windows = LabelWindows(layout, labels[0].shape[1:], device)
        labels = [windows.labels(array) for array in labels]
    return Posters(images, torch.stack(labels))


def hard(labels: torch.Tensor) -> torch.Tensor:
    """Labels `[…, K]` with all weight on the likeliest class, the first of several."""
    return torch.nn.functional.one_hot(labels.argmax(-1), labels.shape[-1]).to(labels.dtype)


def versions() -> dict[str, str]:
    """Versions that a record of an evaluation names: what its numbers may depend on."""
    return {"ppodd": __version__, "torch": torch.__version__, "python": platform.python_version()}


def pixel_budget(posters: Sequence[PosterFile], blend: Sequence[float], layout: Layout) -> PixelBudget:
    """Both pixel budgets of what a blend draws on, and its storage with labels."""
    drawn = drawn_posters(blend)
    spec = layout.spec
    ipc = layout.width * layout.height / (spec.height * spec.width * spec.classes)
    return PixelBudget(
        poster_ipc=ipc,
        cumulative_ipc=drawn * ipc,
        poster_floats=posters[-1].poster.size,
        label_floats=posters[-1].labels.size if posters[-1].learned_labels else 0,
        storage_bytes=storage_bytes(posters[-1], drawn),
    )
