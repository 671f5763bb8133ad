"""Running a sweep: Ray Tune over its trials, evaluators beside them, the archive as the record of both.

A resumed sweep is a new Tuner over the trials that the archive says are unfinished: Tune's own snapshot can lag behind
the archive, and a trial that was interrupted looks finished to it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from cluster import evaluators
from cluster.ray_runtime import connect
from ppodd.archive import Archive
from ppodd.config import CIRCUMSTANCES
from ppodd.datasets.readers import find
from ppodd.errors import BadInput
from ppodd.work import protocols
from results.store import open_store
from results.sync import sync
from tune.placement import nodes, placement
from tune.sweep_file import Sweep

_SHOW_EVERY_S = 1.0


@dataclass(frozen=True)
class Progress:
    """How far a sweep is, read from its archive."""

    trials: int
    trials_done: int
    stages: int
    stages_done: int
    evaluations: int
    evaluations_done: int
    seconds: float


@dataclass(frozen=True)
class Outcome:
    """What came of a sweep: trials with stages missing, why trials and evaluations failed (a line each)."""

    unfinished: list[str]
    failures: dict[str, str] = field(default_factory=dict)
    evaluation_failures: dict[str, str] = field(default_factory=dict)

    @property
    def complete(self) -> bool:
        return not self.unfinished and not self.evaluation_failures


def check_claim(sweep: Sweep, archive: Archive, resume: bool) -> None:
    """Find `sweep.json` absent, or the same when resuming.

    Raises:
        BadInput: the archive holds another sweep of this name, or this one and `resume` is off.
    """
    record, held = sweep.record(), archive.sweep(sweep.name)
    if held is None:
        return
    record, held = _contents(record), _contents(held)
    if changed := sorted(key for key in record if held.get(key) != record[key]):
        raise BadInput(
            f"{archive.url} holds another sweep {sweep.name!r} (its {', '.join(changed)} differ): "
            f"give this one another name, or another --archive"
        )
    if not resume:
        raise BadInput(
            f"{archive.url} already holds sweep {sweep.name!r}: finish it with --resume, or give this one another name"
        )


def _contents(record: dict[str, Any]) -> dict[str, Any]:
    """A sweep's record without where and how it is carried out."""
    trials = {
        trial["name"]: {k: v for k, v in trial["config"].items() if k not in CIRCUMSTANCES}
        for trial in record["trials"]
    }
    return {**record, "trials": trials, "evaluation": None}  # evaluations are added to those it has


def check_data(sweep: Sweep) -> None:
    """Raise `BadInput` where a trial's data set is not on this machine (and fetch it once, where that is possible)."""
    for dataset, root, size in {(c.dataset, c.root, c.image_size) for c in sweep.trials.values()}:
        find(dataset, root, size)


def run_sweep(
    sweep: Sweep,
    archive_url: str,
    tracking_uri: str,
    *,
    resume: bool = False,
    ray_address: str | None = None,
    show: Callable[[Progress], None] | None = None,
    say: Callable[[str], None] | None = None,
) -> Outcome:
    """Run every unfinished trial and evaluate every stage.

    On a Ray of this process it waits for the evaluators; on a cluster they go on by themselves.

    Raises:
        BadInput: the archive holds another sweep, the data is not there, no cluster answers, or it lacks the resources
            asked for; the archive is not touched then.
    """
    archive = Archive(archive_url)
    check_claim(sweep, archive, resume)
    if ray_address is None:
        check_data(sweep)
    started = time.time()
    in_process = connect(ray_address)
    place = placement(sweep.file, nodes())
    if place.notice and say:
        say(place.notice)
    open_store(tracking_uri)  # made here, before several processes could try to
    # the archive is not touched before all of this holds
    if archive.sweep(sweep.name) is None:
        archive.write_sweep(sweep.name, {**sweep.record(), "created_at": started})
    for evaluation in sweep.evaluations:
        archive.add_evaluation(sweep.name, evaluation)
    archive.clear_evaluation_failures(sweep.name)
    coordinator = evaluators.start(archive.url, sweep.name, tracking_uri, place.pool, place.beside)
    with _Watch(lambda: progress(sweep, archive, started), show):
        interrupted = _tune(sweep, archive, place.at_once)
        status: dict[str, Any] = {}
        if in_process and not interrupted:
            status = evaluators.wait(coordinator)
    outcome = Outcome(unfinished(sweep, archive), failures(sweep, archive), status.get("failed", {}))
    if in_process:
        import ray

        evaluators.stop()
        ray.shutdown()
        sync(archive.url, tracking_uri, [sweep.name])
    if interrupted:
        raise KeyboardInterrupt
    return outcome


def unfinished(sweep: Sweep, archive: Archive) -> list[str]:
    """Trials with stages missing from the archive."""
    return [n for n, c in sweep.trials.items() if len(archive.trial(sweep.name, n).stages()) < c.num_stages]


def failures(sweep: Sweep, archive: Archive) -> dict[str, str]:
    """Why trials failed, as their archive says."""
    found = {name: archive.trial(sweep.name, name).failure() for name in unfinished(sweep, archive)}
    return {name: failure["error"] for name, failure in found.items() if failure}


def progress(sweep: Sweep, archive: Archive, started: float) -> Progress:
    """Count what the archive holds of the sweep."""
    done = evaluated = complete = 0
    per_stage = 0
    for name, config in sweep.trials.items():
        trial = archive.trial(sweep.name, name)
        stages = trial.stages()
        done += len(stages)
        complete += len(stages) >= config.num_stages
        evaluated += sum(len((trial.folder / f"stage-{s:02d}/evaluations").names()) for s in stages)
        per_stage = len(protocols(sweep.evaluations, config))
    stages_in_all = sum(config.num_stages for config in sweep.trials.values())
    return Progress(
        len(sweep.trials), complete, stages_in_all, done, stages_in_all * per_stage, evaluated, time.time() - started
    )


def _tune(sweep: Sweep, archive: Archive, at_once: int | None) -> bool:
    """Run the unfinished trials; whether the user interrupted them."""
    import ray
    from ray import tune

    from tune.trial import trial

    jobs = [
        {
            "url": archive.trial(sweep.name, name).url,
            "config": sweep.trials[name].model_dump(mode="json"),
            "cpus": sweep.file.resources.cpus,
            "gpus": sweep.file.resources.gpus,
            "stage_accuracy": sweep.file.stage_accuracy,
        }
        for name in unfinished(sweep, archive)
    ]
    if not jobs:
        return False
    limits = [limit for limit in (at_once, sweep.file.max_concurrent) if limit]
    at_most = min(limits) if limits else None
    resources = {"cpu": sweep.file.resources.cpus, "gpu": sweep.file.resources.gpus}
    folder = archive.folder / sweep.name
    storage_path = f"{folder.url}/.tune" if "://" not in folder.url else None
    tuner = tune.Tuner(
        tune.with_resources(trial, resources),
        param_space={"trial": tune.grid_search(jobs)},
        tune_config=tune.TuneConfig(max_concurrent_trials=at_most, reuse_actors=True),
        run_config=tune.RunConfig(
            name=time.strftime("%Y%m%d-%H%M%S"),
            verbose=0,
            checkpoint_config=tune.CheckpointConfig(num_to_keep=1),
            storage_path=storage_path,
        ),
    )
    grid = tuner.fit()
    # an interrupted Tuner returns as if its trials were done
    stopped = [name for name in unfinished(sweep, archive) if not archive.trial(sweep.name, name).failure()]
    return bool(stopped) and not grid.errors and ray.is_initialized()


class _Watch:
    """Shows progress once a second from a thread of its own while the block runs."""

    def __init__(self, read: Callable[[], Progress], show: Callable[[Progress], None] | None):
        self._read, self._show = read, show
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._loop, daemon=True)

    def __enter__(self) -> None:
        if self._show:
            self._thread.start()

    def __exit__(self, *exception: object) -> None:
        self._over.set()
        if self._show:
            self._thread.join()
            self._show(self._read())

    def _loop(self) -> None:
        assert self._show
        while not self._over.wait(_SHOW_EVERY_S):
            self._show(self._read())
