"""Brings MLflow up to date with the archive. Doing it again changes nothing.

Every value is logged under the time its record was finished, so a value logged twice is one value; a run's tag says
what it holds, so that little is logged twice. One process runs this for a store: the coordinator of a sweep, or
`ppodd results sync`.
"""

from __future__ import annotations

import contextlib
import json
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

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
from results.tracking.mlflow_internals import NewRun
from results.tracking.reading import StoredRun
from results.tracking.store import exists, require_file, said
from results.tracking.store_file import Changes, one_writer
from results.tracking.writing import Additions, RunWriter, now_ms

if TYPE_CHECKING:
    from mlflow import MlflowClient

# gives a sweep's parent run what it shows: (client, tracking URI, archive, sweep, run id)
_log = logging.getLogger(__name__)
Publisher = Callable[["MlflowClient", str, Archive, str, str, Mapping[str, int]], None]  # see `parent_run.publish`

_REPAIR = "`ppodd archive repair` has it done again"
_PARAM_CHARS, _TAG_CHARS = 6000, 5000
_AT_ONCE = 100  # new runs are made and filled together
# tags that go when what they say is over
_OF_THE_MOMENT = {schema.FAILURE, schema.STOPPED, schema.PROGRESS, schema.NOW, schema.EVALUATION_FAILURES}
_STATUS = {  # what a run's tag says of how its trial stands
    Status.COMPLETE: "finished",
    Status.STOPPED: "stopped",
    Status.FAILED: "failed",
    Status.GOING: "running",
}
_OVER = {said for status, said in _STATUS.items() if status.is_over}


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

    run: StoredRun
    config: DistillConfig
    pictures: set[str]
    logged: dict[str, list[str]]
    main: EvaluationProtocol  # whose accuracy pages show first
    lacking: Additions  # what its run lacks of the trial's params
    renewed: bool = False  # it is to be given what an earlier version did not log
    records: dict[int, StageRecord] = field(default_factory=dict)
    entries: dict[int, str] = field(default_factory=dict)  # of `logged`, by stage


class _Shown(NamedTuple):
    """A trial as its run shows it: how it stands, and how many of its stages' evaluations there are."""

    run: StoredRun
    state: TrialState
    logged: dict[str, list[str]]

    @property
    def is_over(self) -> bool:
        """Whether nothing more is to come."""
        return self.run.tags[schema.STATUS] in _OVER

    @property
    def ended_ms(self) -> int:
        """When its last stage was finished."""
        return max((int(entry.split("@")[1]) for entry in self.logged), default=0)

    @property
    def evaluations(self) -> int:
        """How many are there."""
        return sum(map(len, self.logged.values()))

    @property
    def given_up(self) -> int:
        """Evaluations that there will not be."""
        return sum(len(self.state.given_up(stage)) for stage in self.state.stages)


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
        found = self.archive.states(sweep, stamped=True)
        shown = {name: trial for name, state in found.items() if (trial := self._as_before(sweep, name, state, parent))}
        new = [name for name in found if name not in shown]
        if new:
            self._store.open()
        for start in range(0, len(new), _AT_ONCE):
            states = {name: found[name] for name in new[start : start + _AT_ONCE]}
            self._take_up(sweep, states, parent, plan, report)
            shown |= self._sync_trials(sweep, states, report)
        trials = [shown[name] for name in found if name in shown]
        expected = max(plan.trials_wanted, len(found))
        finished = sum(trial.is_over for trial in trials)
        status = "finished" if finished == expected else "running"
        tags = {schema.TRIALS: f"{finished}/{expected}", schema.STATUS: status}
        ended = max((trial.ended_ms for trial in trials), default=0)
        self._store.add(parent, Additions(tags=tags, status=status, ended_ms=ended))
        self._store.flush()
        settings = sorted({trial.run.tags[schema.SETTING] for trial in trials if schema.SETTING in trial.run.tags})
        self._save_views(sweep, plan, settings, report)
        if finished == expected and self._publish:
            self._summarise(self._publish, sweep, plan, parent, shown, report)

    def _as_before(self, sweep: str, name: str, state: TrialState, parent: StoredRun) -> _Shown | None:
        """A trial of whose files none has changed since its run was brought up to date; nothing of it is read."""
        run = self._store.known(sweep, f"{sweep}/{name}")
        if not run or not state.stamp:
            return None
        told = {schema.FILES: _files(state), schema.NAMES_TAG: schema.NAMES, schema.PARENT: parent.id}
        if any(run.tags.get(name) != value for name, value in told.items()):
            return None
        logged = json.loads(run.tags.get(schema.LOGGED, "{}"))
        whole = len(logged) >= len(state.stages) and not self._store.lacks_pictures(run, len(state.stages))
        return _Shown(run, state, logged) if whole else None

    def _summarise(
        self,
        publish: Publisher,
        sweep: str,
        plan: SweepRecord,
        parent: StoredRun,
        trials: dict[str, _Shown],
        report: SyncReport,
    ) -> None:
        """Give the parent run its pictures and tables when all is evaluated, and again when more is."""
        there = sum(trial.evaluations for trial in trials.values())
        shown = f"{there} by names {schema.NAMES}"
        if not there or parent.tags.get(schema.SUMMARY) == shown or there < self._wanted(sweep, plan, trials):
            return
        from mlflow.exceptions import MlflowException

        stages = {name: trial.state.stages[-1] if trial.state.stages else 0 for name, trial in trials.items()}
        try:
            publish(self._store.client, self._uri, self.archive, sweep, parent.id, stages)
        except MlflowException:
            raise
        except Exception as error:  # a picture that cannot be drawn stops no sync
            report.problems.append(f"no summary of sweep {sweep!r} in {hidden(self._uri)}: {one_line(error)}")
            return
        self._store.add(parent, Additions(tags={schema.SUMMARY: shown}))

    def _wanted(self, sweep: str, plan: SweepRecord, trials: dict[str, _Shown]) -> int:
        """How many evaluations there are to be of what these trials have archived."""
        evaluations = self.archive.evaluations(sweep, plan, problems=[])
        wanted = 0
        for name, trial in trials.items():
            known = self._trials.get(f"{sweep}/{name}")
            config = known.config if known else self.archive.trial(sweep, name).config()
            wanted += len(trial.state.stages) * len(protocols(evaluations, config)) - trial.given_up
        return wanted

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

    def _parent(self, sweep: str, plan: SweepRecord, report: SyncReport) -> StoredRun:
        created_ms = "" if plan.created_at is None else str(round(1000 * plan.created_at))
        pages = {link.title: link.url for link in views.links(self._store.experiment(sweep))}
        note = schema.parent_note(plan.description or f"sweep {sweep}", pages)
        tags = {schema.RUN_NAME: sweep, schema.NOTE: note, schema.CREATED: created_ms}
        if not self._store.known(sweep, sweep):
            self._store.make(sweep, {sweep: NewRun(tags, int(created_ms) if created_ms else now_ms())})
        parent = self._store.known(sweep, sweep)
        assert parent
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

    def _take_up(
        self, sweep: str, states: dict[str, TrialState], parent: StoredRun, plan: SweepRecord, report: SyncReport
    ) -> None:
        """Have `_trials` hold these as far as their configs can be read, with runs made where there are none."""
        found = {}
        for name in states:
            trial = self.archive.trial(sweep, name)
            if (key := f"{sweep}/{name}") not in self._trials:
                with _reported(report):
                    found[key] = (trial, trial.config(), self._own_evaluation(sweep, plan, report))
        mains = {key: own.protocols(config)[0] for key, (_, config, own) in found.items()}
        new = {
            key: NewRun(
                _first_tags(trial, config, mains[key], parent, plan), _started_ms(trial, states[trial.trial].stages)
            )
            for key, (trial, config, _) in found.items()
            if not self._store.known(sweep, key)
        }
        self._store.make(sweep, new)
        for key, (trial, config, _) in found.items():
            with _reported(report):
                self._trials[key] = self._logged_trial(trial, config, mains[key], parent)

    def _logged_trial(
        self, trial: TrialArchive, config: DistillConfig, main: EvaluationProtocol, parent: StoredRun
    ) -> _LoggedTrial:
        """A trial that has a run, with what this lacks of the trial's params.

        Raises:
            BadInput: the run of this name shows a trial with another config.
        """
        run = self._store.known(trial.sweep, key := f"{trial.sweep}/{trial.trial}")
        assert run
        params = {name: value[:_PARAM_CHARS] for name, value in schema.params(config).items()}
        for name, value in run.params.items():
            if params.get(name, value) != value:
                raise BadInput(_other(key, self._uri, f"{name}={value} there, {params[name]} in {trial.url}"))
        lacking = {name: value for name, value in params.items() if name not in run.params}
        return _LoggedTrial(
            run,
            config,
            self._store.pictures(run),
            json.loads(run.tags.get(schema.LOGGED, "{}")),
            main,
            Additions(tags={schema.PARENT: parent.id}, params=lacking),
            run.tags.get(schema.NAMES_TAG) != schema.NAMES,
        )

    def _sync_trials(self, sweep: str, states: dict[str, TrialState], report: SyncReport) -> dict[str, _Shown]:
        """Log what is new of trials that were taken up. Those that could be read are returned."""
        shown = {}
        for name, state in states.items():
            if not (known := self._trials.get(key := f"{sweep}/{name}")):
                continue
            try:
                self._sync_trial(self.archive.trial(sweep, name), known, state, report)
                shown[name] = _Shown(known.run, state, known.logged)
            except PpoddError as error:
                self._trials.pop(key)  # what was read of it may not have been sent
                report.problems.append(one_line(error))
        self._store.flush()
        for name, trial in shown.items():
            if trial.is_over and schema.FILES in trial.run.tags and schema.LOGGED in trial.run.tags:
                self._trials.pop(f"{sweep}/{name}")  # its tags tell of it all: thousands are not kept in memory
        return shown

    def _sync_trial(self, trial: TrialArchive, known: _LoggedTrial, state: TrialState, report: SyncReport) -> None:
        """Log what is new of a trial as it stands, as one batch."""
        new, known.lacking, problems = known.lacking, Additions(), len(report.problems)
        for stage in state.stages:
            with _reported(report):
                self._add_stage(trial, known, stage, sorted(state.evaluations(stage)), new, report)
        status = self._status(known, state)
        failure = trial.failure() if status is Status.FAILED else None
        stopped = trial.stopped() if status is Status.STOPPED else None
        progress = trial.progress() if status is Status.GOING and state.told_progress else None
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
        if given_up := _given_up(trial, state):
            new.tags[schema.EVALUATION_FAILURES] = schema.evaluation_failures(given_up)
        if state.stamp and len(report.problems) == problems:
            new.tags[schema.FILES] = _files(state)
        ended = max((_finished_ms(record) for record in known.records.values()), default=0)
        ended = round(1000 * (failure.failed_at or 0)) or ended if failure else ended
        new.status, new.ended_ms = _STATUS[status], ended
        new.tags |= {schema.STATUS: new.status, schema.NAMES_TAG: schema.NAMES}
        self._store.add(known.run, new)
        known.renewed = False
        self._metrics.setdefault(trial.sweep, set()).update(name for name, *_ in new.metrics)
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


@contextlib.contextmanager
def _reported(report: SyncReport) -> Iterator[None]:
    """What cannot be read in the block is reported, and stops nothing else."""
    try:
        yield
    except PpoddError as error:
        report.problems.append(one_line(error))


def _first_tags(
    trial: TrialArchive, config: DistillConfig, main: EvaluationProtocol, parent: StoredRun, plan: SweepRecord
) -> dict[str, str]:
    """What a trial's run is made with."""
    setting = schema.setting(config, plan.varied)
    tags = {
        schema.RUN_NAME: f"{setting} s{config.seed}" if setting else trial.trial,
        schema.PARENT: parent.id,
        schema.OWN_PROTOCOL: schema.protocol_hash(main),
        schema.NAMES_TAG: schema.NAMES,
    }
    return {**tags, schema.SETTING: setting} if setting else tags


def _files(state: TrialState) -> str:
    """Another one once a file of the trial has changed, or this version of ppodd has other params."""
    return f"{state.stamp[:16]}, {len(DistillConfig.model_fields)} params"


def _metrics(
    values: Iterable[tuple[str, float]], record: StageRecord | EvaluationRecord
) -> list[tuple[str, float, int, int]]:
    at_ms = _finished_ms(record)
    return [(name, float(value), at_ms, record.stage) for name, value in values]


def _is_of(evaluation: EvaluationRecord, records: dict[int, StageRecord]) -> bool:
    """Whether an evaluation is of the posters that the archive has, as far as their records can be read."""
    known = {past: record.digests.poster for past, record in records.items() if past <= evaluation.stage}
    return all(evaluation.posters[past - 1 : past] == (digest,) for past, digest in known.items())


def _given_up(trial: TrialArchive, state: TrialState) -> list[EvaluationFailureRecord]:
    """Records of the evaluations that were given up."""
    tickets = [(stage, ticket) for stage in state.stages for ticket in sorted(state.given_up(stage))]
    return [record for found in tickets if (record := trial.evaluation_failure(*found))]


def _started_ms(trial: TrialArchive, stages: list[int]) -> int:
    """When the trial's first stage began; now, where it is not archived yet or its record is damaged."""
    try:
        record = trial.stage(stages[0])
    except (CorruptArchive, IndexError):
        return now_ms()
    return round(1000 * (record.finished_at - (record.budgets.seconds or 0)))


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
