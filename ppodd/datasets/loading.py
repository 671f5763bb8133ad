"""Loading: images whitened, split and put on the device."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import safetensors
import safetensors.torch
import torch

from ppodd.datasets import cache
from ppodd.datasets.images import data_digest, read_images
from ppodd.datasets.parts import TEST, TRAIN, VALIDATION
from ppodd.datasets.reading import SPLITS, Images
from ppodd.datasets.report import DataReport
from ppodd.datasets.sources import Request, Spec
from ppodd.datasets.whitening import Whitening, channel_statistics, fit_zca, zca_cost
from ppodd.errors import BadInput

_LARGE = 4096  # pixels and channels above which fitting ZCA is worth a warning
_log = logging.getLogger(__name__)


class Split(NamedTuple):
    """Whitened images `[N, C, h, w]` and labels `[N]` on the device."""

    x: torch.Tensor
    y: torch.Tensor


@dataclass(frozen=True)
class Dataset:
    """A data set ready for training. `digest` tells its content and preprocessing."""

    name: str
    digest: str
    classes: tuple[str, ...]
    spec: Spec
    train: Split
    validation: Split
    test: Split
    whitening: Whitening
    report: DataReport


def load(request: Request, device: torch.device, check: Callable[[DataReport], None] | None = None) -> Dataset:
    """The data set on `device`.

    The validation split is stratified and fixed by the data alone, so that every trial and seed chooses by the same
    images. Bytes and whitening statistics are cached in `$PPODD_CACHE` (default `~/.cache/ppodd`).

    Args:
        check: is given what was read, before it is whitened: to say it, and to refuse what does not fit.

    Raises:
        BadInput: the data is missing or damaged, or is no labelled image set.
    """
    images, content = read_images(request)
    if check:
        check(images.report)
    whitening, x = _whitened(images, content, request.zca)
    y = {split: torch.from_numpy(labels).to(device) for split, labels in images.y.items()}
    held_out = _held_out(images.y[TRAIN], request.validation)
    own = Split(x[VALIDATION], y[VALIDATION]) if len(y[VALIDATION]) else None

    def moved(images: torch.Tensor) -> torch.Tensor:
        return images.to(device, getattr(torch, request.dtype))

    chosen_by = [x[TRAIN][held_out], *([own.x] if own else [])]
    labels = [y[TRAIN][held_out.to(device)], *([own.y] if own else [])]
    return Dataset(
        name=request.dataset,
        digest=data_digest(content, request),
        classes=images.classes,
        spec=images.spec,
        train=Split(moved(x[TRAIN][~held_out]), y[TRAIN][~held_out.to(device)]),
        validation=Split(moved(torch.cat(chosen_by)), torch.cat(labels)),
        test=Split(moved(x[TEST]), y[TEST]),
        whitening=whitening,
        report=images.report,
    )


_last: dict[tuple[Request, str], Dataset] = {}


def load_once(request: Request, device: torch.device, check: Callable[[DataReport], None] | None = None) -> Dataset:
    """`load`, keeping the last data set for the next call of this process."""
    key = (request, str(device))
    if key not in _last:
        dataset = load(request, device, check)
        _last.clear()
        _last[key] = dataset
    elif check:
        check(_last[key].report)
    return _last[key]


def _held_out(labels: np.ndarray, share: float) -> torch.Tensor:
    """Which training images are held out: of each class the same share, at least one but not all, evenly spread."""
    chosen = np.zeros(len(labels), bool)
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        count = min(max(1, round(share * len(rows))), len(rows) - 1)
        chosen[rows[np.linspace(0, len(rows) - 1, count).round().astype(int)]] = True
    if not chosen.any():
        raise BadInput("no class has 2 training images, so none can be held out to measure stage accuracies: add some")
    return torch.from_numpy(chosen)


def _whitened(images: Images, content: str, zca: bool) -> tuple[Whitening, dict[str, torch.Tensor]]:
    """The whitening fitted to the training images, and the images `[N, C, h, w]` of each split whitened by it.

    ZCA is fitted and applied once: matrices and whitened images are cached.
    """
    x = {split: torch.from_numpy(array) for split, array in images.x.items()}
    if not zca:
        whitening = Whitening(*channel_statistics(x[TRAIN]))
        return whitening, {split: whitening.whiten(of) if len(of) else of for split, of in x.items()}
    path = cache.place_of("zca", cache.digest_of(content))
    with contextlib.suppress(OSError, safetensors.SafetensorError, KeyError):
        cached = safetensors.torch.load_file(path)
        return Whitening(forward=cached["forward"], inverse=cached["inverse"]), {s: cached[s] for s in SPLITS}
    if x[TRAIN][0].numel() > _LARGE:
        _log.warning("fitting ZCA: %s", zca_cost(x[TRAIN][0].numel(), len(x[TRAIN])))
    forward, inverse = fit_zca(x[TRAIN])
    whitening = Whitening(forward=forward, inverse=inverse)
    whitened = {split: whitening.whiten(of) if len(of) else of for split, of in x.items()}
    kept = {"forward": forward, "inverse": inverse, **whitened}
    cache.keep(path, lambda temporary: safetensors.torch.save_file(kept, temporary))
    return whitening, whitened
