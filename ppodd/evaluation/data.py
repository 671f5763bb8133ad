"""The data of a run: loaded for its config, bound to it by its digest, wherever it lies."""

from __future__ import annotations

import os

import safetensors.numpy
import torch

from ppodd.archive import DataRecord, TrialArchive
from ppodd.config import DistillConfig, absolute_paths
from ppodd.datasets import SOURCES, DataReport, Dataset, is_path, load_once
from ppodd.files import Say, sha256


def data_of(config: DistillConfig, device: torch.device, say: Say | None = None) -> Dataset:
    """The data set of a config, kept for the next call of this process.

    Args:
        say: receives the report of the data, before anything is computed.

    Raises:
        BadInput: the data is missing or damaged, or the config's poster does not fit it.
    """

    def check(report: DataReport) -> None:
        if say:
            say("\n".join(report.lines()))
        config.check_fits(report.spec)

    return load_once(config.data, device, check)


def archived_config(trial: TrialArchive, dataset: str = "", root: str = "") -> DistillConfig:
    """The config of a trial, its data where it lay when the trial was last distilled, or where it is said to lie now.

    Raises:
        BadInput: `dataset` can be no data set.
    """
    config, there = trial.config(), trial.data()
    if there:
        config = config.model_copy(update={"dataset": there.dataset, "root": there.root})
    if not (dataset or root):
        return config
    if not dataset and is_path(config.dataset):  # it lies at the same name below another root
        dataset = f"./{os.path.basename(config.dataset)}"
    dataset = SOURCES.check(dataset or config.dataset)
    return absolute_paths(config.model_copy(update={"dataset": dataset, "root": root}))


def keep_data(trial: TrialArchive, config: DistillConfig, dataset: Dataset) -> None:
    """Record what was read, unless it is recorded.

    Raises:
        BadInput: the trial's stages are of other data.
    """
    there = trial.data()
    if stages := [] if there else trial.stages():
        check_data(trial.stage(stages[-1]).data.digest, dataset, trial)
    if there and (there.dataset, there.root) == (config.dataset, config.root):
        return
    arrays = {name: tensor.numpy() for name, tensor in dataset.whitening.arrays.items()}
    whitening = safetensors.numpy.save(arrays)
    record = DataRecord(
        digest=dataset.digest,
        dataset=config.dataset,
        root=config.root,
        report=dataset.report,
        whitening=sha256(whitening),
    )
    trial.write_data(record, whitening)


def check_data(digest: str, dataset: Dataset, trial: TrialArchive) -> None:
    """Raise `BadInput` where `dataset` is not the one of this digest, which a record has: results must not be mixed."""
    trial.check_data(digest, dataset.digest, dataset.name)
