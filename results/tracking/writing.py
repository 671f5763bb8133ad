"""The runs of a store as a sync writes them: found or created once, then added to where something is new."""

from __future__ import annotations

import contextlib
import logging
import os
import shlex
import tempfile
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from ppodd.errors import BadInput
from ppodd.files import Folder, atomic_write
from ppodd.words import counted
from results.tracking import mlflow_internals, schema
from results.tracking.duplicates import told_apart
from results.tracking.mlflow_internals import Contents, NewRun
from results.tracking.reading import StoredRun, local_artifacts, runs_of
from results.tracking.store import Store, all_runs, artifact_folder
from results.tracking.store_file import sqlite_path

if TYPE_CHECKING:
    from mlflow import MlflowClient

_log = logging.getLogger(__name__)

_METRICS, _ENTRIES = 800, 100  # of metrics, and each of params and tags, in one batch: a server takes 1000 in all


@dataclass
class Additions:
    """What a sync adds to a run, sent as one batch.

    Attributes:
        metrics: name, value, time in ms and step.
        status: running, finished, failed or stopped; nothing where it stays.
        ended_ms: when, of one that is not running.
    """

    metrics: list[tuple[str, float, int, int]] = field(default_factory=list)
    tags: dict[str, str] = field(default_factory=dict)
    params: dict[str, str] = field(default_factory=dict)
    status: str = ""
    ended_ms: int = 0


class RunWriter:
    """Writes the runs of sweeps to one store, and knows what each of them holds."""

    def __init__(self, tracking_uri: str, archive_url: str):
        """Artifacts go to where `artifact_folder` says for this archive.

        Raises:
            BadInput: the store cannot be opened.
        """
        self.store = Store(tracking_uri)
        self.uri = self.store.uri
        self.created = 0  # runs, so far
        self._artifacts = artifact_folder(self.uri, archive_url)
        self._experiments: dict[str, str] = {}
        self._tags: dict[str, dict[str, str]] = {}  # of experiments, by sweep
        self._runs: dict[str, StoredRun] = {}
        self._empty: set[str] = set()  # runs made here, to which nothing was added yet
        self._waiting: list[tuple[StoredRun, Additions]] = []  # what is to be added to them
        self._tidied: set[Path] = set()  # folders of pictures, in which nothing half-written is left

    @property
    def client(self) -> MlflowClient:
        """MLflow's own client of the store, opened when something is to be written."""
        return self.store.client

    def open(self) -> None:
        """See that the store can be written. Raises as `open_store`."""
        self.store.open()

    @property
    def sweeps(self) -> list[str]:
        """Those whose runs are known."""
        return list(self._experiments)

    def forget(self, sweep: str) -> None:
        """Ask the store again what it holds of a sweep: something sent to it may not have arrived."""
        self._experiments.pop(sweep, None)
        self._waiting.clear()
        self._runs = {key: run for key, run in self._runs.items() if key.split("/")[0] != sweep}

    def known(self, sweep: str, key: str) -> StoredRun | None:
        """The sweep's run of this key, if there is one. Raises as `make`."""
        self.experiment(sweep)
        return self._runs.get(key)

    def make(self, sweep: str, new: dict[str, NewRun]) -> None:
        """Make runs that are not there, by their keys.

        Raises:
            BadInput: the sweep's experiment was deleted.
        """
        if not new:
            return
        experiment = self.experiment(sweep)
        marks = {schema.SCHEMA_TAG: schema.SCHEMA}
        wanted = [NewRun({schema.KEY: key, **marks, **run.tags}, run.start_ms) for key, run in new.items()]
        made = self._create(experiment, wanted)
        self._runs |= zip(new, made, strict=True)
        self.created += len(made)
        self._empty |= {run.id for run in made}
        if sqlite_path(self.uri) is None:  # another sync may have created them in the same moment
            for key in new:
                found = all_runs(self.client, [experiment], f"tags.`{schema.KEY}` = '{key}'")
                self._runs |= self._merged(sweep, map(StoredRun.of, found))

    def _create(self, experiment: str, new: list[NewRun]) -> list[StoredRun]:
        with contextlib.suppress(mlflow_internals.Unavailable):
            made = mlflow_internals.create(self.client, experiment, new)
            of_new = zip(made, new, strict=True)
            return [
                StoredRun(run, experiment, dict(of.tags), {}, "RUNNING", artifacts) for (run, artifacts), of in of_new
            ]
        return [StoredRun.of(self.client.create_run(experiment, start_time=of.start_ms, tags=of.tags)) for of in new]

    def describe(self, sweep: str, tags: dict[str, str]) -> None:
        """Have the sweep's experiment carry these tags."""
        experiment = self.experiment(sweep)
        for name, value in tags.items():
            if self._tags[sweep].get(name) != value:
                self.client.set_experiment_tag(experiment, name, value)
                self._tags[sweep][name] = value

    def experiment_tags(self, sweep: str) -> dict[str, str]:
        """What the sweep's experiment carries."""
        self.experiment(sweep)
        return dict(self._tags[sweep])

    def add(self, run: StoredRun, new: Additions) -> None:
        """Set the status; log params, metrics, then the tags that are not known to be so.

        What is for a run that holds nothing yet waits for `flush`.
        """
        if run.id in self._empty:
            self._empty.remove(run.id)
            self._waiting.append((run, new))
        else:
            self._send(run, new)

    def flush(self) -> None:
        """Give runs that hold nothing yet all that waits for them at once, which is far quicker than run by run."""
        waiting, self._waiting = self._waiting, []
        if not waiting:
            return
        try:
            mlflow_internals.fill(self.client, [_contents(run, new) for run, new in waiting])
        except mlflow_internals.Unavailable as why:
            _log.debug("runs are filled by MLflow's own calls: %s", why)
            for run, new in waiting:
                self._send(run, new)
            return
        for run, new in waiting:
            run.status = _status_then(run, new)
            run.tags |= new.tags
            run.params |= new.params

    def _send(self, run: StoredRun, new: Additions) -> None:
        """In one request if it fits.

        MLflow writes a batch in the order params, metrics, tags, so that `schema.LOGGED` never says more than is there.
        """
        tags = _changed_tags(run, new)
        if new.status:
            self._set_status(run, new.status, new.ended_ms)
        if new.metrics or new.params or tags:
            self._log(run, new, tags)
        run.tags |= tags
        run.params |= new.params

    def _log(self, run: StoredRun, new: Additions, tags: dict[str, str]) -> None:
        from mlflow.entities import Metric, Param, RunTag

        metrics = [Metric(*values) for values in new.metrics]
        params = [Param(name, value) for name, value in new.params.items()]
        while len(metrics) > _METRICS or len(params) > _ENTRIES:
            self.client.log_batch(run.id, metrics=metrics[:_METRICS], params=params[:_ENTRIES])
            metrics, params = metrics[_METRICS:], params[_ENTRIES:]
        entries = [RunTag(name, value) for name, value in tags.items()]
        self.client.log_batch(run.id, metrics=metrics, params=params, tags=entries)

    def remove_tags(self, run: StoredRun, names: Iterable[str]) -> None:
        """Delete those of the tags that the run has."""
        for name in names:
            if name in run.tags:
                self.client.delete_tag(run.id, name)
                del run.tags[name]

    def _set_status(self, run: StoredRun, status: str, ended_ms: int) -> None:
        """As MLflow's own status says it; the tag that says it is added after."""
        known = _status(status)
        if run.status == known and run.tags.get(schema.STATUS, status) == status:
            return
        if status == "running":
            self.client.update_run(run.id, status=known)
        else:
            self.client.set_terminated(run.id, known, ended_ms or None)
        run.status = known

    def pictures(self, run: StoredRun) -> set[str]:
        """The posters that the run shows, by their paths; seen without asking MLflow where they are on this machine."""
        if folder := local_artifacts(run):
            with contextlib.suppress(FileNotFoundError):
                return {f"posters/{name}" for name in os.listdir(f"{folder}/posters") if name.endswith(".png")}
            return set()
        return {found.path for found in self.client.list_artifacts(run.id, "posters")}

    def lacks_pictures(self, run: StoredRun, stages: int) -> bool:
        """Whether the run shows fewer posters than so many, as far as that is seen without asking MLflow."""
        return bool(local_artifacts(run)) and len(self.pictures(run)) < stages

    def add_picture(self, run: StoredRun, path: str, png: bytes) -> None:
        """Have the run show a poster at this path of its artifacts."""
        if artifacts := local_artifacts(run):
            picture = Path(artifacts, path)
            atomic_write(picture, png)
            if picture.parent not in self._tidied:  # a sync that was killed at a picture of this run writes it again
                Folder(picture.parent).remove_temporaries()
                self._tidied.add(picture.parent)
            return
        folder, name = path.split("/")
        with tempfile.TemporaryDirectory() as here:
            Path(here, name).write_bytes(png)
            self.client.log_artifact(run.id, str(Path(here, name)), folder)

    def experiment(self, sweep: str) -> str:
        """The id of the sweep's experiment, created if need be; its runs are read once."""
        if sweep not in self._experiments:
            found = self.store.experiment(sweep)
            if found and not found.active:
                restore = f"mlflow experiments restore -x {found.id}"
                raise BadInput(
                    f"experiment {sweep!r} was deleted in {self.uri}: bring it back with "
                    f"`MLFLOW_TRACKING_URI={shlex.quote(self.uri)} {restore}`, or name another --tracking-uri"
                )
            location = f"{self._artifacts}/{sweep}" if self._artifacts else None
            known = found.id if found else self.client.create_experiment(sweep, artifact_location=location)
            self._runs |= self._merged(sweep, runs_of(self.store, [known]) if found else [])
            self._experiments[sweep], self._tags[sweep] = known, dict(found.tags) if found else {}
            if schema.NOTE not in self._tags[sweep]:
                self.describe(sweep, {schema.NOTE: schema.EXPERIMENT_NOTE, schema.KIND: schema.TRAINING})
        return self._experiments[sweep]

    def _merged(self, sweep: str, runs: Iterable[StoredRun]) -> dict[str, StoredRun]:
        """The runs by key. Of those that stand for one trial twice, one is kept and the others are deleted."""
        kept, besides = told_apart(runs)
        for run in besides:
            self.client.delete_run(run.id)
            kept[run.tags[schema.KEY]].tags.pop(schema.LOGGED, None)  # it gets what only the other one had
        if besides:
            _log.warning("%s: %s that stood twice in sweep %s merged", self.uri, counted(len(besides), "run"), sweep)
        return kept


def now_ms() -> int:
    """The time, as MLflow has it."""
    return round(1000 * time.time())


def _contents(run: StoredRun, new: Additions) -> Contents:
    """All of it, for a run that has no more than the tags that it was made with."""
    known = _status_then(run, new)
    ended = known if known not in ("RUNNING", run.status) else None
    return Contents(run.id, new.metrics, new.params, _changed_tags(run, new), ended, new.ended_ms or now_ms())


def _changed_tags(run: StoredRun, new: Additions) -> dict[str, str]:
    return {name: value for name, value in new.tags.items() if run.tags.get(name) != value}


def _status_then(run: StoredRun, new: Additions) -> str:
    return _status(new.status) if new.status else run.status


def _status(status: str) -> str:
    """MLflow's word for it."""
    return "KILLED" if status == "stopped" else status.upper()
