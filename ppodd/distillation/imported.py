"""Posters that another implementation distilled, archived as the stages of a run, to be evaluated like any other."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ppodd.archive import WRITER, ImportedPoster, MetaLoss, PosterFile, StageRecord, TrialArchive
from ppodd.config import DistillConfig
from ppodd.datasets import Dataset
from ppodd.distillation.archived_run import write_stage
from ppodd.distillation.initial import InitialPoster, load_tensor
from ppodd.distillation.out_of_memory import explained
from ppodd.distillation.podd_files import label_file
from ppodd.distillation.stages import Distillation, Finished
from ppodd.errors import BadInput
from ppodd.evaluation import check_data, data_of, keep_data
from ppodd.files import Say, only_writer
from ppodd.machine import keep_freed_memory, resolve_device
from ppodd.posters import published_order

_CHANNELS = (1, 3)
_NORMALISED = 16.0  # beyond which values without a negative one among them are pixels


class SavedPoster(NamedTuple):
    """A poster's file, the file of its learned labels if it has any, and what they hold."""

    path: Path
    labels: Path | None
    held: InitialPoster


def load_posters(files: Sequence[tuple[Path, Path | None]]) -> list[SavedPoster]:
    """The posters in these files, each with that of its labels. Raises `BadInput` where one holds something else."""
    posters = []
    for path, labels in files:
        poster = load_tensor(path)
        _check_poster(poster, path)
        posters.append(SavedPoster(path, labels, InitialPoster(poster, load_tensor(labels) if labels else None)))
    return posters


def _check_poster(poster: np.ndarray, path: Path) -> None:
    """Raise `BadInput` where an array is no poster: one of pixels, of channels last, of labels, or of one value."""
    low, high = poster.min(), poster.max()
    if len(poster) not in _CHANNELS:
        raise BadInput(
            f"{path} holds {poster.shape}: a poster is [C, H, W] with 1 or 3 channels first; labels are in a "
            f"file called after it, …_label.pt"
        )
    if low == high:
        raise BadInput(f"{path} holds {low:g} everywhere, which nothing can be learned from: name another file")
    if low >= 0 and high > _NORMALISED:
        raise BadInput(
            f"{path} holds values from {low:g} to {high:g}: these are pixels, and a poster is as networks see images, "
            f"normalised about 0: save it as it was distilled"
        )


@explained
def import_posters(
    config: DistillConfig,
    trial: TrialArchive,
    posters: Sequence[SavedPoster],
    show_layout: Callable[[np.ndarray], None] | None = None,
    say: Say | None = None,
) -> Iterator[StageRecord]:
    """Archive one poster a stage, as if `config` had distilled them; yields each stage's record.

    Their stage accuracies are measured here, and π follows from these, on images held out here: PoDD's code trains on
    the whole training set and keeps the poster that did best on the test set, so every stage is marked as leaking it.
    Meta-steps are counted from the config and the whole training set; seconds and meta-losses are not known. Stages
    that are archived already are left as they are.

    Args:
        show_layout: receives the class layout `[rows, columns]` that fixed labels follow from, before anything is done.
        say: receives the report of the data, and a line when another process may be importing the same posters.

    Raises:
        BadInput: the posters are not as many as the stages or do not fit the config, their class layout is not known,
            the folder holds another run or other posters, the data or device is not
            there, or another process writes it.
    """
    _check(config, posters)
    trial.check_free(config, True, imported=True)  # before the data is read, which may take a while
    keep_freed_memory()
    dataset = data_of(config, resolve_device(config.device), say)
    for saved in posters:
        saved.held.check(config, dataset.spec, str(saved.path))
    distillation = Distillation(config, dataset, None)
    order = distillation.layout.class_order
    if not config.train_y:
        if config.class_order == "auto" and published_order(dataset.name, *order.shape) is None:
            raise BadInput(
                "class_order=auto: the labels follow from the class layout, which the files do not hold; give that of "
                "the run that made them, a list of labels row by row or clip, which PoDD's code uses"
            )
        if show_layout:
            show_layout(order)
    files = [ImportedPoster(poster=s.path.name, labels=s.labels.name if s.labels else None) for s in posters]
    busy = f"{trial.url} is being imported by another process"
    with only_writer(trial.folder, WRITER, busy, "import again", say):
        trial.create(config, True, dataset.digest, files)
        keep_data(trial, config, dataset)
        trial.folder.remove_temporaries()
        yield from _stages(distillation, trial, posters)


def _stages(distillation: Distillation, trial: TrialArchive, posters: Sequence[SavedPoster]) -> Iterator[StageRecord]:
    """The records of the posters as stages, archived now or before."""
    config, dataset = distillation.config, distillation.dataset
    fixed, order = distillation.fixed_labels.numpy(), distillation.layout.class_order
    there = trial.stages()
    archived: list[Finished] = []
    for stage, saved in enumerate(posters, 1):
        labels = fixed if saved.held.label_array is None else saved.held.label_array
        poster = PosterFile(saved.held.poster, labels, order)
        if stage in there:
            record = trial.stage(stage)
            check_data(record.data.digest, dataset, trial)
            if record.digests.poster != poster.digest:
                raise BadInput(f"{trial.url} has another stage {stage} than {saved.path}: choose another --name")
        else:
            steps = _meta_steps(config, dataset, stage)
            result = distillation.result(poster, archived, distillation.measure, MetaLoss(), steps, None)
            frozen = [f.poster for f in archived]
            record = write_stage(trial, config, dataset, [*frozen, poster], result, leaks_test_set=True)
        archived.append(Finished(poster, record.stage_accuracy.mean))
        yield record


def _check(config: DistillConfig, posters: Sequence[SavedPoster]) -> None:
    """Raise `BadInput` where the files are too few, or lack what the config says they have."""
    if len(posters) != config.num_stages:
        raise BadInput(
            f"num_stages={config.num_stages}, but the files hold {len(posters)} posters: name one for each stage, in "
            f"order, or give --num_stages {len(posters)}"
        )
    if config.train_lr:
        raise BadInput("train_lr=True: the files hold no learned rate; give it as --inner_lr, and --no-train_lr")
    first = posters[0].held.label_array
    for saved in posters:
        labels = saved.held.label_array
        if config.train_y and labels is None:
            raise BadInput(
                f"train_y=True, but {saved.path} has no learned labels: {label_file(saved.path)} is not there; name "
                f"their file after the poster, or give --no-train_y"
            )
        if labels is not None and first is not None and labels.shape != first.shape:
            raise BadInput(f"{saved.labels} holds labels of another shape than {posters[0].labels}")


def _meta_steps(config: DistillConfig, dataset: Dataset, stage: int) -> int:
    """Until the end of a stage: an epoch of PoDD's code passes over all training images, none held out."""
    images = len(dataset.train.y) + len(dataset.validation.y)
    return stage * config.stage_epochs * config.epoch_steps(images)
