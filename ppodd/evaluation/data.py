"""The data of a run: loaded for its config, and bound to it by its digest."""

from __future__ import annotations

from collections.abc import Callable

import torch

from ppodd.archive import TrialArchive
from ppodd.config import DistillConfig
from ppodd.datasets import Dataset, Report, load_once
from ppodd.errors import BadInput


def data_of(config: DistillConfig, device: torch.device, say: Callable[[Report], None] | None = None) -> Dataset:
    """The data set of a config, kept for the next call of this process.

    Args:
        say: is given what was read, before anything is computed.

    Raises:
        BadInput: the data is missing or damaged, or the config's poster does not fit it.
    """

    def check(report: Report) -> None:
        config.geometry.check(report.spec)
        if say:
            say(report)

    return load_once(config.data, device, check)


def check_data(digest: str, dataset: Dataset, trial: TrialArchive) -> None:
    """Raise `BadInput` where `dataset` is not the one of this digest, which a record has: results must not be mixed."""
    if dataset.digest != digest:
        raise BadInput(
            f"{trial.url} was distilled from other data than {dataset.name} as it is here (digest "
            f"{digest[:12]}… there, {dataset.digest[:12]}… here): point --root to the data it used"
        )
