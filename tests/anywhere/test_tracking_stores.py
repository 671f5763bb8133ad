"""MLflow stores that cannot be what is meant: said at once, and nothing is made; proxies do not come between."""

import http.server
import os
import shlex
import subprocess
import sys
import threading
import urllib.request
from pathlib import Path

import mlflow
import pytest
from archives import write_sweep
from servers import MlflowServer
from users import ppodd_as_nobody

from ppodd.archive import Archive
from ppodd.cli.main import main
from ppodd.config import EvaluationConfig, preset
from ppodd.errors import BadInput, StorageError
from results.tracking.store import open_store


def archived(folder):
    """A sweep of one trial in `archive`."""
    configs = [{**preset("digits-small"), "num_stages": 1}]
    write_sweep(Archive(folder / "archive"), "lab", configs, EvaluationConfig(nets=1, budgets=(20,)))


def test_a_store_that_is_read_and_not_there_is_not_made(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for action in (["table"], ["report", "-o", "x.html"], ["compare", "--by", "num_stages"], ["curve", "-o", "x.png"]):
        assert main(["results", *action, "--tracking-uri", "sqlite:///typo.db"]) == 2
        assert "there is no MLflow store sqlite:///typo.db: `ppodd results sync` makes one" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("uri", "said"),
    [
        ("sqlite:////{}/folder", "/folder is a folder: name a file in it, such as"),
        ("sqlite:////{}/file/x.db", "/file is a file; name another --tracking-uri"),
        ("sqlite:////{}/file", "/file is no SQLite file"),
        ("sqlite:////{}/circle", "is a link that leads to itself"),
        ("sqlite:////{}/nowhere/x.db", "cannot make the MLflow store"),
        ("sqlite:////proc/x.db", "/proc is no folder that this user may write"),
        ("sqlite:///:memory:", "is in no file: write sqlite:///PATH"),
        ("sqlite:///", "is in no file: write sqlite:///PATH"),
        ("sqlite://x.db", "accepted are sqlite:////absolute/path.db"),
        ("mysql://user@host/name", "install its driver"),
        ("mssql+nothing://user@host/name", "accepted are"),
        ("folder", "'folder' is no MLflow store, but a folder; `mlflow migrate-filestore` makes"),
        ("file:///{}/folder", ", but a folder; `mlflow migrate-filestore`"),
        ("typo.db", "'typo.db' is no MLflow store; a file of that name is sqlite:///typo.db: accepted are"),
        ("sqlte:///x.db", "did you mean 'sqlite'?"),
        ("carrier://pigeon", "'carrier://pigeon' is no MLflow store: accepted are"),
        ("ftp://host/x", "'ftp://host/x' is no MLflow store: accepted are"),
        ("http:host:5000", "is no MLflow store"),
        ("http://[::1", "'http://[::1' is no MLflow store, for it names no host, or no port: accepted are"),
        ("http://[::1]:x", "it names no host, or no port"),
        ("http:///x", "it names no host, or no port"),
        ("https://127.0.0.1:99999", "it names no host, or no port"),
        ("http://a b", "it names no host, or no port"),
    ],
)
def test_a_store_that_cannot_be_opened_is_said_at_once_by_what_writes_and_what_reads(
    uri, said, tmp_path, monkeypatch, capsys
):
    """In one line; a sweep's dry run says it as the sweep would."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("text")
    (tmp_path / "circle").symlink_to("circle")
    (tmp_path / "nowhere").symlink_to("/proc/nowhere")
    (tmp_path / "lab.yaml").write_text("name: lab\npreset: digits-small\n")
    uri = uri.format(str(tmp_path).strip("/"))
    with pytest.raises(BadInput) as error:
        open_store(uri)
    assert said in str(error.value) and "psycopg2-binary" not in str(error.value)
    is_local = not uri.startswith(("mysql", "mssql"))  # which is known once it is asked
    for command in (["results", "table"], ["sweep", "lab.yaml"], ["sweep", "lab.yaml", "--dry-run", "--no-estimate"]):
        if is_local:
            assert main([*command, "--tracking-uri", uri]) == 2
            told = capsys.readouterr().err
            assert told.count("\n") == 1 and (
                said in told or (command[0] == "results" and "there is no MLflow store" in told)
            )
    assert {path.name for path in tmp_path.iterdir()} == {"folder", "file", "circle", "nowhere", "lab.yaml"}


def test_an_empty_file_is_no_store_to_read(tmp_path, capsys):
    (tmp_path / "x.db").touch()
    assert main(["results", "table", "--tracking-uri", f"sqlite:///{tmp_path}/x.db"]) == 2
    assert "there is no MLflow store" in capsys.readouterr().err and (tmp_path / "x.db").stat().st_size == 0


def test_a_link_to_a_file_that_is_not_there_yet_makes_the_store_where_it_leads(tmp_path):
    (tmp_path / "link.db").symlink_to("disk/mlflow.db")
    open_store(f"sqlite:///{tmp_path}/link.db")
    assert (tmp_path / "link.db").is_symlink() and (tmp_path / "disk" / "mlflow.db").stat().st_size
    assert [path.name for path in tmp_path.rglob("*.lock")] == ["mlflow.db.lock"]


def test_a_store_where_nobody_may_write_is_one_line(tmp_path):
    (tmp_path / "closed").mkdir(mode=0o555)
    archived(tmp_path)
    store = f"sqlite:///{tmp_path}/closed/mlflow.db"
    done = ppodd_as_nobody("results", "sync", "--archive", "archive", "--tracking-uri", store, cwd=tmp_path)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert (
        f"cannot make the MLflow store sqlite:///{tmp_path}/closed/mlflow.db: {tmp_path}/closed is no folder"
        in done.stderr
    )


def test_the_driver_of_an_sqlite_uri_changes_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    open_store(f"sqlite+pysqlite:///{tmp_path}/mlflow.db")
    assert {path.name for path in tmp_path.iterdir()} == {"mlflow.db", "mlflow.db.lock"}


def test_the_command_that_brings_a_deleted_experiment_back_works_as_it_is_said(tmp_path, empty_store, capsys):
    archived(tmp_path)
    store = f"sqlite:///{tmp_path}/store.db"
    (tmp_path / "store.db").write_bytes(empty_store.read_bytes())
    sync = ["results", "sync", "--archive", str(tmp_path / "archive"), "--tracking-uri", store]
    assert main(sync) == 0
    client = mlflow.MlflowClient(store)
    (ours,) = [found for found in client.search_experiments() if found.name != "Default"]
    client.delete_experiment(ours.experiment_id)
    capsys.readouterr()
    assert main(sync) in (1, 2)
    said = "".join(capsys.readouterr())
    command = said.partition("bring it back with `")[2].partition("`")[0]
    assert shlex.split(command)[0] == f"MLFLOW_TRACKING_URI={store}"
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    subprocess.run(command, shell=True, check=True, capture_output=True, env={**os.environ, "PATH": path})
    assert main(sync) == 0


class _Refuses(http.server.BaseHTTPRequestHandler):
    """A proxy of a lab: it reaches the world, not the machine that asks it."""

    def do_GET(self):
        self.server.asked.append(self.path)
        self.send_error(502, "the proxy does not reach it")

    do_POST = do_GET

    def log_message(self, *arguments):
        pass


@pytest.fixture(params=[("http_proxy", "https_proxy"), ("ALL_PROXY",)], ids=["by protocol", "for all"])
def proxy(monkeypatch, request):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Refuses)
    server.asked = []
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_address[1]}"
    for name in request.param:
        monkeypatch.setenv(name, url)
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.setenv(name, "")
    monkeypatch.setattr(urllib.request, "_opener", None)  # which an earlier test made without a proxy
    yield server, url
    server.shutdown()
    server.server_close()


@pytest.fixture
def server(tmp_path, empty_store):
    """A server on this machine, begun before there is a proxy."""
    (tmp_path / "mlflow.db").write_bytes(empty_store.read_bytes())
    server = MlflowServer(f"sqlite:///{tmp_path}/mlflow.db", tmp_path / "artifacts")
    yield server
    server.stop()


def test_a_server_on_this_machine_is_asked_past_the_proxy(server, proxy):
    open_store(server.url)
    assert proxy[0].asked == [] and os.environ["no_proxy"] == "127.0.0.1"


def test_a_server_elsewhere_that_the_proxy_does_not_reach_is_said_with_the_proxy(proxy):
    with pytest.raises(StorageError) as error:
        open_store("http://mlflow.lab.invalid:5000")
    assert f"asked through the proxy {proxy[1]} (NO_PROXY=mlflow.lab.invalid goes past it)" in str(error.value)
    assert proxy[0].asked


def test_a_dashboard_that_the_proxy_does_not_reach_is_said_with_the_proxy(proxy, capsys):
    assert main(["jobs", "status", "--address", "http://ray.lab.invalid:8265"]) == 2
    said = capsys.readouterr().err
    assert f"HTTP 502, asked through the proxy {proxy[1]} (NO_PROXY=ray.lab.invalid goes past it)" in said
