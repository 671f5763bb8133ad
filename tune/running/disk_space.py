"""What a sweep will write into its archive, counted before it starts, and whether the disk takes it."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path

from ppodd.archive import Archive
from ppodd.config import DistillConfig, EvaluationConfig, protocols
from ppodd.datasets import known_spec
from ppodd.errors import StorageError
from ppodd.files import is_remote, nearest_existing

_FLOAT = 4  # bytes
_RECORD = 4_000  # of a stage or an evaluation, generously
_STORE = 2_000_000  # of an empty MLflow store and Tune's own files
_BLOCK = 4_096  # each file takes whole ones


def check_free_space(
    archive: Archive, configs: Iterable[DistillConfig], evaluations: Sequence[EvaluationConfig]
) -> None:
    """Raise `StorageError` where the disk of a local archive has less room than these trials will write."""
    if is_remote(archive.url):
        return
    wanted = _STORE + sum(trial_bytes(config, evaluations) for config in configs)
    free = shutil.disk_usage(nearest_existing(Path(archive.url))).free
    if wanted > free:
        raise StorageError(
            f"{archive.url} has {_megabytes(free)} free, and what is left of the sweep will write about "
            f"{_megabytes(wanted)}: free space or name another --archive"
        )


def trial_bytes(config: DistillConfig, evaluations: Sequence[EvaluationConfig]) -> int:
    """What a trial writes: its stages, their pictures (MLflow has them too), evaluations, and a resume checkpoint."""
    spec = known_spec(config.dataset, config.image_size)
    channels, classes = (spec.channels, spec.classes) if spec else (3, 0)
    pixels = channels * config.poster_width * config.poster_height
    cells = classes * config.comp_ipc if config.train_y else config.poster_class_num_x * config.poster_class_num_y
    learned = _FLOAT * (pixels + classes * cells)
    asked = len(protocols(evaluations, config))
    stage = learned + 2 * pixels + (1 + asked) * _RECORD + (4 + asked) * _BLOCK
    moments_and_replacement = 2 * 3 * learned  # the checkpoint is written beside the one that it replaces
    return config.num_stages * stage + moments_and_replacement + 4 * _BLOCK


def _megabytes(size: int) -> str:
    return f"{size / 1e6:,.1f} MB"
