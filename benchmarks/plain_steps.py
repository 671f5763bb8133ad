"""Plain inner steps against a bare PyTorch loop (module, `torch.optim.Adam`) on the same patches, gathered beforehand.

    python benchmarks/plain_steps.py [--preset cifar10] [--steps 10] [--rounds 5] [--threads 2] [key=value …]

Both run in processes of their own with the same allocator, timed in turn. The bare loop neither gathers nor augments.
`--device cuda` measures on a GPU.
"""

from __future__ import annotations

import argparse

import torch
import torch.nn.functional as F
import yaml
from measure import Task, in_turn, machine
from meta_step import random_dataset

from ppodd.config import DistillConfig, build
from ppodd.config.presets import preset
from ppodd.distillation.stages import Distillation
from ppodd.machine.memory import keep_freed_memory
from ppodd.training.optimisers import State


def _setting(values, threads, steps):
    keep_freed_memory()
    torch.set_num_threads(threads)
    config = build(DistillConfig, values)
    run = Distillation(config, random_dataset(config), None)
    problem = run.problems([])(0)
    with torch.no_grad():
        posters = problem.posters(run.first_state().learned)
    draws = list(run.inner.draws([1.0], steps, ("benchmark",), steps, posters.images))
    return config, problem, posters, draws


def plain_steps(values: dict, threads: int, steps: int) -> Task:
    config, problem, posters, draws = _setting(values, threads, steps)

    def task() -> float:
        start = State.start(problem.network.theta)
        return float(problem.inner.train(problem.network, start, posters, draws, config.inner_lr).theta.norm())

    return task


def bare_loop(values: dict, threads: int, steps: int) -> Task:
    config, problem, posters, draws = _setting(values, threads, steps)
    batches = [problem.inner.batch_of(posters, draw) for draw in draws]
    module = problem.network.module
    start = [parameter.detach().clone() for parameter in module.parameters()]

    def task() -> float:
        for parameter, value in zip(module.parameters(), start, strict=True):
            parameter.data.copy_(value)
        optimiser = torch.optim.Adam(module.parameters(), lr=config.inner_lr)
        for images, labels in batches:
            optimiser.zero_grad()
            F.cross_entropy(module(images), labels).backward()
            optimiser.step()
        return float(torch.cat([parameter.detach().flatten() for parameter in module.parameters()]).norm())

    return task


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="cifar10", help="cifar10, cifar100 or digits")
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu", help="cpu, or cuda")
    parser.add_argument("settings", nargs="*", help="key=value over the preset")
    args = parser.parse_args()
    changes = {key: yaml.safe_load(value) for key, _, value in (s.partition("=") for s in args.settings)}
    values = {
        **preset(args.preset), "device": args.device, "batch_size": 16, "zca": False, "class_order": "sequential",
        **changes,
    }  # fmt: skip
    each = (values, args.threads, args.steps)
    measured = in_turn({"bare loop": (bare_loop, each), "plain steps": (plain_steps, each)}, args.rounds)
    print(
        f"{machine(args.device)}, {args.threads} threads; {args.preset}, {args.steps} steps, median of {args.rounds}\n"
    )
    bare = measured["bare loop"]
    for name, m in measured.items():
        print(
            f"{name:12}{1e3 * m.median / args.steps:9.2f} ms a step ({m.median / bare.median:.2f}× the bare loop's), "
            f"cpu {1e3 * m.cpu_median / args.steps:9.2f} ms ({m.cpu_median / bare.cpu_median:.2f}×)"
        )


if __name__ == "__main__":
    main()
