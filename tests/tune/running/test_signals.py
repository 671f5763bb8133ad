"""A sweep that a batch system, a container or a person ends: its trials checkpoint, and it says how to go on."""

import os
import signal
import subprocess
import time

import pytest
import ray
from process_tree import marked
from sweeps import PATH, command, ppodd, started, sweep_file, wait_for

from cluster.service import connect
from ppodd.archive import Archive
from tune.running.stopping import StopNoticeActor

LINE = "ppodd: interrupted{}; the same command with --resume goes on from the last checkpoint\n"


@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGTERM, 143), pytest.param(signal.SIGHUP, 129, marks=pytest.mark.slow)],  # 20 seconds each
    ids=["SIGTERM", "SIGHUP"],
)
def test_a_sweep_ends_by_a_signal_with_a_checkpoint_of_every_trial_and_goes_on(tiny, tmp_path, number, code):
    # no checkpoint but that of the signal; seconds of meta-steps, so that it comes amid them
    path = sweep_file(tmp_path, {**tiny, "epochs": 250, "checkpoint_every": 10**6}, grid={"num_stages": [1]}, seeds=[0])
    archive = Archive(tmp_path / "ppodd-archive")
    with started(command("sweep", path), cwd=tmp_path, env={**os.environ, **PATH}, stderr=subprocess.PIPE) as driver:
        wait_for(lambda: driver.poll() or any(archive.trial("tiny", t).progress() for t in archive.trials("tiny")))
        driver.send_signal(number)
        said = driver.stderr.read()
    assert driver.returncode == code, said
    assert said == LINE.format(f" by {number.name}")
    (name,) = archive.trials("tiny")
    assert 0 < archive.trial("tiny", name).resume()[1].step < 500
    resumed = ppodd("sweep", path, "--resume", cwd=tmp_path)
    assert resumed.returncode == 0, resumed.stdout + resumed.stderr
    assert archive.trial("tiny", name).stages() == [1]


GROUP = [(signal.SIGTERM, 143, " by SIGTERM"), (signal.SIGHUP, 129, " by SIGHUP"), (signal.SIGINT, 1, "")]


@pytest.mark.slow  # a quarter of a minute each
@pytest.mark.parametrize("after", [0.5, 2, 4, 8])
@pytest.mark.parametrize(("number", "code", "by"), GROUP, ids=["SIGTERM", "SIGHUP", "SIGINT"])
def test_a_group_that_is_signalled_while_ray_starts_ends_in_time_with_one_line(number, code, by, after, tiny, tmp_path):
    """As `timeout`, a terminal and batch systems do; seconds after the sweep says that it starts Ray."""
    path = sweep_file(tmp_path, {**tiny, "epochs": 4000}, grid={"num_stages": [1]}, seeds=[0, 1])
    how = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "start_new_session": True}
    environment = {**os.environ, **PATH, "PPODD_TEST": str(tmp_path)}
    with started(command("sweep", path), cwd=tmp_path, env=environment, **how) as driver:
        for line in driver.stdout:
            if line == "starting Ray\n":
                break
        time.sleep(after)
        os.killpg(driver.pid, number)
        began = time.monotonic()
        said = driver.stderr.read()
        assert driver.wait() == code and time.monotonic() - began < 25
    assert said == LINE.format(by)
    # a worker that is about to start finds out once it has imported its modules
    wait_for(lambda: not marked("PPODD_TEST", tmp_path), 60)


def test_the_notice_reaches_more_trials_than_an_actor_answers_by_default():
    """Each waits in a call of its own."""
    connect(None, cpus=1)
    try:
        notice = StopNoticeActor.remote()
        waiting = [notice.given.remote() for _ in range(1100)]
        ray.get(notice.give.remote(), timeout=60)
        ray.get(waiting, timeout=60)
    finally:
        ray.shutdown()
