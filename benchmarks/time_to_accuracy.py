"""Seconds until a poster reaches a validation accuracy: our default against the loop as published, in turn in one run.

    python benchmarks/time_to_accuracy.py [--preset digits] [--target 60] [--every 10] [--most 300] [key=value …]

Both distil the same poster from the same draws. `published` is the unrolled engine with patches cut in a Python loop
and the allocator as it comes. Each is a process of its own; they take `--every` meta-steps in turn, after which each
measures its poster's accuracy on the validation split (not timed). An end is the first measurement at the target or
above. In float32 rounding grows into another poster, so the meta-steps of both may differ: read their own ratio too.
CIFAR-10 takes `--preset cifar10 root=DATA` and a setting that a CPU can bear, as `docs/cifar10-study/study.yaml`'s.
"""

from __future__ import annotations

import argparse
import statistics
import time

import torch
import yaml
from measure import Task, in_turn, machine
from meta_step import LoopedPatches

from ppodd.config import DistillConfig, EvaluationConfig, build, preset
from ppodd.datasets import load
from ppodd.distillation.stages import Distillation
from ppodd.machine import keep_freed_memory, resolve_device


def distillation(values: dict, threads: int, published: bool, target: float, every: int) -> Task:
    """A task that takes some meta-steps; gives those so far, their seconds on clock and processor, and the accuracy."""
    if not published:
        keep_freed_memory()
    torch.set_num_threads(threads)
    config = build(DistillConfig, values)
    run = Distillation(config, load(config.data, resolve_device(config.device)), None)
    if published:
        object.__setattr__(run.inner, "patches", LoopedPatches(run.layout, run.device))
    state, problems = run.first_state(), run.problems([])
    (protocol,) = EvaluationConfig(budgets=(config.stage_steps,), nets=config.stage_nets).protocols(config)
    clock, processor, accuracy = 0.0, 0.0, 0.0

    def task() -> tuple[int, float, float, float]:
        nonlocal clock, processor, accuracy
        if accuracy < target:
            began, began_cpu = time.perf_counter(), time.process_time()
            for _ in range(every):
                run.meta_step(state, problems, [1.0])
            clock, processor = clock + time.perf_counter() - began, processor + time.process_time() - began_cpu
            accuracy = statistics.fmean(run.measure([run.poster_file(state)], [1.0], protocol, "validation"))
        return state.step, clock, processor, accuracy

    return task


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="digits")
    parser.add_argument("--target", type=float, default=60.0, help="validation accuracy (percent)")
    parser.add_argument("--every", type=int, default=10, help="meta-steps between two measurements")
    parser.add_argument("--most", type=int, default=300, help="meta-steps")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("settings", nargs="*", help="key=value over the preset")
    args = parser.parse_args()
    changes = {key: yaml.safe_load(value) for key, _, value in (s.partition("=") for s in args.settings)}
    values = {
        **preset(args.preset), "device": "cpu", "num_stages": 1, "epochs": 1, "steps_per_epoch": args.most, **changes
    }  # fmt: skip
    config = build(DistillConfig, values)
    each = (args.threads, args.target, args.every)
    tasks = {
        "published": (distillation, ({**values, "engine": "unrolled"}, each[0], True, *each[1:])),
        "default": (distillation, (values, each[0], False, *each[1:])),
    }
    measured = in_turn(tasks, -(-args.most // args.every), warm=False)
    print(f"{machine()}, {args.threads} threads; {args.preset} {' '.join(args.settings)}")
    print(
        f"seconds until {args.target:g} % of the validation split ({config.stage_nets} networks, {config.stage_steps} "
        f"training steps), measured every {args.every} meta-steps and at most {args.most}\n"
    )
    for name, task in measured.items():
        steps, clock, processor, accuracy = task.result
        reached = "" if accuracy >= args.target else "  NOT REACHED"
        print(f"{name:10} {clock:8.1f} s, {processor:8.1f} cpu s, {steps:4} meta-steps, {accuracy:.1f} %{reached}")
    published, default = (measured[name].result for name in tasks)
    print(f"a meta-step {published[2] / published[0] / (default[2] / default[0]):7.2f}× in processor seconds")
    print(f"ratio      {published[1] / default[1]:8.2f}×, {published[2] / default[2]:6.2f}× in processor seconds")


if __name__ == "__main__":
    main()
