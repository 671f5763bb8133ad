"""The runs of a store as a sync writes them: found or created once, then added to where something is new."""

from __future__ import annotations

import contextlib
import logging
import os
import shlex
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from ppodd.errors import BadInput
from ppodd.files import Folder, atomic_write
from ppodd.words import counted
from results.tracking import mlflow_internals, schema
from results.tracking.duplicates import told_apart
from results.tracking.reading import Run, local_artifacts, runs_of
from results.tracking.store import absolute, all_runs, artifact_folder, open_store
from results.tracking.store_file import sqlite_path

if TYPE_CHECKING:
    from mlflow.entities import Metric

_log = logging.getLogger(__name__)

_METRICS, _ENTRIES = 800, 100  # of metrics, and each of params and tags, in one batch: a server takes 1000 in all


@dataclass
class Additions:
    """What a sync adds to a run, sent as one batch.

    Attributes:
        status: running, finished, failed or stopped; nothing where it stays.
        ended_ms: when, of one that is not running.
    """

    metrics: list[Metric] = field(default_factory=list)
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
        self.uri = absolute(tracking_uri)
        self.client = open_store(self.uri)
        self.created = 0  # runs, so far
        self._artifacts = artifact_folder(self.uri, archive_url)
        self._experiments: dict[str, str] = {}
        self._tags: dict[str, dict[str, str]] = {}  # of experiments, by sweep
        self._runs: dict[str, Run] = {}
        self._empty: set[str] = set()  # runs made here, to which nothing was added yet
        self._tidied: set[Path] = set()  # folders of pictures, in which nothing half-written is left

    @property
    def sweeps(self) -> list[str]:
        """Those whose runs are known."""
        return list(self._experiments)

    def forget(self, sweep: str) -> None:
        """Ask the store again what it holds of a sweep: something sent to it may not have arrived."""
        self._experiments.pop(sweep, None)
        self._runs = {key: run for key, run in self._runs.items() if key.split("/")[0] != sweep}

    def run(self, sweep: str, key: str, tags: dict[str, str], start_ms: Callable[[], int | None]) -> Run:
        """The sweep's run of this key, created with these tags and this start if need be.

        Raises:
            BadInput: the sweep's experiment was deleted.
        """
        experiment = self.experiment(sweep)
        if key not in self._runs:
            tags = {schema.KEY: key, schema.SCHEMA_TAG: schema.SCHEMA, **tags}
            self._runs[key] = self._create(experiment, tags, start_ms())
            self.created += 1
            self._empty.add(self._runs[key].id)
            if sqlite_path(self.uri) is None:  # another sync may have created one in the same moment
                found = all_runs(self.client, [experiment], f"tags.`{schema.KEY}` = '{key}'")
                self._runs |= self._merged(sweep, map(Run.of, found))
        return self._runs[key]

    def _create(self, experiment: str, tags: dict[str, str], start_ms: int | None) -> Run:
        start_ms = start_ms or round(1000 * time.time())
        with contextlib.suppress(mlflow_internals.Unavailable):
            run, artifacts = mlflow_internals.create(self.client, experiment, tags, start_ms)
            return Run(run, experiment, dict(tags), {}, "RUNNING", artifacts)
        return Run.of(self.client.create_run(experiment, start_time=start_ms, tags=tags))

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

    def add(self, run: Run, new: Additions) -> None:
        """Set the status; log params, metrics, then the tags that are not known to be so, in one request if they fit.

        MLflow writes a batch in this order, so that `schema.LOGGED` never says more than is there.
        """
        from mlflow.entities import Param, RunTag

        tags = {name: value for name, value in new.tags.items() if run.tags.get(name) != value}
        if run.id in self._empty:
            self._empty.remove(run.id)
            if self._fill(run, new, tags):
                return
        if new.status:
            self._set_status(run, new.status, new.ended_ms)
        metrics, params = new.metrics, [Param(name, value) for name, value in new.params.items()]
        while len(metrics) > _METRICS or len(params) > _ENTRIES:
            self.client.log_batch(run.id, metrics=metrics[:_METRICS], params=params[:_ENTRIES])
            metrics, params = metrics[_METRICS:], params[_ENTRIES:]
        if metrics or params or tags:
            entries = [RunTag(name, value) for name, value in tags.items()]
            self.client.log_batch(run.id, metrics=metrics, params=params, tags=entries)
        run.tags |= tags
        run.params |= new.params

    def _fill(self, run: Run, new: Additions, tags: dict[str, str]) -> bool:
        """Give a run that holds nothing yet all of it at once, which is far quicker; whether the store offers that."""
        if tags.keys() & run.tags.keys():
            return False
        known = _status(new.status) if new.status else run.status
        ended = known not in ("RUNNING", run.status)
        contents = mlflow_internals.Contents(
            [(metric.key, metric.value, metric.timestamp, metric.step) for metric in new.metrics],
            new.params,
            tags,
            known if ended else None,
            new.ended_ms or round(1000 * time.time()),
        )
        try:
            mlflow_internals.fill(self.client, run.id, contents)
        except mlflow_internals.Unavailable as why:
            _log.debug("runs are filled by MLflow's own calls: %s", why)
            return False
        run.status = known
        run.tags |= tags
        run.params |= new.params
        return True

    def remove_tags(self, run: Run, names: Iterable[str]) -> None:
        """Delete those of the tags that the run has."""
        for name in names:
            if name in run.tags:
                self.client.delete_tag(run.id, name)
                del run.tags[name]

    def _set_status(self, run: Run, status: str, ended_ms: int) -> None:
        """As MLflow's own status says it; the tag that says it is added after."""
        known = _status(status)
        if run.status == known and run.tags.get(schema.STATUS, status) == status:
            return
        if status == "running":
            self.client.update_run(run.id, status=known)
        else:
            self.client.set_terminated(run.id, known, ended_ms or None)
        run.status = known

    def pictures(self, run: Run) -> set[str]:
        """The posters that the run shows, by their paths; seen without asking MLflow where they are on this machine."""
        if folder := local_artifacts(run):
            with contextlib.suppress(FileNotFoundError):
                return {f"posters/{name}" for name in os.listdir(f"{folder}/posters") if name.endswith(".png")}
            return set()
        return {found.path for found in self.client.list_artifacts(run.id, "posters")}

    def add_picture(self, run: Run, path: str, png: bytes) -> None:
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
            found = self.client.get_experiment_by_name(sweep)
            if found and found.lifecycle_stage != "active":
                restore = f"mlflow experiments restore -x {found.experiment_id}"
                raise BadInput(
                    f"experiment {sweep!r} was deleted in {self.uri}: bring it back with "
                    f"`MLFLOW_TRACKING_URI={shlex.quote(self.uri)} {restore}`, or name another --tracking-uri"
                )
            location = f"{self._artifacts}/{sweep}" if self._artifacts else None
            known = found.experiment_id if found else self.client.create_experiment(sweep, artifact_location=location)
            self._runs |= self._merged(sweep, runs_of(self.client, [known]) if found else [])
            self._experiments[sweep], self._tags[sweep] = known, dict(found.tags) if found else {}
            if schema.NOTE not in self._tags[sweep]:
                self.describe(sweep, {schema.NOTE: schema.EXPERIMENT_NOTE, schema.KIND: schema.TRAINING})
        return self._experiments[sweep]

    def _merged(self, sweep: str, runs: Iterable[Run]) -> dict[str, Run]:
        """The runs by key. Of those that stand for one trial twice, one is kept and the others are deleted."""
        kept, besides = told_apart(runs)
        for run in besides:
            self.client.delete_run(run.id)
            kept[run.tags[schema.KEY]].tags.pop(schema.LOGGED, None)  # it gets what only the other one had
        if besides:
            _log.warning("%s: %s that stood twice in sweep %s merged", self.uri, counted(len(besides), "run"), sweep)
        return kept


def _status(status: str) -> str:
    """MLflow's word for it."""
    return "KILLED" if status == "stopped" else status.upper()
