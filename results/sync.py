"""Brings MLflow up to date with the archive. Doing it again changes nothing.

Every value is logged under the time its record was finished, so a value logged twice is one value. One process runs this
for a store: the coordinator of a sweep, or `ppodd results sync`.
"""

from __future__ import annotations

import json
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ppodd.archive import Archive, TrialArchive, stage_name
from ppodd.config import DistillConfig, EvaluationConfig, build
from ppodd.errors import PpoddError
from results import schema
from results.store import artifact_folder, open_store

if TYPE_CHECKING:
    from mlflow.entities import Metric


@dataclass
class SyncReport:
    """What a sync added, and what it could not read (one line each)."""

    stages: int = 0
    evaluations: int = 0
    problems: list[str] = field(default_factory=list)


@dataclass
class _Trial:
    """What is already logged of a trial."""

    run_id: str
    config: DistillConfig
    own: str
    stages: set[int] = field(default_factory=set)
    tickets: set[str] = field(default_factory=set)
    tags: dict[str, str] = field(default_factory=dict)


class Syncer:
    """An incremental sync of one archive to one store: what it has logged it does not read again."""

    def __init__(self, archive_url: str, tracking_uri: str):
        """Raise `BadInput` where the store cannot be opened."""
        self.archive = Archive(archive_url)
        self._client = open_store(tracking_uri)
        self._artifacts = artifact_folder(tracking_uri)
        self._experiments: dict[str, str] = {}
        self._parents: dict[str, str] = {}
        self._trials: dict[str, _Trial] = {}

    def sync(self, sweeps: list[str] | None = None) -> SyncReport:
        """Log what is new of these sweeps (default: all). A trial that cannot be read does not stop the others."""
        report = SyncReport()
        for sweep in self.archive.sweeps() if sweeps is None else sweeps:
            parent = self._parent(sweep)
            done = []
            for name in self.archive.trials(sweep):
                trial = self.archive.trial(sweep, name)
                try:
                    done.append(self._sync_trial(trial, parent, report))
                except PpoddError as error:
                    report.problems.append(str(error))
            planned = self.archive.sweep(sweep)
            expected = len(planned["trials"]) if planned else len(done)
            status = "finished" if len(done) >= expected and all(done) else "running"
            self._tag(parent, {schema.STATUS: status}, {})
        return report

    # Runs

    def _experiment(self, sweep: str) -> str:
        if sweep not in self._experiments:
            found = self._client.get_experiment_by_name(sweep)
            location = f"{self._artifacts}/{sweep}" if self._artifacts else None
            self._experiments[sweep] = (
                found.experiment_id if found else self._client.create_experiment(sweep, artifact_location=location)
            )
        return self._experiments[sweep]

    def _parent(self, sweep: str) -> str:
        if sweep not in self._parents:
            record = self.archive.sweep(sweep) or {}
            tags = {schema.RUN_NAME: sweep, schema.NOTE: record.get("description") or f"sweep {sweep}"}
            self._parents[sweep] = self._find_or_create(sweep, sweep, tags, round(1000 * record.get("created_at", 0)))
        return self._parents[sweep]

    def _find_or_create(self, sweep: str, key: str, tags: dict[str, str], start_ms: int) -> str:
        experiment = self._experiment(sweep)
        found = self._client.search_runs([experiment], f"tags.`{schema.KEY}` = '{key}'", max_results=1)
        if found:
            return found[0].info.run_id
        tags = {schema.KEY: key, schema.SCHEMA_TAG: schema.SCHEMA, **tags}
        return self._client.create_run(experiment, start_time=start_ms or None, tags=tags).info.run_id

    def _trial(self, trial: TrialArchive, parent: str) -> _Trial:
        key = f"{trial.sweep}/{trial.trial}"
        if key not in self._trials:
            config = trial.config()
            planned = self.archive.sweep(trial.sweep) or {}
            evaluation = build(EvaluationConfig, planned.get("evaluation", {}))
            tags = {schema.RUN_NAME: trial.trial, schema.PARENT: parent}
            run_id = self._find_or_create(trial.sweep, key, tags, 0)
            self._log(run_id, [], schema.params(config))
            self._trials[key] = _Trial(run_id, config, schema.own_protocol(config, evaluation))
        return self._trials[key]

    # A trial

    def _sync_trial(self, trial: TrialArchive, parent: str, report: SyncReport) -> bool:
        """Log what is new of a trial; whether all its stages are there."""
        logged = self._trial(trial, parent)
        stages = trial.stages()
        for stage in stages:
            if stage not in logged.stages:
                record = trial.stage(stage)
                self._log(logged.run_id, _metrics(schema.stage_metrics(record), record))
                self._picture(logged.run_id, trial, stage)
                self._tag(logged.run_id, _stage_tags(record), logged.tags)
                logged.stages.add(stage)
                report.stages += 1
            for record in trial.evaluations(stage, logged.tickets):
                self._log(logged.run_id, _metrics(schema.evaluation_metrics(record, logged.own), record))
                name = schema.PROTOCOL + schema.protocol_hash(record["protocol"])
                self._tag(logged.run_id, {name: _protocol_text(record["protocol"])}, logged.tags)
                logged.tickets.add(record["ticket"])
                report.evaluations += 1
        complete = len(stages) >= logged.config.num_stages
        tags = {
            schema.STATUS: "finished" if complete else "running",
            schema.STAGES: f"{len(stages)}/{logged.config.num_stages}",
        }
        if complete and logged.tags.get(schema.STATUS) != "finished":
            ended = round(1000 * trial.stage(stages[-1])["finished_at"])
            self._client.set_terminated(logged.run_id, "FINISHED", ended)
        if not complete and (failure := trial.failure()):
            tags |= {schema.STATUS: "failed", schema.FAILURE: failure["error"][:5000]}
        if progress := trial.progress():
            tags[schema.PROGRESS] = json.dumps(progress)
        self._tag(logged.run_id, tags, logged.tags)
        return complete

    def _log(self, run_id: str, metrics: list[Metric], params: dict[str, str] | None = None) -> None:
        from mlflow.entities import Param

        entries = [Param(name, value[:6000]) for name, value in (params or {}).items()]
        self._client.log_batch(run_id, metrics=metrics, params=entries)

    def _tag(self, run_id: str, tags: dict[str, str], known: dict[str, str]) -> None:
        """Set the tags that are not known to be so."""
        for name, value in tags.items():
            if known.get(name) != value:
                self._client.set_tag(run_id, name, value)
                known[name] = value

    def _picture(self, run_id: str, trial: TrialArchive, stage: int) -> None:
        name = f"{stage_name(stage)}.png"
        if any(found.path == f"posters/{name}" for found in self._client.list_artifacts(run_id, "posters")):
            return
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, name)
            path.write_bytes(trial.png(stage))
            self._client.log_artifact(run_id, str(path), "posters")


def sync(archive_url: str, tracking_uri: str, sweeps: list[str] | None = None) -> SyncReport:
    """Bring the store up to date with the archive, once."""
    return Syncer(archive_url, tracking_uri).sync(sweeps)


def _metrics(values: Any, record: dict[str, Any]) -> list[Metric]:
    from mlflow.entities import Metric

    finished_ms = round(1000 * record["finished_at"])
    return [Metric(name, float(value), finished_ms, record["stage"]) for name, value in values]


def _stage_tags(record: dict[str, Any]) -> dict[str, str]:
    return {
        schema.LEAKS: json.dumps(record["leaks_test_set"]),
        schema.DATA: record["data"]["digest"],
        schema.VERSIONS: json.dumps(record["versions"], sort_keys=True),
    }


def _protocol_text(protocol: dict[str, Any]) -> str:
    return json.dumps({k: v for k, v in protocol.items() if k not in ("arch", "mode", "budgets")}, sort_keys=True)
