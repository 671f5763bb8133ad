"""Posters that another implementation distilled, archived as the stages of a run, to be evaluated like any other.

PoDD's code keeps `<run>_poster.pt` and, with learned labels, `<run>_label.pt`: one tensor each.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ppodd.archive import PosterFile, TrialArchive
from ppodd.config import DistillConfig
from ppodd.datasets import load_once
from ppodd.device import resolve_device
from ppodd.distill import Distillation, Finished
from ppodd.errors import BadInput
from ppodd.evaluate_archived import check_data
from ppodd.files import sha256
from ppodd.initial import InitialPoster, label_file, load_tensor
from ppodd.memory import keep_freed_memory
from ppodd.out_of_memory import explained
from ppodd.run import write_stage


class SavedPoster(NamedTuple):
    """A poster's file, the file of its learned labels if it has any, and what they hold."""

    path: Path
    labels: Path | None
    held: InitialPoster


def saved_posters(files: Sequence[str]) -> list[SavedPoster]:
    """The posters in these files, in order; a `…_label.pt` belongs to the poster before it, or lies beside it.

    Raises:
        BadInput: a file is not there, holds something else, or labels come without a poster.
    """
    pairs: list[tuple[Path, Path | None]] = []
    for file in map(Path, files):
        if file.suffix != ".pt" or not file.is_file():
            raise BadInput(f"no file {str(file)!r}: name what torch.save wrote, …_poster.pt and …_label.pt")
        if not file.name.endswith("label.pt"):
            beside = label_file(file)
            pairs.append((file, beside if beside.is_file() else None))
        elif pairs:
            pairs[-1] = (pairs[-1][0], file)
        else:
            raise BadInput(f"{str(file)!r} comes before any poster: name the poster it belongs to first")
    return [
        SavedPoster(file, labels, InitialPoster(load_tensor(file), load_tensor(labels) if labels else None))
        for file, labels in pairs
    ]


@explained
def import_posters(
    config: DistillConfig, trial: TrialArchive, posters: Sequence[SavedPoster]
) -> Iterator[dict[str, Any]]:
    """Archive one poster a stage, as if `config` had distilled them; yields each stage's record.

    Their stage accuracies are measured here, and π follows from these. Meta-steps are counted from the config; seconds
    and meta-losses are not known. Since PoDD's code keeps the poster that did best on the test set, every stage is
    marked as leaking it. Stages that are archived already are left as they are.

    Raises:
        BadInput: the posters are not as many as the stages or do not fit the config, the folder holds another run or
            other posters, or the data or device is not there.
    """
    if len(posters) != config.num_stages:
        raise BadInput(
            f"num_stages={config.num_stages}, but the files hold {len(posters)} posters: name one for each stage, in "
            f"order, or give --num_stages {len(posters)}"
        )
    if config.train_lr:
        raise BadInput("train_lr=True: the files hold no learned rate; give it as --inner_lr, and --no-train_lr")
    keep_freed_memory()
    dataset = load_once(config, resolve_device(config.device))
    distillation = Distillation(config, dataset, posters[0].held)
    for saved in posters:
        saved.held.check(config, dataset.spec, str(saved.path))
        if _shape(saved) != _shape(posters[0]):
            raise BadInput(f"{saved.labels} holds labels of another shape than {posters[0].labels}")
    fixed, order = distillation.fixed_labels.numpy(), distillation.layout.class_order
    trial.create(config, resume=True)
    archived: list[Finished] = []
    for stage, saved in enumerate(posters, 1):
        labels = fixed if saved.held.label_array is None else saved.held.label_array
        poster = PosterFile(saved.held.poster, labels, order)
        if stage in trial.stages():
            record = trial.stage(stage)
            check_data(record, dataset, trial)
            if record["digests"]["poster.safetensors"] != sha256(poster.to_bytes()):
                raise BadInput(f"{trial.url} has another stage {stage} than {saved.path}: choose another --name")
        else:
            steps = stage * distillation.stage_steps
            result = distillation.result(poster, archived, distillation.measure, {}, steps, None)
            origin = {"poster": saved.path.name, "labels": saved.labels and saved.labels.name}
            frozen = [f.poster for f in archived]
            record = write_stage(
                trial, config, dataset, [*frozen, poster], result, imported=origin, leaks_test_set=True
            )
        archived.append(Finished(poster, record["stage_accuracy"]["mean"]))
        yield record


def _shape(saved: SavedPoster) -> tuple[int, ...] | None:
    labels = saved.held.label_array
    return None if labels is None else labels.shape
