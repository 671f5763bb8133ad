"""The JSON records of the archive: one model a kind, read and written here alone.

What cannot be a record is one error that names file and field. Accuracies are percent; names in `…_at` are seconds
since 1970, `seconds…` are durations, `…_bytes` bytes; weights of a blend are listed oldest poster first.

A record grows by fields with a default, which say what older records mean; only what was set is written. What an older
version cannot understand raises `SCHEMA`. Each file also holds a digest of its values (`sealed`).
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Annotated, Any, Self, TypeVar

import pydantic
from pydantic import Field

from ppodd.archive.sealed import unsealed
from ppodd.config import DistillConfig, EvaluationConfig, EvaluationProtocol, rebuild
from ppodd.datasets import DataReport
from ppodd.errors import CorruptArchive, LaterVersion, earlier_version, later_version, wrong_field
from ppodd.failures import failure_of
from ppodd.files import sha256

SCHEMA = 1
_SILENT_S, _SILENT_STEPS = 120, 20  # a trial that has told no progress for so long may be gone


class Record(pydantic.BaseModel):
    """Fields that this version does not know are passed over: a later version of the same schema wrote them."""

    model_config = pydantic.ConfigDict(frozen=True)

    def to_json(self) -> dict[str, Any]:
        """What the file holds, in the order of the fields; what was not set is left out."""
        return self.model_dump(mode="json", by_alias=True, exclude_unset=True)


class Versioned(Record):
    """A record with a schema version."""

    schema_version: int = Field(alias="schema")


R = TypeVar("R", bound=Record)
T = TypeVar("T")


def parse(kind: type[R], data: bytes, where: str) -> R:
    """The record in the file `where`.

    Raises:
        CorruptArchive: it is no such record (the field is named), or another than was written.
        LaterVersion: it is one of another schema; the version to use is named.
    """
    values, writer = unsealed(data, where)
    found = values.get("schema", SCHEMA)
    if found != SCHEMA and isinstance(found, int):
        versions = values.get("versions")
        raise another_schema(where, found, writer or (versions.get("ppodd", "") if isinstance(versions, dict) else ""))
    try:
        return kind.model_validate_json(data, strict=True)
    except pydantic.ValidationError as error:
        raise CorruptArchive(f"{where} is damaged: {wrong_field(error)}") from None


def another_schema(where: str, found: int, writer: str) -> LaterVersion:
    """The error for a file of another schema, which the version `writer` of ppodd wrote, if that is known."""
    error = later_version if found > SCHEMA else earlier_version
    return error(where, f" has schema {found}, this ppodd reads {SCHEMA}", writer)


Count = Annotated[int, Field(ge=0)]
Number = Annotated[int, Field(ge=1)]  # of a stage, say
Weight = Annotated[float, Field(ge=0)]


class StartRecord(Record):
    """A sweep's driver is past its checks, and its evaluators are there. `job` tells a submitted one from others."""

    job: str
    started_at: float


class Accuracy(Record):
    """Of a set of networks: their mean, sample standard deviation (none for one network) and each value."""

    mean: float
    std: float | None
    values: tuple[float, ...]

    @classmethod
    def of(cls, values: Sequence[float]) -> Accuracy:
        """The record of these values."""
        std = statistics.stdev(values) if len(values) > 1 else None
        return cls(mean=statistics.fmean(values), std=std, values=tuple(values))


class StageAccuracy(Accuracy):
    """What choices are made by: measured on the images of `split` after `steps` training steps."""

    split: str
    steps: int
    nets: int


class MetaLoss(Record):
    """Of a stage's meta-steps; nothing is known of posters that were imported."""

    first: float | None = None
    last: float | None = None
    mean: float | None = None


class Data(Record):
    """The data set. `shape` is that of an image, `[C, h, w]`; `images` counts each split."""

    name: str
    digest: str
    classes: tuple[str, ...]
    shape: tuple[int, int, int]
    images: dict[str, int]


class DataDigest(Record):
    """SHA-256 of the data that a run read, by which a resume knows that it reads the same."""

    digest: str


class DataRecord(Record):
    """`data.json`: the data of a trial as it was read.

    Attributes:
        dataset, root: where it lay when the trial was last distilled.
        report: what was read of it; not all that was written by later versions is known.
        whitening: SHA-256 of `whitening.safetensors`.
    """

    digest: str
    dataset: str
    root: str
    report: DataReport
    whitening: str


class SweepDataRecord(DataDigest):
    """`data/<request>.json` of a sweep: what the first of its trials on these data read, and on which node."""

    trial: str
    node: str


class StorageBytes(Record):
    """Of posters and labels, by number format."""

    fp32: Count
    fp16: Count
    int8: Count


class PixelBudget(Record):
    """Images per class of one poster and of all that the blend draws on; numbers that a poster and its labels hold."""

    poster_ipc: Annotated[float, Field(gt=0)]
    cumulative_ipc: Weight
    poster_floats: Count
    label_floats: Count
    storage_bytes: StorageBytes


class StageBudget(PixelBudget):
    """And the compute of this and all earlier stages; nobody took the time of posters that were imported."""

    meta_steps: Count
    seconds: Annotated[float, Field(ge=0)] | None


class Digests(Record):
    """SHA-256 of a stage's files; that of the picture was not always recorded."""

    poster: str = Field(alias="poster.safetensors")
    picture: str | None = Field(None, alias="poster.png")

    @classmethod
    def of(cls, poster: str, png: bytes) -> Digests:
        """Of a poster's digest and the bytes of its picture."""
        return cls.model_validate({"poster.safetensors": poster, "poster.png": sha256(png)})


def _one_per_stage(values: tuple[T, ...], info: pydantic.ValidationInfo) -> tuple[T, ...]:
    """What is held of each poster so far, of as many as the stage's number says."""
    if len(values) != (stage := info.data.get("stage", len(values))):
        raise ValueError(f"stage {stage} has {stage} of these, one per poster")
    return values


class StageRecord(Versioned):
    """`stage.json`: a finished stage.

    Attributes:
        blend: π that it was trained under; `evaluation_blend`: π to evaluate it with.
        real_chunk: real images in a graph at a time, as it was carried out in the end.
    """

    stage: Number
    num_stages: Number
    blend_strategy: str
    blend: tuple[Weight, ...]
    evaluation_blend: tuple[Weight, ...]
    stage_accuracy: StageAccuracy
    leaks_test_set: bool
    meta_loss: MetaLoss
    data: Data
    versions: dict[str, str]
    device: str
    real_chunk: int | None = None
    finished_at: float
    budgets: StageBudget
    digests: Digests

    _one_per_poster = pydantic.field_validator("blend", "evaluation_blend")(_one_per_stage)

    def weights(self, mode: str) -> tuple[float, ...]:
        """What an evaluation draws the posters with: π, or the latest poster alone."""
        return (*[0.0] * (self.stage - 1), 1.0) if mode == "latest" else self.evaluation_blend


class CandidateRecord(Record):
    """`candidate.json`: how the accuracy of a stage that is not archived yet is to be measured, on which poster."""

    protocol: EvaluationProtocol
    blend: tuple[float, ...]
    split: str
    data: DataDigest
    digest: str


class EvaluationRecord(Versioned):
    """`evaluations/<ticket>.json`: `posters` are the digests of all so far; accuracies are by training steps.

    Attributes:
        balanced: the mean over classes; nothing where all are of one size, and so the accuracy.
        per_class: of each class, the mean over networks; `None` where it has no images.
    """

    ticket: str
    stage: Number
    protocol: EvaluationProtocol
    blend: tuple[Weight, ...]
    posters: tuple[str, ...]
    accuracy: dict[int, Accuracy]
    balanced: dict[int, Accuracy] = {}
    per_class: dict[int, tuple[float | None, ...]] = {}
    split: str
    leaks_test_set: bool
    budgets: PixelBudget
    seconds: float
    device: str
    versions: dict[str, str]
    finished_at: float

    _one_per_poster = pydantic.field_validator("blend", "posters")(_one_per_stage)


class ProgressRecord(Record):
    """`progress.json`: the stage in training, as its last refresh told it; `seconds_left` are those of all stages.

    `node`, `pid` and `log_file` are of the process that trains it: where to look when it is gone.
    """

    stage: int
    num_stages: int
    meta_step: int
    meta_steps: int
    meta_loss: float
    seconds_per_meta_step: float
    seconds_left: float
    updated_at: float
    node: str | None = None
    pid: int | None = None
    log_file: str | None = None

    def is_fresh(self, now: float) -> bool:
        """Whether it is so young at the time `now` that the trial is likely to be under way still."""
        return now - self.updated_at < _SILENT_S + _SILENT_STEPS * self.seconds_per_meta_step


class LossSoFar(Record):
    """Meta-losses of the meta-steps of a stage that are done."""

    first: float = 0.0
    last: float = 0.0
    sum: float = 0.0

    def then(self, loss: float, is_first: bool) -> Self:
        """With that of one more."""
        first, before = (loss, 0.0) if is_first else (self.first, self.sum)
        return type(self)(first=first, last=loss, sum=before + loss)


class ResumePosition(Record):
    """Where a resume checkpoint stands: the numbers of `TrainingState`, of which this is the archived form.

    A checkpoint of an earlier version may lack some: they are then at their default.

    Attributes:
        best_loss: `None` before there is one.
    """

    stage: Number = 1
    step: Count = 0
    adam_steps: Count = 0
    norm_average: float = 0.0
    curriculum: int = 0
    best_loss: float | None = None
    best_epoch: int = 0
    meta_steps: Count = 0
    follows: str = ""
    seconds: float = 0.0
    loss: LossSoFar = LossSoFar(first=0.0, last=0.0, sum=0.0)


class FailureRecord(Record):
    """`failure.json`: why a trial failed; taken back when it is started again.

    Attributes:
        error: in one line.
        type, message, traceback: of the exception, where a process was left to tell.
        node, pid, log_file: where that process ran, and where its log is.
    """

    error: str
    attempts: int | None = None
    failed_at: float | None = None
    type: str | None = None
    message: str | None = None
    traceback: str | None = None
    node: str | None = None
    pid: int | None = None
    log_file: str | None = None

    @classmethod
    def of(cls, error: BaseException, **also: Any) -> Self:
        """Of an exception, in the process that caught it."""
        return cls(**failure_of(error), **also)


class _OfEvaluation(Record):
    ticket: str
    stage: int
    protocol: EvaluationProtocol


class EvaluationFailureRecord(FailureRecord, _OfEvaluation):
    """`failures/<ticket>.json`: why an evaluation was given up, after how many attempts."""


class StopRecord(Record):
    """`stopped.json`: why a trial was ended before its last stage, and after which one.

    Attributes:
        scheduler: the kind of the one that ended it, for good; or nothing, where a limit did.
        limit: of the sweep file, such as `trial_hours`: with more of it the trial is resumed.
        hours: that the trial had computed.
    """

    scheduler: str = ""
    limit: str | None = None
    hours: float | None = None
    stage: int
    why: str
    stopped_at: float


class HoursRecord(Record):
    """`hours.json`: for how long drivers have run a sweep that has a limit of that."""

    hours: float


class ImportedPoster(Record):
    """The names of the files that a stage's poster, and its labels if they were learned, came from."""

    poster: str
    labels: str | None


class ImportRecord(Record):
    """`imported.json`: where the posters of a trial came from that were not distilled here."""

    posters: tuple[ImportedPoster, ...]


def _listed(value: Any) -> Any:
    """A single evaluation was written without a list around it."""
    return (value,) if isinstance(value, dict) else tuple(value) if isinstance(value, list) else value


class SearchRecord(Record):
    """How a search finds trials: what its section of the sweep file says, and what it needs of the rest of the file.

    Attributes:
        base: config values of every trial, but for those that the search suggests.
    """

    model_config = pydantic.ConfigDict(frozen=True, extra="allow")

    base: dict[str, Any]


class SweepTrial(Record):
    """A trial that a sweep lists, and of a searched sweep the values that were suggested.

    Its config is held as it was written; `SweepRecord.config` reads it, of whichever version it is.
    """

    name: str
    config: dict[str, Any]
    suggested: dict[str, Any] | None = None


class SweepRecord(Versioned):
    """`sweep.json`: the resolved sweep file.

    Attributes:
        varied: config fields that differ between trials.
        evaluation: how its stages are evaluated, as it was written; `evaluations` reads it.
        search, scheduler, objective: as its file says, where it says so; the scheduler is only ever compared.
        wanted: number of trials the search should produce.
        writer: the version of ppodd that wrote the file, if it says so.
    """

    name: str
    description: str = ""
    preset: str = ""
    varied: tuple[str, ...] = ()
    trials: tuple[SweepTrial, ...]
    evaluation: Annotated[tuple[dict[str, Any], ...], pydantic.BeforeValidator(_listed)] = ()
    search: SearchRecord | None = None
    wanted: int = 0
    scheduler: dict[str, Any] | None = None
    objective: str | None = None
    created_at: float | None = None
    writer: str = Field("", alias="ppodd")

    @property
    def trials_wanted(self) -> int:
        """How many trials the sweep is to have; of a search, also those not suggested yet."""
        return max(self.wanted, len(self.trials))

    def config(self, trial: SweepTrial) -> DistillConfig:
        """The config of one of its trials.

        Raises:
            CorruptArchive: it is no valid config.
            LaterVersion: it has fields that this version does not know.
        """
        return rebuild(DistillConfig, trial.config, f"trial {trial.name} in sweep.json", self.writer)

    def configs(self) -> dict[str, DistillConfig]:
        """The config of each trial, by its name. Raises as `config` does."""
        return {trial.name: self.config(trial) for trial in self.trials}

    def evaluations(self) -> list[EvaluationConfig]:
        """How its stages are evaluated: the default, where it does not say. Raises as `config` does."""
        where = f"sweep.json of {self.name}"
        return [rebuild(EvaluationConfig, values, where, self.writer) for values in self.evaluation or ({},)]
