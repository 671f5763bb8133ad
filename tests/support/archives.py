"""Archives made by hand, for tests of what is read out of them: real files, no distillation."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from ppodd.archive import Archive, PosterFile, TrialArchive, storage_bytes, summary
from ppodd.config import DistillConfig, EvaluationConfig, build

FINISHED_AT = 1_700_000_000.0

# accuracy(config, stage, mode, steps) in percent: what the networks of an evaluation reach on average
Accuracy = Callable[[DistillConfig, int, str, int], float]


def plain_accuracy(config: DistillConfig, stage: int, mode: str, steps: int) -> float:
    """10 points a stage, 1 for `dynamic`, 1 a training step, the seed on top; 5 less on the latest poster alone."""
    return 10 * stage + (config.blend == "dynamic") + steps + config.seed - 5 * (mode == "latest")


def poster_ipc(config: DistillConfig) -> float:
    return config.poster_width * config.poster_height / 640  # 10 classes of 8 × 8 images


def poster(config: DistillConfig, stage: int) -> PosterFile:
    pixels = np.full((1, config.poster_height, config.poster_width), stage, np.float32)
    return PosterFile(pixels, np.eye(10, dtype=np.float32), np.arange(10).reshape(2, 5))


def write_stage(trial: TrialArchive, config: DistillConfig, stage: int) -> None:
    weights = [0.0] * (stage - 1) + [1.0] if config.blend == "latest" else [1 / stage] * stage
    drawn = sum(weight > 0 for weight in weights)
    record = {
        "num_stages": config.num_stages,
        "blend_strategy": config.blend,
        "blend": weights,
        "evaluation_blend": weights,
        "stage_accuracy": {**summary([50.0, 52.0]), "split": "validation", "steps": 3, "nets": 2},
        "leaks_test_set": config.blend == "released",
        "meta_loss": {"first": 2.3, "last": 2.0, "mean": 2.1},
        "budgets": {
            "poster_ipc": poster_ipc(config), "cumulative_ipc": drawn * poster_ipc(config),
            "storage_bytes": storage_bytes(poster(config, stage), drawn),
            "meta_steps": stage * config.stage_epochs * config.steps_per_epoch, "seconds": 5.0 * stage,
        },
        "data": {"name": config.dataset, "digest": "data"},
        "versions": {"ppodd": "0"},
        "device": "cpu",
        "finished_at": FINISHED_AT + stage,
    }  # fmt: skip
    trial.write_stage(stage, record, poster(config, stage), b"png of stage %d" % stage)


def write_evaluations(
    trial: TrialArchive,
    config: DistillConfig,
    stage: int,
    evaluation: EvaluationConfig,
    accuracy: Accuracy = plain_accuracy,
) -> None:
    """One evaluation for each mode and architecture; two networks in three lie 1 point beside the mean."""
    for protocol in evaluation.protocols(config):
        spread = np.resize([-1.0, 0.0, 1.0], protocol.nets) if protocol.nets > 1 else np.zeros(1)
        means = {budget: accuracy(config, stage, protocol.mode, budget) for budget in protocol.budgets}
        record = {
            "schema": 1,
            "ticket": trial.ticket(stage, protocol),
            "stage": stage,
            "protocol": protocol.model_dump(mode="json"),
            "accuracy": {str(b): summary([mean + s - spread.mean() for s in spread]) for b, mean in means.items()},
            "split": "test",
            "leaks_test_set": config.blend == "released",
            "seconds": 3.0,
            "finished_at": FINISHED_AT + 100 + stage,
        }
        trial.write_evaluation(stage, record)


def write_sweep(
    archive: Archive,
    sweep: str,
    configs: Iterable[dict[str, Any]],
    evaluation: EvaluationConfig,
    accuracy: Accuracy = plain_accuracy,
) -> list[DistillConfig]:
    """A finished sweep: every stage of every config archived and evaluated. Returns the configs, named t000, t001, …"""
    built = [build(DistillConfig, {**values, "name": f"t{number:03d}"}) for number, values in enumerate(configs)]
    record = {
        "trials": [{"name": c.name, "config": c.model_dump(mode="json")} for c in built],
        "evaluation": evaluation.model_dump(mode="json"),
        "description": f"Sweep {sweep}, made by hand.",
        "created_at": FINISHED_AT,
    }
    archive.write_sweep(sweep, record)
    for config in built:
        trial = archive.trial(sweep, config.name)
        trial.create(config, resume=False)
        for stage in range(1, config.num_stages + 1):
            write_stage(trial, config, stage)
            write_evaluations(trial, config, stage, evaluation, accuracy)
    return built
