"""A file that several try to make at once is made by one, whole, also where the file system does not offer that."""

import errno
import threading

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from ppodd.errors import BadInput
from ppodd.files import exclusive_creation, retries
from ppodd.files import folder as folders
from ppodd.files.folder import Folder


class Lasting(MemoryFileSystem):
    """A remote file system that may be told not to write over."""

    protocol = "lasting"


class Plain(MemoryFileSystem):
    """One that can only write over."""

    protocol = "plain"

    def pipe_file(self, path, value, **kwargs):
        super().pipe_file(path, value)


fsspec.register_implementation("lasting", Lasting)
fsspec.register_implementation("plain", Plain)


@pytest.fixture(params=["local", "no hard links", "lasting", "s3", "s3 that cannot", "plain"])
def folder(request, tmp_path, monkeypatch):
    monkeypatch.setattr(folders, "_SETTLE_S", 0.2)
    if request.param == "s3":
        return Folder(f"{request.getfixturevalue('bucket')}/f")
    if request.param == "s3 that cannot":
        gate = request.getfixturevalue("gate")
        gate.conditional = False
        return Folder(f"{request.getfixturevalue('bucket')}/f")
    if request.param == "no hard links":

        def link(source, target):
            raise OSError(errno.EPERM, "Operation not permitted")

        monkeypatch.setattr(exclusive_creation.os, "link", link)
    return Folder(f"{request.param}://{tmp_path}" if request.param in ("lasting", "plain") else tmp_path / "f")


def test_the_first_has_it_and_the_second_does_not(folder):
    assert folder.create("a.json", b"first") and not folder.create("a.json", b"second")
    assert folder.get("a.json") == b"first" and folder.names() == ["a.json"]
    folder.remove("a.json")
    assert folder.create("a.json", b"third")


def test_of_several_at_once_one_has_it(folder):
    many = 6
    start, made = threading.Barrier(many), []

    def make(number):
        start.wait()
        if folder.create("a.json", data := f"of {number}".encode()):
            made.append(data)

    threads = [threading.Thread(target=make, args=(number,)) for number in range(many)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert made == [folder.get("a.json")]


def test_a_file_that_was_made_though_the_answer_was_lost_is_ours(bucket, gate, monkeypatch):
    monkeypatch.setattr(retries, "FIRST_WAIT_S", 0.02)
    folder = Folder(f"{bucket}/f")
    folder.exists("a.json")
    lost = iter(["lost"])
    gate.rule = lambda method, path: next(lost, None) if method == "PUT" else None
    assert folder.create("a.json", b"ours") and folder.get("a.json") == b"ours"


def test_a_folder_that_may_not_be_written_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(BadInput):
        Folder(tmp_path / "file").create("a.json", b"")


def test_a_file_in_the_place_of_the_folder_is_named(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    folder = Folder(tmp_path / "notes.txt/below")
    with pytest.raises(BadInput, match="is a file; name another folder"):
        folder.create("a.json", b"first")
    with pytest.raises(BadInput, match=r"below/a\.json is below a file"):
        folder.get("a.json")
