"""Byte images, read once: from the cache, or from their files and then cached. Needs no torch."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import safetensors
import safetensors.numpy

from ppodd.datasets import cache
from ppodd.datasets.finding import find
from ppodd.datasets.parts import TEST, TRAIN, VALIDATION
from ppodd.datasets.reading import SPLITS, Images, read
from ppodd.datasets.report import DataReport
from ppodd.datasets.sources import Request
from ppodd.errors import BadInput, one_line

_FORMAT = 1  # of a data set's digest, by which archives know theirs: it stays


def read_images(request: Request) -> tuple[Images, str]:
    """The bytes, from the cache or read and cached, and the digest of their content. A damaged cache is made again.

    The cache's key is every file that is read, and what was noted of those that lie beside. Pictures that a table names
    are known only when it is read; they are noted, and looked at before the cache is used.

    Raises:
        BadInput: the data is missing or damaged, or is no labelled image set.
    """
    found = find(request)
    if found.files is None:
        images = read(found, request)
        return images, _content(images)
    noted = found.notes
    beside = (noted.notes, noted.warnings, sorted(noted.skipped.items()), sorted(map(str, noted.beside)))
    path = cache.place_of("images", cache.digest_of(cache.stamps(found.files), *beside, *_reads(request)))
    cached = _cached(path)
    if cached:
        return cached
    before = cache.stamps(found.files)
    images = _readable(found.place, lambda: read(found, request))
    content = _content(images)
    if cache.stamps(found.files) == before:
        _keep(path, images, content, found.also)
    return images, content


def data_digest(content: str, request: Request) -> str:
    """What tells a data set as it is prepared: its content, and all that changes what is trained on."""
    parts = (_FORMAT, content, request.zca, request.validation)
    return hashlib.sha256(json.dumps([parts[0], *map(str, parts[1:])]).encode()).hexdigest()


def _reads(request: Request) -> tuple[object, ...]:
    """What of a request decides which bytes are read."""
    return request._replace(root="", zca=False, validation=0.0, dtype="")


def _cached(path: Path) -> tuple[Images, str] | None:
    with contextlib.suppress(OSError, safetensors.SafetensorError, KeyError, TypeError, ValueError):
        with safetensors.safe_open(path, "numpy") as file:
            metadata = file.metadata()
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 – it is no dict
        also = [Path(name) for name in json.loads(metadata["also"])]
        if metadata["stamps"] != cache.digest_of(cache.stamps(also)):
            return None
        report = DataReport.model_validate_json(metadata["report"])
        x, y = ({split: arrays[f"{split}_{axis}"] for split in SPLITS} for axis in "xy")
        images = Images(x, y, report.classes, report)
        if _content(images) == metadata["content"]:
            return images, metadata["content"]
    return None


def _keep(path: Path, images: Images, content: str, also: set[Path]) -> None:
    arrays = {
        f"{s}_{axis}": np.ascontiguousarray(of[s]) for axis, of in (("x", images.x), ("y", images.y)) for s in SPLITS
    }
    metadata = {
        "content": content,
        "report": images.report.model_dump_json(),
        "also": json.dumps([str(p) for p in sorted(also)]),
        "stamps": cache.digest_of(cache.stamps(sorted(also))),
    }
    cache.keep(path, lambda temporary: safetensors.numpy.save_file(arrays, temporary, metadata))


def _readable(place: str, reading: Callable[[], Images]) -> Images:
    """What is read; `BadInput` where files are not of the form they seem to be."""
    try:
        return reading()
    except (LookupError, ValueError, TypeError, OSError, StopIteration) as error:
        raise BadInput(f"{place} is incomplete or damaged ({one_line(error)}): fetch it again") from error


def _content(images: Images) -> str:
    digest = hashlib.sha256(json.dumps(images.classes).encode())
    own = (VALIDATION,) if len(images.y[VALIDATION]) else ()
    for split in (TRAIN, TEST, *own):
        for array in (images.x[split], images.y[split]):
            digest.update(f"{array.shape}{array.dtype}".encode())
            digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()
