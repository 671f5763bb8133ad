"""Ray's own start: what it could not use is told apart before it starts, in one line."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from sweeps import PATH, command, sweep_file
from users import NOBODY, as_nobody

from cluster.service import connect, ray_internals, ray_start
from cluster.service.ray_start import check_address, ray_folder, reach
from ppodd.cli.main import main
from ppodd.errors import BadInput, PpoddError

FORMS = "accepted are auto, HOST:PORT, [IPv6]:PORT and ray://HOST:PORT"
REFUSED = [
    ("", "it names no port"),
    ("lab", "it names no port (Ray's own is 6379)"),
    ("lab:", "it names no port"),
    ("lab:port", "it names no port"),
    ("lab:70000", "is no address"),
    ("::1:6379", "IPv6 is written in brackets"),
    ("http://lab:8265", "but of a dashboard, for `ppodd submit --address`"),
    ("anyscale://lab", "is no address"),
    ("lab:6379/x", "is no address"),
    ("a lab:6379", "is no address"),
    ("local", "it names no port"),
]


@pytest.mark.parametrize(("address", "hint"), REFUSED)
def test_an_address_in_no_form_of_rays_is_refused(address, hint, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for given, environment in ((address, ""), ("auto", address)):
        monkeypatch.setenv("RAY_ADDRESS", environment)
        if given == "auto" and not address:
            continue
        assert main(["evaluators", "status", f"--ray-address={given}"]) == 2
        said = capsys.readouterr().err
        assert hint in said and FORMS in said and said.count("\n") == 1
        assert ("RAY_ADDRESS=" in said) == (given == "auto")


@pytest.mark.parametrize("address", ["auto", "lab:6379", "10.0.0.1:6379", "[::1]:6379", "ray://lab:10001"])
def test_an_address_in_one_of_its_forms_is_taken(address, monkeypatch):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    check_address(address)
    monkeypatch.setenv("RAY_ADDRESS", "")  # as if it were unset
    check_address(address)


def test_a_host_of_ipv6_is_knocked_at_without_its_brackets():
    with pytest.raises(ConnectionRefusedError):
        reach("[::1]:1")


@pytest.mark.parametrize(
    ("make", "wrong"),
    [
        (lambda path: None, "cannot be read: No such file or directory"),
        (lambda path: path.write_text("\n"), "is empty"),
        (lambda path: path.mkdir(), "cannot be read: Is a directory"),
        (lambda path: path.write_bytes(b"\xff"), "cannot be read: no text"),
    ],
)
def test_a_file_without_a_token_is_named(make, wrong, tmp_path, tiny):
    make(tmp_path / "token")
    named = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(tmp_path / "token")}
    environment = {k: v for k, v in os.environ.items() if k != "RAY_AUTH_TOKEN"} | PATH | named
    arguments = command("sweep", sweep_file(tmp_path, tiny))
    done = subprocess.run(arguments, env=environment, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert f"the file of Ray's token {tmp_path}/token {wrong} (RAY_AUTH_TOKEN_PATH names it): make one" in done.stderr


@pytest.fixture
def short(monkeypatch):
    """A short folder, empty, which no user else has."""
    with tempfile.TemporaryDirectory(prefix="r-", dir="/tmp") as folder:
        monkeypatch.delenv("RAY_TMPDIR", raising=False)
        monkeypatch.setattr(tempfile, "tempdir", folder)
        yield Path(folder)


def test_ray_uses_the_folder_that_is_named_from_wherever_it_starts(short, monkeypatch):
    monkeypatch.chdir(short)
    monkeypatch.setenv("RAY_TMPDIR", "here")
    assert ray_folder() == str(short / "here/ray")


def _too_long(short):
    return short / ("x" * 60), "is longer than the 40 bytes that sockets leave for it"


def _not_writable(short):
    (short / "file").write_text("")
    return short / "file", "cannot be written"


def _another_users(short):
    (short / "ray/ray_current_cluster").mkdir(parents=True)
    return short, "is that of another user's Ray"


@pytest.mark.parametrize("place", [_too_long, _not_writable, _another_users])
def test_a_folder_that_ray_cannot_use_is_replaced_and_named(place, short, monkeypatch, caplog):
    asked, why = place(short)
    if place is _another_users:
        monkeypatch.setattr(os, "access", lambda path, mode: "current_cluster" not in str(path))
    monkeypatch.setenv("TMPDIR", str(asked))
    instead = short / f"ppodd-{os.getuid()}/ray"
    assert ray_folder() == str(instead)
    assert f"Ray cannot use {asked}/ray, which {why}: it uses {instead}; $RAY_TMPDIR names another" in caplog.text


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give a folder to another user")
def test_the_folder_of_another_users_ray_is_left_to_it():
    """Which this user may read, as the sticky folder of all temporary files has it."""
    show = "from cluster.service.ray_start import ray_folder; print(ray_folder())"
    with tempfile.TemporaryDirectory(prefix="r-", dir="/tmp") as folder:
        Path(folder).chmod(0o777)
        Path(folder, "ray").mkdir(mode=0o755)
        os.chown(f"{folder}/ray", 1, 1)
        done = as_nobody(sys.executable, "-c", show, cwd=folder, TMPDIR=folder, RAY_TMPDIR=None)
        assert done.stdout.strip() == f"{folder}/ppodd-{NOBODY}/ray", done.stderr
        assert f"Ray cannot use {folder}/ray, which cannot be written: it uses" in done.stderr


def test_where_ray_finds_no_place_at_all_a_short_one_is_asked_for(short, monkeypatch):
    monkeypatch.setenv("RAY_TMPDIR", str(short / ("x" * 60)))
    monkeypatch.setattr(ray_start, "own_temporary_folder", lambda place: short / ("y" * 60))
    with pytest.raises(BadInput, match="of at most 36 bytes, by RAY_TMPDIR"):
        ray_folder()


def test_a_ray_that_does_not_start_is_said_with_the_place_of_its_logs(short, monkeypatch):
    def timed_out(memory, folder, **options):
        raise Exception("The current node timed out during startup.")

    monkeypatch.setenv("RAY_TMPDIR", str(short))
    monkeypatch.setattr(ray_internals, "init_alone", timed_out)
    with pytest.raises(PpoddError, match=f"Ray did not start: The current .* startup; its logs are in {short}/ray/"):
        connect()
