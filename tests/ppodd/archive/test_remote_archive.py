"""An archive on S3: a real S3 API on loopback, behind a gate that counts requests and fails some of them."""

import errno
from concurrent.futures import ThreadPoolExecutor

import pytest
import s3fs
from archives import write_stage, write_sweep
from s3 import CREDENTIALS
from sweeps import sweep_file

from ppodd.archive import Archive
from ppodd.config import DistillConfig, EvaluationConfig, build
from ppodd.errors import BadInput, PpoddError, StorageError
from ppodd.files import retries
from ppodd.files.folder import Folder
from tune.running.progress import ProgressReader
from tune.running.standing import unfinished
from tune.sweep_file import load_sweep


@pytest.fixture(params=["local", "s3"])
def archive(request, tmp_path):
    return Archive(f"{request.getfixturevalue('bucket')}/runs" if request.param == "s3" else tmp_path / "runs")


def test_one_look_lists_every_trial_stage_and_evaluation(archive, tiny):
    write_sweep(archive, "s", [tiny, {**tiny, "num_stages": 1}], EvaluationConfig())
    (archive.folder / "s/half-made").write("stage-01/poster.safetensors", b"{}")  # neither config nor stage: no trial
    (archive.folder / "s/.tune").write("t000/config.json", b"{}")
    found = archive.states("s")
    assert list(found) == ["t000", "t001"] == archive.trials("s")
    assert found["t000"].stages == [1, 2] and found["t001"].stages == [1]
    trial = archive.trial("s", "t000")
    (ticket,) = found["t000"].evaluations(2)
    assert ticket == trial.evaluations(2)[0].ticket and found["t000"].evaluations(3) == set()
    assert {"config.json", "stage-01/poster.png", f"stage-02/evaluations/{ticket}.json"} <= found["t000"].names
    assert archive.states("gone") == {}


def test_a_look_sees_what_others_wrote_since_the_last(archive, tiny):
    write_sweep(archive, "s", [tiny], EvaluationConfig())
    assert archive.trials("s") == ["t000"] and archive.trial("s", "t000").stages() == [1, 2]
    other = Archive(archive.url)
    other.trial("s", "t000").folder.write("stage-03/stage.json", b"{}")
    other.trial("s", "t001").folder.write("config.json", b"{}")
    assert archive.trials("s") == ["t000", "t001"] and archive.trial("s", "t000").stages() == [1, 2, 3]
    other.trial("s", "t000").folder.remove("stage-03/stage.json")
    assert archive.trial("s", "t000").stages() == [1, 2]


def test_a_stamp_tells_whether_any_file_of_a_trial_was_written_again(archive, tiny):
    write_sweep(archive, "s", [tiny, tiny], EvaluationConfig())
    before = archive.states("s", stamped=True)
    assert before["t000"].stamp and before == archive.states("s", stamped=True)
    folder = archive.trial("s", "t000").folder
    data = folder.read("config.json")
    folder.write("config.json", data[:-3] + b" }\n")  # as long as it was
    after = archive.states("s", stamped=True)
    assert after["t000"].stamp not in ("", before["t000"].stamp) and after["t001"] == before["t001"]
    assert archive.states("s")["t000"].stamp == ""


def test_a_look_at_a_sweep_on_s3_is_one_request(bucket, gate, tiny):
    archive = Archive(f"{bucket}/runs")
    write_sweep(archive, "s", [tiny] * 3, EvaluationConfig())
    gate.asked.clear()
    assert len(archive.states("s")) == 3 and len(gate.asked) == 1


def test_a_sweeps_progress_on_s3_is_one_request_a_look(bucket, gate, tiny, tmp_path):
    archive, sweep = Archive(f"{bucket}/runs"), load_sweep(sweep_file(tmp_path, tiny, seeds=[0, 1]))
    (name, config), *_ = sweep.trials.items()
    trial = archive.trial(sweep.name, name)
    trial.create(config, resume=False)
    write_stage(trial, config, 1)
    read = ProgressReader(sweep, archive)
    assert read().stages_done == 1  # and knows the tickets of its evaluations from now on
    gate.asked.clear()
    assert read().stages_done == 1 and len(unfinished(sweep, archive)) == len(sweep.trials) - 1
    assert len(gate.asked) == 2


# What passes by itself


def first(count, answer, method=""):
    """A rule that gives the first requests (of a method) another answer."""
    left = iter(range(count))
    return lambda asked, path: answer if asked.startswith(method) and next(left, None) is not None else None


@pytest.fixture
def folder(bucket, gate, monkeypatch):
    """A folder on S3 that was used already."""
    monkeypatch.setattr(retries, "FIRST_WAIT_S", 0.02)
    folder = Folder(f"{bucket}/runs")
    folder.write("there.json", b'{"a": 1}')
    gate.asked.clear()
    return folder


USES = {
    "write": lambda folder: folder.write("new.json", b"{}"),
    "read": lambda folder: folder.read_json("there.json"),
    "exists": lambda folder: folder.exists("there.json"),
    "names": lambda folder: folder.names(),
    "find": lambda folder: folder.find(),
    "remove": lambda folder: folder.remove("there.json"),
}


@pytest.mark.parametrize("answer", [503, 500, "reset"])
def test_what_fails_for_a_while_is_done_in_the_end(folder, gate, answer):
    for use in USES.values():
        gate.asked.clear()
        gate.rule = first(3, answer)
        use(folder)
        assert len(gate.asked) == 4
    assert folder.find() == ["new.json"]


def test_a_server_that_hangs_is_asked_again(folder, gate, monkeypatch):
    monkeypatch.setattr(s3fs.S3FileSystem, "read_timeout", 0.3)
    s3fs.S3FileSystem.clear_instance_cache()
    gate.rule = first(1, "hang")
    assert Folder(folder.url).read("there.json") == b'{"a": 1}'


def test_an_outage_that_does_not_end_is_one_line_in_bounded_time(folder, gate, monkeypatch):
    monkeypatch.setattr(retries, "PATIENCE_S", 0.5)
    gate.rule = lambda method, path: 503
    with pytest.raises(PpoddError, match=r"^s3://bucket-\w+ gave no answer for \d s \(SlowDown.*\): check the network"):
        folder.read("there.json")
    assert 2 <= len(gate.asked) <= 4


def test_retries_of_ours_and_of_the_client_do_not_multiply_by_those_of_s3fs(folder, gate, monkeypatch):
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "2")
    monkeypatch.setattr(retries, "PATIENCE_S", 0)
    s3fs.S3FileSystem.clear_instance_cache()
    gate.rule = lambda method, path: 503
    with pytest.raises(PpoddError):
        Folder(folder.url).read("there.json")
    assert len(gate.asked) == 2


class Clock:
    """Time that passes by sleeping alone."""

    def __init__(self):
        self.now, self.slept = 0.0, []

    def monotonic(self):
        return self.now

    def sleep(self, seconds):
        self.slept.append(seconds)
        self.now += seconds


def test_waits_grow_up_to_a_bound_and_end_with_patience(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(retries, "time", clock)
    monkeypatch.setattr(retries, "_answered", {"s3://bucket"})

    def request():
        raise OSError(errno.EBUSY, "Please reduce your request rate.")

    with pytest.raises(PpoddError, match=r"gave no answer for 1[5-8]\d s .Please reduce your request rate"):
        retries.persist(request, "s3://bucket")
    assert clock.now <= retries.PATIENCE_S and max(clock.slept) <= retries.LONGEST_WAIT_S
    assert all(b > a for a, b in zip(clock.slept[::2][:3], clock.slept[2::2][:3], strict=True))


def test_what_only_informs_is_tried_once(monkeypatch):
    clock, asked = Clock(), []
    monkeypatch.setattr(retries, "time", clock)

    def request():
        asked.append(1)
        raise OSError(errno.EBUSY, "busy")

    with pytest.raises(PpoddError, match="gave no answer for 0 s"):
        retries.persist(request, "s3://bucket", patience_s=0)
    assert len(asked) == 1 and clock.slept == []


# What does not


def test_denied_access_is_said_at_once(folder, gate):
    gate.rule = lambda method, path: 403
    for use in USES.values():
        with pytest.raises(StorageError, match=r"access to s3://bucket-\w+ is denied .*: check the credentials"):
            use(folder)
    assert len(gate.asked) == len(USES)


def test_a_bucket_that_is_not_there_is_said_at_once(folder):
    gone = Folder("s3://no-such-bucket/runs")
    for use in (use for name, use in USES.items() if name != "remove"):
        with pytest.raises(BadInput, match="s3://no-such-bucket does not exist: create the bucket, or check its name"):
            use(gone)


def test_missing_credentials_are_said_at_once(folder, monkeypatch):
    for name in CREDENTIALS:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
    s3fs.S3FileSystem.clear_instance_cache()
    with pytest.raises(StorageError, match=r"no credentials for s3://bucket-\w+ .*: for S3 set AWS_ACCESS_KEY_ID"):
        Folder(folder.url).names()


def test_an_endpoint_that_never_answered_is_given_up_sooner(folder, monkeypatch):
    monkeypatch.setattr(retries, "FIRST_CONTACT_S", 0.3)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    s3fs.S3FileSystem.clear_instance_cache()
    with pytest.raises(PpoddError, match=r'endpoint URL: "http://127.0.0.1:1/.*AWS_ENDPOINT_URL for S3'):
        Folder("s3://elsewhere/runs").names()


# Stages


def test_an_upload_that_is_cut_off_before_the_record_leaves_no_stage(folder, gate, tiny, monkeypatch):
    monkeypatch.setattr(retries, "PATIENCE_S", 0)
    config = build(DistillConfig, tiny)
    trial = Archive(folder.url).trial("s", "t")
    trial.create(config, resume=False)
    gate.rule = lambda method, path: "reset" if method == "PUT" and "stage.json" in path else None
    with pytest.raises(PpoddError):
        write_stage(trial, config, 1)
    gate.rule = lambda method, path: None
    assert trial.stages() == [] and "poster.safetensors" in str(trial.folder.find())
    write_stage(trial, config, 1)
    assert trial.stages() == [1] and trial.poster(1).poster.shape == (1, 12, 24)


def test_a_large_file_is_there_whole_or_not_at_all(folder, gate, monkeypatch):
    """Beyond 100 MB s3fs uploads in parts: nothing is seen before the last of them."""
    monkeypatch.setattr(retries, "PATIENCE_S", 0)
    data = bytes(101 * 2**20)
    seen = []

    def rule(method, path):
        if method == "PUT" and "partNumber=3" in path:
            seen.append(Folder(folder.url).exists("large"))
            return 500
        return None

    gate.rule = rule
    with pytest.raises(PpoddError):
        folder.write("large", data)
    assert seen == [False] and not folder.exists("large")


def test_threads_share_a_folder(folder):
    def use(number):
        folder.write(f"{number}.json", b"%d" % number)
        return folder.read_json(f"{number}.json")

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(use, range(32))) == list(range(32))
    assert len(folder.find()) == 33
