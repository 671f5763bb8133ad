"""Brings MLflow up to date with the archive. Doing it again changes nothing.

Every value is logged under the time its record was finished, so a value logged twice is one value; a run's tag says
what it holds, so that little is logged twice. One process runs this for a store: the coordinator of a sweep, or
`ppodd results sync`.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ppodd.archive import (
    SCHEMA,
    Archive,
    EvaluationFailureRecord,
    EvaluationRecord,
    StageRecord,
    Status,
    SweepRecord,
    TrialArchive,
    TrialState,
    stage_name,
)
from ppodd.config import DistillConfig, EvaluationConfig, EvaluationProtocol, protocols
from ppodd.errors import BadInput, CorruptArchive, PpoddError, hidden, one_line
from results.tracking import schema, views
from results.tracking.reading import Run
from results.tracking.store import exists, require_file, said
from results.tracking.store_file import Changes, one_writer
from results.tracking.writing import Additions, RunWriter

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Metric

# gives a sweep's parent run what it shows: (client, tracking URI, archive, sweep, run id)
_log = logging.getLogger(__name__)
Publisher = Callable[["MlflowClient", str, Archive, str, str], None]

_REPAIR = "`ppodd archive repair` has it done again"
_PARAM_CHARS, _TAG_CHARS = 6000, 5000
# tags that go when what they say is over
_OF_THE_MOMENT = {schema.FAILURE, schema.STOPPED, schema.PROGRESS, schema.NOW, schema.EVALUATION_FAILURES}
_STATUS = {  # what a run's tag says of how its trial stands
    Status.COMPLETE: "finished",
    Status.STOPPED: "stopped",
    Status.FAILED: "failed",
    Status.GOING: "running",
}


@dataclass
class SyncReport:
    """What a sync found new in the archive, and what it could not read or log (one line each)."""

    stages: int = 0
    evaluations: int = 0
    problems: list[str] = field(default_factory=list)
    runs: int = 0


@dataclass
class _LoggedTrial:
    """What is logged of a trial. `logged` maps stages, as `schema.LOGGED` names them, to shortened tickets."""

    run: Run
    config: DistillConfig
    pictures: set[str]
    logged: dict[str, list[str]]
    main: EvaluationProtocol  # whose accuracy pages show first
    renewed: bool = False  # it is to be given what an earlier version did not log
    records: dict[int, StageRecord] = field(default_factory=dict)
    entries: dict[int, str] = field(default_factory=dict)  # of `logged`, by stage
    status: Status = Status.GOING
    given_up: int = 0  # evaluations


class Syncer:
    """An incremental sync of one archive to one store: what it has logged it does not read again."""

    def __init__(self, archive_url: str, tracking_uri: str, publish: Publisher | None = None):
        """With `publish`, a sweep's parent run gets its pictures and tables once all is evaluated.

        Raises:
            BadInput: the store cannot be opened.
        """
        self._publish = publish
        self.archive = Archive(archive_url)
        self._store = RunWriter(tracking_uri, self.archive.url)
        self._uri = self._store.uri
        self._changes = Changes(self._uri)
        self._trials: dict[str, _LoggedTrial] = {}
        self._own: dict[str, EvaluationConfig] = {}  # by sweep: the evaluation whose metrics carry no suffix
        self._metrics: dict[str, set[str]] = {}  # by sweep: names of those that were logged

    def sync(self, sweeps: list[str] | None = None) -> SyncReport:
        """Log what is new of these sweeps (default: all). What cannot be read is reported and stops nothing else.

        Raises:
            BadInput: the archive holds no such sweep, or the store's file was removed meanwhile.
            PpoddError: the store does not answer.
        """
        with one_writer(self._uri):
            require_file(self._uri)
            if self._changes.since_last():
                for sweep in self._store.sweeps:
                    self._forget(sweep)
            try:
                return self._sync(sweeps)
            finally:
                if exists(self._uri):
                    self._changes.remember()

    def _sync(self, sweeps: list[str] | None) -> SyncReport:
        report, before = SyncReport(), self._store.created
        for sweep in self.archive.sweeps() if sweeps is None else sweeps:
            if sweep not in self._store.sweeps and not self.archive.holds(sweep):
                there = ", ".join(self.archive.sweeps()) or "none"
                raise BadInput(f"no sweep {sweep!r} in {self.archive.url} (there: {there})")
            try:
                self._sync_sweep(sweep, report)
            except PpoddError as error:
                report.problems.append(one_line(error))
            except Exception as error:  # of MLflow, of the network, of a driver
                self._forget(sweep)
                raise PpoddError(f"MLflow store {self._uri}: {said(error)}") from error
            _log.debug("%s is looked through: %s", self._uri, report, extra={"sweep": sweep})
        report.runs = self._store.created - before
        return report

    def _forget(self, sweep: str) -> None:
        """Ask the store again what it holds: something sent to it may not have arrived."""
        self._store.forget(sweep)
        self._own.pop(sweep, None)
        self._trials = {key: trial for key, trial in self._trials.items() if key.split("/")[0] != sweep}

    # Sweeps

    def _sync_sweep(self, sweep: str, report: SyncReport) -> None:
        plan = self._plan(sweep, report)
        parent = self._parent(sweep, plan, report)
        found = self.archive.states(sweep)
        for name, state in found.items():
            trial = self.archive.trial(sweep, name)
            try:
                self._sync_trial(trial, state, parent, plan, report)
            except PpoddError as error:
                self._trials.pop(f"{sweep}/{name}", None)  # what was read of it may not have been sent
                report.problems.append(one_line(error))
        trials = [self._trials[key] for name in found if (key := f"{sweep}/{name}") in self._trials]
        expected = max(plan.trials_wanted, len(found))
        finished = sum(trial.status in (Status.COMPLETE, Status.STOPPED) for trial in trials)
        ended = max((_finished_ms(record) for trial in trials for record in trial.records.values()), default=0)
        status = "finished" if finished == expected else "running"
        tags = {schema.TRIALS: f"{finished}/{expected}", schema.STATUS: status}
        self._store.add(parent, Additions(tags=tags, status=status, ended_ms=ended))
        settings = sorted({trial.run.tags[schema.SETTING] for trial in trials if schema.SETTING in trial.run.tags})
        self._save_views(sweep, plan, settings, report)
        if finished == expected and self._publish:
            self._summarise(self._publish, sweep, plan, parent, trials, report)

    def _summarise(
        self,
        publish: Publisher,
        sweep: str,
        plan: SweepRecord,
        parent: Run,
        trials: list[_LoggedTrial],
        report: SyncReport,
    ) -> None:
        """Give the parent run its pictures and tables when all is evaluated, and again when more is."""
        evaluations = self.archive.evaluations(sweep, plan, problems=[])
        wanted = sum(len(t.records) * len(protocols(evaluations, t.config)) for t in trials)
        wanted -= sum(t.given_up for t in trials)
        there = sum(len(tickets) for t in trials for tickets in t.logged.values())
        shown = f"{there} by names {schema.NAMES}"
        if not there or there < wanted or parent.tags.get(schema.SUMMARY) == shown:
            return
        from mlflow.exceptions import MlflowException

        try:
            publish(self._store.client, self._uri, self.archive, sweep, parent.id)
        except MlflowException:
            raise
        except Exception as error:  # a picture that cannot be drawn stops no sync
            report.problems.append(f"no summary of sweep {sweep!r} in {hidden(self._uri)}: {one_line(error)}")
            return
        self._store.add(parent, Additions(tags={schema.SUMMARY: shown}))

    def _save_views(self, sweep: str, plan: SweepRecord, settings: list[str], report: SyncReport) -> None:
        """Have the sweep's experiment show views of what there is of it."""
        modes = self._own_evaluation(sweep, plan, report).mode
        saved, at_ms = self._store.experiment_tags(sweep), round(1000 * (plan.created_at or 0))
        metrics = self._metrics.get(sweep, ())
        self._store.describe(sweep, views.saved_views(modes, metrics, plan.varied, settings, at_ms, saved))

    def _plan(self, sweep: str, report: SyncReport) -> SweepRecord:
        """`sweep.json`; an empty one where there is none or it cannot be read: the trials are synced all the same."""
        try:
            found = self.archive.sweep(sweep)
        except CorruptArchive as error:
            report.problems.append(one_line(error))
            found = None
        return found or SweepRecord(schema=SCHEMA, name=sweep, trials=())

    def _parent(self, sweep: str, plan: SweepRecord, report: SyncReport) -> Run:
        created_ms = "" if plan.created_at is None else str(round(1000 * plan.created_at))
        pages = {link.title: link.url for link in views.links(self._store.experiment(sweep))}
        note = schema.parent_note(plan.description or f"sweep {sweep}", pages)
        tags = {schema.RUN_NAME: sweep, schema.NOTE: note, schema.CREATED: created_ms}
        parent = self._store.run(sweep, sweep, tags, lambda: int(created_ms) if created_ms else None)
        if created_ms and parent.tags.get(schema.CREATED) not in ("", created_ms):
            raise BadInput(
                f"{self._uri} already shows another sweep {sweep!r}, not the one in {self.archive.url}: "
                f"rename the sweep, or name another --tracking-uri"
            )
        if schema.lacks_links(parent.tags.get(schema.NOTE, "")):
            self._store.add(parent, Additions(tags={schema.NOTE: note}))
        return parent

    def _own_evaluation(self, sweep: str, plan: SweepRecord, report: SyncReport) -> EvaluationConfig:
        """The evaluation that the sweep's file names first; what was added and cannot be read is reported with it."""
        if sweep not in self._own:
            self._own[sweep] = self.archive.evaluations(sweep, plan, report.problems)[0]
        return self._own[sweep]

    # Trials

    def _trial(
        self, trial: TrialArchive, stages: list[int], parent: Run, plan: SweepRecord, report: SyncReport
    ) -> tuple[_LoggedTrial, Additions]:
        """The trial's run, found or created the first time, and what it lacks of the trial's params then.

        Raises:
            BadInput: the run of this name shows a trial with another config.
            CorruptArchive: the trial's config cannot be read.
        """
        key, new = f"{trial.sweep}/{trial.trial}", Additions()
        if key not in self._trials:
            config = trial.config()
            main = self._own_evaluation(trial.sweep, plan, report).protocols(config)[0]
            setting = schema.setting(config, plan.varied)
            name = f"{setting} s{config.seed}" if setting else trial.trial
            tags = {
                schema.RUN_NAME: name,
                schema.PARENT: parent.id,
                schema.OWN_PROTOCOL: schema.protocol_hash(main),
                schema.NAMES_TAG: schema.NAMES,
            }
            tags |= {schema.SETTING: setting} if setting else {}
            run = self._store.run(trial.sweep, key, tags, lambda: _started_ms(trial, stages))
            new.tags[schema.PARENT] = parent.id
            params = {name: value[:_PARAM_CHARS] for name, value in schema.params(config).items()}
            for name, value in run.params.items():
                if params.get(name, value) != value:
                    raise BadInput(_other(key, self._uri, f"{name}={value} there, {params[name]} in {trial.url}"))
            new.params = {name: value for name, value in params.items() if name not in run.params}
            pictures = self._store.pictures(run)
            logged = json.loads(run.tags.get(schema.LOGGED, "{}"))
            self._trials[key] = _LoggedTrial(
                run, config, pictures, logged, main, run.tags.get(schema.NAMES_TAG) != schema.NAMES
            )
        return self._trials[key], new

    def _sync_trial(
        self, trial: TrialArchive, state: TrialState, parent: Run, plan: SweepRecord, report: SyncReport
    ) -> None:
        """Log what is new of a trial as it stands, as one batch."""
        known, new = self._trial(trial, state.stages, parent, plan, report)
        for stage in state.stages:
            try:
                self._add_stage(trial, known, stage, sorted(state.evaluations(stage)), new, report)
            except PpoddError as error:
                report.problems.append(one_line(error))
        known.status = self._status(known, state)
        failure = trial.failure() if known.status is Status.FAILED else None
        stopped = trial.stopped() if known.status is Status.STOPPED else None
        progress = trial.progress() if known.status is Status.GOING and state.told_progress else None
        new.tags[schema.STAGES] = f"{len(state.stages)}/{known.config.num_stages}"
        if known.logged and len(logged := json.dumps(known.logged)) <= _TAG_CHARS:
            new.tags[schema.LOGGED] = logged
        if known.records and len(digests := schema.poster_digests(known.records, known.run.tags)) <= _TAG_CHARS:
            new.tags[schema.POSTERS] = digests
        if state.imported:
            new.tags[schema.ORIGIN] = "imported"
        if failure:
            new.tags[schema.FAILURE] = failure.error[:_TAG_CHARS]
        if stopped:
            new.tags[schema.STOPPED] = stopped.why[:_TAG_CHARS]
        if progress:
            new.tags[schema.PROGRESS] = json.dumps(progress.to_json(), sort_keys=True)
            new.tags[schema.NOW] = schema.now(progress)
        given_up = _given_up(trial, state)
        known.given_up = len(given_up)
        if given_up:
            new.tags[schema.EVALUATION_FAILURES] = schema.evaluation_failures(given_up)
        ended = max((_finished_ms(record) for record in known.records.values()), default=0)
        ended = round(1000 * (failure.failed_at or 0)) or ended if failure else ended
        new.status, new.ended_ms = _STATUS[known.status], ended
        new.tags |= {schema.STATUS: new.status, schema.NAMES_TAG: schema.NAMES}
        self._store.add(known.run, new)
        known.renewed = False
        self._metrics.setdefault(trial.sweep, set()).update(metric.key for metric in new.metrics)
        self._store.remove_tags(known.run, _OF_THE_MOMENT - set(new.tags))

    def _status(self, known: _LoggedTrial, state: TrialState) -> Status:
        """How the trial stands; with a stage that cannot be read it is not complete."""
        found = state.status(known.config.num_stages)
        damaged = found is Status.COMPLETE and len(known.records) < known.config.num_stages
        return Status.GOING if damaged else found

    def _add_stage(
        self,
        trial: TrialArchive,
        known: _LoggedTrial,
        stage: int,
        tickets: list[str],
        new: Additions,
        report: SyncReport,
    ) -> None:
        """Add a stage and its evaluations to `new`, if they are not logged."""
        if stage not in known.records:
            record = trial.stage(stage)
            entry = self._entry(trial, known, record)
            if entry not in known.logged:
                new.metrics += _metrics(schema.stage_metrics(record), record)
                new.tags |= schema.stage_tags(record)
                report.stages += 1
            known.logged.setdefault(entry, [])
            known.records[stage], known.entries[stage] = record, entry
        self._picture(known, trial, stage, report)
        logged = known.logged[known.entries[stage]]
        for ticket in tickets:
            there = _short(ticket) in logged
            if there and not known.renewed:
                continue
            try:
                evaluation = trial.evaluation(stage, ticket)
            except CorruptArchive as error:
                report.problems.append(one_line(error))
                continue
            if not _is_of(evaluation, known.records):
                where = trial.folder.at(f"{stage_name(stage)}/evaluations/{ticket}.json")
                report.problems.append(f"{where} is of other posters than the archive has: {_REPAIR}")
                continue
            own = known.run.tags[schema.OWN_PROTOCOL]
            new.metrics += _metrics(schema.evaluation_metrics(evaluation, own, known.main), evaluation)
            name, text = schema.protocol_tag(known.config, evaluation.protocol)
            new.tags[name] = text
            if schema.protocol_hash(evaluation.protocol) == own:
                tags = {**known.run.tags, **new.tags}
                new.tags |= schema.class_accuracies(tags, evaluation, known.records[stage].data.classes)
            if not there:
                logged.append(_short(ticket))
            report.evaluations += 1

    def _entry(self, trial: TrialArchive, known: _LoggedTrial, record: StageRecord) -> str:
        """The stage's key in `logged`. Of a stage distilled again to the same poster, what is logged stays.

        Raises:
            BadInput: the run shows another poster as this stage.
        """
        now = _entry(record)
        other = next((key for key in known.logged if key.split("@")[0] == str(record.stage)), now)
        if other != now and not schema.shows_poster(known.run.tags, record):
            why = f"stage {record.stage} is another poster there than in {trial.url}"
            raise BadInput(_other(f"{trial.sweep}/{trial.trial}", self._uri, why))
        return other

    def _picture(self, known: _LoggedTrial, trial: TrialArchive, stage: int, report: SyncReport) -> None:
        path = f"posters/{stage_name(stage)}.png"
        if path in known.pictures:
            return
        try:
            picture = trial.png(stage, known.records[stage])
        except CorruptArchive as error:
            report.problems.append(one_line(error))
            return
        self._store.add_picture(known.run, path, picture)
        known.pictures.add(path)


def sync(
    archive_url: str, tracking_uri: str, sweeps: list[str] | None = None, publish: Publisher | None = None
) -> SyncReport:
    """Bring the store up to date with the archive, once.

    Raises:
        BadInput: there is no archive (no store is made for it then); and as `Syncer` and `Syncer.sync`.
    """
    Archive(archive_url).require()
    return Syncer(archive_url, tracking_uri, publish).sync(sweeps)


def _metrics(values: Iterable[tuple[str, float]], record: StageRecord | EvaluationRecord) -> list[Metric]:
    from mlflow.entities import Metric

    return [Metric(name, float(value), _finished_ms(record), record.stage) for name, value in values]


def _is_of(evaluation: EvaluationRecord, records: dict[int, StageRecord]) -> bool:
    """Whether an evaluation is of the posters that the archive has, as far as their records can be read."""
    known = {past: record.digests.poster for past, record in records.items() if past <= evaluation.stage}
    return all(evaluation.posters[past - 1 : past] == (digest,) for past, digest in known.items())


def _given_up(trial: TrialArchive, state: TrialState) -> list[EvaluationFailureRecord]:
    """Records of the evaluations that were given up."""
    tickets = [(stage, ticket) for stage in state.stages for ticket in sorted(state.given_up(stage))]
    return [record for found in tickets if (record := trial.evaluation_failure(*found))]


def _started_ms(trial: TrialArchive, stages: list[int]) -> int | None:
    """When the trial's first stage began; `None` (now) where none is archived yet or its record is damaged."""
    try:
        record = trial.stage(stages[0])
        return round(1000 * (record.finished_at - (record.budgets.seconds or 0)))
    except (CorruptArchive, IndexError):
        return None


def _finished_ms(record: StageRecord | EvaluationRecord) -> int:
    return round(1000 * record.finished_at)


def _entry(record: StageRecord) -> str:
    return f"{record.stage}@{_finished_ms(record)}"


def _short(ticket: str) -> str:
    return ticket[:8]


def _other(key: str, uri: str, why: str) -> str:
    return (
        f"the run {key!r} in {uri} shows another trial ({why}): "
        f"delete that run in MLflow, or name another --tracking-uri"
    )
