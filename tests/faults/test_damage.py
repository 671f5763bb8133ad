"""Every file of an archive, damaged in every way: found by name, and mended to the same bits or said to be lost."""

import json
import shutil
from pathlib import Path

import pytest
from small_sweep import NAME, contents, finish, make

from ppodd.archive import Archive, Status
from ppodd.cli.main import main
from results.analysis import frame
from results.tracking import sync

UPGRADE = Path(__file__).parents[1] / "upgrade/0.1.0/archive"


def first_digit(data):
    """Where a digit of a number stands that may be changed: not the first of it, which may not become 0."""
    return next(at for at in range(1, len(data)) if data[at : at + 1].isdigit() and data[at - 1 : at] in b".123456789")


def changed_digit(data):
    at = first_digit(data)
    return data[:at] + (b"7" if data[at : at + 1] != b"7" else b"3") + data[at + 1 :]


def changed_byte(data):
    return data[:-9] + bytes([data[-9] ^ 1]) + data[-8:]


def renamed_field(data):
    values = json.loads(data)
    name = next(iter(values))
    return json.dumps({f"{name}_": values.pop(name), **values}).encode()


JSON = {
    "cut short": lambda data: data[: len(data) // 2],
    "empty": lambda data: b"",
    "a list": lambda data: b"[]",
    "null": lambda data: b"null",
    "no field": lambda data: b"{}",
    "a field renamed": renamed_field,
    "a digit changed": changed_digit,
    "no text": lambda data: b"\xff\xfe" + data,
}
BINARY = {
    "cut short": lambda data: data[: len(data) // 2],
    "empty": lambda data: b"",
    "a byte changed": changed_byte,
    "more at its end": lambda data: data + b"\0",
    "another file": lambda data: b"\x89PNG\r\n\x1a\n",
}
GONE = {"gone": None}
# file → kinds of damage, and whether it is mended to what was there
MENDED = {
    "seed=0/config.json": JSON | GONE,
    "seed=1/stage-01/evaluations/*.json": JSON,
    "seed=1/stage-02/evaluations/*.json": JSON,
    "seed=0/stage-02/stage.json": JSON,
    "seed=0/stage-01/stage.json": JSON | GONE,
    "seed=0/stage-02/poster.safetensors": BINARY | GONE,
    "seed=0/stage-01/poster.safetensors": BINARY | GONE,
    "seed=0/stage-01/poster.png": BINARY | GONE,
    "seed=0/resume/state.safetensors": BINARY,
    "seed=0/progress.json": JSON,
}
CASES = [(file, kind) for file, kinds in MENDED.items() for kind in kinds]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A finished sweep that nobody disturbed."""
    return make(tmp_path_factory.mktemp("whole"))


@pytest.fixture
def archive(whole, tmp_path):
    shutil.copytree(whole.url, tmp_path / "archive")
    return Archive(tmp_path / "archive")


def hurt(archive, pattern, change, sweep=NAME):
    """Damage the first file of this pattern; returns its path."""
    path = min(Path(archive.url, sweep).glob(pattern))
    data = path.read_bytes()
    path.unlink()
    if change:
        path.write_bytes(change(data))
        assert path.read_bytes() != data
    return path


def verify(capsys, archive, *more):
    code = main(["archive", "verify", "--archive", archive.url, "--json", *more])
    return code, json.loads(capsys.readouterr().out)["damaged"]


def repair(capsys, archive, *more):
    code = main(["archive", "repair", "--archive", archive.url, *more])
    return code, capsys.readouterr().out


def test_what_is_whole_is_said_to_be(archive, capsys):
    before = contents(archive)
    assert verify(capsys, archive) == (0, [])
    code, said = repair(capsys, archive)
    assert code == 0 and "every file of 2 trials is whole" in said and contents(archive) == before


@pytest.mark.parametrize(("file", "kind"), CASES, ids=[f"{file}, {kind}" for file, kind in CASES])
def test_damage_is_found_and_repaired_to_the_same_bits(whole, archive, capsys, file, kind):
    path = hurt(archive, file, MENDED[file][kind])
    code, found = verify(capsys, archive)
    assert code == 1 and str(path) in [one["path"] for one in found]
    assert all(str(path) in one["what"] or "stage-02" in one["what"] for one in found)
    code, said = repair(capsys, archive)
    assert code == 0 and f"mended: {path}" in said and "\nleft: " not in said
    assert finish(archive) == []
    theirs, mine = contents(whole), contents(archive)
    if "progress" in file:
        theirs.pop(file)
    assert mine == theirs
    assert verify(capsys, archive) == (0, [])


ABSENT = ["stage-02/stage.json", "stage-01/evaluations/*.json", "resume/state.safetensors", "stage-02/poster.png"]


@pytest.mark.parametrize("file", ABSENT)
def test_what_is_absent_is_made_by_whoever_goes_on(whole, archive, file):
    hurt(archive, f"seed=0/{file}", None)
    if "png" in file:  # of a stage that is not archived, as its record was not
        hurt(archive, "seed=0/stage-02/stage.json", None)
    assert finish(archive) == [] and contents(archive) == contents(whole)


@pytest.mark.parametrize("kind", JSON)
def test_a_resumed_sweep_redoes_a_damaged_evaluation_and_says_so(whole, archive, kind):
    path = hurt(archive, "seed=1/stage-02/evaluations/*.json", JSON[kind])
    (said,) = finish(archive)
    assert said.startswith(f"{path} is damaged: ") and "it is evaluated again" in said
    assert contents(archive) == contents(whole)


@pytest.mark.parametrize("kind", [*JSON, "gone"])
def test_a_resumed_sweep_writes_a_lost_config_anew_and_says_so(whole, archive, kind):
    path = hurt(archive, "seed=0/config.json", {**JSON, **GONE}[kind])
    (said,) = finish(archive)
    assert str(path) in said and "as its sweep lists the trial" in said
    assert contents(archive) == contents(whole)


def test_a_command_evaluates_a_damaged_evaluation_again(whole, archive, caplog):
    path = hurt(archive, "seed=1/stage-02/evaluations/*.json", JSON["cut short"])
    (command,) = [
        ["evaluate", str(path.parents[2]), "--mode", mode, "--nets", nets, "--device", "cpu"]
        for mode, nets in (("blend", "2"), ("latest", "1"))
        if json.loads((Path(whole.url) / path.relative_to(archive.url)).read_bytes())["protocol"]["mode"] == mode
    ]
    assert main(command) == 0 and f"{path} is damaged" in caplog.text and "it is evaluated again" in caplog.text
    assert contents(archive) == contents(whole)


def test_files_of_another_trial_or_stage_are_found(whole, archive, capsys):
    """Each is whole by itself."""
    folder = Path(archive.url, NAME)
    moved = {
        "seed=1/config.json": "seed=0/config.json",
        "seed=1/stage-02/stage.json": "seed=1/stage-01/stage.json",
        "seed=0/stage-02/poster.safetensors": "seed=1/stage-02/poster.safetensors",
    }
    for to, source in moved.items():
        shutil.copy(Path(whole.url, NAME, source), folder / to)
    evaluation = next(iter(sorted((folder / "seed=0/stage-01/evaluations").iterdir())))
    shutil.copy(evaluation, folder / "seed=1/stage-01/evaluations")
    _, found = verify(capsys, archive)
    expected = {str(folder / to) for to in moved} | {str(folder / f"seed=1/stage-01/evaluations/{evaluation.name}")}
    assert expected <= {one["path"] for one in found}
    assert repair(capsys, archive)[0] == 0
    assert finish(archive) == [] and contents(archive) == contents(whole)


def test_a_lost_middle_stage_says_what_to_do_and_is_distilled_anew(tmp_path, whole, capsys):
    from ppodd.config import DistillConfig, build
    from ppodd.distillation import run

    config = build(DistillConfig, {**whole.trial(NAME, "seed=0").config().model_dump(), "num_stages": 4, "name": "r"})
    undisturbed, trial = (Archive(tmp_path / name).trial("runs", "r") for name in ("undisturbed", "hurt"))
    list(run(config, undisturbed))
    shutil.copytree(undisturbed.url, trial.url)
    shutil.rmtree(Path(trial.url, "stage-02"))
    with pytest.raises(Exception, match=r"stage 2 is missing.*`ppodd archive repair` .* then go on with --resume"):
        list(run(config, trial, resume=True))
    archive = Archive(tmp_path / "hurt")
    code, said = repair(capsys, archive)
    assert code == 0 and "stages 2 to 4 anew, to the same bits" in said
    list(run(config, trial, resume=True))
    assert contents(archive, "runs") == contents(Archive(tmp_path / "undisturbed"), "runs")


def test_what_only_a_gpu_made_is_left_unless_it_is_to_be_redone(archive, capsys):
    trial = archive.trial(NAME, "seed=0")
    for stage in (1, 2):
        trial.write_record(f"stage-0{stage}/stage.json", trial.stage(stage).model_copy(update={"device": "cuda:0"}))
    path = hurt(archive, "seed=0/stage-01/poster.safetensors", BINARY["a byte changed"])
    before = contents(archive)
    code, said = repair(capsys, archive)
    assert code == 1 and f"left: {path} is damaged" in said and "only a CPU comes to the same posters" in said
    assert contents(archive) == before
    code, said = repair(capsys, archive, "--redo")
    assert code == 0 and trial.stages() == [] and not trial.folder.exists("resume/state.safetensors")
    assert finish(archive) == [] and trial.stages() == [1, 2]


OF_THE_RELEASE = {  # sweep, file → whether it is mended
    ("grown", "seed=0/stage-02/failures/*.json"): True,
    ("grown", "seed=1/failure.json"): True,
    ("grown", "seed=1/progress.json"): True,
    ("grown", "protocols/*.json"): True,
    ("grown", "sweep.json"): False,
    ("thinned", "seed=1/stopped.json"): True,
    ("runs", "imported/imported.json"): True,
    ("runs", "imported/stage-02/stage.json"): True,
    ("runs", "imported/config.json"): False,
    ("runs", "waiting/stage-01/candidate.json"): True,
    ("runs", "waiting/stage-01/poster.safetensors"): True,
}


@pytest.mark.parametrize("kind", ["cut short", "a list", "empty"])
@pytest.mark.parametrize(("sweep", "file"), OF_THE_RELEASE, ids=lambda part: part)
def test_other_records_are_found_and_mended_or_said_to_be_lost(tmp_path, capsys, sweep, file, kind):
    shutil.copytree(UPGRADE, tmp_path / "archive")
    archive = Archive(tmp_path / "archive")
    path = hurt(archive, file, JSON[kind], sweep)
    code, found = verify(capsys, archive)
    named = path.with_name("candidate.json") if "waiting" in file else path
    assert code == 1 and str(named) in [one["path"] for one in found]
    code, said = repair(capsys, archive)
    if OF_THE_RELEASE[sweep, file]:
        assert code == 0 and verify(capsys, archive) == (0, [])
    else:
        assert code == 1 and "put it back from a copy" in said and path.exists()
    assert archive.trial("thinned", "seed=1").state().status(2) is Status.STOPPED
    assert archive.trial("runs", "imported").state().imported


def test_a_mark_that_cannot_be_read_is_left_to_the_user(archive, capsys):
    path = Path(archive.url, NAME, "driver.json")
    path.write_text("{")
    code, said = repair(capsys, archive)
    assert code == 1 and "delete it, if no process of ppodd is at work there" in said and path.exists()


def test_nothing_is_repaired_under_a_driver_that_lives(archive, capsys):
    from ppodd.files import only_writer

    path = hurt(archive, "seed=0/stage-02/stage.json", JSON["empty"])
    with only_writer(archive.folder / NAME, "driver.json", "busy", "wait"):
        mark = (archive.folder / NAME).read("driver.json")
        moved = Path(archive.url, NAME, "driver.json")
        moved.write_bytes(mark.replace(b'"pid": ', b'"pid": 1, "was": '))  # of a process that lives: the first one
        code, said = repair(capsys, archive)
    assert code == 1 and "another process is at work" in said and path.exists()


def test_what_a_later_version_wrote_is_left_as_it_is(archive, capsys):
    trial = archive.trial(NAME, "seed=0")
    (name, *_) = [name for name in trial.folder.find() if "/evaluations/" in name]
    values = trial.folder.read_json(name)
    trial.folder.write_json(name, {**values, "schema": 2, "sha256": None})
    before = contents(archive)
    code, said = repair(capsys, archive)
    assert code == 1 and "has schema 2" in said and contents(archive) == before


def test_a_sync_says_damage_and_shows_the_rest(archive, whole, tmp_path, empty_store):
    """A truncated evaluation, a lost config, a protocol that is none: one line each, once mended all is shown."""
    hurt(archive, "seed=0/stage-01/evaluations/*.json", JSON["cut short"])
    hurt(archive, "seed=1/config.json", None)
    hurt(archive, "protocols/*.json", JSON["a list"])
    shutil.copy(empty_store, tmp_path / "mine.db")
    shutil.copy(empty_store, tmp_path / "theirs.db")
    uri, undisturbed = (f"sqlite:///{tmp_path}/{name}.db" for name in ("mine", "theirs"))
    report = sync(archive.url, uri)
    assert len(report.problems) == 3 and report.stages == 2
    shutil.copytree(Path(whole.url, NAME, "protocols"), Path(archive.url, NAME, "protocols"), dirs_exist_ok=True)
    assert len(finish(archive)) == 2
    assert sync(archive.url, uri).problems == [] and sync(whole.url, undisturbed).problems == []
    drop = ["run_id", *[name for name in frame(uri).columns if "seconds" in name or "finished" in name]]
    assert frame(uri).drop(columns=drop).equals(frame(undisturbed).drop(columns=drop))


COMMANDS = {
    "render": ["render", "{trial}", "-o", "{out}.png"],
    "export": ["export", "{trial}/stage-02", "-o", "{out}.npz"],
    "evaluate": ["evaluate", "{trial}", "--mode", "latest", "--nets", "3", "--device", "cpu"],
    "sync": ["results", "sync", "--archive", "{archive}", "--tracking-uri", "{uri}"],
}
READ_BY = [
    ("stage-02/stage.json", "a digit changed", ["render", "export", "evaluate", "sync"]),
    ("stage-02/stage.json", "null", ["render", "export", "evaluate", "sync"]),
    ("stage-02/poster.safetensors", "a byte changed", ["render", "export", "evaluate"]),
    ("stage-02/poster.png", "a byte changed", ["render", "sync"]),
    ("config.json", "a digit changed", ["evaluate", "sync"]),
    ("stage-02/evaluations/*.json", "a digit changed", ["sync"]),
]


@pytest.mark.parametrize(("file", "kind", "commands"), READ_BY, ids=[f"{file}, {kind}" for file, kind, _ in READ_BY])
def test_every_command_that_reads_a_damaged_file_names_it_in_one_line(
    archive, tmp_path, capsys, empty_store, file, kind, commands
):
    path = hurt(archive, f"seed=0/{file}", {**JSON, **BINARY}[kind])
    shutil.copy(empty_store, tmp_path / "mlflow.db")
    names = {
        "trial": Path(archive.url, NAME, "seed=0"),
        "out": tmp_path / "out",
        "archive": archive.url,
        "uri": f"sqlite:///{tmp_path}/mlflow.db",
    }
    for command in commands:
        code = main([part.format(**names) for part in COMMANDS[command]])
        said = capsys.readouterr()
        lines = [line for line in (said.out + said.err).splitlines() if str(path) in line]
        assert code == 1 and len(lines) >= 1 and "Traceback" not in said.err and "Error" not in said.err
