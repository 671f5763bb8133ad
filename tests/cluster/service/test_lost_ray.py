"""A Ray that is lost, or a node of it: drivers end instead of waiting, the coordinator is on no node that may go."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from process_tree import descendants
from ray_clusters import RayCluster, end_session
from submissions import evaluations, sweep_file
from sweeps import wait_for

from cluster.service.watch import Watch
from ppodd.archive import Archive

LIMIT_S = 30
WAIT_S = 240  # on a machine that is busy


def lost(probe, wait_s):
    """What a watch over this probe says within so many seconds; nothing while all is well."""
    said, told = [], threading.Event()
    with Watch(probe, lambda why: (said.append(why), told.set()), pause_s=0.02, limit_s=0.3):
        told.wait(wait_s)
    return said


def test_a_ray_that_is_lost_or_does_not_answer_is_said_once_and_one_that_errs_for_a_moment_is_not():
    assert lost(lambda: "raylet ended", 5) == ["raylet ended"]
    (why,) = lost(lambda: time.sleep(60), 5)
    assert why.startswith("no answer for")
    answers = iter([ConnectionError("a moment"), *[""] * 1000])

    def recovers():
        answer = next(answers)
        if answer:
            raise answer
        return answer

    assert lost(recovers, 0.6) == []


def child(pid, name):
    return next(found for found in descendants(pid) if Path(f"/proc/{found}/comm").read_text().strip() == name)


def command(path, archive, *more):
    return [sys.executable, "-m", "ppodd", "sweep", str(path), "--archive", archive.url, *more]


def kill_and_wait(pid, driver):
    """What the driver says and its exit code, and in how many seconds, when that process is killed."""
    os.kill(pid, signal.SIGKILL)
    killed = time.monotonic()
    try:
        _, said = driver.communicate(timeout=2 * LIMIT_S)
        return said, driver.returncode, time.monotonic() - killed
    finally:
        end_session(driver)


def assert_ends_with_one_line(said, code, seconds):
    line = said.strip().splitlines()[-1]
    assert line.startswith("ppodd: Ray is lost (") and line.endswith("--resume goes on from the last checkpoint"), said
    assert code == 1 and seconds < LIMIT_S and "Traceback" not in said


@pytest.mark.slow  # 2 minutes
def test_a_driver_whose_raylet_or_gcs_is_killed_ends_with_one_line_and_is_resumed(tiny, tmp_path):
    archive = Archive(tmp_path / "archive")
    path = sweep_file(tmp_path, tiny, "lost", config={"epochs": 400}, grid={"num_stages": [3]}, seeds=[0])
    for name, more in (("raylet", []), ("gcs_server", ["--resume"])):
        driver = subprocess.Popen(
            command(path, archive, *more), stderr=subprocess.PIPE, text=True, cwd=tmp_path, start_new_session=True
        )
        known = len(evaluations(archive, "lost"))
        wait_for(lambda known=known: len(evaluations(archive, "lost")) > known, WAIT_S)
        assert_ends_with_one_line(*kill_and_wait(child(driver.pid, name), driver))
    subprocess.run(command(path, archive, "--resume"), check=True, cwd=tmp_path)
    assert evaluations(archive, "lost") == [1] * 3


def rows(cluster, kind):
    """What the cluster's dashboard lists of its nodes or actors."""
    return json.loads(cluster.get(f"/api/v0/{kind}"))["data"]["result"]["result"]


@pytest.mark.slow  # a minute
def test_the_coordinator_outlives_every_node_but_the_head_and_drivers_end_with_that(tiny, tmp_path):
    archive = Archive(tmp_path / "archive")
    large = {"cpus": 2}  # so that the worker alone has room for a trial
    path = sweep_file(
        tmp_path, tiny, "two", config={"epochs": 400}, grid={"num_stages": [3]}, seeds=[0], resources=large
    )

    def coordinator(cluster):
        """Its process, and whether it is on the head."""
        (head,) = [node["node_id"] for node in rows(cluster, "nodes") if node["is_head_node"]]
        actors = [actor for actor in rows(cluster, "actors") if actor["name"] == "coordinator"]
        return next(((one["pid"], one["node_id"] == head) for one in actors if one["state"] == "ALIVE"), None)

    with RayCluster(tmp_path, cpus=1) as cluster:
        worker = cluster.add_node(cpus=3)
        driver = subprocess.Popen(
            command(path, archive, "--ray-address", cluster.address),
            stderr=subprocess.PIPE, text=True, env=cluster.env, start_new_session=True,
        )  # fmt: skip
        try:
            process, on_head = wait_for(lambda: coordinator(cluster), WAIT_S)
            assert on_head
            cluster.kill(worker)
            wait_for(lambda: "DEAD" in {node["state"] for node in rows(cluster, "nodes")}, WAIT_S)
            assert coordinator(cluster) == (process, True)
            known = len(evaluations(archive, "two"))
            cluster.add_node(cpus=3)
            wait_for(lambda: len(evaluations(archive, "two")) > known, WAIT_S)  # the trial goes on there
            assert_ends_with_one_line(*kill_and_wait(child(cluster.head.pid, "gcs_server"), driver))
        finally:
            end_session(driver)
