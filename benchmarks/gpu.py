"""All that is to be known of a GPU in eight minutes: one command, one JSON file, one page of text.

    python benchmarks/gpu.py [--device cuda] [--root DATA] [-o gpu]          on a machine with one GPU
    python benchmarks/gpu.py --device cpu --quick [-o gpu]                   a rehearsal without one

In this order: the `gpu` tests; 150 meta-steps of the paper's CIFAR-10 setting, with rate and peak memory, on random
images or on `--root`'s; a profile of meta-steps (which share of the time goes into launches, which into convolutions);
the five benchmarks. Every part has a limit of seconds, so that the whole ends in time; what fails or runs out of it is
said in the page, and the rest goes on. `OUTPUT.json` and `OUTPUT.txt` are written after every part.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

HERE = Path(__file__).parent
_CONVOLUTION = ("conv", "winograd", "cudnn", "implicit_gemm", "xmma_fprop", "dgrad", "wgrad")  # in names of kernels
_LAUNCH = ("LaunchKernel", "GraphLaunch", "MemcpyAsync", "MemsetAsync")
_TAIL_LINES = 40
_NO_TESTS = 5  # of pytest: none was chosen
_MOST_SECONDS = 110  # of meta-steps that are timed: a slow device takes fewer


class Part(NamedTuple):
    """A measurement: the command that makes it, and the most seconds it may take."""

    command: list[str]
    limit_s: int


def parts(args: argparse.Namespace) -> dict[str, Part]:
    """What is measured, in order; `--quick` shrinks each, and the limits sum up to eight minutes."""
    quick = args.quick
    device = ["--device", args.device]
    small = ["width=8", "window=3", "totwindow=6", "batch_size=50"] if quick else []
    steps = ["--meta-steps", "3" if quick else "150", *(["--root", args.root] if args.root else []), *small]
    rounds = ["--rounds", "1" if quick else "3"]
    window = ["--window", "2", "--real", "20", "width=8"] if quick else ["--window", "60", "--real", "5000"]
    kinds = [] if args.device == "cpu" else ["tf32", "bf16", "plain=tf32", "window=tf32", "real=tf32"]
    seeds = ["--seeds", "1", "--before", "1"] if quick else ["--seeds", "2", "--before", "10"]
    sizes = ["--sizes", "digits-small", "--steps", "2"] if quick else ["--steps", "500", "--images", "10000"]
    own, here = [sys.executable, __file__, *device], [sys.executable]
    return {
        "tests": Part(
            [*here, "-m", "pytest", "-q", "-n", "0", "-m", "gpu", "-rs", str(HERE.parent / "tests" / "ppodd")], 90
        ),
        "meta_steps": Part([*own, "--part", "meta_steps", *steps], 130),
        "profile": Part([*own, "--part", "profile", *steps], 50),
        "meta_step": Part([*here, str(HERE / "meta_step.py"), *device, *rounds, *window], 70),
        "plain_steps": Part(
            [*here, str(HERE / "plain_steps.py"), *device, *rounds, *(["width=8"] if quick else [])], 30
        ),
        "crops": Part([*here, str(HERE / "crops.py"), *device, *rounds], 20),
        "precision": Part([*here, str(HERE / "precision.py"), *device, *seeds, "--precision", *kinds], 40),
        "evaluate": Part([*here, str(HERE / "evaluate.py"), *device, *rounds, *sizes], 50),
    }


def measured(part: Part) -> dict[str, Any]:
    """What a part printed, what of it is JSON, how long it took, and why it ended where that was no success."""
    started = time.perf_counter()
    with subprocess.Popen(
        part.command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        try:
            text, errors = process.communicate(timeout=part.limit_s)
            good = process.returncode in (0, _NO_TESTS)
            why = "" if good else f"exit code {process.returncode}: {errors[-800:]}"
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)  # its own processes too: what they hold of the GPU is wanted next
            text, why = process.communicate()[0], f"not done after {part.limit_s} s"
    lines = text.splitlines()
    values = json.loads(lines[-1]) if lines and lines[-1].startswith("{") else {}
    text = "\n".join((lines[:-1] if values else lines)[-_TAIL_LINES:])
    return {"seconds": round(time.perf_counter() - started, 1), "failed": why, "values": values, "text": text}


def page(about: str, found: dict[str, dict[str, Any]]) -> str:
    """The results as a page of text."""
    sections = [about]
    for name, part in found.items():
        values = "\n".join(f"{key:34}{value}" for key, value in part["values"].items())
        said = [f"FAILED: {part['failed']}" if part["failed"] else "", values, part["text"]]
        sections.append("\n".join([f"== {name} ({part['seconds']} s)", *(text for text in said if text)]))
    return "\n\n".join(sections) + "\n"


def run_all(args: argparse.Namespace) -> int:
    """Measure every part; 1 where one failed."""
    from measure import machine

    about = f"{machine(args.device)}{'; a rehearsal: sizes shrunk, numbers mean nothing' if args.quick else ''}"
    found: dict[str, dict[str, Any]] = {}
    for name, part in parts(args).items():
        found[name] = measured(part)
        print(f"{name}: {found[name]['failed'] or 'done'} ({found[name]['seconds']} s)", flush=True)
        Path(f"{args.output}.json").write_text(json.dumps({"machine": about, "parts": found}, indent=1))
        Path(f"{args.output}.txt").write_text(page(about, found))
    return int(any(part["failed"] for part in found.values()))


# Parts that are measured here, each in a process of its own


def distillation(args: argparse.Namespace) -> Any:
    """The paper's CIFAR-10 setting, ready for its first meta-step."""
    import yaml
    from meta_step import random_dataset

    from ppodd.config import DistillConfig, build, preset
    from ppodd.datasets import load
    from ppodd.distillation.stages import Distillation
    from ppodd.machine import keep_freed_memory, resolve_device

    keep_freed_memory()
    changes = {key: yaml.safe_load(value) for key, _, value in (s.partition("=") for s in args.settings)}
    values = {**preset("cifar10"), "device": args.device, "steps_per_epoch": 10, "num_stages": 1, **changes}
    if args.root:
        config = build(DistillConfig, {**values, "root": args.root})
        data = load(config.data, resolve_device(args.device))
    else:
        config = build(DistillConfig, {**values, "zca": False, "class_order": "sequential"})
        data = random_dataset(config)
    return Distillation(config, data, None)


def meta_steps(args: argparse.Namespace) -> dict[str, Any]:
    """Rate and peak memory of so many meta-steps, plain steps before the window as the curriculum draws them."""
    from measure import peak_mib, reset_peak, settle

    run = distillation(args)
    state, problems = run.first_state(), run.problems([])
    run.meta_step(state, problems, [1.0])  # libraries choose their kernels
    settle()
    reset_peak()
    started, losses, seconds = time.perf_counter(), [], 0.0
    while len(losses) < args.meta_steps and seconds < _MOST_SECONDS:
        losses.append(run.meta_step(state, problems, [1.0]))
        settle()
        seconds = time.perf_counter() - started
    return {
        "meta-steps": len(losses),
        "seconds a meta-step": round(seconds / len(losses), 3),
        "peak MiB": round(peak_mib()),
        "first and last loss": [round(float(losses[0]), 4), round(float(losses[-1]), 4)],
        "window": run.config.window,
        "width": run.config.width,
        "real images": run.config.batch_size,
        "data": "given" if args.root else "random",
    }


def profile(args: argparse.Namespace) -> dict[str, Any]:
    """Which share of two meta-steps' time goes into launches and into convolutions."""
    from torch.profiler import ProfilerActivity
    from torch.profiler import profile as torch_profile

    cuda = args.device != "cpu"
    run = distillation(args)
    state, problems = run.first_state(), run.problems([])
    run.meta_step(state, problems, [1.0])
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if cuda else [])]
    started = time.perf_counter()
    with torch_profile(activities=activities) as profiled:
        run.meta_step(state, problems, [1.0])
    wall = time.perf_counter() - started
    events = profiled.key_averages()
    return {"wall seconds, profiled": round(wall, 3), **shares(events, cuda)}


def shares(events: Any, cuda: bool) -> dict[str, Any]:
    """Of a profile: shares in percent, and the operations that take longest by themselves."""

    def own(event: Any) -> float:
        return float(event.self_device_time_total if cuda else event.self_cpu_time_total)

    def share(of: list[float], total: float) -> float:
        return round(100 * sum(of) / total, 1) if total else 0.0

    total, host = sum(map(own, events)), sum(event.self_cpu_time_total for event in events)
    launches = [event.self_cpu_time_total for event in events if any(name in event.key for name in _LAUNCH)]
    convolutions = [own(event) for event in events if any(name in event.key.lower() for name in _CONVOLUTION)]
    longest = sorted(events, key=own, reverse=True)[:8]
    return {
        "launches, % of host time": share(launches, host),
        "launches": sum(event.count for event in events if "LaunchKernel" in event.key),
        "convolutions, % of device time": share(convolutions, total),
        "longest, % of device time": {event.key[:60]: share([own(event)], total) for event in longest},
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda", help="cuda, or cpu for a rehearsal")
    parser.add_argument("--quick", action="store_true", help="shrink everything: to see that it runs")
    parser.add_argument("--root", default="", help="folder of CIFAR-10 (default: random images)")
    parser.add_argument("-o", "--output", default="gpu", help="writes OUTPUT.json and OUTPUT.txt")
    parser.add_argument(
        "--part", choices=("meta_steps", "profile"), help="measure this part alone, and print it as JSON"
    )
    parser.add_argument("--meta-steps", type=int, default=150)
    parser.add_argument("settings", nargs="*", help="of a part: key=value over the paper's setting")
    args = parser.parse_args()
    if args.device != "cpu":
        import torch

        if not torch.cuda.is_available():
            parser.error("no CUDA device here: run it where one is, or rehearse with --device cpu --quick")
    if args.part:
        print(json.dumps({"meta_steps": meta_steps, "profile": profile}[args.part](args)))
        return 0
    return run_all(args)


if __name__ == "__main__":
    sys.exit(main())
