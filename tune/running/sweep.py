"""Running a sweep: Ray Tune over its trials, evaluators beside them, the archive as the record of both.

A resumed sweep is a new Tuner over the trials that the archive says are unfinished: Tune's own snapshot can lag behind
the archive, and a trial that was interrupted looks finished to it.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from ray import tune

from cluster.dispatch import Backlog
from cluster.jobs import JOB
from cluster.service import answer, check_archive, connect, watched
from cluster.service import client as evaluators
from ppodd import signals
from ppodd.archive import DRIVER, Archive, FailureRecord, StartRecord, Status, TrialArchive, mended
from ppodd.distillation import advice
from ppodd.errors import PpoddError, StorageError, one_line, under_way
from ppodd.files import is_remote, only_writer, own_temporary_folder, storage_errors
from ppodd.words import counted
from results.reporting import publish
from results.tracking import open_store, sync
from tune.running.claim import check_claim, is_news, write_claim
from tune.running.data import DataOfTrials, check_data, check_own, record_first
from tune.running.job import job_of, names_in
from tune.running.known_trials import KnownTrials
from tune.running.limits import SweepClock, take_up, used_up
from tune.running.node_placement import Placement, nodes, placement, starving
from tune.running.progress import ProgressReader, SweepProgress
from tune.running.search import ArchivedSearch
from tune.running.standing import failures, limited, standing, stopped, unfinished
from tune.running.start_checks import check_start
from tune.running.stopping import NO_STORAGE, graceful_stop
from tune.running.tune_defaults import SilentReporter, keep_credentials, many_pending
from tune.sweep_file import Sweep, groups

_log = logging.getLogger(__name__)
_SHOW_EVERY_S = 1.0
_PLACE_S = 120.0  # to find a place for the first trial, before that is said
_SHARE = 0.2  # of the time goes into looking how far it is
_GO_ON = "the same command with --resume goes on from the last checkpoint"
_LOSSES = 3  # of its process or node, after which a trial is given up; it resumes from its last checkpoint


@dataclass(frozen=True)
class Outcome:
    """The outcome of a sweep: trials with stages missing, why trials and evaluations failed (a line each).

    Attributes:
        stopped: why a scheduler or a limit ended trials early; these are not unfinished.
        limited: those of them that a limit ended: they resume with more of it.
        untried: settings left unsuggested because the space was exhausted.
        open_evaluations: left to a cluster's evaluators.
        hours_over: whether the sweep's hours are used up: what is unfinished waits for more of them.
    """

    unfinished: list[str]
    failures: dict[str, str] = field(default_factory=dict)
    stopped: dict[str, str] = field(default_factory=dict)
    limited: list[str] = field(default_factory=list)
    untried: int = 0
    evaluation_failures: dict[str, str] = field(default_factory=dict)
    open_evaluations: int = 0
    hours_over: bool = False

    @property
    def complete(self) -> bool:
        """Whether all that was wanted is there, but for what a cluster's evaluators still do."""
        return not self.unfinished and not self.limited and not self.evaluation_failures


def run_sweep(
    sweep: Sweep,
    archive_url: str,
    tracking_uri: str,
    *,
    resume: bool = False,
    ray_address: str | None = None,
    wait: bool = False,
    autoscaling: bool = False,
    show: Callable[[SweepProgress], None] | None = None,
    say: Callable[[str], None] | None = None,
) -> Outcome:
    """Run every unfinished trial and evaluate every stage.

    On a Ray of this process it waits for the evaluators; on a cluster they go on by themselves, unless it is to `wait`.
    Where the cluster is `autoscaling`, what its nodes have now limits nothing.

    Raises:
        BadInput: the archive holds another sweep, or another driver runs it, the data is not there, no cluster answers,
            its nodes do not see the archive, or it lacks the resources asked for; the archive holds nothing new then.
    """
    archive = Archive(archive_url)
    check_start(sweep, archive, tracking_uri, resume)
    if ray_address is None:
        check_data(sweep, archive, say)
    else:
        check_own(sweep)
    in_process = connect(ray_address)
    if not in_process:
        check_archive(archive.url)
    place = placement(sweep.file, nodes(), autoscaling)
    if place.notice and say:
        say(place.notice)
    open_store(tracking_uri)  # made here, before several processes could try to
    # the archive is not touched before all of this holds
    busy = f"sweep {sweep.name!r} in {archive.url} is being run by another driver"
    with only_writer(archive.folder / sweep.name, DRIVER, busy, "go on with --resume", say):
        held = check_claim(sweep, archive, resume)  # another may have come and gone since
        (archive.folder / sweep.name).remove_temporaries()
        if held:
            sweep.adopt(held)
            record_first(sweep, archive)
        for line in mended(archive, sweep.name, held) if held else ():
            (say or _log.warning)(line)
        take_up(sweep, archive, standing(sweep, archive, Status.STOPPED))
        if not held or is_news(sweep, held):
            write_claim(sweep, archive)
        if held and say and (added := len(sweep.trials) - len(held.trials)):
            say(f"{counted(added, 'trial')} more than the {len(held.trials)} that the archive lists")
        with under_way():
            return _run(sweep, archive, tracking_uri, place, in_process, wait, show, say)


def _run(
    sweep: Sweep,
    archive: Archive,
    tracking_uri: str,
    place: Placement,
    in_process: bool,
    wait: bool,
    show: Callable[[SweepProgress], None] | None,
    say: Callable[[str], None] | None,
) -> Outcome:
    """Run a sweep that the archive holds, on the Ray that this process has joined."""
    import ray

    for evaluation in sweep.evaluations:
        archive.add_evaluation(sweep.name, evaluation)
    archive.clear_evaluation_failures(sweep.name)
    served = archive.url, sweep.name
    with watched(_GO_ON):
        coordinator = evaluators.start(*served, tracking_uri, place.pool, place.beside)
        _log.info("begins: %s, MLflow %s", place, tracking_uri, extra={"sweep": sweep.name})
        if job := os.environ.get(JOB):
            archive.write_start(sweep.name, StartRecord(job=job, started_at=time.time()))
        read = ProgressReader(sweep, archive, evaluators.EvaluatorsNow(coordinator))
        looks = [lambda: show(read())] if show else []
        if say and not in_process:  # where this process did not read the data itself
            looks.append(DataOfTrials(sweep, archive, say).say_new)
        with _Watched(looks):
            interrupted = _tune(sweep, archive, place.at_once, say)
            given_up: dict[str, str] = {}  # also what the archive could not take a record of
            if (in_process or wait) and not interrupted:
                status = evaluators.wait(coordinator, served)
                given_up = {k: why for one in evaluators.sweeps_in(status, served) for k, why in one["failed"].items()}
        if in_process:
            evaluators.stop()
    snapshot = Backlog(*served).look()
    outcome = Outcome(
        unfinished(sweep, archive),
        failures(sweep, archive),
        stopped(sweep, archive),
        limited(sweep, archive),
        sweep.wanted - len(sweep.trials),
        {**snapshot.given_up, **snapshot.unreadable, **given_up},
        sum(work.key not in given_up for work in snapshot.open),
        used_up(sweep, archive),
    )
    if in_process:
        ray.shutdown()
    if interrupted:
        raise KeyboardInterrupt  # MLflow is brought up to date on resume
    try:
        if in_process:
            lag = "; ".join(sync(archive.url, tracking_uri, [sweep.name], publish).problems)
        else:
            # what is shown next is read from MLflow
            lag = answer(coordinator.sync.remote(every=True, only=served))
        if lag and say:
            say(f"MLflow does not show all of it: {lag}")
    except (PpoddError, ray.exceptions.RayError) as error:
        if say:
            say(f"MLflow lags: {one_line(error)}; `ppodd results sync` brings it up to date")
    return outcome


def _tune(sweep: Sweep, archive: Archive, at_once: int | None = None, say: Callable[[str], None] | None = None) -> bool:
    """Run the unfinished trials, and those that a search comes up with; whether the user interrupted them."""
    import ray

    from tune.running.trial import trial

    file = sweep.file
    at_once = min((limit for limit in (at_once, file.max_concurrent) if limit), default=None)
    plan = _plan(sweep, archive, at_once)
    if plan.trials.done:
        return False
    folder = archive.folder / sweep.name
    storage_path = str(own_temporary_folder() / "tune") if is_remote(folder.url) else f"{folder.url}/.tune"
    told = _TuneReporter(say or (lambda line: None), lambda: starving(file.resources))
    if not _log.isEnabledFor(logging.DEBUG):
        logging.getLogger("ray.tune").setLevel(logging.CRITICAL)  # its traces: the archive has them, `told` says a line
    resources = {"cpu": file.resources.cpus, "gpu": file.resources.gpus, **file.resources.others}
    how = tune.TuneConfig(
        search_alg=plan.trials,
        scheduler=plan.scheduler,
        num_samples=-1,  # until it has no more
        max_concurrent_trials=at_once,
        reuse_actors=True,
    )
    keep_credentials()
    waiting = contextlib.nullcontext() if file.search else many_pending(ray.cluster_resources().get("CPU", 0.0))
    with (
        waiting,
        storage_errors("write", storage_path),
        told,
        graceful_stop() as notice,
        SweepClock(sweep, archive, notice.give.remote) as clock,
    ):
        where = tune.RunConfig(
            name=time.strftime("%Y%m%d-%H%M%S"),
            verbose=0,
            checkpoint_config=tune.CheckpointConfig(num_to_keep=1),
            failure_config=tune.FailureConfig(max_failures=_LOSSES),
            storage_path=storage_path,
            callbacks=[SilentReporter(), told, clock],
            stop=clock,
        )
        trainable = tune.with_resources(tune.with_parameters(trial, notice=notice), resources)
        grid = tune.Tuner(trainable, tune_config=how, run_config=where).fit()
    for result in (grid[number] for number in range(len(grid))):
        if result.error and result.config:
            for name in names_in(result.config):
                _record_failure(sweep, archive, name, result.error)
    # an interrupted Tuner returns as if its trials were done
    open_ = standing(sweep, archive, Status.GOING)
    left = bool(open_) or not plan.trials.done
    return signals.came().is_set() or (left and not clock.over and ray.is_initialized())


class _TuneReporter(tune.Callback):
    """Says, a line each, what Tune tells in tracebacks: trials that begin again, and once that none has found a place.

    Raises `StorageError` where the archive takes no records any more, which ends the Tuner.
    """

    def __init__(self, say: Callable[[str], None], starving: Callable[[], str]):
        self._say = say
        self._late = threading.Timer(_PLACE_S, lambda: say(starving()))
        self._late.daemon = True

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Tune pickles its settings, and we never read them

    def on_trial_start(self, *_: Any, **__: Any) -> None:
        self._late.cancel()

    def on_trial_result(self, iteration: int, trials: Any, trial: Any, result: dict[str, Any], **_: Any) -> None:
        if NO_STORAGE in result:
            raise StorageError(result[NO_STORAGE])

    def on_trial_recover(self, iteration: int, trials: Any, trial: Any, **_: Any) -> None:
        names = ", ".join(names_in(trial.config))
        self._say(
            f"{names} lost its process, node or device (loss {trial.num_failures}; {_LOSSES} are ridden out): it "
            f"goes on from its last checkpoint"
        )

    def __enter__(self) -> None:
        self._late.start()

    def __exit__(self, *exception: object) -> None:
        self._late.cancel()


class _RunPlan(NamedTuple):
    """What Tune runs: trials that are known, or those of a search; and what stops some early.

    A trial of Tune's is one of the sweep's, or several in lockstep.
    """

    trials: KnownTrials | ArchivedSearch
    scheduler: Any


def _plan(sweep: Sweep, archive: Archive, at_once: int | None) -> _RunPlan:
    scheduler = None
    if sweep.file.scheduler:
        from tune.running.scheduler import StageScheduler

        scheduler = StageScheduler(sweep, archive)  # may stop what an earlier driver had no time to stop

    job = functools.partial(job_of, sweep, archive)
    left = unfinished(sweep, archive)
    if not sweep.file.search:
        going = set(left)
        together = ([name for name in group if name in going] for group in groups(sweep.file, sweep.trials, at_once))
        return _RunPlan(KnownTrials(filter(None, together), job), scheduler)
    return _RunPlan(ArchivedSearch(sweep, archive, job, left), scheduler)


def _record_failure(sweep: Sweep, archive: Archive, name: str, error: Exception) -> None:
    """Archive why a trial failed, where its process had no time to: it was killed, or its machine was lost."""
    from ray.exceptions import OutOfMemoryError

    trial = archive.trial(sweep.name, name)
    if trial.state().status(sweep.trials[name].num_stages) is Status.GOING:
        record = FailureRecord.of(error)
        if isinstance(error, OutOfMemoryError):
            record = record.model_copy(update={"error": f"{record.error}: {advice(sweep.trials[name])}"})
        trial.write_failure(record.model_copy(update=_last_seen(trial)))


def _last_seen(trial: TrialArchive) -> dict[str, Any]:
    """Node, process and log of a trial, as its progress told them while it ran; nothing where it did not get so far."""
    now = trial.progress()
    return {field: getattr(now, field, None) for field in ("node", "pid", "log_file")}


class _Watched:
    """Looks at the sweep once a second from a thread of its own while the block runs, and once at its end."""

    def __init__(self, looks: Sequence[Callable[[], None]]):
        self._looks = looks
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._loop, daemon=True)

    def __enter__(self) -> None:
        if self._looks:
            self._thread.start()

    def __exit__(self, *exception: object) -> None:
        self._over.set()
        if self._looks:
            self._thread.join()
            self._look()

    def _loop(self) -> None:
        took = 0.0
        while not self._over.wait(max(_SHOW_EVERY_S, took / _SHARE)):
            took = self._look()

    def _look(self) -> float:
        """Look once; how many seconds that took. It only informs: an archive that is away ends nothing."""
        started = time.monotonic()
        for look in self._looks:
            with contextlib.suppress(Exception):
                look()
        return time.monotonic() - started
