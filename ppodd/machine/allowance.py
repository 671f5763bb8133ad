"""What of the machine this process may use: a container, a batch job or `taskset` gives less than there is.

The one place that everything asks which would else count the machine's cores: threads, Ray's start, estimates.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

_GROUPS, _OWN_GROUPS = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")
_SLURM_CORES = ("SLURM_CPUS_PER_TASK", "SLURM_CPUS_ON_NODE")
_SLURM_MEMORY = "SLURM_MEM_PER_NODE"  # MiB; 0 is all of it
_SLURM_SHARES = (  # MiB of each, and how many
    ("SLURM_MEM_PER_CPU", "SLURM_CPUS_ON_NODE"),
    ("SLURM_MEM_PER_GPU", "SLURM_GPUS_ON_NODE"),
)
_PYTHON_CORES = "PYTHON_CPU_COUNT"  # which `os.process_cpu_count` obeys from Python 3.13 on
_MIB = 2**20


def cores() -> int:
    """How many cores this process may keep busy, at least one: the least of what anything allows."""
    return max(1, int(min([_affinity(), *_quotas(), *_given(*_SLURM_CORES), *_given(_PYTHON_CORES)])))


def machine_cores() -> int:
    """How many cores the machine has, allowed to this process or not."""
    return os.cpu_count() or 1


def memory_bytes() -> int:
    """How many bytes of memory this process may take, with those that share its container or batch job."""
    shares = [each * number for names in _SLURM_SHARES for each, number in zip(*map(_given, names), strict=False)]
    batch = [*_given(_SLURM_MEMORY), *shares]
    return min([machine_memory_bytes(), *_memory_limits(), *(mib * _MIB for mib in batch)])


def machine_memory_bytes() -> int:
    """How many bytes of memory the machine has, allowed to this process or not."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def limit_threads(reserved: float | None = None) -> None:
    """Let torch use as many threads as cores are reserved, or all that this process may use; at least one."""
    import torch

    wanted = torch.get_num_threads() if reserved is None else int(reserved)
    torch.set_num_threads(max(1, min(wanted, cores())))


def _affinity() -> float:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else machine_cores()


def _given(*variables: str) -> list[int]:
    """The first of these environment variables that says a number."""
    found = [int(text) for text in map(os.environ.get, variables) if text and text.isdecimal()]
    return [number for number in found if number][:1]


def _quotas() -> Iterator[float]:
    """Cores' worth of time that each control group of this process, or around it, is given."""
    for group in _groups(""):
        quota, _, period = _read(group / "cpu.max").partition(" ")
        if quota.isdecimal() and period.isdecimal():
            yield int(quota) / int(period)
    for group in _groups("cpu"):
        quota, period = _read(group / "cpu.cfs_quota_us"), _read(group / "cpu.cfs_period_us")
        if quota.isdecimal() and period.isdecimal():  # without a limit it is -1
            yield int(quota) / int(period)


def _memory_limits() -> Iterator[int]:
    names = [(group / "memory.max") for group in _groups("")]
    names += [(group / "memory.limit_in_bytes") for group in _groups("memory")]
    yield from (int(text) for text in map(_read, names) if text.isdecimal())


def _groups(controller: str) -> list[Path]:
    """Folders of the control groups that this process is in, outermost last: version 1's by controller, 2's by none."""
    for line in _read(_OWN_GROUPS).splitlines():
        _, controllers, path = line.split(":", 2)
        if controller in controllers.split(","):
            mount = _GROUPS / controller
            own = mount / path.lstrip("/")  # which a container may not see: then its root is what it sees
            return [own, *(parent for parent in own.parents if parent.is_relative_to(mount))]
    return []


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
