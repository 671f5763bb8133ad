"""Distillations in an archive as objects: distil one, look at its stages, judge them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ppodd.api.pictures import ShownImage
from ppodd.archive import EvaluationRecord, StageRecord, TrialArchive
from ppodd.config import DistillConfig, EvaluationConfig, build

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from ppodd.evaluation import TrainingSet

ARCHIVE = "ppodd-archive"


@dataclass(frozen=True)
class Stage:
    """A finished stage of a run; a notebook shows its poster."""

    trial: TrialArchive
    number: int

    @cached_property
    def record(self) -> StageRecord:
        """What its `stage.json` says: accuracy, blend, budgets, timings, digests."""
        return self.trial.stage(self.number)

    @property
    def accuracy(self) -> float:
        """Percent on the images held out of the training set, the mean over its networks."""
        return self.record.stage_accuracy.mean

    @property
    def poster(self) -> np.ndarray:
        """The poster `[C, H, W]`, in the whitened space of the data set."""
        return self.trial.poster(self.number).poster

    def picture(self, zoom: int = 4) -> ShownImage:
        """The poster as people see it, a poster pixel being `zoom` screen pixels."""
        from ppodd.posters import strip

        return ShownImage(strip([self.trial.png(self.number)], zoom))

    def training_set(self, mode: str = "blend") -> TrainingSet:
        """Patches, soft labels and weights: what a network trains on; `.as_pixels()` has un-whitened images."""
        from ppodd.evaluation import training_set

        return training_set(self.trial, self.number, mode)

    def __repr__(self) -> str:
        accuracy = self.record.stage_accuracy
        return (
            f"<stage {self.number} of {self.record.num_stages} of {self.trial.trial}: "
            f"{accuracy.split} accuracy {accuracy.mean:.1f} %>"
        )

    def _repr_png_(self) -> bytes:
        return bytes(self.picture())


class Run:
    """A distillation in an archive, by its folder; a notebook shows its stages side by side."""

    def __init__(self, path: str | Path):
        """Raises `BadInput` where there is no run."""
        from ppodd.archive import trial_at

        self.trial = trial_at(str(path))

    @property
    def path(self) -> str:
        """The run's folder or URL."""
        return self.trial.url

    @property
    def config(self) -> DistillConfig:
        """All settings."""
        return self.trial.config()

    @property
    def stages(self) -> list[Stage]:
        """Those that are finished, oldest first."""
        return [Stage(self.trial, number) for number in self.trial.stages()]

    def __iter__(self) -> Iterator[Stage]:
        return iter(self.stages)

    def __getitem__(self, number: int) -> Stage:
        """A stage by its place, the first being 0 and the last −1."""
        return self.stages[number]

    def __repr__(self) -> str:
        return f"<{self.config.method} run {self.trial.trial}: {len(self.stages)} of {self.config.num_stages} stages>"

    def _repr_png_(self) -> bytes | None:
        return bytes(render(self)) if self.stages else None


class Evaluations(tuple[EvaluationRecord, ...]):
    """Results of an evaluation, one for each stage, mode and network; a notebook shows them as a table."""

    def dataframe(self) -> pd.DataFrame:
        """A row for each result and training budget."""
        import pandas as pd

        return pd.DataFrame(
            [
                {
                    "stage": record.stage,
                    "mode": record.protocol.mode,
                    "arch": record.protocol.arch,
                    "steps": steps,
                    "accuracy_pct": accuracy.mean,
                    "std_pct": accuracy.std,
                    "nets": len(accuracy.values),
                    "poster_ipc": record.budgets.poster_ipc,
                    "cumulative_ipc": record.budgets.cumulative_ipc,
                }
                for record in self
                for steps, accuracy in record.accuracy.items()
            ]
        )

    def __repr__(self) -> str:
        return self.dataframe().to_string(index=False)

    def _repr_html_(self) -> str:
        return self.dataframe().round(2).to_html(index=False)


def distill(
    preset: str = "", *, archive: str | Path = ARCHIVE, resume: bool = False, progress: bool = True, **settings: Any
) -> Run:
    """Distil a data set, stage by stage, into an archive's folder, as `ppodd distill` does.

    Args:
        preset: settings to start from (default: those of the data set, else `digits`).
        archive: folder or URL; the run is in `runs/` there, under its `name`.
        resume: go on with the run of this name and these settings.
        progress: show how far it is.
        settings: fields of `DistillConfig`, such as `num_stages=2`, `dataset="./my-images"`, `blend="uniform"`; or
            `ipc=0.9`, which chooses the poster's layout.

    Raises:
        BadInput: a setting is none, or the archive holds this run already and it is not to `resume`.
    """
    from ppodd.archive import trial_of, with_own_folder
    from ppodd.cli.console import bar, console
    from ppodd.config import configured
    from ppodd.distillation import run
    from ppodd.machine import limit_threads

    out = console()
    choose = partial(with_own_folder, str(archive), resume)
    config = configured(preset, settings, say=out.print if progress else _quiet, choose=choose)
    trial = trial_of(str(archive), config)
    limit_threads()
    with bar(out) if progress else contextlib.nullcontext() as show:
        list(run(config, trial, resume=resume, progress=show))
    return Run(trial.url)


def _quiet(line: str) -> None:
    """Says nothing."""


def evaluate(
    what: Run | Stage | str | Path | Iterable[Run | Stage | str | Path],
    device: str = "auto",
    out: str | Path | None = None,
    **protocol: Any,
) -> Evaluations:
    """Train fresh networks on archived posters and read their test accuracy, as `ppodd evaluate` does.

    What is evaluated already is not done again.

    Args:
        what: runs, stages, or their folders.
        out: an archive to copy the runs into and evaluate them there: where theirs may only be read.
        protocol: fields of `EvaluationConfig`, such as `arch=["convnet", "resnet18"]`, `mode=["blend", "latest"]`,
            `budgets=[300, 1000]`, `nets=4`; what is left out is the distillation's own.

    Raises:
        BadInput: no stage is meant, another process is at a run, its data is not here, or `out` holds another run.
        StorageError: the archive may only be read, which is found before anything is computed.
    """
    from ppodd.archive import copied
    from ppodd.evaluation import evaluate_trials
    from ppodd.machine import limit_threads

    limit_threads()
    evaluation = build(EvaluationConfig, protocol)
    some = [what] if isinstance(what, (Run, Stage, str, Path)) else what
    by_trial: dict[str, tuple[TrialArchive, list[int]]] = {}
    for stage in _stages(some):
        by_trial.setdefault(stage.trial.url, (stage.trial, []))[1].append(stage.number)
    targets = [(copied(trial, str(out)) if out else trial, stages) for trial, stages in by_trial.values()]
    return Evaluations(done.record for done in evaluate_trials(targets, evaluation, device))


def render(what: Run | Stage | str | Path, zoom: int = 4, animated: bool = False) -> ShownImage:
    """The stages' posters side by side as a PNG, or one after another as a GIF, as `ppodd render` does."""
    from ppodd.posters import gif, strip

    pngs = [stage.trial.png(stage.number) for stage in _stages([what])]
    return ShownImage((gif if animated else strip)(pngs, zoom))


def _stages(some: Iterable[Run | Stage | str | Path]) -> Iterator[Stage]:
    """The stages meant. Raises `BadInput` where a folder holds none."""
    from ppodd.archive import stages_at

    for one in some:
        if isinstance(one, Stage):
            yield one
        else:
            trial, numbers = stages_at(one.path if isinstance(one, Run) else str(one))
            yield from (Stage(trial, number) for number in numbers)
