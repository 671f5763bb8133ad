"""The archive: every stage of every trial as plain files, the single source of truth.

    <archive>/<sweep>/sweep.json                                the resolved sweep: its trials and evaluation
    <archive>/<sweep>/protocols/<digest>.json                   an evaluation that was asked for later
    <archive>/<sweep>/driver.json                               who runs the sweep now, if anybody does
    <archive>/<sweep>/<trial>/config.json
                              imported.json                     the files its posters came from, if not distilled here
                              stage-01/stage.json               written last: a stage exists when it does
                                       poster.safetensors       poster, labels or label array, class order
                                       poster.png
                                       candidate.json           until then: how its accuracy is to be measured
                                       evaluations/<ticket>.json
                                       failures/<ticket>.json   why an evaluation was given up, if it was
                              progress.json                     meta-step, loss and rate of the stage in training
                              failure.json                      why the trial failed, if it did
                              stopped.json                      why a scheduler stopped it early, if it did
                              resume/state.safetensors          the resume checkpoint, replaced atomically

Accuracies are percent. This module needs no torch: tensors are numpy arrays here.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import statistics
import time
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy

from ppodd.config import CIRCUMSTANCES, DistillConfig, EvaluationConfig, EvaluationProtocol, build
from ppodd.errors import BadInput, CorruptArchive
from ppodd.files import PATIENCE_S, Folder, sha256

SCHEMA = 1
_STAGE = re.compile(r"stage-(\d\d+)/stage\.json$")
_FAILURE = re.compile(r"stage-\d\d+/failures/.+\.json$")


@dataclass(frozen=True)
class PosterFile:
    """What `poster.safetensors` holds.

    Attributes:
        poster: `[C, H, W]` pixels in the whitened space of the data set.
        labels: fixed labels `[P, K]` of the patches, or the learned label array `[K, h', w']`.
        class_order: `[rows, columns]` labels of the class layout.
        inner_lr: learned inner learning rate (`--train_lr`), or `None`.
    """

    poster: np.ndarray
    labels: np.ndarray
    class_order: np.ndarray
    inner_lr: float | None = None

    @property
    def learned_labels(self) -> bool:
        return self.labels.ndim == 3

    def to_bytes(self) -> bytes:
        name = "label_array" if self.learned_labels else "labels"
        tensors = {"poster": self.poster, name: self.labels, "class_order": self.class_order}
        if self.inner_lr is not None:
            tensors["inner_lr"] = np.array([self.inner_lr])
        return safetensors.numpy.save({k: np.asarray(v, order="C") for k, v in tensors.items()})

    @classmethod
    def from_bytes(cls, data: bytes, where: str) -> PosterFile:
        tensors = _tensors(data, where)
        try:
            labels = tensors["label_array"] if "label_array" in tensors else tensors["labels"]
            inner_lr = float(tensors["inner_lr"][0]) if "inner_lr" in tensors else None
            return cls(tensors["poster"], labels, tensors["class_order"], inner_lr)
        except KeyError as error:
            raise CorruptArchive(f"{where} holds no tensor {error}") from None


def _tensors(data: bytes, where: str) -> dict[str, np.ndarray]:
    try:
        return safetensors.numpy.load(data)
    except (safetensors.SafetensorError, ValueError, KeyError) as error:
        raise CorruptArchive(f"{where} is damaged: {error}") from None


def _digest(tensors: dict[str, np.ndarray], text: str) -> str:
    parts = [f"{name}{array.dtype}{array.shape}".encode() + array.tobytes() for name, array in sorted(tensors.items())]
    return sha256(b"".join([text.encode(), *parts]))


def storage_bytes(poster: PosterFile, posters: int) -> dict[str, int]:
    """Bytes of `posters` posters with their labels by number format; fixed labels follow from the layout."""
    floats = posters * (poster.poster.size + (poster.labels.size if poster.learned_labels else 0))
    return {"fp32": 4 * floats, "fp16": 2 * floats, "int8": floats}


def summary(values: Sequence[float]) -> dict[str, Any]:
    """Mean, sample standard deviation (`None` for one value) and the values of a set of networks."""
    std = statistics.stdev(values) if len(values) > 1 else None
    return {"mean": statistics.fmean(values), "std": std, "values": list(values)}


def ticket(
    protocol: EvaluationProtocol, poster_digests: Sequence[str], blend: Sequence[float], data_digest: str
) -> str:
    """The name of an evaluation: a digest of the posters it trains on, their weights, the data and the protocol."""
    drawn = [(digest, weight) for digest, weight in zip(poster_digests, blend, strict=True) if weight > 0]
    key = json.dumps([SCHEMA, protocol.model_dump(mode="json"), drawn, data_digest], sort_keys=True)
    return hashlib.sha256(key.encode()).hexdigest()[:20]


class Archive:
    """All sweeps below one folder or fsspec URL."""

    def __init__(self, url: str | os.PathLike[str], patience_s: float = PATIENCE_S):
        self.folder, self._patience_s = Folder(url, patience_s), patience_s
        self.url = self.folder.url

    def sweeps(self) -> list[str]:
        return [name for name in self.folder.names() if self.holds(name)]

    def require(self) -> None:
        """Raise `BadInput` where there is no sweep."""
        if not any(map(self.holds, self.folder.names())):
            raise BadInput(f"no archive at {self.url}: name the folder that a sweep or distillation wrote (--archive)")

    def holds(self, sweep: str) -> bool:
        """Whether there is a sweep of this name: a sweep file's, or runs that belong to none."""
        return (self.folder / sweep).exists("sweep.json") or bool(self.listing(sweep))

    def trials(self, sweep: str) -> list[str]:
        return list(self.listing(sweep))

    def listing(self, sweep: str) -> dict[str, set[str]]:
        """The names of all files below each trial of a sweep, such as `stage-01/stage.json`, by trial in order.

        One look at everything: a request for a thousand files on S3. `stages_in` and `tickets_in` read it. Files that
        are written meanwhile may be missing, never half there.
        """
        found: dict[str, set[str]] = {}
        for path in (self.folder / sweep).find():
            trial, _, name = path.partition("/")
            found.setdefault(trial, set()).add(name)
        return {trial: names for trial, names in found.items() if "config.json" in names}

    def trial(self, sweep: str, trial: str) -> TrialArchive:
        return TrialArchive(f"{self.url}/{sweep}/{trial}", self._patience_s)

    def sweep(self, sweep: str) -> dict[str, Any] | None:
        """The resolved sweep file (`tune` writes it), or `None` for runs that belong to no sweep file."""
        return (self.folder / sweep).get_json("sweep.json")

    def write_sweep(self, sweep: str, record: dict[str, Any]) -> None:
        (self.folder / sweep).write_json("sweep.json", record)

    def evaluations(self, sweep: str, record: dict[str, Any] | None = None) -> list[EvaluationConfig]:
        """How a sweep's stages are evaluated: as its file says (the default without one), and as was added since.

        `record` is what `sweep.json` holds, for who has read it.

        Raises:
            BadInput, CorruptArchive: a record cannot be read.
        """
        record = self.sweep(sweep) if record is None else record
        stated = (record or {}).get("evaluation") or {}
        added = self.folder / f"{sweep}/protocols"
        values = [stated] if isinstance(stated, dict) else stated
        return [build(EvaluationConfig, v) for v in (*values, *(added.read_json(name) for name in added.names()))]

    def add_evaluation(self, sweep: str, evaluation: EvaluationConfig) -> None:
        """Have a sweep's stages evaluated in this way too; asked for twice, it is one."""
        if evaluation not in self.evaluations(sweep):
            values = evaluation.model_dump(mode="json")
            name = sha256(json.dumps(values, sort_keys=True).encode())[:12]
            (self.folder / sweep).write_json(f"protocols/{name}.json", values)

    def clear_evaluation_failures(self, sweep: str) -> None:
        """Have every evaluation that was given up tried again."""
        for trial, files in self.listing(sweep).items():
            for name in files:
                if _FAILURE.match(name):
                    self.trial(sweep, trial).folder.remove(name)


class TrialArchive:
    """One trial's folder: its config, stages, evaluations, progress and resume checkpoint."""

    def __init__(self, url: str | os.PathLike[str], patience_s: float = PATIENCE_S):
        self.folder = Folder(url, patience_s)
        self.url = self.folder.url
        *_, self.sweep, self.trial = ["", *self.url.rsplit("/", 2)]

    # Config

    def create(self, config: DistillConfig, resume: bool, imported: Sequence[dict[str, Any]] = ()) -> None:
        """Claim the folder for `config`, or continue it; `imported` says which files its posters come from.

        Raises:
            BadInput: the folder holds another config, or this one and `resume` is off, or posters that were imported
                where these are not, or the other way round.
        """
        if not self.folder.exists("config.json"):
            if imported:
                self.folder.write_json("imported.json", {"posters": list(imported)})
            self.folder.write_json("config.json", config.model_dump(mode="json"))
            return
        held = self.config()
        for field in type(config).model_fields:
            mine, theirs = getattr(config, field), getattr(held, field)
            if mine != theirs and field not in CIRCUMSTANCES:
                raise BadInput(
                    f"{self.url} holds another run: {field}={theirs!r} there, {mine!r} here; "
                    f"choose another --name or --archive, or resume with the same settings"
                )
        if self.folder.exists("imported.json") != bool(imported):
            raise BadInput(
                f"{self.url} holds {'a distillation' if imported else 'imported posters'}: choose another --name"
                + ("" if imported else ", or go on with `ppodd import`")
            )
        if not resume:
            raise BadInput(f"{self.url} already holds this run: continue it with --resume, or choose another --name")

    def config(self) -> DistillConfig:
        """Raise `CorruptArchive` where the file is missing or does not hold a valid config."""
        try:
            return build(DistillConfig, self.folder.read_json("config.json"))
        except BadInput as error:
            raise CorruptArchive(f"{self.folder.at('config.json')}: {error}") from None

    # Stages

    def stages(self) -> list[int]:
        """Numbers of the finished stages, from 1, in order."""
        return stages_in(self.folder.find())

    def complete(self) -> bool:
        """Whether every stage of the config is in the archive."""
        return len(self.stages()) >= self.config().num_stages

    def write_stage(self, stage: int, record: dict[str, Any], poster: PosterFile, png: bytes) -> dict[str, Any]:
        """Archive a finished stage; its record, with schema and digest added, is written last and returned."""
        data = poster.to_bytes()
        digests = {"poster.safetensors": sha256(data), "poster.png": sha256(png)}
        record = {"schema": SCHEMA, "stage": stage, **record, "digests": digests}
        self.folder.write(f"{stage_name(stage)}/poster.safetensors", data)
        self.folder.write(f"{stage_name(stage)}/poster.png", png)
        self.folder.write_json(f"{stage_name(stage)}/stage.json", record)
        self.folder.remove(f"{stage_name(stage)}/candidate.json")
        return record

    def write_candidate(self, stage: int, record: dict[str, Any], poster: PosterFile) -> None:
        """Lay down a stage that waits for its accuracy: `record` says by which `protocol`, `blend` and `split`."""
        data = poster.to_bytes()
        self.folder.write(f"{stage_name(stage)}/poster.safetensors", data)
        self.folder.write_json(f"{stage_name(stage)}/candidate.json", {**record, "digest": sha256(data)})

    def candidate(self, stage: int) -> tuple[dict[str, Any], PosterFile]:
        """What `write_candidate` laid down. Raises `CorruptArchive` where it is gone, or the poster is another."""
        record = self.folder.read_json(f"{stage_name(stage)}/candidate.json")
        return record, self._poster(stage, record["digest"], "candidate.json")

    def stage(self, stage: int) -> dict[str, Any]:
        """`stage.json` as written by `write_stage`. Raises `CorruptArchive`."""
        name = f"{stage_name(stage)}/stage.json"
        record = self.folder.read_json(name)
        if record.get("schema") != SCHEMA:
            raise CorruptArchive(
                f"{self.folder.at(name)} has schema {record.get('schema')!r}, this ppodd reads {SCHEMA}: "
                f"use the ppodd version that wrote it"
            )
        return record

    def poster(self, stage: int) -> PosterFile:
        """A stage's poster, its digest checked. Raises `CorruptArchive` naming the file."""
        return self._poster(stage, self.stage(stage)["digests"]["poster.safetensors"], "stage.json")

    def _poster(self, stage: int, digest: str, record: str) -> PosterFile:
        name = f"{stage_name(stage)}/poster.safetensors"
        return PosterFile.from_bytes(self._checked(name, digest, record), self.folder.at(name))

    def png(self, stage: int, record: dict[str, Any] | None = None) -> bytes:
        """A stage's picture, its digest checked (older stages recorded none) against `record` or else `stage.json`.

        Raises:
            CorruptArchive: it is missing or damaged.
        """
        digest = (record or self.stage(stage))["digests"].get("poster.png")
        return self._checked(f"{stage_name(stage)}/poster.png", digest, "stage.json")

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
        digests = [record["digests"]["poster.safetensors"] for record in records]
        data = records[-1]["data"]["digest"]
        return [ticket(protocol, digests, mode_blend(records[-1], protocol.mode), data) for protocol in protocols]

    # Evaluations

    def evaluations(self, stage: int, known: Collection[str] = ()) -> list[dict[str, Any]]:
        """The evaluations of a stage, by ticket, but for the tickets that are `known`."""
        below = self.folder / f"{stage_name(stage)}/evaluations"
        names = [name for name in below.names() if name.endswith(".json")]
        return [below.read_json(name) for name in names if name.removesuffix(".json") not in known]

    def evaluation(self, stage: int, ticket: str) -> dict[str, Any]:
        return self.folder.read_json(f"{stage_name(stage)}/evaluations/{ticket}.json")

    def has_evaluation(self, stage: int, ticket: str) -> bool:
        return self.folder.exists(f"{stage_name(stage)}/evaluations/{ticket}.json")

    def write_evaluation(self, stage: int, record: dict[str, Any]) -> None:
        self.folder.write_json(f"{stage_name(stage)}/evaluations/{record['ticket']}.json", record)

    def write_evaluation_failure(self, stage: int, record: dict[str, Any]) -> None:
        """Record an evaluation that is given up; `record` names its `ticket` and `error`."""
        self.folder.write_json(f"{stage_name(stage)}/failures/{record['ticket']}.json", record)

    def evaluation_failures(self, stage: int) -> list[dict[str, Any]]:
        """The evaluations of a stage that were given up, by ticket."""
        below = self.folder / f"{stage_name(stage)}/failures"
        return [below.read_json(name) for name in below.names() if name.endswith(".json")]

    # Progress and resume

    def write_progress(self, progress: dict[str, Any]) -> None:
        """Say how far it is; tried once, since it only informs."""
        Folder(self.url, patience_s=0).write_json("progress.json", {**progress, "updated_at": time.time()})

    def progress(self) -> dict[str, Any] | None:
        return self.folder.get_json("progress.json")

    def write_failure(self, failure: dict[str, Any]) -> None:
        """Record why the trial stopped; taken back when it is started again."""
        self.folder.write_json("failure.json", failure)

    def failure(self) -> dict[str, Any] | None:
        return self.folder.get_json("failure.json")

    def clear_failure(self) -> None:
        self.folder.remove("failure.json")

    def write_stopped(self, stopped: dict[str, Any]) -> None:
        """Record why a scheduler ended the trial before its last stage; it is not resumed."""
        self.folder.write_json("stopped.json", stopped)

    def stopped(self) -> dict[str, Any] | None:
        return self.folder.get_json("stopped.json")

    def write_resume(self, tensors: dict[str, np.ndarray], position: dict[str, Any]) -> None:
        """Replace the resume checkpoint by these arrays and this JSON-able position."""
        tensors = {k: np.asarray(v, order="C") for k, v in tensors.items()}
        text = json.dumps(position)
        metadata = {"position": text, "digest": _digest(tensors, text)}
        self.folder.write("resume/state.safetensors", safetensors.numpy.save(tensors, metadata))

    def resume(self) -> tuple[dict[str, np.ndarray], dict[str, Any]] | None:
        """The resume checkpoint, or `None` before the first. Raises `CorruptArchive`."""
        name = "resume/state.safetensors"
        data = self.folder.get(name)
        if data is None:
            return None
        tensors = _tensors(data, self.folder.at(name))
        metadata = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")]).get("__metadata__", {})
        if metadata.get("digest") != _digest(tensors, metadata.get("position", "")):
            raise CorruptArchive(f"{self.folder.at(name)} is damaged: its digest differs from the one it holds")
        return tensors, json.loads(metadata["position"])


def stage_name(stage: int) -> str:
    return f"stage-{stage:02d}"


def trials_wanted(record: dict[str, Any]) -> int:
    """How many trials a sweep is to have, as `sweep.json` says; of a search, also those not suggested yet."""
    return max(record.get("wanted", 0), len(record.get("trials", [])))


def stages_in(names: Iterable[str]) -> list[int]:
    """Numbers of the finished stages among the names of a trial's files (`Archive.listing`), in order."""
    return sorted(int(match[1]) for name in names if (match := _STAGE.match(name)))


def tickets_in(names: Iterable[str], stage: int) -> list[str]:
    """Tickets of a stage's evaluations among the names of a trial's files (`Archive.listing`), in order."""
    return _json_in(names, f"{stage_name(stage)}/evaluations/")


def failures_in(names: Iterable[str], stage: int) -> list[str]:
    """Tickets of a stage's evaluations that were given up, likewise."""
    return _json_in(names, f"{stage_name(stage)}/failures/")


def _json_in(names: Iterable[str], start: str) -> list[str]:
    found = (name.removeprefix(start) for name in names if name.startswith(start) and name.endswith(".json"))
    return sorted(name.removesuffix(".json") for name in found)


def mode_blend(record: dict[str, Any], mode: str) -> list[float]:
    """The weights an evaluation draws a stage's posters with: its π, or the latest poster alone."""
    if mode == "latest":
        return [0.0] * (record["stage"] - 1) + [1.0]
    return record["evaluation_blend"]


def drawn_posters(blend: Sequence[float]) -> int:
    """How many posters a blend draws on."""
    return sum(weight > 0 for weight in blend)
