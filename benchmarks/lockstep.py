"""A meta-step of several seeds in lockstep against as many alone, and against the method as published.

    python benchmarks/lockstep.py [--sizes digits-16 digits-32] [--members 4] [--threads 1] [--rounds 3]

A size is a preset and a width; `digits-16` is that of the quickstart. Windows of 10 steps, 10 plain steps before them,
as many real images as the preset says (500 for CIFAR-10); images are random and nothing is downloaded. Each column is a
process of its own, timed in turn.
"""

from __future__ import annotations

import argparse

import torch
from measure import Task, in_turn, machine
from meta_step import meta_step, random_dataset

from ppodd.config import DistillConfig, build
from ppodd.config.presets import preset
from ppodd.distillation.lockstep import Lockstep
from ppodd.distillation.stages import Distillation
from ppodd.machine.memory import keep_freed_memory


def in_lockstep(values: dict, threads: int, members: int) -> Task:
    """A task that takes one meta-step of every member, from their initial posters; gives the last one's loss."""
    keep_freed_memory()
    torch.set_num_threads(threads)
    configs = [build(DistillConfig, {**values, "seed": seed}) for seed in range(members)]
    runs = [Distillation(config, random_dataset(config), None) for config in configs]

    def one_stage(run: Distillation):
        yield from run.train_stage(state := run.first_state(), [], [1.0], None, None)
        yield state.loss["last"]

    def task() -> float:
        return [came.what for came in Lockstep([one_stage(run) for run in runs])][-1]

    return task


def settings(size: str) -> dict:
    name, _, width = size.rpartition("-")
    base = preset(name)
    real = base["batch_size"] if name == "digits" else 500
    return {
        **base, "device": "cpu", "width": int(width), "batch_size": real, "steps_per_epoch": 1, "epochs": 1,
        "num_stages": 1, "zca": False, "class_order": "sequential", "cctype": 0, "window": 10, "totwindow": 20,
    }  # fmt: skip


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="*", default=["digits-16", "digits-32"])
    parser.add_argument("--members", type=int, default=4)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    print(f"{machine()}, {args.threads} threads; cpu seconds of a seed's meta-step, median of {args.rounds}\n")
    print(f"{'size':14}{'published':>11}{'alone':>9}{'':>8}{f'lockstep of {args.members}':>15}{'':>8}")
    for size in args.sizes:
        values = settings(size)
        tasks = {
            "published": (meta_step, ({**values, "engine": "unrolled"}, args.threads, True, False)),
            "alone": (meta_step, (values, args.threads, False, True)),
            "lockstep": (in_lockstep, (values, args.threads, args.members)),
        }
        measured = in_turn(tasks, args.rounds)
        first, alone, together = (m.cpu_median for m in measured.values())
        together /= args.members
        print(
            f"{size:14}{first:11.3f}{alone:9.3f}{first / alone:7.2f}×{together:15.3f}{first / together:7.2f}×",
            flush=True,
        )


if __name__ == "__main__":
    main()
