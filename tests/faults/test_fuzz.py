"""Readers of files that others may have written: whatever the bytes are, a value or one line; no code runs."""

import io
import json
import os
import pickle
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sweeps import PATH

from ppodd.archive import (
    CandidateRecord,
    EvaluationFailureRecord,
    EvaluationRecord,
    FailureRecord,
    PosterFile,
    ProgressRecord,
    StageRecord,
    StopRecord,
    SweepRecord,
    resume_checkpoint,
)
from ppodd.archive.records import ImportRecord, parse
from ppodd.config import DistillConfig, rebuild
from ppodd.distillation.initial import load_tensor
from ppodd.errors import BadInput, CorruptArchive

FEW = settings(
    max_examples=int(os.environ.get("PPODD_EXAMPLES", "60")),
    deadline=None, database=None, suppress_health_check=list(HealthCheck), derandomize=True,
)  # fmt: skip
RELEASE = Path(__file__).parents[1] / "upgrade/0.1.0/archive"
RECORDS = {
    "grown/seed=0/stage-02/stage.json": StageRecord,
    "grown/seed=0/stage-02/evaluations/5ad5b390a70bf097771e.json": EvaluationRecord,
    "grown/seed=0/stage-02/failures/e36961a49ecf8764db41.json": EvaluationFailureRecord,
    "runs/waiting/stage-01/candidate.json": CandidateRecord,
    "grown/seed=0/progress.json": ProgressRecord,
    "grown/seed=1/failure.json": FailureRecord,
    "thinned/seed=1/stopped.json": StopRecord,
    "runs/imported/imported.json": ImportRecord,
    "grown/sweep.json": SweepRecord,
}
POSTER = (RELEASE / "grown/seed=0/stage-02/poster.safetensors").read_bytes()
CHECKPOINT = (RELEASE / "grown/seed=1/resume/state.safetensors").read_bytes()


def saved(value):
    file = io.BytesIO()
    torch.save(value, file)
    return file.getvalue()


POSTER_PT = saved(torch.ones(1, 1, 12, 24))


@st.composite
def changed(draw, data):
    """These bytes with some of them changed, cut out, doubled or put in."""
    data = bytearray(data)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, max(0, len(data) - 1)))
        to = min(len(data), at + draw(st.integers(1, 40)))
        how = draw(st.sampled_from(["flip", "cut", "double", "insert", "end"]))
        if how == "flip" and data:
            data[at] ^= draw(st.integers(1, 255))
        elif how == "cut":
            del data[at:to]
        elif how == "double":
            data[at:at] = data[at:to]
        elif how == "insert":
            data[at:at] = draw(
                st.binary(max_size=20) | st.sampled_from([b"null", b"[]", b"{", b"-1", b"1e999", b"NaN"])
            )
        else:
            del data[at:]
    return bytes(data)


@st.composite
def reshaped(draw, values):
    """A JSON value in which some part is another."""
    other = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.just([]) | st.just({})
    if not isinstance(values, (dict, list)) or not values or draw(st.integers(0, 5)) == 0:
        return draw(other)
    if isinstance(values, list):
        at = draw(st.integers(0, len(values) - 1))
        return [draw(reshaped(v)) if i == at else v for i, v in enumerate(values)]
    key = draw(st.sampled_from(sorted(values)))
    return {**values, key: draw(reshaped(values[key]))}


def is_one_line(error, name=""):
    assert name in str(error) and str(error) and "\n" not in str(error) and len(str(error)) < 1000


def read(kind, data):
    try:
        record = parse(kind, data, "a/b.json")
    except CorruptArchive as error:
        is_one_line(error, "a/b.json")
    else:
        assert isinstance(record.to_json(), dict)


@pytest.mark.parametrize(("name", "kind"), RECORDS.items(), ids=lambda part: getattr(part, "__name__", ""))
@FEW
@given(data=st.data())
def test_a_record_is_read_or_refused_in_one_line(name, kind, data):
    whole = (RELEASE / name).read_bytes()
    read(kind, data.draw(changed(whole)))
    read(kind, json.dumps(data.draw(reshaped(json.loads(whole)))).encode())


@pytest.mark.parametrize(
    "data", [b"[" * 100_000, b'{"a":' * 100_000, b"1" * 100_000, b'{"schema": 1' + b"0" * 5000 + b"}"]
)
@pytest.mark.parametrize("kind", [StageRecord, SweepRecord])
def test_a_record_of_any_depth_or_length_is_refused(kind, data):
    with pytest.raises(CorruptArchive) as refused:
        parse(kind, data, "a/b.json")
    is_one_line(refused.value)


@FEW
@given(data=st.data())
def test_a_config_is_read_or_refused_in_one_line(data):
    values = json.loads((RELEASE / "grown/seed=0/config.json").read_bytes())
    try:
        assert rebuild(DistillConfig, data.draw(reshaped(values)), "config.json")
    except CorruptArchive as error:
        is_one_line(error)


ARRAYS = st.builds(
    lambda shape, kind: np.zeros(shape, kind),
    st.lists(st.integers(0, 3), max_size=4),
    st.sampled_from(["f4", "f8", "i8", "u1", "?", "f2"]),
)


@FEW
@given(changed(POSTER) | st.binary(max_size=100))
def test_a_poster_is_read_or_refused_in_one_line(data):
    try:
        held = PosterFile.from_bytes(data, "poster.safetensors")
    except CorruptArchive as error:
        is_one_line(error)
    else:
        assert held.poster.ndim == 3 and held.digest


@FEW
@given(st.dictionaries(st.sampled_from(["poster", "labels", "label_array", "class_order", "inner_lr", "x"]), ARRAYS))
def test_a_poster_of_other_arrays_is_read_or_refused_in_one_line(arrays):
    try:
        held = PosterFile.from_bytes(safetensors.numpy.save(arrays), "poster.safetensors")
    except CorruptArchive as error:
        is_one_line(error)
    else:
        assert held.poster.ndim == 3 and held.labels.ndim in (2, 3) and held.class_order.ndim == 2


def header(entries):
    text = json.dumps(entries).encode()
    return len(text).to_bytes(8, "little") + text


@pytest.mark.parametrize(
    "data",
    [
        (2**63).to_bytes(8, "little") + b"{}",
        (10**12).to_bytes(8, "little") + b"{}" * 100,
        header({"poster": {"dtype": "F32", "shape": [2**40, 2**40], "data_offsets": [0, 2**62]}}),
        header({"poster": {"dtype": "F32", "shape": [2**20, 2**20, 2**20, 2**4], "data_offsets": [0, 0]}}),
        header({"poster": {"dtype": "F8_E4M3", "shape": [4], "data_offsets": [0, 4]}}) + b"\0" * 4,
        header({"poster": {"dtype": "BF16", "shape": [1, 1, 2], "data_offsets": [0, 4]}}) + b"\0" * 4,
        header({"poster": {"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]}}) + b"\0" * 4,
        b"",
    ],
)  # fmt: skip
def test_a_poster_that_claims_what_it_does_not_hold_is_refused(data):
    for read_file in (PosterFile.from_bytes, resume_checkpoint.from_bytes):
        with pytest.raises(CorruptArchive) as refused:
            read_file(data, "file")
        is_one_line(refused.value)


@FEW
@given(changed(CHECKPOINT) | st.binary(max_size=100))
def test_a_checkpoint_that_was_changed_is_the_same_or_refused(data):
    try:
        arrays, position = resume_checkpoint.from_bytes(data, "state.safetensors")
    except CorruptArchive as error:
        is_one_line(error)
        return
    whole, at = resume_checkpoint.from_bytes(CHECKPOINT, "state.safetensors")
    assert position == at and all(np.array_equal(arrays[name], whole[name]) for name in whole)


def tensor(folder, data):
    path = Path(folder, "run_poster.pt")
    path.write_bytes(data)
    return load_tensor(path)


@FEW
@given(data=changed(POSTER_PT) | changed(pickle.dumps([1, "two"])) | st.binary(max_size=100))
def test_a_pt_file_is_one_tensor_or_refused_in_one_line(tmp_path_factory, data):
    try:
        held = tensor(tmp_path_factory.mktemp("pt"), data)
    except BadInput as error:
        is_one_line(error)
    else:
        assert held.ndim == 3 and np.isfinite(held).all()


class Runs:
    """Runs a command when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


def test_no_code_of_a_pt_file_runs(tmp_path):
    mark = tmp_path / "ran"
    for data in (pickle.dumps(Runs(mark)), saved(Runs(mark)), saved({"poster": Runs(mark)})):
        with pytest.raises(BadInput, match="no tensor that can be loaded safely"):
            tensor(tmp_path, data)
    assert not mark.exists()


@pytest.mark.parametrize(
    "value",
    [
        torch.ones(1, 1, 1).expand(10**6, 10**6, 100),
        torch.ones(2, 3, 4, dtype=torch.complex64),
        torch.ones(2, 3, 4).to_sparse(),
        torch.ones(2, 3, 4, device="meta"),
        torch.tensor([[[float("nan")]]]),
        torch.ones(3),
        {"poster": torch.ones(1, 2, 3)},
    ],
    ids=["a view", "complex", "sparse", "meta", "nan", "one axis", "a dict"],
)
def test_what_is_no_plain_array_of_numbers_is_refused(tmp_path, value):
    with pytest.raises(BadInput) as refused:
        tensor(tmp_path, saved(value))
    is_one_line(refused.value)


BOMB = """import resource, sys
from pathlib import Path
from ppodd.distillation.initial import load_tensor
from ppodd.errors import BadInput
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    load_tensor(Path(sys.argv[1]))
except BadInput as error:
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before, error)
"""


def test_a_small_file_of_many_zeros_takes_no_memory(tmp_path):
    """An archive of 512 MB of zeros, compressed to half a megabyte."""
    whole, path = zipfile.ZipFile(io.BytesIO(saved(torch.zeros(1)))), tmp_path / "run_poster.pt"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as bomb:
        for part in whole.namelist():
            bomb.writestr(part, bytes(2**29) if part.endswith("data/0") else whole.read(part))
    done = subprocess.run(
        [sys.executable, "-c", BOMB, str(path)], capture_output=True, text=True, env={**os.environ, **PATH}
    )
    taken_kb, _, said = done.stdout.partition(" ")
    assert int(taken_kb) < 50_000 and "compressed" in said
