"""Records: written as they always were, read whole or refused with file and field."""

import gzip
import json
from pathlib import Path

import pytest

from ppodd import __version__
from ppodd.archive import (
    CandidateRecord,
    EvaluationFailureRecord,
    EvaluationRecord,
    FailureRecord,
    ProgressRecord,
    StageRecord,
    StopRecord,
    SweepRecord,
)
from ppodd.archive.records import ImportRecord, parse
from ppodd.archive.sealed import unsealed, write_sealed
from ppodd.config import DistillConfig, EvaluationProtocol
from ppodd.errors import CorruptArchive, LaterVersion
from ppodd.files import Folder

ARCHIVE = Path(__file__).parents[2] / "upgrade/0.1.0/archive"
KINDS = {
    "stage-*/stage.json": StageRecord,
    "stage-*/evaluations/*.json": EvaluationRecord,
    "stage-*/failures/*.json": EvaluationFailureRecord,
    "stage-*/candidate.json": CandidateRecord,
    "progress.json": ProgressRecord,
    "failure.json": FailureRecord,
    "stopped.json": StopRecord,
    "imported.json": ImportRecord,
}
FILES = [(path, kind) for pattern, kind in KINDS.items() for path in sorted(ARCHIVE.glob(f"*/*/{pattern}"))]
FILES += [(path, SweepRecord) for path in sorted(ARCHIVE.glob("*/sweep.json"))]
FILES_OF_EVALUATIONS = [path for path, kind in FILES if kind is EvaluationRecord]
STAGE = (ARCHIVE / "grown/seed=0/stage-01/stage.json").read_bytes()


def named(path):
    return str(path.relative_to(ARCHIVE)) if isinstance(path, Path) else path.__name__


@pytest.mark.parametrize(("path", "kind"), FILES, ids=named)
def test_what_an_earlier_release_wrote_is_written_again_byte_for_byte(path, kind):
    written = json.dumps(parse(kind, path.read_bytes(), str(path)).to_json(), indent=1).encode() + b"\n"
    assert written == path.read_bytes()


def test_a_record_of_each_kind_is_kept():
    assert {kind for _, kind in FILES} == {*KINDS.values(), SweepRecord}


def changed(**changes):
    return json.dumps({**json.loads(STAGE), **changes}).encode()


def without(name):
    return json.dumps({key: value for key, value in json.loads(STAGE).items() if key != name}).encode()


@pytest.mark.parametrize("kind", [*KINDS.values(), SweepRecord])
@pytest.mark.parametrize("data", [b"[]", b"null", b"{}", b"3", b'"text"', b"", b'{"stage": ', b"[{}]"])
def test_what_is_no_record_is_damaged(kind, data):
    with pytest.raises(CorruptArchive, match=r"^a/b\.json is damaged: ") as raised:
        parse(kind, data, "a/b.json")
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (without("data"), "data is missing"),
        (without("schema"), "schema is missing"),
        (changed(stage="1"), r"stage is '1': input should be a valid integer"),
        (changed(blend=[0.5, None]), r"blend\.1 is None: input should be a valid number"),
        (changed(blend=0.5), r"blend is 0\.5: input should be a valid array"),
        (changed(blend=[-1.0]), r"blend\.0 is -1\.0: input should be greater than or equal to 0"),
        (changed(evaluation_blend=[0.5, 0.5]), r"evaluation_blend is .*: stage 1 has 1 of these, one per poster"),
        (changed(budgets={**json.loads(STAGE)["budgets"], "poster_ipc": -4}), r"budgets\.poster_ipc is -4: .*than 0"),
        (changed(stage_accuracy={}), r"stage_accuracy\.mean is missing"),
        (changed(digests={"poster.png": "ab"}), r"digests\.poster\.safetensors is missing"),
        (changed(data=["a long list"] * 50), r"data is \['a long list', .{60,70}…: input should be an object"),
        (STAGE[:-40], "Expecting property name|Unterminated string|Expecting value"),
    ],
)
def test_a_damaged_record_names_file_and_field(data, message):
    with pytest.raises(CorruptArchive, match=rf"^t/stage\.json is damaged: .*{message}"):
        parse(StageRecord, data, "t/stage.json")


@pytest.mark.parametrize(
    ("data", "use"),
    [
        (changed(schema=2), "ppodd 0.1.0"),
        (b'{"schema": 2, "versions": {"ppodd": "7.1"}, "of another": "shape"}', "ppodd 7.1"),
        (b'{"schema": 2, "ppodd": "7.2"}', "ppodd 7.2"),
        (b'{"schema": 2}', "the ppodd version that wrote it"),
        (changed(schema=2, versions="none"), "the ppodd version that wrote it"),
    ],
)
def test_a_newer_schema_says_which_version_to_use(data, use):
    with pytest.raises(CorruptArchive, match=f"^t/stage.json has schema 2, this ppodd reads 1: use {use}, or a later"):
        parse(StageRecord, data, "t/stage.json")


def test_an_older_schema_is_read_by_its_own_version_alone():
    with pytest.raises(CorruptArchive, match=r"^t has schema 0, this ppodd reads 1: use ppodd 0\.0\.9$"):
        parse(StageRecord, b'{"schema": 0, "ppodd": "0.0.9"}', "t")


def test_every_file_says_which_version_wrote_it(tmp_path):
    write_sealed(Folder(tmp_path), "p.json", {"stage": 1})
    assert unsealed(Folder(tmp_path).read("p.json"), "p.json") == ({"stage": 1}, __version__)


def test_fields_of_a_later_version_are_passed_over():
    assert parse(StageRecord, changed(of_a_later_version={"a": 1}), "t") == parse(StageRecord, STAGE, "t")


def test_a_failure_tells_what_it_knows_and_an_old_one_is_read():
    old = parse(FailureRecord, b'{"error": "boom", "failed_at": 1.5}', "t")
    assert (old.error, old.failed_at, old.traceback) == ("boom", 1.5, None)
    assert old.to_json() == {"error": "boom", "failed_at": 1.5}
    new = FailureRecord(error="ValueError: x", failed_at=2.0, type="ValueError", traceback="…", node="n", pid=3)
    assert parse(FailureRecord, json.dumps(new.to_json()).encode(), "t") == new


def test_an_evaluation_of_a_network_that_is_not_installed_is_read():
    data = json.loads(FILES_OF_EVALUATIONS[0].read_bytes())
    data["protocol"]["arch"] = "no_such_network"
    assert parse(EvaluationRecord, json.dumps(data).encode(), "t").protocol.arch == "no_such_network"


class Later(EvaluationProtocol):
    """A protocol to which a field was added."""

    label_smoothing: float = 0.0


def test_a_field_that_is_added_to_the_protocol_changes_no_digest_until_it_is_set():
    now = parse(EvaluationRecord, FILES_OF_EVALUATIONS[0].read_bytes(), "t").protocol
    same, other = Later(**now.model_dump()), Later(**now.model_dump(), label_smoothing=0.1)
    assert same.canonical() == now.canonical() != other.canonical()
    # an earlier version that reads it knows it by the same digest
    assert EvaluationProtocol.model_validate(other.model_dump()).canonical() == other.canonical()


def test_fields_of_the_protocol_that_the_first_release_had_are_always_in_its_digest():
    had = ["arch", "mode", "budgets", "nets", "seed", "width", "batch", "optim", "inner_lr", "decay", "strategy"]
    required = [name for name, field in EvaluationProtocol.model_fields.items() if field.is_required()]
    assert required == [*had, "comp_aug"]


@pytest.mark.parametrize(("path", "kind"), [one for one in FILES if b"0" in one[0].read_bytes()], ids=named)
def test_a_changed_digit_is_found(path, kind, tmp_path):
    folder = Folder(tmp_path)
    write_sealed(folder, "r.json", json.loads(path.read_bytes()))
    data = folder.read("r.json")
    assert parse(kind, data, "r") and unsealed(data, "r").values == unsealed(path.read_bytes(), "old").values
    assert parse(kind, json.dumps(json.loads(data)).encode(), "indented otherwise")
    at = next(at for at, byte in enumerate(data) if chr(byte).isdigit() and data[at - 1 : at] not in b'".')
    changed = data[:at] + (b"8" if data[at : at + 1] != b"8" else b"9") + data[at + 1 :]
    with pytest.raises(CorruptArchive, match=r"r\.json (is damaged|has schema)"):
        parse(kind, changed, "r.json")


def test_a_sweeps_configs_of_a_later_version_name_the_version_to_use(tmp_path):
    sweep = {
        "schema": 1,
        "name": "s",
        "trials": [{"name": "t", "config": {**DistillConfig().model_dump(mode="json"), "later": 1}}],
        "evaluation": [{"later": 1}],
        "ppodd": "9.1.0",
    }
    record = parse(SweepRecord, json.dumps(sweep).encode(), "sweep.json")
    with pytest.raises(LaterVersion, match=r"trial t in sweep\.json: .*later.*use ppodd 9\.1\.0"):
        record.configs()
    with pytest.raises(LaterVersion, match=r"sweep\.json of s: .*later.*use ppodd 9\.1\.0"):
        record.evaluations()


def test_the_records_of_the_example_in_the_docs_are_read():
    """Of before the first release: some fields were not there yet."""
    lines = gzip.decompress((Path(__file__).parents[3] / "docs/example/archive.jsonl.gz").read_bytes()).splitlines()
    kinds = {"stage.json": StageRecord, "sweep.json": SweepRecord}
    for line in map(json.loads, lines):
        path = Path(line["path"])
        kind = EvaluationRecord if path.parent.name == "evaluations" else kinds.get(path.name)
        if kind:
            assert parse(kind, json.dumps(line["record"]).encode(), str(path))
