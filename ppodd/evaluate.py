"""Evaluation: fresh networks trained on archived posters, accuracy read at each training budget.

The last budget and every one before it are reported; none is chosen by its accuracy.
"""

from __future__ import annotations

import platform
import time
from collections.abc import Sequence
from typing import Any

import torch

from ppodd import __version__
from ppodd.archive import SCHEMA, PosterFile, TrialArchive, drawn_posters, mode_blend, storage_bytes, summary
from ppodd.blend import LEAKING
from ppodd.config import Protocol
from ppodd.datasets import Split, load_once
from ppodd.device import resolve_device
from ppodd.geometry import Layout
from ppodd.inner_loop import InnerLoop, Posters, State
from ppodd.labels import LabelWindows
from ppodd.networks import Network, fresh_network
from ppodd.poster import Patches
from ppodd.seeding import derived_seed
from ppodd.work import Work

_TEST_BATCH = 1024


def evaluate(
    posters: Sequence[PosterFile], blend: Sequence[float], layout: Layout, protocol: Protocol, split: Split
) -> dict[int, list[float]]:
    """Accuracy (percent) on `split` of each of the protocol's networks, at each training budget.

    Deterministic for a protocol's seed. Posters of weight 0 are not touched.
    """
    device, dtype = split.x.device, split.x.dtype
    drawn = [(poster, weight) for poster, weight in zip(posters, blend, strict=True) if weight > 0]
    stacked = stack([poster for poster, _ in drawn], layout, device, dtype)
    weights = [weight for _, weight in drawn]
    lr = protocol.inner_lr if protocol.inner_lr is not None else drawn[-1][0].inner_lr
    assert lr is not None, "a protocol without a learning rate needs posters with a learned one"
    patches = Patches(layout, device)
    batch = min(protocol.batch, patches.count)
    inner = InnerLoop(patches, protocol.optim, batch, protocol.strategy, protocol.comp_aug, protocol.decay)
    accuracies: dict[int, list[float]] = {budget: [] for budget in protocol.budgets}
    for net in range(protocol.nets):
        key = (protocol.seed, "evaluate", protocol.arch, net)
        network = fresh_network(protocol.arch, layout.spec, protocol.width, derived_seed(*key), device, dtype)
        draws = inner.draws(weights, protocol.budgets[-1], key, protocol.budgets[-1], split.x)
        state = State.start(network.theta)
        for budget in protocol.budgets:
            steps = [next(draws) for _ in range(budget - state.steps)]
            state = inner.train(network, state, stacked, steps, lr)
            accuracies[budget].append(accuracy(network, state.theta, split))
    return accuracies


def accuracy(network: Network, theta: torch.Tensor, split: Split) -> float:
    """Percent of `split` that the network gets right, batch statistics frozen."""
    network.module.eval()
    with torch.no_grad():
        hits = [
            (network(theta, x).argmax(1) == y).sum()
            for x, y in zip(split.x.split(_TEST_BATCH), split.y.split(_TEST_BATCH), strict=True)
        ]
    network.module.train()
    return 100.0 * int(torch.stack(hits).sum()) / len(split.y)


def stack(posters: Sequence[PosterFile], layout: Layout, device: torch.device, dtype: torch.dtype) -> Posters:
    """Posters and the labels of their patches as tensors on the device."""
    images = torch.stack([torch.from_numpy(p.poster) for p in posters]).to(device, dtype)
    labels = [torch.from_numpy(p.labels).to(device, dtype) for p in posters]
    if posters[0].learned_labels:
        windows = LabelWindows(layout, labels[0].shape[1:], device)
        labels = [windows.labels(array) for array in labels]
    return Posters(images, torch.stack(labels))


def versions() -> dict[str, str]:
    return {"ppodd": __version__, "torch": torch.__version__, "python": platform.python_version()}


def pixel_budget(posters: Sequence[PosterFile], blend: Sequence[float], layout: Layout) -> dict[str, Any]:
    """Both pixel budgets of what a blend draws on, and its storage with labels."""
    drawn = drawn_posters(blend)
    spec = layout.spec
    ipc = layout.width * layout.height / (spec.height * spec.width * spec.classes)
    return {
        "poster_ipc": ipc,
        "cumulative_ipc": drawn * ipc,
        "poster_floats": posters[-1].poster.size,
        "label_floats": posters[-1].labels.size if posters[-1].learned_labels else 0,
        "storage_bytes": storage_bytes(posters[-1], drawn),
    }


def evaluate_archived(work: Work, device: str = "auto") -> dict[str, Any]:
    """Carry out an evaluation, write it to the archive and return its record; if it is there already, just return it.

    Raises:
        CorruptArchive: a poster is missing or damaged.
    """
    trial = TrialArchive(work.trial_url)
    if trial.has_evaluation(work.stage, work.ticket):
        return trial.evaluation(work.stage, work.ticket)
    started = time.time()
    config, record = trial.config(), trial.stage(work.stage)
    dataset = load_once(config, resolve_device(device))
    posters = [trial.poster(stage) for stage in range(1, work.stage + 1)]
    layout = Layout.of(config, dataset.spec, posters[-1].class_order)
    blend = mode_blend(record, work.protocol.mode)
    accuracies = evaluate(posters, blend, layout, work.protocol, dataset.test)
    evaluation = {
        "schema": SCHEMA,
        "ticket": work.ticket,
        "stage": work.stage,
        "protocol": work.protocol.model_dump(mode="json"),
        "blend": blend,
        "posters": [trial.stage(stage)["digests"]["poster.safetensors"] for stage in range(1, work.stage + 1)],
        "accuracy": {str(budget): summary(values) for budget, values in accuracies.items()},
        "split": "test",
        "leaks_test_set": config.blend in LEAKING,
        "budgets": pixel_budget(posters, blend, layout),
        "seconds": time.time() - started,
        "device": str(dataset.test.x.device),
        "versions": versions(),
        "finished_at": time.time(),
    }
    trial.write_evaluation(work.stage, evaluation)
    return evaluation
