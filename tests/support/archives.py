"""Archives made by hand, for tests of what is read out of them: real files, no distillation."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from ppodd.archive import (
    SCHEMA,
    Accuracy,
    Archive,
    Data,
    Digests,
    EvaluationFailureRecord,
    EvaluationRecord,
    FailureRecord,
    MetaLoss,
    PixelBudget,
    PosterFile,
    ProgressRecord,
    StageAccuracy,
    StageBudget,
    StageRecord,
    StopRecord,
    SweepRecord,
    SweepTrial,
    TrialArchive,
    storage_bytes,
)
from ppodd.config import DistillConfig, EvaluationConfig, EvaluationProtocol, build

FINISHED_AT = 1_700_000_000.0

# mean(config, stage, mode, steps) in percent: what the networks of an evaluation reach on average
Mean = Callable[[DistillConfig, int, str, int], float]


def plain_accuracy(config: DistillConfig, stage: int, mode: str, steps: int) -> float:
    """10 points a stage, 1 for `dynamic`, 1 a training step, the seed on top; 5 less on the latest poster alone."""
    return 10 * stage + (config.blend == "dynamic") + steps + config.seed - 5 * (mode == "latest")


def poster_ipc(config: DistillConfig) -> float:
    return config.poster_width * config.poster_height / 640  # 10 classes of 8 × 8 images


def poster(config: DistillConfig, stage: int) -> PosterFile:
    pixels = np.full((1, config.poster_height, config.poster_width), stage, np.float32)
    return PosterFile(pixels, np.eye(10, dtype=np.float32), np.arange(10).reshape(2, 5))


def stage_record(config: DistillConfig, stage: int, held: PosterFile, png: bytes, **changes: Any) -> StageRecord:
    """What a stage's record says of this poster and picture, but for the `changes`."""
    weights = [0.0] * (stage - 1) + [1.0] if config.blend == "latest" else [1 / stage] * stage
    images = {"train": 1294, "validation": 143, "test": 360}
    record = StageRecord(
        schema=SCHEMA,
        stage=stage,
        num_stages=config.num_stages,
        blend_strategy=config.blend,
        blend=tuple(weights),
        evaluation_blend=tuple(weights),
        stage_accuracy=StageAccuracy(**dict(Accuracy.of([50.0, 52.0])), split="validation", steps=3, nets=2),
        leaks_test_set=config.blend == "released",
        meta_loss=MetaLoss(first=2.3, last=2.0, mean=2.1),
        data=Data(
            name=config.dataset, digest="data", classes=tuple(map(str, range(10))), shape=(1, 8, 8), images=images
        ),
        versions={"ppodd": "0"},
        device="cpu",
        real_chunk=config.real_chunk,
        finished_at=FINISHED_AT + stage,
        budgets=StageBudget(
            **dict(pixel_budget(config, held, sum(weight > 0 for weight in weights))),
            meta_steps=stage * config.stage_epochs * config.steps_per_epoch,
            seconds=5.0 * stage,
        ),
        digests=Digests.of(held.digest, png),
    )
    return record.model_copy(update=changes)


def pixel_budget(config: DistillConfig, held: PosterFile, drawn: int) -> PixelBudget:
    return PixelBudget(
        poster_ipc=poster_ipc(config),
        cumulative_ipc=drawn * poster_ipc(config),
        poster_floats=held.poster.size,
        label_floats=0,
        storage_bytes=storage_bytes(held, drawn),
    )


def write_stage(trial: TrialArchive, config: DistillConfig, stage: int, **changes: Any) -> StageRecord:
    held, png = poster(config, stage), b"png of stage %d" % stage
    record = stage_record(config, stage, held, png, **changes)
    trial.write_stage(record, held, png)
    return record


def evaluation_record(
    trial: TrialArchive,
    stage: int,
    protocol: EvaluationProtocol,
    values: Mapping[int, Sequence[float]],
    **changes: Any,
) -> EvaluationRecord:
    """An evaluation of an archived stage: accuracies (percent) of each network, by training steps."""
    of, config = trial.stage(stage), trial.config()
    weights = of.weights(protocol.mode)
    record = EvaluationRecord(
        schema=SCHEMA,
        ticket=trial.ticket(stage, protocol),
        stage=stage,
        protocol=protocol,
        blend=weights,
        posters=tuple(trial.stage(past).digests.poster for past in range(1, stage + 1)),
        accuracy={steps: Accuracy.of([float(v) for v in of_nets]) for steps, of_nets in values.items()},
        split="test",
        leaks_test_set=of.leaks_test_set,
        budgets=pixel_budget(config, trial.poster(stage), sum(weight > 0 for weight in weights)),
        seconds=3.0,
        device="cpu",
        versions={"ppodd": "0"},
        finished_at=FINISHED_AT + 100 + stage,
    )
    return record.model_copy(update=changes)


def write_evaluations(
    trial: TrialArchive,
    config: DistillConfig,
    stage: int,
    evaluation: EvaluationConfig,
    accuracy: Mean = plain_accuracy,
) -> None:
    """One evaluation for each mode and architecture; two networks in three lie 1 point beside the mean."""
    for protocol in evaluation.protocols(config):
        spread = np.resize([-1.0, 0.0, 1.0], protocol.nets) if protocol.nets > 1 else np.zeros(1)
        means = {budget: accuracy(config, stage, protocol.mode, budget) for budget in protocol.budgets}
        values = {budget: [mean + s - spread.mean() for s in spread] for budget, mean in means.items()}
        trial.write_evaluation(evaluation_record(trial, stage, protocol, values))


def sweep_record(
    sweep: str, configs: Iterable[DistillConfig], evaluation: EvaluationConfig, **more: Any
) -> SweepRecord:
    return SweepRecord(
        schema=SCHEMA,
        name=sweep,
        trials=tuple(SweepTrial(name=c.name, config=c.model_dump(mode="json")) for c in configs),
        evaluation=(evaluation.model_dump(mode="json"),),
        created_at=FINISHED_AT,
        **more,
    )


def progress(stage: int = 2, **changes: Any) -> ProgressRecord:
    now = {"num_stages": 4, "meta_step": 3, "meta_steps": 40, "meta_loss": 1.5, "seconds_per_meta_step": 0.25}
    return ProgressRecord(**{"stage": stage, **now, "seconds_left": 180.0, "updated_at": FINISHED_AT, **changes})


def stage_accuracy(mean: float) -> StageAccuracy:
    return StageAccuracy(mean=mean, std=1.0, values=(mean - 1, mean + 1), split="validation", steps=3, nets=2)


def stop(why: str, stage: int = 1) -> StopRecord:
    return StopRecord(scheduler="asha", stage=stage, why=why, stopped_at=FINISHED_AT)


def failed(error: str = "boom") -> FailureRecord:
    return FailureRecord(error=error)


def given_up(config: DistillConfig, ticket: str, error: str = "boom", **evaluation: Any) -> EvaluationFailureRecord:
    """Of an evaluation of the first stage."""
    (protocol,) = EvaluationConfig(**evaluation).protocols(config)
    return EvaluationFailureRecord(ticket=ticket, stage=1, protocol=protocol, error=error, attempts=3)


def write_sweep(
    archive: Archive,
    sweep: str,
    configs: Iterable[dict[str, Any]],
    evaluation: EvaluationConfig,
    accuracy: Mean = plain_accuracy,
) -> list[DistillConfig]:
    """A finished sweep: every stage of every config archived and evaluated. Returns the configs, named t000, t001, …"""
    built = [build(DistillConfig, {**values, "name": f"t{number:03d}"}) for number, values in enumerate(configs)]
    archive.write_sweep(sweep_record(sweep, built, evaluation, description=f"Sweep {sweep}, made by hand."))
    for config in built:
        trial = archive.trial(sweep, config.name)
        trial.create(config, resume=False)
        for stage in range(1, config.num_stages + 1):
            write_stage(trial, config, stage)
            write_evaluations(trial, config, stage, evaluation, accuracy)
    return built
