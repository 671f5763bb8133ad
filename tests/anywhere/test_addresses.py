"""Archives by odd paths and URLs: what can be meant in one way is read so everywhere, the rest is refused."""

import os

import pytest
from flags import flags
from sweeps import sweep_file

from ppodd.archive import Archive
from ppodd.cli.main import main
from ppodd.errors import BadInput
from ppodd.files import Folder, address

REFUSED = [
    ("", "names no folder: write a folder's path or a URL"),
    (" ", "names no folder"),
    (" s3://lab/x", "begins or ends with a blank: leave it out"),
    ("s3://", "names no bucket: write s3://bucket/folder"),
    ("s3:///x", "names no bucket: write s3://bucket/folder"),
    ("s3:/lab/x", "write s3://lab/x, or ./s3:/lab/x for a folder of that name here"),
    ("s3:lab/x", "write s3://lab/x, or ./s3:lab/x for a folder of that name here"),
    ("gs:/lab", "write gs://lab"),
    ("s3://lab/x?y", "? has a meaning in URLs, choose a folder without it"),
    ("s3://lab/x#y", "# has a meaning in URLs"),
    ("s3://lab/zip::x", ":: has a meaning in URLs"),
    ("s3://lab/../x", "remote folders know no .., write the URL without it"),
    ("simplecache::s3://lab/x", "write s3://lab/x, or ./simplecache::s3://lab/x for a folder of that name here"),
    ("simplecache://s3://lab/x", "simplecache has no folders to write to"),
    ("http:x", "write a path or s3://…, or ./http:x for a folder"),
    ("file:/tmp/a", "write the folder's path itself, without file:, or ./file:/tmp/a for a folder"),
    ("~nobody-here/x", "there is no user of this name; write ./~nobody-here/x"),
    ("file://x", "write the folder's path itself, without file://"),
    ("file:///tmp/a%20b", "write the folder's path itself, without file://"),
    ("s4://lab/x", "cannot open archive 's4://lab/x'"),
    ("\udcff", "is not in UTF-8"),
]

ONE_FORM = [
    ("s3://lab//x", "s3://lab/x"),
    ("s3://lab/x/", "s3://lab/x"),
    ("S3://lab/x//y//", "s3://lab/x/y"),
    ("hdfs:///user/x", "hdfs:///user/x"),
    ("file:///tmp/x", "/tmp/x"),
    ("x/", "x"),
    ("/", "/"),
    ("./s3:/x", "./s3:/x"),
    ("2024-05-01:evening", "2024-05-01:evening"),
    ("~/x", os.path.expanduser("~/x")),
]

ODD = ["c#d", "100%", "g::h", "s3: x", "ü ä", "*", "[a]", "~x", "'q\"", "line\nbreak"]


@pytest.mark.parametrize(("archive", "message"), REFUSED)
def test_an_address_that_names_no_folder_is_refused_by_every_command(archive, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for command in (
        ["distill", f"--archive={archive}"],
        ["sweep", "quickstart", f"--archive={archive}"],
        ["sweep", "quickstart", f"--archive={archive}", "--dry-run", "--no-estimate"],
        ["results", "table", f"--archive={archive}"],
        ["evaluators", "start", f"--archive={archive}"],
    ):
        assert main(command) == 2
        error = capsys.readouterr().err
        assert message in error and error.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("written", "meant"), ONE_FORM)
def test_an_address_has_one_form(written, meant):
    assert address(written) == meant


def test_the_root_of_the_disk_is_not_the_working_folder():
    assert Folder("/").url == "/" and (Folder("/") / "tmp").url == "/tmp"


@pytest.mark.parametrize("name", ODD)
def test_a_folder_of_any_name_holds_the_archive_and_its_store(name, tmp_path, monkeypatch, capsys, tiny):
    """Distilled, synced and read: by its path, and nothing lies outside."""
    monkeypatch.chdir(tmp_path)
    archive = f"--archive=./{name}"
    assert main(["distill", *flags(tiny | {"num_stages": 1, "name": "run"}), archive]) == 0
    assert main(["results", "sync", archive]) == 0
    capsys.readouterr()
    assert main(["results", "table", archive]) == 0
    assert "test accuracy on digits" in capsys.readouterr().out
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert {"runs", "mlflow.db", "mlflow-artifacts"} <= {path.name for path in (tmp_path / name).iterdir()}
    assert list((tmp_path / name / "mlflow-artifacts").rglob("*.png"))


@pytest.mark.parametrize("name", ["a?b", "e%41f"])
def test_a_folder_whose_store_has_no_uri_is_refused_before_a_sweep_starts(name, tmp_path, monkeypatch, capsys, tiny):
    """Such a name is part of a URI's syntax. The archive is one all the same, beside another store."""
    file = sweep_file(tmp_path, tiny)
    monkeypatch.chdir(tmp_path)
    for dry in ([], ["--dry-run", "--no-estimate"]):
        assert main(["sweep", file, "--archive", name, *dry]) == 2
        assert "choose an archive's folder without ? and %" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["sweep.yaml"]
    archive = f"--archive={name}"
    assert main(["distill", *flags(tiny | {"num_stages": 1, "name": "run"}), archive]) == 0
    assert main(["results", "sync", archive]) == 2
    store = ["--tracking-uri", "sqlite:///store.db"]
    assert main(["results", "sync", archive, *store]) == 0 and main(["results", "table", archive, *store]) == 0
    assert "test accuracy on digits" in capsys.readouterr().out
    made = {name, "sweep.yaml", "store.db", "store.db.lock", "mlflow-artifacts"}
    assert {path.name for path in tmp_path.iterdir()} == made


@pytest.mark.parametrize(
    ("archive", "message"),
    [
        ("nowhere", "nowhere is a link that leads nowhere; name another"),
        ("circle", "circle is a link that leads nowhere; name another"),
        ("file/x", "file"),
        ("/proc/x", "/proc"),
    ],
)
def test_a_folder_that_cannot_be_made_is_one_line_before_anything_starts(
    archive, message, tmp_path, monkeypatch, capsys, tiny
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "nowhere").symlink_to("/proc/nowhere")
    (tmp_path / "circle").symlink_to("circle")
    (tmp_path / "file").write_text("")
    file = sweep_file(tmp_path, tiny)
    before = sorted(tmp_path.iterdir())
    said = []
    for command in (["sweep", file], ["sweep", file, "--dry-run", "--no-estimate"], ["distill", *flags(tiny)]):
        assert main([*command, f"--archive={archive}"]) == 2
        said.append(capsys.readouterr().err)
        assert message in said[-1] and said[-1].count("\n") == 1 and "--debug" not in said[-1]
    assert said[0] == said[1] and sorted(tmp_path.iterdir()) == before


def test_a_bucket_written_in_two_ways_is_one_archive(bucket, tmp_path, monkeypatch, capsys, tiny):
    monkeypatch.chdir(tmp_path)
    values = flags(tiny | {"num_stages": 1, "name": "run"})
    assert main(["distill", *values, f"--archive={bucket}//lab//", "--no-evaluate"]) == 0
    assert Archive(f"{bucket}/lab").trials("runs") == ["run"]
    assert main(["distill", *values, f"--archive={bucket}/lab/", "--no-evaluate", "--resume"]) == 0
    assert "nothing to resume" not in capsys.readouterr().out
    assert main(["evaluate", f"{bucket}/lab//runs/run/"]) == 0
    assert main(["results", "sync", f"--archive={bucket}//lab"]) == 0
    assert main(["results", "table", f"--archive={bucket}/lab/"]) == 0
    assert "test accuracy on digits" in capsys.readouterr().out and list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", ["evaluate", "export", "render"])
def test_a_trial_is_named_by_an_address_too(command, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    output = [] if command == "evaluate" else ["-o", "x.png" if command == "render" else "x.npz"]
    assert main([command, "s3:/lab/runs/x/stage-01", *output]) == 2
    assert "write s3://lab/runs/x" in capsys.readouterr().err and list(tmp_path.iterdir()) == []


def test_a_submitted_archive_has_the_same_one_form():
    from cluster.jobs import require_shared

    assert require_shared("s3://lab//x/") == "s3://lab/x"
    with pytest.raises(BadInput, match=r"write s3://lab, or \./s3:/lab"):
        require_shared("s3:/lab")
