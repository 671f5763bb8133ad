"""What a process of trials is given to do. Tune carries it in its config, so it is made of plain values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypedDict, cast

from ppodd.archive import Archive
from tune.sweep_file import Sweep


class TrialEntry(TypedDict):
    """One trial: its archive folder, and the fields of its config."""

    url: str
    config: dict[str, Any]


class TrialJob(TypedDict):
    """One trial, or several in lockstep.

    Attributes:
        cpus, gpus: that are reserved for it.
        hours: after which each trial is stopped.
        stage_accuracy: who measures it.
        evaluations: of each stage, whose networks and the like a trial tries before it begins.
        halve_chunk: whether to go on with half the `real_chunk` where memory runs out.
        exact: whether several are to come to the bits that each comes to alone, or to rounding.
    """

    trials: list[TrialEntry]
    cpus: float
    gpus: float
    hours: float | None
    stage_accuracy: str
    evaluations: list[dict[str, Any]]
    halve_chunk: bool
    exact: bool


def job_of(sweep: Sweep, archive: Archive, *names: str) -> TrialJob:
    """The job of these trials of a sweep."""
    return {
        "trials": [
            {"url": archive.trial(sweep.name, name).url, "config": sweep.trials[name].model_dump(mode="json")}
            for name in names
        ],
        "cpus": sweep.file.resources.cpus,
        "gpus": sweep.file.resources.gpus,
        "hours": sweep.file.limits.trial_hours,
        "stage_accuracy": sweep.file.stage_accuracy,
        "evaluations": [evaluation.model_dump(mode="json") for evaluation in sweep.evaluations],
        "halve_chunk": sweep.file.resources.on_out_of_memory == "halve_chunk",
        "exact": sweep.file.resources.lockstep == "auto",
    }


def job_in(config: Mapping[str, Any]) -> TrialJob:
    """The job in the config of one of Tune's trials."""
    return cast("TrialJob", config["trial"])


def names_in(config: Mapping[str, Any]) -> list[str]:
    """The names of the trials in the config of one of Tune's."""
    return [one["config"]["name"] for one in job_in(config)["trials"]]
