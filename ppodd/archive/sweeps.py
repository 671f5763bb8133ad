"""The archive: every stage of every trial as plain files, the single source of truth.

<archive>/<sweep>/sweep.json                                the resolved sweep: its trials and evaluation
<archive>/<sweep>/protocols/<digest>.json                   an evaluation that was asked for later
<archive>/<sweep>/data/<digest>.json                        what the first trial read of data that several are on
<archive>/<sweep>/driver.json                               who runs the sweep now, if anybody does
<archive>/<sweep>/hours.json                                for how long it was run, where that is limited
<archive>/<sweep>/started.json                              the submitted job that began it last is past its checks
<archive>/<sweep>/<trial>/config.json
                          imported.json                     the files its posters came from, if not distilled here
                          data.json                         what was read of the data
                          whitening.safetensors             how its images were whitened
                          stage-01/stage.json               written last: a stage exists when it does
                                   poster.safetensors       poster, labels or label array, class order
                                   poster.png
                                   candidate.json           until then: how its accuracy is to be measured
                                   evaluations/<ticket>.json
                                   failures/<ticket>.json   why an evaluation was given up, if it was
                          progress.json                     meta-step, loss and rate of the stage in training
                          writer.json                       who distils or imports it now, if no sweep's driver does
                          evaluator.json                    who evaluates it by a command now
                          failure.json                      why the trial failed, if it did
                          stopped.json                      why it was stopped early, if it was
                          resume/state.safetensors          the resume checkpoint, replaced atomically
"""

from __future__ import annotations

import json
import os

from ppodd.archive.records import HoursRecord, StartRecord, SweepDataRecord, SweepRecord, parse
from ppodd.archive.sealed import sealed, unsealed, write_sealed
from ppodd.archive.trial_archive import TrialArchive
from ppodd.archive.trial_state import TrialState
from ppodd.config import EvaluationConfig, rebuild
from ppodd.errors import BadInput, CorruptArchive, one_line
from ppodd.files import PATIENCE_S, Folder, sha256

DRIVER = "driver.json"  # who runs a sweep


class Archive:
    """All sweeps below one folder or fsspec URL."""

    def __init__(self, url: str | os.PathLike[str], patience_s: float = PATIENCE_S):
        self.folder, self._patience_s = Folder(url, patience_s), patience_s
        self.url = self.folder.url

    def sweeps(self) -> list[str]:
        """The names of all sweeps, in order."""
        return [name for name in self.folder.names() if self.holds(name)]

    def require(self) -> None:
        """Raise `BadInput` where there is no sweep."""
        if not any(map(self.holds, self.folder.names())):
            raise BadInput(f"no archive at {self.url}: name the folder that a sweep or distillation wrote (--archive)")

    def holds(self, sweep: str) -> bool:
        """Whether there is a sweep of this name: a sweep file's, or runs that belong to none."""
        return (self.folder / sweep).exists("sweep.json") or bool(self.states(sweep))

    def trials(self, sweep: str) -> list[str]:
        """The names of a sweep's trials, in order."""
        return list(self.states(sweep))

    def states(self, sweep: str, stamped: bool = False) -> dict[str, TrialState]:
        """What there is of each trial of a sweep, in order.

        One listing: a request for a thousand files on S3. Files that are written meanwhile may be missing,
        never half there.

        Args:
            stamped: tell by each state's stamp whether any of its files has been written again.
        """
        found: dict[str, dict[str, str]] = {}
        folder = self.folder / sweep
        for path, stamp in sorted(folder.stamps().items()) if stamped else ((path, "") for path in folder.find()):
            trial, _, name = path.partition("/")
            found.setdefault(trial, {})[name] = stamp
        states = {trial: TrialState(frozenset(files), _all_stamped(files)) for trial, files in found.items()}
        return {trial: state for trial, state in states.items() if state.is_trial}

    def trial(self, sweep: str, trial: str) -> TrialArchive:
        """The folder of one trial, which need not be there yet."""
        return TrialArchive(f"{self.url}/{sweep}/{trial}", self._patience_s)

    def sweep(self, sweep: str) -> SweepRecord | None:
        """The resolved sweep file (`tune` writes it), or `None` for runs that belong to no sweep file."""
        data = self.folder.get(name := f"{sweep}/sweep.json")
        return None if data is None else parse(SweepRecord, data, self.folder.at(name))

    def write_sweep(self, record: SweepRecord) -> None:
        """Record the resolved sweep file, in place of what was recorded before."""
        write_sealed(self.folder, f"{record.name}/sweep.json", record.to_json())

    def write_start(self, sweep: str, record: StartRecord) -> None:
        """Say that a submitted job is past its checks."""
        write_sealed(self.folder, f"{sweep}/started.json", record.to_json())

    def last_start(self, sweep: str) -> StartRecord | None:
        """The last start of a sweep by a submitted job."""
        data = self.folder.get(name := f"{sweep}/started.json")
        return None if data is None else parse(StartRecord, data, self.folder.at(name))

    def first_data(self, sweep: str, request: str, mine: SweepDataRecord) -> SweepDataRecord:
        """What the first trial on data read of them: `mine`, where none has said so before.

        Args:
            request: tells which data, of those that the sweep is on.
        """
        folder, name = self.folder / sweep, f"data/{sha256(request.encode())[:12]}.json"
        if not folder.exists(name) and folder.create(name, sealed(mine.to_json())):
            return mine
        return parse(SweepDataRecord, folder.read(name), folder.at(name))

    def write_hours(self, sweep: str, record: HoursRecord) -> None:
        """Say for how long drivers have run a sweep."""
        write_sealed(self.folder, f"{sweep}/hours.json", record.to_json())

    def hours(self, sweep: str) -> float:
        """For how long drivers have run a sweep, as far as that was counted. Raises `CorruptArchive`."""
        data = self.folder.get(name := f"{sweep}/hours.json")
        return 0.0 if data is None else parse(HoursRecord, data, self.folder.at(name)).hours

    def evaluations(
        self, sweep: str, record: SweepRecord | None = None, problems: list[str] | None = None
    ) -> list[EvaluationConfig]:
        """How a sweep's stages are evaluated: as its file says (the default without one), and as was added since.

        Args:
            record: what `sweep.json` holds, if the caller has read it already.
            problems: collects the protocols that cannot be read, instead of an error.

        Raises:
            CorruptArchive: a record cannot be read, and there is nobody to tell.
        """
        record = self.sweep(sweep) if record is None else record
        found = record.evaluations() if record else [EvaluationConfig()]
        for name in (self.folder / f"{sweep}/protocols").names():
            try:
                found.append(self.added_evaluation(sweep, name))
            except CorruptArchive as error:
                if problems is None:
                    raise
                problems.append(one_line(error))
        return found

    def added_evaluation(self, sweep: str, name: str) -> EvaluationConfig:
        """What a file in `protocols/` asks for. Raises `CorruptArchive`."""
        added = self.folder / f"{sweep}/protocols"
        values, writer = unsealed(added.read(name), added.at(name))
        return rebuild(EvaluationConfig, values, added.at(name), writer)

    def add_evaluation(self, sweep: str, evaluation: EvaluationConfig) -> None:
        """Have a sweep's stages evaluated in this way too; asked for twice, it is one."""
        if evaluation not in self.evaluations(sweep, problems=[]):
            values = evaluation.model_dump(mode="json")
            name = sha256(json.dumps(values, sort_keys=True).encode())[:12]
            write_sealed(self.folder / sweep, f"protocols/{name}.json", values)

    def clear_evaluation_failures(self, sweep: str) -> None:
        """Have every evaluation that was given up tried again."""
        for name, state in self.states(sweep).items():
            for stage in state.stages:
                for ticket in state.given_up(stage):
                    self.trial(sweep, name).clear_evaluation_failure(stage, ticket)


def _all_stamped(files: dict[str, str]) -> str:
    """One stamp of all the files of a trial; empty where one of them has none."""
    return sha256(json.dumps(files).encode()) if all(files.values()) else ""
