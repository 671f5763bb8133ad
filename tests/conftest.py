"""Fixtures that several test files use."""

import http.client
import os
import shutil
import signal
import sys
import tempfile
import uuid
from pathlib import Path

import pytest
import torch
from tiny import TINY

import cluster
from ppodd.training import compiled

cluster.prepare()  # before any test imports Ray
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("RAY_worker_niceness", "0")  # a test waits for its workers; it has no one to yield to
# commands that tests start are to heed signals, also where the tests run in the background or under `nohup`
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)
torch.set_num_threads(1)  # the machine's cores are shared; results must not depend on them


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory):
    """Tests neither read nor fill the user's data cache; functions compiled by one run of them serve the next."""
    cache, kept = tmp_path_factory.mktemp("cache"), Path(tempfile.gettempdir(), f"ppodd-tests-{os.getuid()}")
    kept.mkdir(mode=0o700, exist_ok=True)
    for functions in kept.glob("kernels-*.so"):
        shutil.copy(functions, cache)
    os.environ["PPODD_CACHE"] = str(cache)
    yield
    for functions in cache.glob("kernels-*.so"):
        if not (kept / functions.name).exists():
            os.replace(shutil.copy(functions, kept / f"{functions.name}.{os.getpid()}"), kept / functions.name)


@pytest.fixture(scope="module", autouse=True)
def no_ray_is_left():
    """A file's tests meet no Ray that another's have joined: which ran before is chance."""
    yield
    if (ray := sys.modules.get("ray")) and ray.is_initialized():
        ray.shutdown()


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory):
    """A real SQLite store without runs: making one takes MLflow seconds, copying it none."""
    from results.tracking.store import open_store

    path = tmp_path_factory.mktemp("store") / "mlflow.db"
    open_store(f"sqlite:///{path}")
    return path


@pytest.fixture
def tiny():
    """Config values of a distillation that takes a second: 2 stages of 4 meta-steps on digits."""
    return dict(TINY)


@pytest.fixture(scope="session")
def to_the_bit():
    """Of tests that find a trial to be the same to the bit, alone and in company."""
    if not compiled.functions(torch.float32):
        pytest.skip("no C compiler: a library's products depend on how many there are")


@pytest.fixture(scope="session")
def cifar10_root():
    """The folder of the real CIFAR-10 parquet files."""
    root = Path(os.environ.get("PPODD_TEST_DATA", Path(__file__).parents[2] / "shared" / "data"))
    if not (root / "cifar10-train.parquet").exists():
        pytest.skip(f"no real CIFAR-10 in {root} (set PPODD_TEST_DATA)")
    return root


@pytest.fixture(scope="session")
def s3_server():
    """A real S3 API on loopback: its host and port."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    yield server.get_host_and_port()
    server.stop()


@pytest.fixture
def gate(s3_server, monkeypatch):
    """The gate to that S3 API; the environment names it, and credentials, as a user's would.

    botocore retries nothing by itself, so that what is seen is ours.
    """
    import s3fs
    from s3 import CREDENTIALS, Gate

    gate = Gate(s3_server)
    for name, value in {**CREDENTIALS, "AWS_ENDPOINT_URL": gate.url, "AWS_MAX_ATTEMPTS": "1"}.items():
        monkeypatch.setenv(name, value)
    s3fs.S3FileSystem.clear_instance_cache()
    yield gate
    s3fs.S3FileSystem.clear_instance_cache()
    gate.close()


@pytest.fixture
def bucket(s3_server, gate):
    """The URL of an empty bucket there."""
    name = f"bucket-{uuid.uuid4().hex[:8]}"
    server = http.client.HTTPConnection(*s3_server)
    server.request("PUT", f"/{name}")
    assert server.getresponse().status == 200
    server.close()
    return f"s3://{name}"
