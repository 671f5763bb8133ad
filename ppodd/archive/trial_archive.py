"""One trial's folder: its config, stages, evaluations, progress and resume checkpoint."""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence

import numpy as np

from ppodd.archive import resume_checkpoint
from ppodd.archive.poster_file import PosterFile, tensors_of
from ppodd.archive.records import (
    CandidateRecord,
    DataRecord,
    Digests,
    EvaluationFailureRecord,
    EvaluationRecord,
    FailureRecord,
    ImportedPoster,
    ImportRecord,
    ProgressRecord,
    R,
    Record,
    ResumePosition,
    StageRecord,
    StopRecord,
    parse,
)
from ppodd.archive.sealed import Unsealed, unsealed, write_sealed
from ppodd.archive.tickets import ticket
from ppodd.archive.trial_state import Status, TrialState, stage_name
from ppodd.config import DistillConfig, EvaluationProtocol, difference, rebuild, retired
from ppodd.errors import BadInput, CorruptArchive
from ppodd.files import PATIENCE_S, Folder, sha256

WRITER, EVALUATOR = "writer.json", "evaluator.json"  # which command is writing the trial
RESUME = "resume/state.safetensors"
_CONFIG_AGAIN = "where its sweep lists the trial, `ppodd archive repair` writes it anew; else put it back from a copy"
_WHITENING = "whitening.safetensors"


class TrialArchive:
    """One trial's folder: its config, stages, evaluations, progress and resume checkpoint."""

    def __init__(self, url: str | os.PathLike[str], patience_s: float = PATIENCE_S):
        self.folder = Folder(url, patience_s)
        self.url = self.folder.url
        *_, self.sweep, self.trial = ["", *self.url.rsplit("/", 2)]

    # Config

    def create(
        self, config: DistillConfig, resume: bool, data: str = "", imported: Sequence[ImportedPoster] = ()
    ) -> None:
        """Claim the folder for `config`, or continue it; `imported` says which files its posters come from.

        Args:
            data: the digest of the data as it is here.

        Raises:
            BadInput: as `check_free`, or the folder holds other data.
            CorruptArchive: the folder holds stages, and what config they are of cannot be read.
        """
        self.check_free(config, resume, bool(imported))
        if not self.holds_run():
            if imported:
                self.write_record("imported.json", ImportRecord(posters=tuple(imported)))
            self.write_config(config)
            return
        there = self.data()
        if there and data:
            self.check_data(there.digest, data, config.dataset)

    def holds_run(self) -> bool:
        """Whether the folder is taken."""
        return self.folder.exists("config.json") or bool(self.stages())

    def check_free(self, config: DistillConfig, resume: bool, imported: bool = False) -> None:
        """Whether the folder can be claimed for `config`, before any data is read.

        Raises:
            BadInput: the folder holds another config, or this one and `resume` is off, or posters that were imported
                where these are not, or the other way round.
            CorruptArchive: the folder holds stages, and what config they are of cannot be read.
        """
        if not self.holds_run():
            return
        held = self.config()
        if gone := retired(DistillConfig, self._config_values().values):
            field, value = next(iter(gone.items()))
            raise BadInput(
                f"{self.url} holds a run of an earlier version with {field}={value!r}, which this one cannot go on "
                f"with: use that version, or choose another --name"
            )
        if field := difference(config, held):
            raise BadInput(
                f"{self.url} holds another run: {field}={getattr(held, field)!r} there, {getattr(config, field)!r} "
                f"here; choose another --name or --archive, or resume with the same settings"
            )
        if self.folder.exists("imported.json") != imported:
            raise BadInput(
                f"{self.url} holds {'a distillation' if imported else 'imported posters'}: choose another --name"
                + ("" if imported else ", or go on with `ppodd import`")
            )
        if not resume:
            raise BadInput(f"{self.url} already holds this run: continue it with --resume, or choose another --name")

    def config(self) -> DistillConfig:
        """Raise `CorruptArchive` where the file is missing or does not hold a valid config."""
        values, writer = self._config_values()
        return rebuild(DistillConfig, values, self.folder.at("config.json"), writer)

    def write_config(self, config: DistillConfig) -> None:
        """Record the config, in place of what was recorded before."""
        write_sealed(self.folder, "config.json", config.model_dump(mode="json"))

    def _config_values(self) -> Unsealed:
        where, data = self.folder.at("config.json"), self.folder.get("config.json")
        if data is None:
            raise CorruptArchive(f"{where} is missing: {_CONFIG_AGAIN}")
        return unsealed(data, where)

    # Data

    def data(self) -> DataRecord | None:
        """What was read of the data; `None` where the trial is of a version that did not record it."""
        return self._get(DataRecord, "data.json")

    def check_data(self, there: str, here: str, name: str) -> None:
        """Raise `BadInput` where the digest of the data `name` is not that of a record: results must not be mixed."""
        if there != here:
            raise BadInput(
                f"{self.url} was distilled from other data than {name} as it is here (digest {there[:12]}… there, "
                f"{here[:12]}… here): point --root or --dataset to the data it used, or choose another --name"
            )

    def write_data(self, record: DataRecord, whitening: bytes) -> None:
        """Record what was read of the data, and how it was whitened."""
        self.folder.write(_WHITENING, whitening)
        self.write_record("data.json", record)

    def whitening(self, record: DataRecord) -> dict[str, np.ndarray]:
        """The arrays that whiten its images. Raises `CorruptArchive` where they are missing or damaged."""
        return tensors_of(self._checked(_WHITENING, record.whitening, "data.json"), self.folder.at(_WHITENING))

    # Stages

    def state(self) -> TrialState:
        """What there is of it now."""
        return TrialState(frozenset(self.folder.find()))

    def stages(self) -> list[int]:
        """Numbers of the finished stages, from 1, in order."""
        return self.state().stages

    def complete(self) -> bool:
        """Whether every stage of the config is in the archive."""
        return self.state().status(self.config().num_stages) is Status.COMPLETE

    def write_stage(self, record: StageRecord, poster: PosterFile, png: bytes) -> None:
        """Archive a finished stage; its record, which holds the digests of the others, is written last."""
        below = stage_name(record.stage)
        self.folder.write(f"{below}/poster.safetensors", poster.to_bytes())
        self.folder.write(f"{below}/poster.png", png)
        self.write_record(f"{below}/stage.json", record)
        self.folder.remove(f"{below}/candidate.json")

    def write_candidate(self, stage: int, record: CandidateRecord, poster: PosterFile) -> None:
        """Lay down a stage that waits for its accuracy."""
        self.folder.write(f"{stage_name(stage)}/poster.safetensors", poster.to_bytes())
        self.write_record(f"{stage_name(stage)}/candidate.json", record)

    def candidate(self, stage: int) -> tuple[CandidateRecord, PosterFile]:
        """What `write_candidate` laid down. Raises `CorruptArchive` where it is gone, or the poster is another."""
        record = self._read(CandidateRecord, f"{stage_name(stage)}/candidate.json")
        return record, self._poster(stage, record.digest, "candidate.json")

    def stage(self, stage: int) -> StageRecord:
        """Raise `CorruptArchive` where the stage is missing or damaged."""
        record = self._read(StageRecord, name := f"{stage_name(stage)}/stage.json")
        if record.stage != stage:
            raise CorruptArchive(f"{self.folder.at(name)} is damaged: stage is {record.stage}")
        return record

    def poster(self, stage: int) -> PosterFile:
        """A stage's poster, its digest checked. Raises `CorruptArchive` naming the file."""
        return self._poster(stage, self.stage(stage).digests.poster, "stage.json")

    def _poster(self, stage: int, digest: str, record: str) -> PosterFile:
        name = f"{stage_name(stage)}/poster.safetensors"
        return PosterFile.from_bytes(self._checked(name, digest, record), self.folder.at(name))

    def png(self, stage: int, record: StageRecord | None = None) -> bytes:
        """A stage's picture, its digest checked (older stages recorded none) against `record` or else `stage.json`.

        Raises:
            CorruptArchive: it is missing or damaged.
        """
        digest = (record or self.stage(stage)).digests.picture
        return self._checked(f"{stage_name(stage)}/poster.png", digest, "stage.json")

    def write_picture(self, stage: int, png: bytes) -> None:
        """Replace a stage's picture by one drawn again from the same poster; its bytes may differ."""
        record = self.stage(stage)
        self.folder.write(f"{stage_name(stage)}/poster.png", png)
        if record.digests.picture != sha256(png):
            digests = Digests.of(record.digests.poster, png)
            self.write_record(f"{stage_name(stage)}/stage.json", record.model_copy(update={"digests": digests}))

    def _checked(self, name: str, digest: str | None, record: str) -> bytes:
        data = self.folder.read(name)
        if digest and sha256(data) != digest:
            raise CorruptArchive(f"{self.folder.at(name)} is damaged: its digest differs from the one in {record}")
        return data

    def ticket(self, stage: int, protocol: EvaluationProtocol) -> str:
        """The name of the evaluation of `stage` under `protocol`."""
        return self.tickets(stage, [protocol])[0]

    def tickets(self, stage: int, protocols: Sequence[EvaluationProtocol]) -> list[str]:
        """The names of the evaluations of `stage` under each protocol; every stage's record is read once."""
        records = [self.stage(s) for s in range(1, stage + 1)]
        digests = [record.digests.poster for record in records]
        last = records[-1]
        return [ticket(protocol, digests, last.weights(protocol.mode), last.data.digest) for protocol in protocols]

    # Evaluations

    def evaluations(self, stage: int, known: Collection[str] = ()) -> list[EvaluationRecord]:
        """The evaluations of a stage, by ticket, but for the tickets that are `known`."""
        return self._all(EvaluationRecord, f"{stage_name(stage)}/evaluations", known)

    def evaluation(self, stage: int, ticket: str) -> EvaluationRecord:
        """An evaluation of a stage, by its ticket; an error where there is none."""
        record = self._read(EvaluationRecord, name := f"{stage_name(stage)}/evaluations/{ticket}.json")
        if (record.stage, record.ticket) != (stage, ticket):
            raise CorruptArchive(f"{self.folder.at(name)} is damaged: it is {record.ticket} of stage {record.stage}")
        return record

    def has_evaluation(self, stage: int, ticket: str) -> bool:
        """Whether a stage has been evaluated by this ticket."""
        return self.folder.exists(f"{stage_name(stage)}/evaluations/{ticket}.json")

    def write_evaluation(self, record: EvaluationRecord) -> None:
        """Record an evaluation, in place of an earlier one of its ticket."""
        self.write_record(f"{stage_name(record.stage)}/evaluations/{record.ticket}.json", record)

    def write_evaluation_failure(self, record: EvaluationFailureRecord) -> None:
        """Record an evaluation that is given up."""
        self.write_record(f"{stage_name(record.stage)}/failures/{record.ticket}.json", record)

    def evaluation_failure(self, stage: int, ticket: str) -> EvaluationFailureRecord | None:
        """Why an evaluation was given up, if it was."""
        return self._get(EvaluationFailureRecord, f"{stage_name(stage)}/failures/{ticket}.json")

    def evaluation_failures(self, stage: int) -> list[EvaluationFailureRecord]:
        """The evaluations of a stage that were given up, by ticket."""
        return self._all(EvaluationFailureRecord, f"{stage_name(stage)}/failures")

    def clear_evaluation_failure(self, stage: int, ticket: str) -> None:
        """Have it tried again."""
        self.folder.remove(f"{stage_name(stage)}/failures/{ticket}.json")

    # Progress and resume

    def write_progress(self, record: ProgressRecord) -> None:
        """Say how far it is; tried once, since it only informs."""
        write_sealed(Folder(self.url, patience_s=0), "progress.json", record.to_json())

    def progress(self) -> ProgressRecord | None:
        """How far the trial said last that it was."""
        return self._get(ProgressRecord, "progress.json")

    def write_failure(self, record: FailureRecord) -> None:
        """Record why the trial stopped; taken back when it is started again."""
        self.write_record("failure.json", record)

    def failure(self) -> FailureRecord | None:
        """Why the trial stopped, if it did and was not started again."""
        return self._get(FailureRecord, "failure.json")

    def clear_failure(self) -> None:
        """Forget why the trial stopped: it is started again."""
        self.folder.remove("failure.json")

    def write_stopped(self, record: StopRecord) -> None:
        """Record why the trial was ended before its last stage; it is not resumed while that stands."""
        self.write_record("stopped.json", record)

    def stopped(self) -> StopRecord | None:
        """Why the trial was ended before its last stage, if it was."""
        return self._get(StopRecord, "stopped.json")

    def clear_stopped(self) -> None:
        """Have it resumed: the limit that ended it was raised."""
        self.folder.remove("stopped.json")

    def write_resume(self, tensors: dict[str, np.ndarray], position: ResumePosition) -> None:
        """Replace the resume checkpoint by these arrays and this position."""
        self.folder.write(RESUME, resume_checkpoint.to_bytes(tensors, position))

    def resume(self) -> tuple[dict[str, np.ndarray], ResumePosition] | None:
        """The resume checkpoint, or `None` before the first. Raises `CorruptArchive`."""
        data = self.folder.get(RESUME)
        return None if data is None else resume_checkpoint.from_bytes(data, self.folder.at(RESUME))

    # Records

    def write_record(self, name: str, record: Record) -> None:
        """Write a file of the trial, its digest in it."""
        write_sealed(self.folder, name, record.to_json())

    def _read(self, kind: type[R], name: str) -> R:
        return parse(kind, self.folder.read(name), self.folder.at(name))

    def _get(self, kind: type[R], name: str) -> R | None:
        data = self.folder.get(name)
        return None if data is None else parse(kind, data, self.folder.at(name))

    def _all(self, kind: type[R], folder: str, known: Collection[str] = ()) -> list[R]:
        """The records in a folder, but for the names that are `known`."""
        names = [name.removesuffix(".json") for name in (self.folder / folder).names() if name.endswith(".json")]
        return [self._read(kind, f"{folder}/{name}.json") for name in names if name not in known]
