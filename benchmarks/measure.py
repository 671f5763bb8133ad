"""Fair measurements: tasks in processes of their own, timed in turn, so that all of them share whatever else runs.

A task's time ends when all is done that it has queued on a GPU; the memory of a process that uses one is the GPU's.
"""

from __future__ import annotations

import multiprocessing
import resource
import statistics
import sys
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

Task = Callable[[], Any]


class Measured(NamedTuple):
    """What a task took, run after run, and its process's peak memory above that of the idle process.

    `cpu` is the processor time of all threads: with one thread, what the wall clock would show on a quiet machine.
    """

    seconds: list[float]
    cpu: list[float]
    peak_mib: float
    result: Any

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)

    @property
    def cpu_median(self) -> float:
        return statistics.median(self.cpu)


def in_turn(tasks: dict[str, tuple[Callable[..., Task], tuple]], rounds: int, warm: bool = True) -> dict[str, Measured]:
    """Run each task `rounds` times, one after another, round by round.

    Args:
        tasks: for each name a function that makes the task, and its arguments; both are sent to the new process.
        warm: run each once beforehand, untimed.
    """
    context = multiprocessing.get_context("spawn")
    workers = {}
    for name, (make, args) in tasks.items():
        here, there = context.Pipe()
        process = context.Process(target=_serve, args=(there, make, args), daemon=True)
        process.start()
        there.close()  # so that a process that dies is noticed here
        workers[name] = (process, here)
    try:
        took: dict[str, list[tuple[float, float]]] = {name: [] for name in tasks}
        for turn in range(rounds + warm):
            for name, (_, pipe) in workers.items():
                pipe.send("run")
                seconds = pipe.recv()
                if turn >= warm:
                    took[name].append(seconds)
        measured = {}
        for name, (_, pipe) in workers.items():
            pipe.send("end")
            wall, cpu = zip(*took[name], strict=True)
            measured[name] = Measured(list(wall), list(cpu), *pipe.recv())
        return measured
    finally:
        for process, _ in workers.values():
            process.terminate()
            process.join()


def _serve(pipe: Connection, make: Callable[..., Task], args: tuple) -> None:
    task = make(*args)
    settle()
    idle = resident_mib()
    reset_peak()
    result = None
    while pipe.recv() == "run":
        started, cpu = time.perf_counter(), time.process_time()
        result = task()
        settle()
        pipe.send((time.perf_counter() - started, time.process_time() - cpu))
    pipe.send((peak_mib() - idle, result))


def gpu() -> Any:
    """`torch.cuda` where this process has used a GPU, else `None`; loads no torch."""
    torch = sys.modules.get("torch")
    return torch.cuda if torch and torch.cuda.is_initialized() else None


def settle() -> None:
    """Wait for what is queued on the GPU."""
    if cuda := gpu():
        cuda.synchronize()


def resident_mib() -> float:
    cuda = gpu()
    return cuda.memory_allocated() / 2**20 if cuda else _status("VmRSS")


def peak_mib() -> float:
    cuda = gpu()
    return cuda.max_memory_allocated() / 2**20 if cuda else _status("VmHWM")


def reset_peak() -> None:
    """From now on `peak_mib` is that since now."""
    if cuda := gpu():
        cuda.reset_peak_memory_stats()
    else:
        Path("/proc/self/clear_refs").write_text("5")


def _status(field: str) -> float:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def matmul_rate(device: str = "cpu", threads: int = 0, side: int = 2048) -> Task:
    """A task that gives the best float32 matrix-multiply rate in GFLOP/s yet, on so many threads or as they are."""
    import torch

    if threads:
        torch.set_num_threads(threads)
    a, b = torch.randn(side, side, device=device), torch.randn(side, side, device=device)
    best = 0.0

    def rate() -> float:
        nonlocal best
        for _ in range(5):
            settle()
            started = time.perf_counter()
            a @ b
            settle()
            best = max(best, 2e-9 * side**3 / (time.perf_counter() - started))
        return best

    return rate


def features() -> str:
    """The instruction sets of the processor that decide what an engine reaches, and the one that torch uses."""
    import torch

    lines = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("flags")]
    has = set(lines[0].split()) if lines else set()
    known = {"avx2": "AVX2", "avx512f": "AVX-512", "avx512_bf16": "AVX-512 BF16", "amx_tile": "AMX"}
    named = [shown for flag, shown in known.items() if flag in has]
    return f"{', '.join(named)}; torch takes {torch.backends.cpu.get_cpu_capability()}"


def machine(device: str = "cpu") -> str:
    """Processor, cores, GPU if one is used, and versions, for the head of a table."""
    import os
    import platform

    import torch

    names = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    name = names[0].split(":")[1].strip() if names else platform.processor()
    gpu = "" if device == "cpu" else f", {torch.cuda.get_device_name(device)}"
    cpu = f"{name} ({features()}), {os.cpu_count()} cores"
    return f"{cpu}{gpu}; python {platform.python_version()}, torch {torch.__version__}"
