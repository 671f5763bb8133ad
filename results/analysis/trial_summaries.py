"""Every trial of a store, finished or not: its status, blends, posters and where it comes from."""

from __future__ import annotations

import json
import re
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

from ppodd.archive import ProgressRecord
from ppodd.words import counted
from results.analysis.selection import Chosen, listed
from results.tracking import StoredRun, local_artifacts, schema

_SHOWN = 3  # names and failures in a note
_STAGE = re.compile(r"stage-(\d+)\.png$")


class TrialSummary(NamedTuple):
    """What is known of a trial beside its accuracies.

    Attributes:
        status: `finished`, `running`, `failed`, or `stopped`: early, by a scheduler.
        failure, progress: why it failed or was stopped; the stage it is in, as the trial last said.
        evaluation_failures: the evaluations that were given up.
        blends: π of each finished stage, oldest poster first.
        digests: of each stage's poster file in the archive (the first 16 digits of its SHA-256).
        data: digest of the data set; versions: of the software.
    """

    sweep: str
    name: str
    run_id: str
    status: str
    stages_done: int
    num_stages: int
    failure: str
    progress: ProgressRecord | None
    evaluation_failures: list[schema.FailedEvaluation]
    config: dict[str, Any]
    blends: dict[int, list[float]]
    digests: dict[int, str]
    data: str
    versions: dict[str, str]


def trials(chosen: Chosen) -> list[TrialSummary]:
    """The chosen trials by sweep and name."""
    weights = chosen.metrics[chosen.metrics["key"].str.startswith(schema.BLEND)]
    weights = weights.sort_values(["stage", "key"])
    blends: dict[str, dict[int, list[float]]] = {}
    for run, stage, weight in zip(weights["run_id"], weights["stage"], weights["value"], strict=True):
        blends.setdefault(run, {}).setdefault(int(stage), []).append(weight)
    found = [_trial(run, blends.get(run.id, {})) for run in chosen.trials]
    return sorted(found, key=lambda trial: (trial.sweep, trial.name))


def _trial(run: StoredRun, blends: dict[int, list[float]]) -> TrialSummary:
    tags = run.tags
    sweep, name = tags[schema.KEY].split("/", 1)
    config = schema.config_values(run.params)
    digests = json.loads(tags.get(schema.POSTERS, "{}"))
    return TrialSummary(
        sweep=sweep,
        name=name,
        run_id=run.id,
        status=tags.get(schema.STATUS, "running"),
        stages_done=int(tags.get(schema.STAGES, "0/0").split("/")[0]),
        num_stages=int(config.get("num_stages", 0)),
        failure=tags.get(schema.FAILURE, tags.get(schema.STOPPED, "")),
        progress=schema.progress_of(tags),
        evaluation_failures=schema.failed_evaluations(tags),
        config=config,
        blends=blends,
        digests={int(stage): digest for stage, digest in digests.items()},
        data=tags.get(schema.DATA, ""),
        versions=json.loads(tags.get(schema.VERSIONS, "{}")),
    )


def standing(trial: TrialSummary) -> str:
    """How far a trial is: `finished`, `failed`, `stopped`, `half-finished`, or `unfinished` before its first stage."""
    if trial.status in ("finished", "failed", "stopped"):
        return trial.status
    return "half-finished" if trial.stages_done else "unfinished"


def trial_remarks(chosen: Chosen, every: list[TrialSummary]) -> list[str]:
    """A line for each sweep that is not finished, and one for each evaluation that failed, up to a few."""
    notes = []
    for sweep in dict.fromkeys(trial.sweep for trial in every):
        own = [trial for trial in every if trial.sweep == sweep]
        states: dict[str, list[str]] = {}
        for trial in own:
            states.setdefault(standing(trial), []).append(trial.name)
        finished = len(states.pop("finished", []))
        not_begun = max(0, _planned(chosen.parents.get(sweep)) - chosen.begun[sweep])
        if not_begun:
            states["not begun"] = [str(not_begun)]
        if states:
            told = "; ".join(f"{name}: {listed(trials, _SHOWN)}" for name, trials in sorted(states.items()))
            half = "" if set(states) == {"stopped"} else " is half-finished"
            notes.append(f"sweep {sweep}{half}: {finished} of {len(own) + not_begun} trials finished ({told})")
    accuracies = chosen.metrics[chosen.metrics["key"].str.startswith(schema.TEST_ACCURACY)]
    evaluated = set(accuracies["run_id"])
    bare = [t.name for t in every if t.status == "finished" and t.run_id not in evaluated]
    notes += [f"not evaluated yet: {counted(len(bare), 'finished trial')}: {listed(bare, _SHOWN)}"] if bare else []
    failed = [(trial, failure) for trial in every for failure in trial.evaluation_failures]
    lines = [f"evaluation failed: {trial.name} stage {failure}" for trial, failure in failed]
    rest = len(lines) - _SHOWN
    return [*notes, *lines[:_SHOWN], *([f"… and {rest} more failed evaluations"] if rest > 0 else [])]


def _planned(parent: StoredRun | None) -> int:
    return int(parent.tags.get(schema.TRIALS, "0/0").split("/")[1]) if parent else 0


def posters(chosen: Chosen, wanted: list[TrialSummary]) -> dict[str, dict[int, bytes]]:
    """The rendered posters (PNG) of these trials, by run and stage, out of the store's artifacts."""
    here = {run.id: local_artifacts(run) for run in chosen.trials}
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(8) as pool:

        def fetch(trial: TrialSummary) -> dict[int, bytes]:
            if place_here := here.get(trial.run_id):
                return _pictures(Path(place_here, "posters"))
            place = Path(folder, trial.run_id)
            place.mkdir()
            if not chosen.store.client.list_artifacts(trial.run_id, "posters"):
                return {}
            return _pictures(Path(chosen.store.client.download_artifacts(trial.run_id, "posters", str(place))))

        return dict(zip((trial.run_id for trial in wanted), pool.map(fetch, wanted), strict=True))


def _pictures(folder: Path) -> dict[int, bytes]:
    """The posters in a folder, by stage; none where there is none."""
    if not folder.is_dir():
        return {}
    files = {int(match[1]): path for path in folder.iterdir() if (match := _STAGE.search(path.name))}
    return {stage: files[stage].read_bytes() for stage in sorted(files)}
