"""Disks that are full or may not be written, mounted for real: one line that names the path, exit code 1."""

import pytest
from disks import mounted, remount
from flags import flags

from ppodd.cli.main import main
from ppodd.errors import BadInput, StorageError
from ppodd.files import Folder


def test_a_full_disk_keeps_what_is_there_and_names_the_path(tmp_path):
    with mounted(tmp_path / "disk", "size=64k") as disk:
        folder = Folder(disk)
        folder.write("kept", b"old")
        with pytest.raises(StorageError, match=rf"cannot write {disk}/large: No space left on device; free space or"):
            folder.write("large", bytes(2**20))
        with pytest.raises(StorageError, match=rf"cannot write {disk}/kept: No space"):
            folder.write("kept", bytes(2**20))
        assert folder.find() == ["kept"] and folder.read("kept") == b"old"


def test_a_disk_that_became_read_only_is_said_for_writing_and_removing(tmp_path):
    with mounted(tmp_path / "disk", "size=64k") as disk:
        Folder(disk).write("kept", b"")
        remount(disk, "ro")
        with pytest.raises(StorageError, match=rf"cannot write {disk}/file: Read-only file system; check who may"):
            Folder(disk).write("file", b"")
        with pytest.raises(StorageError, match=rf"cannot use {disk}/kept: Read-only file system"):
            Folder(disk).remove("kept")
        assert Folder(disk).names() == ["kept"]


def test_distill_on_a_read_only_disk_is_one_line_before_it_reads(tmp_path, tiny, capsys):
    with mounted(tmp_path / "disk", "ro") as disk:
        assert main(["distill", "--archive", str(disk), "--name", "run", *flags(tiny)]) == 2
        why = f"{disk} is no folder that this user may write (Read-only file system); name another --archive"
        assert capsys.readouterr() == ("", f"ppodd: cannot write {disk}/runs/run: {why}\n")


def test_what_is_refused_once_a_run_is_under_way_is_a_failure_and_no_bad_input(tmp_path, tiny, monkeypatch, capsys):
    trial = tmp_path / "runs/run"

    def take_the_place(self, record):
        if not (trial / "resume").exists():
            (trial / "resume").write_text("")

    monkeypatch.setattr("ppodd.archive.TrialArchive.write_progress", take_the_place)
    assert main(["distill", "--archive", str(tmp_path), "--name", "run", *flags(tiny)]) == 1
    said = capsys.readouterr().err.splitlines()
    assert said == [
        f"ppodd: cannot write {trial}/resume/state.safetensors: {trial}/resume is a file; name another folder"
    ]


def test_a_file_where_a_folder_is_to_be_is_bad_input(tmp_path):
    (tmp_path / "taken").write_text("")
    with pytest.raises(BadInput, match=rf"cannot write .*: {tmp_path}/taken is a file; name another folder"):
        Folder(tmp_path / "taken").write("file", b"")
