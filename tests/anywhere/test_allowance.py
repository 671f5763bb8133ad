"""Cores and memory by what a process is allowed, in every place that counts them."""

import os
import subprocess
import sys
import uuid
from pathlib import Path

import pytest
from sweeps import PATH, command

from ppodd.machine import allowance, cores, memory_bytes

TOLD = "from ppodd.machine import cores, memory_bytes; print(cores(), memory_bytes())"


def told(*before, **environment):
    """Cores and memory that a new process says it may use."""
    arguments = [*before, sys.executable, "-c", TOLD]
    done = subprocess.run(arguments, env={**os.environ, **PATH, **environment}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return tuple(map(int, done.stdout.split()))


@pytest.fixture
def tree(tmp_path, monkeypatch):
    """A machine of 64 cores whose control groups a test writes: `tree(own, {file: text})`."""
    monkeypatch.setattr(allowance, "_GROUPS", tmp_path / "cgroup")
    monkeypatch.setattr(allowance, "_OWN_GROUPS", tmp_path / "own")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)), raising=False)
    monkeypatch.setattr(allowance, "machine_memory_bytes", lambda: 2**40)
    for name in list(os.environ):
        if name.startswith("SLURM_"):
            monkeypatch.delenv(name)

    def write(own, files):
        (tmp_path / "own").write_text(own)
        for name, text in files.items():
            path = tmp_path / "cgroup" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"{text}\n")

    return write


def test_an_affinity_is_obeyed():
    assert told("taskset", "-c", "0")[0] == 1


@pytest.mark.parametrize(
    ("environment", "expected"),
    [({"SLURM_CPUS_PER_TASK": "3"}, 3), ({"SLURM_CPUS_ON_NODE": "5"}, 5), ({"SLURM_CPUS_PER_TASK": ""}, 64)],
)
def test_a_slurm_allocation_is_obeyed(environment, expected, tree, monkeypatch):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert cores() == expected


def test_a_slurm_allocation_of_memory_is_obeyed(tree, monkeypatch):
    monkeypatch.setenv("SLURM_MEM_PER_NODE", "0")  # which is all that there is
    assert memory_bytes() == 2**40
    monkeypatch.setenv("SLURM_MEM_PER_NODE", "2048")
    assert memory_bytes() == 2**31


def test_memory_that_slurm_gives_with_each_core_is_obeyed(tree, monkeypatch):
    monkeypatch.setenv("SLURM_MEM_PER_CPU", "1024")
    assert memory_bytes() == 2**40  # of how many cores is not said
    monkeypatch.setenv("SLURM_CPUS_ON_NODE", "4")
    assert memory_bytes() == 2**32


def test_what_python_is_told_of_cores_is_obeyed(tree, monkeypatch):
    monkeypatch.setenv("PYTHON_CPU_COUNT", "2")
    assert cores() == 2


def test_the_tightest_group_around_the_process_counts(tree):
    """Version 2: the limit may be one of the slice that the process's own group lies in."""
    files = {"lab/cpu.max": "350000 100000", "lab/job/cpu.max": "max 100000", "lab/job/memory.max": "1073741824"}
    tree("0::/lab/job\n", files)
    assert (cores(), memory_bytes()) == (3, 2**30)


def test_groups_of_version_1_are_read_by_controller(tree):
    own = "4:memory:/job\n3:cpu,cpuacct:/job\n1:name=systemd:/\n"
    limits = {"cpu/job/cpu.cfs_quota_us": 200000, "cpu/job/cpu.cfs_period_us": 100000}
    tree(own, {**limits, "cpu/cpu.cfs_quota_us": -1, "memory/job/memory.limit_in_bytes": 2**29})
    assert (cores(), memory_bytes()) == (2, 2**29)


def test_a_container_that_sees_its_group_as_the_root_is_limited(tree):
    tree("0::/docker/0123\n", {"cpu.max": "150000 100000", "memory.max": "max"})
    assert (cores(), memory_bytes()) == (1, 2**40)


def test_less_than_a_core_is_one_core(tree):
    tree("0::/\n", {"cpu.max": "50000 100000"})
    assert cores() == 1


@pytest.fixture
def groups():
    """Real control groups of version 1 with a quota of one core and 1 GiB, where this user may make them."""
    name = f"ppodd-test-{uuid.uuid4().hex[:8]}"
    made = [Path("/sys/fs/cgroup", controller, name) for controller in ("cpu", "memory")]
    try:
        for folder in made:
            folder.mkdir()
        (made[0] / "cpu.cfs_quota_us").write_text("100000")
        (made[1] / "memory.limit_in_bytes").write_text(str(2**30))
    except OSError as error:
        pytest.skip(f"no control groups can be made here: {error}")
    yield made
    for folder in made:
        folder.rmdir()


def test_a_real_quota_is_obeyed(groups):
    join = " && ".join(f"echo $$ > {folder}/cgroup.procs" for folder in groups)
    assert told("sh", "-c", f'{join} && exec "$@"', "sh") == (1, 2**30)


def test_doctor_says_what_this_process_may_use():
    arguments = ["taskset", "-c", "0", *command("doctor")]
    done = subprocess.run(arguments, env={**os.environ, **PATH}, capture_output=True, text=True)
    assert f"cores: 1 of {os.cpu_count()} may be used (torch: 1 thread)" in done.stdout, done.stdout + done.stderr
    assert " GiB may be used" in done.stdout
