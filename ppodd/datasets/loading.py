"""Loading: read once, cache bytes and whitening statistics, whiten, put on the device."""

from __future__ import annotations

import contextlib
import hashlib
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import safetensors
import safetensors.torch
import torch

from ppodd.config import DistillConfig
from ppodd.datasets.readers import Raw, Source, find
from ppodd.datasets.specs import Spec
from ppodd.datasets.whitening import Whitening, channel_statistics, fit_zca, zca_cost
from ppodd.errors import BadInput, one_line
from ppodd.files import atomic_path, cache_folder

_FORMAT = 1  # of the cache: raise it when the readers or the whitening change their results
_LARGE = 4096  # pixels and channels above which fitting ZCA is worth a warning
_ARRAYS = ("train_x", "train_y", "test_x", "test_y")
# The config fields that decide what is loaded.
_FIELDS = ("dataset", "root", "image_size", "zca", "validation", "dtype")


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


def load(config: DistillConfig, device: torch.device) -> Dataset:
    """The data set of `config` on `device`, in the config's dtype.

    The validation split is stratified and fixed by the data alone, so that every trial and seed chooses by the same
    images. Bytes and whitening statistics are cached in `$PPODD_CACHE` (default `~/.cache/ppodd`).

    Raises:
        BadInput: the data is missing or damaged, its labels are out of range, or the config does not fit it.
    """
    source = find(config.dataset, config.root, config.image_size)
    raw, content = _cached_raw(config, source)
    spec = Spec(len(raw.classes), *raw.train_x.shape[1:])
    config.geometry.check(spec)
    whitening, train, test = _whitened(raw, content, config.zca)
    held_out = _held_out(raw.train_y, config.validation)
    dtype = getattr(torch, config.dtype)

    def split(x: torch.Tensor, y: np.ndarray) -> Split:
        return Split(x.to(device, dtype), torch.from_numpy(y).to(device))

    return Dataset(
        name=config.dataset,
        digest=_digest(content, config.zca, config.validation),
        classes=raw.classes,
        spec=spec,
        train=split(train[~held_out], raw.train_y[~held_out]),
        validation=split(train[held_out], raw.train_y[held_out]),
        test=split(test, raw.test_y),
        whitening=whitening,
    )


_last: dict[tuple[object, ...], Dataset] = {}


def load_once(config: DistillConfig, device: torch.device) -> Dataset:
    """`load`, keeping the last data set for the next call of this process."""
    key = (*(getattr(config, field) for field in _FIELDS), str(device))
    if key not in _last:
        dataset = load(config, device)
        _last.clear()
        _last[key] = dataset
    config.geometry.check(_last[key].spec)
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


def _digest(*parts: object) -> str:
    return hashlib.sha256(json.dumps([_FORMAT, *map(str, parts)]).encode()).hexdigest()


def _cached_raw(config: DistillConfig, source: Source) -> tuple[Raw, str]:
    """The bytes, from the cache or read and cached, and their digest. A damaged cache is made again."""
    if not source.files:
        raw = source.read()
        return raw, _content(raw)
    stamps = [(str(p.resolve()), p.stat().st_size, p.stat().st_mtime_ns) for p in source.files]
    path = cache_folder() / f"images-{_digest(stamps, config.dataset, config.image_size)[:24]}.safetensors"
    with contextlib.suppress(OSError, safetensors.SafetensorError, KeyError, TypeError, ValueError):
        with safetensors.safe_open(path, "numpy") as file:
            metadata = file.metadata()
            arrays = {name: file.get_tensor(name) for name in _ARRAYS}
        raw = Raw(**arrays, classes=tuple(json.loads(metadata["classes"])))
        if _content(raw) == metadata["content"]:
            return raw, metadata["content"]
    raw = _checked(_read(source, config.dataset), config.dataset)
    content = _content(raw)
    tensors = {name: torch.from_numpy(getattr(raw, name)) for name in _ARRAYS}
    metadata = {"classes": json.dumps(raw.classes), "content": content}
    _cache(path, tensors, metadata)
    return raw, content


def _read(source: Source, name: str) -> Raw:
    """What the source holds; `BadInput` where its files are not of the form they seem to be."""
    try:
        return source.read()
    except (LookupError, ValueError, TypeError, OSError, StopIteration) as error:
        where = source.files[0].parent
        raise BadInput(f"{name} in {where} is incomplete or damaged ({one_line(error)}): fetch it again") from error


def _content(raw: Raw) -> str:
    digest = hashlib.sha256(json.dumps(raw.classes).encode())
    for array in raw[:4]:
        digest.update(f"{array.shape}{array.dtype}".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def _checked(raw: Raw, name: str) -> Raw:
    classes = len(raw.classes)
    if classes < 2:
        raise BadInput(f"{name} has {classes} class: at least 2 are needed")
    if raw.train_x.shape[1:] != raw.test_x.shape[1:]:
        raise BadInput(
            f"{name}: training images are {raw.train_x.shape[1:]} (C, h, w), test images {raw.test_x.shape[1:]}: "
            f"set --image_size"
        )
    for split, labels in (("training", raw.train_y), ("test", raw.test_y)):
        wrong = np.flatnonzero((labels < 0) | (labels >= classes))
        if len(wrong):
            raise BadInput(
                f"{name}: label {labels[wrong[0]]} of {split} image {wrong[0]} is out of range "
                f"(0 to {classes - 1}): mend the labels or the class names"
            )
    if not len(raw.test_y):
        raise BadInput(f"{name} has no test images: give it a test split, or at least 5 images of a class")
    absent = np.setdiff1d(np.arange(classes), raw.train_y)
    if len(absent):
        raise BadInput(f"{name}: class {raw.classes[absent[0]]!r} has no training image: add some or remove the class")
    return raw


def _whitened(raw: Raw, content: str, zca: bool) -> tuple[Whitening, torch.Tensor, torch.Tensor]:
    """The whitening fitted to the training images, and training and test images `[N, C, h, w]` whitened by it.

    ZCA is fitted and applied once: matrices and whitened images are cached.
    """
    train, test = torch.from_numpy(raw.train_x), torch.from_numpy(raw.test_x)
    if not zca:
        whitening = Whitening(*channel_statistics(train))
        return whitening, whitening.whiten(train), whitening.whiten(test)
    path = cache_folder() / f"zca-{_digest(content)[:24]}.safetensors"
    with contextlib.suppress(OSError, safetensors.SafetensorError, KeyError):
        cached = safetensors.torch.load_file(path)
        return Whitening(forward=cached["forward"], inverse=cached["inverse"]), cached["train"], cached["test"]
    if train[0].numel() > _LARGE:
        print(f"fitting ZCA: {zca_cost(train[0].numel(), len(train))}", file=sys.stderr)
    forward, inverse = fit_zca(train)
    whitening = Whitening(forward=forward, inverse=inverse)
    whitened = {"train": whitening.whiten(train), "test": whitening.whiten(test)}
    _cache(path, {"forward": forward, "inverse": inverse, **whitened}, {})
    return whitening, whitened["train"], whitened["test"]


def _cache(path: Path, tensors: dict[str, torch.Tensor], metadata: dict[str, str]) -> None:
    with atomic_path(path) as temporary:
        safetensors.torch.save_file(tensors, temporary, metadata)
