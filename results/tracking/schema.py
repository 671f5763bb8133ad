"""Every name that ppodd writes to MLflow or reads from it; no other module knows one.

One experiment a sweep; in it a parent run for the sweep and a nested run for each trial. A trial's params are its
config, its metrics are stepped by stage. Accuracies are percent.
"""

from __future__ import annotations

import functools
import hashlib
import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from ppodd.archive import EvaluationFailureRecord, EvaluationRecord, ProgressRecord, StageRecord
from ppodd.config import P_PODD, DistillConfig, EvaluationConfig, EvaluationProtocol

SCHEMA = "1"

# Tags
KEY = "ppodd.key"  # unique: "<sweep>" for the parent run, "<sweep>/<trial>" for a trial's
SCHEMA_TAG = "ppodd.schema"
NAMES_TAG, NAMES = "ppodd.names", "2"  # which metrics a trial's run has: those without it get what is new
STATUS = "ppodd.status"  # running, finished, failed, or stopped: early, by a scheduler
FAILURE = "ppodd.failure"
STOPPED = "ppodd.stopped"  # why it was stopped early
EVALUATION_FAILURES = "ppodd.evaluation_failures"  # [{"stage", "arch", "mode", "error"}]
STAGES = "ppodd.stages"  # "2/4"
LEAKS = "ppodd.leaks_test_set"
ORIGIN = "ppodd.origin"  # "imported": its posters were not distilled here
DATA = "ppodd.data_digest"
VERSIONS = "ppodd.versions"
PROGRESS = "ppodd.progress"
NOW = "now"  # of a running trial, in words: stage, meta-step, loss, rate, time left
OWN_PROTOCOL = "ppodd.protocol"  # hash of the protocol whose metrics carry no suffix
PROTOCOL = "ppodd.protocol."  # + its hash: the protocol as JSON, and where it departs from the distillation's settings
LOGGED = "ppodd.logged"  # what the run holds: {"<stage>@<finished_at in ms>": [tickets, shortened]}
FILES = "ppodd.files"  # the trial's files as they were when all of them was logged: unchanged, none is read again
CREATED = "ppodd.created_at"  # of the sweep: tells apart two sweeps of one name
POSTERS = "ppodd.posters"  # digests of the stages' poster files, shortened: {"1": "ab12…"}
SUMMARY = "ppodd.summary"  # of a sweep: how many evaluations its artifacts show
SETTING = "setting"  # of a trial: what it varies but for the seed; group runs by it
SPLIT = "ppodd.stage_accuracy_split"
# between accuracy and balanced accuracy: below, classes are nearly of one size, as those of digits are
TELLING_PCT = 1.0
CLASSES = "ppodd.class_accuracy"  # {"<mode>/<arch>": {"stage", "steps", "percent": {class: accuracy}}}, see below
TRIALS = "ppodd.trials_finished"  # of a sweep: "3/8"
BEST, ANSWER = "best setting", "answer"  # of a sweep: its answer, in words
PARENT = "mlflow.parentRunId"
RUN_NAME = "mlflow.runName"
NOTE = "mlflow.note.content"
KIND = "mlflow.experimentKind"  # which of MLflow's workspaces shows the experiment
TRAINING = "custom_model_development"

# What MLflow's pages say beside the numbers
EXPERIMENT_NOTE = (
    "A sweep of distilled posters (PoDD, P-PoDD) by ppodd: one parent run, a nested run for each trial. Group the runs "
    "by the tag `setting` to average over seeds; compare `test_accuracy/…` at one training budget (`steps_<n>`). "
    "`ppodd results report` makes a page of it with intervals and tests."
)
PARENT_NOTE = (
    "**How to read it.** The trials are the nested runs, their config the params. Metrics are stepped by stage, and "
    "the tables show the last one: `test_accuracy/<mode>/<network>/steps_<n>` is the mean over fresh networks trained "
    "n steps on the posters (percent), `stage_accuracy` that on the validation split. A claim is fair at equal "
    "`poster_ipc` or `cumulative_ipc`, and over at least three seeds. Artifacts of this run, once the sweep is "
    "evaluated: `answer.md`, `table.md`, `curves/`, and in `posters/` the last poster of each trial."
)


def parent_note(description: str, links: Mapping[str, str]) -> str:
    """The parent run's description: the sweep's own words, pages that compare its trials, and how to read them."""
    pages = " · ".join(f"[{title}]({url})" for title, url in links.items())
    return f"{description}\n\n{PARENT_NOTE}\n\n**Compare:** {pages}"


def own_words(note: str) -> str:
    """The inverse of `parent_note`."""
    return note.partition(PARENT_NOTE)[0].strip()


def lacks_links(note: str) -> bool:
    """Whether a parent run's description is as an earlier version wrote it, and nobody changed it since."""
    return note.endswith(PARENT_NOTE)


# Metrics
BALANCED_ACCURACY = "balanced_accuracy/"  # likewise: the mean over classes of unequal size
TEST_ACCURACY = "test_accuracy/"  # + mode, network, protocol and budget: see `AccuracyMetric`
POSTER_IPC, CUMULATIVE_IPC, STORAGE = "poster_ipc", "cumulative_ipc", "storage_bytes"
ACCURACY = "accuracy/"  # + mode: what `test_accuracy/…` says of the main network at the largest training budget
STAGE_ACCURACY, META_LOSS, META_STEPS = "stage_accuracy", "meta_loss", "meta_steps"
DISTILL_SECONDS = "seconds/distill"
BLEND = "blend/stage_"  # + number of the poster: its weight
_TAG_CHARS, _ERROR_CHARS = 5000, 300
_SHOWN_IN_NAME = ("arch", "mode", "budgets")  # of a protocol
_ACCURACY = re.compile(
    TEST_ACCURACY + r"(?P<mode>\w+)/(?P<arch>[^/]+?)(?:/protocol_(?P<protocol>\w+))?/steps_(?P<steps>\d+)$"
)


def headline(mode: str) -> str:
    """The metric that pages show first: the accuracy by the main network at the largest training budget."""
    return ACCURACY + mode


def network(arch: str) -> str:
    """A network's name as the names of metrics hold it."""
    return re.sub(r"[^\w.-]", ".", arch)


class AccuracyMetric(NamedTuple):
    """The metric of one kind of accuracy; `protocol` is empty for the sweep's own protocol."""

    mode: str
    arch: str
    protocol: str
    steps: int

    @property
    def base(self) -> str:
        """What the names of its metrics begin with."""
        return f"{TEST_ACCURACY}{self.mode}/{network(self.arch)}" + (
            f"/protocol_{self.protocol}" if self.protocol else ""
        )

    @property
    def mean(self) -> str:
        """The metric of the mean over networks."""
        return f"{self.base}/steps_{self.steps}"

    @property
    def balanced(self) -> str:
        """The metric of the same accuracy with each class counting as much."""
        return BALANCED_ACCURACY + self.mean.removeprefix(TEST_ACCURACY)

    @property
    def std(self) -> str:
        """The metric of the sample standard deviation."""
        return f"{self.mean}/std"

    @property
    def nets(self) -> str:
        """The metric of the number of networks."""
        return f"{self.base}/nets"

    @classmethod
    def parse(cls, metric: str) -> AccuracyMetric | None:
        """The accuracy whose mean a metric is, if it is one's."""
        match = _ACCURACY.match(metric)
        return cls(match["mode"], match["arch"], match["protocol"] or "", int(match["steps"])) if match else None


def protocol_hash(protocol: EvaluationProtocol) -> str:
    """Tells protocols apart that differ in more than architecture, mode and budgets, which metric names show."""
    return hashlib.sha256(json.dumps(_rest(protocol), sort_keys=True).encode()).hexdigest()[:8]


def _rest(protocol: EvaluationProtocol) -> dict[str, Any]:
    """What a metric's name does not show; where the rate decays, that includes the step by which it has.

    Of a user's network that was edited, the last evaluation counts.
    """
    rest = {k: v for k, v in sorted(protocol.canonical().items()) if k not in (*_SHOWN_IN_NAME, "source")}
    return {**rest, "decay_steps": max(protocol.budgets)} if protocol.decay else rest


def protocol_tag(config: DistillConfig, protocol: EvaluationProtocol) -> tuple[str, str]:
    """Name and value of the tag that spells a protocol out; `departs` is empty where it follows the distillation's."""
    follows = EvaluationConfig().protocols(config)[0]
    rest, usual = _rest(protocol), _rest(follows)
    departs = ", ".join(f"{k}={v}" for k, v in rest.items() if v != usual.get(k))
    return PROTOCOL + protocol_hash(protocol), json.dumps({"departs": departs, **rest})


def departures(tags: dict[str, str]) -> dict[str, str]:
    """What the protocols of a run depart in, by the suffix of their metrics (empty for the run's own)."""
    spelled = {k.removeprefix(PROTOCOL): json.loads(v)["departs"] for k, v in tags.items() if k.startswith(PROTOCOL)}
    return {"" if suffix == tags.get(OWN_PROTOCOL) else suffix: text for suffix, text in spelled.items()}


def stage_metrics(record: StageRecord) -> Iterator[tuple[str, float]]:
    """Metrics of a `stage.json`, at step `record.stage`."""
    budgets, accuracy = record.budgets, record.stage_accuracy
    yield POSTER_IPC, budgets.poster_ipc
    yield CUMULATIVE_IPC, budgets.cumulative_ipc
    yield STORAGE, budgets.storage_bytes.fp32
    yield META_STEPS, budgets.meta_steps
    if budgets.seconds is not None:  # not known of imported posters, nor is the loss
        yield DISTILL_SECONDS, budgets.seconds
    if record.meta_loss.last is not None:
        yield META_LOSS, record.meta_loss.last
    yield STAGE_ACCURACY, accuracy.mean
    if accuracy.std is not None:
        yield f"{STAGE_ACCURACY}/std", accuracy.std
    for stage, weight in enumerate(record.blend, 1):
        yield f"{BLEND}{stage:02d}", weight


def stage_tags(record: StageRecord) -> dict[str, str]:
    """What a `stage.json` says of its whole run."""
    return {
        LEAKS: json.dumps(record.leaks_test_set),
        SPLIT: record.stage_accuracy.split,
        DATA: record.data.digest,
        VERSIONS: json.dumps(record.versions, sort_keys=True),
    }


def poster_digests(records: dict[int, StageRecord], tags: Mapping[str, str]) -> str:
    """The tag `POSTERS` of a trial's stage records, and of stages that its run shows but the archive has lost."""
    found = {str(stage): _digest(record) for stage, record in records.items()}
    digests = {**json.loads(tags.get(POSTERS, "{}")), **found}
    return json.dumps(dict(sorted(digests.items(), key=lambda entry: int(entry[0]))))


def shows_poster(tags: Mapping[str, str], record: StageRecord) -> bool:
    """Whether a run with these tags shows this stage's poster."""
    return json.loads(tags.get(POSTERS, "{}")).get(str(record.stage)) == _digest(record)


def _digest(record: StageRecord) -> str:
    return record.digests.poster[:16]


class FailedEvaluation(NamedTuple):
    """An evaluation that was given up, as the tag `EVALUATION_FAILURES` holds it: its error is shortened."""

    stage: int
    arch: str
    mode: str
    error: str

    def __str__(self) -> str:
        return f"{self.stage} ({self.arch}, {self.mode}): {self.error}"


def failed_evaluations(tags: Mapping[str, str]) -> list[FailedEvaluation]:
    """The inverse of `evaluation_failures`, out of a trial's tags."""
    return [FailedEvaluation(**entry) for entry in json.loads(tags.get(EVALUATION_FAILURES, "[]"))]


def progress_of(tags: Mapping[str, str]) -> ProgressRecord | None:
    """How far a trial was that is under way, out of its tags; `None` where they do not say."""
    told = tags.get(PROGRESS)
    return ProgressRecord.model_validate_json(told) if told else None


def evaluation_failures(records: Iterable[EvaluationFailureRecord]) -> str:
    """The tag `EVALUATION_FAILURES` of a trial's failed evaluations, as many as a tag holds; errors are shortened."""
    entries: list[dict[str, Any]] = []
    for record in records:
        of = record.protocol
        entry = FailedEvaluation(record.stage, of.arch, of.mode, record.error[:_ERROR_CHARS])._asdict()
        if len(json.dumps([*entries, entry])) > _TAG_CHARS:
            break
        entries.append(entry)
    return json.dumps(entries)


def evaluation_metrics(record: EvaluationRecord, own: str, main: EvaluationProtocol) -> Iterator[tuple[str, float]]:
    """Metrics of an evaluation's record, at step `record.stage`. Pages show those of the `main` protocol first."""
    protocol = record.protocol
    found = protocol_hash(protocol)
    if protocol == main.model_copy(update={"mode": protocol.mode}):
        yield headline(protocol.mode), record.accuracy[max(record.accuracy)].mean
    for steps, accuracy in record.accuracy.items():
        names = AccuracyMetric(protocol.mode, protocol.arch, "" if found == own else found, steps)
        yield names.mean, accuracy.mean
        if accuracy.std is not None:
            yield names.std, accuracy.std
        yield names.nets, len(accuracy.values)
        if steps in record.balanced:
            yield names.balanced, record.balanced[steps].mean
    yield f"seconds/evaluate/{protocol.mode}/{network(protocol.arch)}", record.seconds


class ClassAccuracy(NamedTuple):
    """The accuracy (percent) of each class in a stage, after so many training steps, as the tag `CLASSES` holds it."""

    stage: int
    steps: int
    percent: dict[str, float | None]


def classes_of(tags: Mapping[str, str]) -> dict[tuple[str, str], ClassAccuracy]:
    """The inverse of `class_accuracies`, out of a trial's tags: by mode and network."""
    held = json.loads(tags.get(CLASSES, "{}"))
    return {tuple(name.split("/", 1)): ClassAccuracy(**told) for name, told in held.items()}


def class_accuracies(tags: Mapping[str, str], record: EvaluationRecord, classes: Sequence[str]) -> dict[str, str]:
    """The tag that holds the accuracy of each class in the last stage, at the last budget.

    Only where classes are so unequal that the balanced accuracy is another: else the accuracy says as much. Without it
    where it is too long for a tag.
    """
    held, of = classes_of(tags), (record.protocol.mode, record.protocol.arch)
    steps = max(record.accuracy)
    even = record.balanced.get(steps)
    if even is None or abs(even.mean - record.accuracy[steps].mean) < TELLING_PCT:
        return {}
    if of in held and held[of].stage > record.stage:
        return {}
    percent = dict(zip(classes, record.per_class[steps], strict=True))
    held[of] = ClassAccuracy(record.stage, steps, percent)
    text = json.dumps({"/".join(key): one._asdict() for key, one in held.items()})
    return {CLASSES: text} if len(text) <= _TAG_CHARS else {}


def answer_metrics(sizes: Sequence[tuple[float, Mapping[str, float]]]) -> Iterator[tuple[str, float]]:
    """Metrics of a sweep's run: its answer's numbers by poster IPC; the first size's carry none."""
    for number, (ipc, values) in enumerate(sizes):
        where = f"/ipc_{ipc:.4g}" if number else ""
        yield from ((f"{ANSWER}{where}/{name}", value) for name, value in values.items() if not math.isnan(value))


def answer_tags(best: str, words: str) -> dict[str, str]:
    """Tags of a sweep's run: the best setting of the first size, and the answer in words."""
    return {BEST: best[:_TAG_CHARS], ANSWER: words[:_TAG_CHARS]}


def setting(config: DistillConfig, varied: Sequence[str]) -> str:
    """What a trial varies but for its seed, as short as a narrow column wants it: `4st dynamic 38×15 lr=0.01`."""
    size = f"{config.poster_width}×{config.poster_height}"
    words = {
        "num_stages": f"{config.num_stages}st",
        "blend": config.blend,
        "method": config.method,
        "poster_width": size,
        "poster_height": "" if "poster_width" in varied else size,
        "seed": "",
    }
    named = (words.get(name, f"{name}={_short(getattr(config, name))}") for name in varied)
    return " ".join(word for word in named if word)


def now(progress: ProgressRecord) -> str:
    """A `progress.json` as short as a narrow column wants it: `2/4, 120/480, loss 1.234, 0.42 s/step, 3 min left`."""
    at = f"{progress.stage}/{progress.num_stages}, {progress.meta_step}/{progress.meta_steps}"
    speed = f"{progress.seconds_per_meta_step:.2g} s/step, {progress.seconds_left / 60:.0f} min left"
    return f"{at}, loss {progress.meta_loss:.3f}, {speed}"


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def params(config: DistillConfig) -> dict[str, str]:
    """The config as params: text as it is, everything else as JSON."""
    values = config.model_dump(mode="json")
    return {k: v if isinstance(v, str) else _text(v) for k, v in values.items()}


def _text(value: Any) -> str:
    """A value as JSON. Numbers are what most are, and the same in most trials."""
    return _number(value) if isinstance(value, int | float) else json.dumps(value)


@functools.lru_cache(maxsize=4096, typed=True)
def _number(value: float) -> str:
    return json.dumps(value)


def config_values(params: dict[str, str]) -> dict[str, Any]:
    """The inverse of `params`; what a run of an earlier version lacks is at its default."""
    is_text = _is_text()
    return {"method": P_PODD, **{k: v if is_text[k] else _parsed(v) for k, v in params.items() if k in is_text}}


@functools.cache
def _is_text() -> dict[str, bool]:
    return {name: field.annotation is str for name, field in DistillConfig.model_fields.items()}


@functools.lru_cache(maxsize=4096)
def _parsed(value: str) -> Any:
    try:
        parsed = json.loads(value)
    except ValueError:
        return value
    return tuple(parsed) if isinstance(parsed, list) else parsed
