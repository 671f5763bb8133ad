"""Cutting a batch of patches from posters, forward and backward: one gather against a Python loop, in one process.

    python benchmarks/crops.py [--preset cifar10] [--posters 1] [--rounds 21] [--threads 1] [--device cuda]

Medians of runs that take turns: processor times, on a GPU times on the clock. The gradients of both are checked to be
equal.
"""

from __future__ import annotations

import argparse
import statistics
import time

import numpy as np
import torch
from measure import gpu, machine, settle
from meta_step import LoopedPatches

from ppodd.config import DistillConfig, build
from ppodd.config.presets import preset
from ppodd.datasets.sources import SPECS
from ppodd.machine.memory import keep_freed_memory
from ppodd.machine.seeding import generator
from ppodd.posters.layout import Layout
from ppodd.posters.patches import Patches


def now():
    settle()
    return time.perf_counter() if gpu() else time.process_time()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="cifar10")
    parser.add_argument("--posters", type=int, default=1, help="posters that patches are drawn from")
    parser.add_argument("--rounds", type=int, default=21)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu", help="cpu, or cuda")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    keep_freed_memory()
    config = build(DistillConfig, preset(args.preset))
    spec = SPECS[config.dataset]
    order = np.arange(spec.classes).reshape(config.poster_class_num_y, config.poster_class_num_x)
    layout, device, random = Layout.of(config.geometry, spec, order), torch.device(args.device), generator("crops")
    shape = (args.posters, spec.channels, layout.height, layout.width)
    posters = torch.randn(shape, generator=random).to(device).requires_grad_()
    picks = torch.randperm(args.posters * layout.patches, generator=random)[: config.distill_batch_size].to(device)
    kinds = {"loop": LoopedPatches(layout, device), "gather": Patches(layout, device)}
    weights = torch.randn(kinds["gather"].crop(posters, picks).shape, generator=random).to(device)
    forward, backward, gradients = {k: [] for k in kinds}, {k: [] for k in kinds}, {}
    for _ in range(args.rounds):
        for name, patches in kinds.items():
            started = now()
            cut = patches.crop(posters, picks)
            between = now()
            (gradients[name],) = torch.autograd.grad(cut, posters, weights)
            forward[name].append(between - started)
            backward[name].append(now() - between)
    torch.testing.assert_close(gradients["gather"], gradients["loop"], rtol=1e-4, atol=1e-4)
    print(f"{machine(args.device)}, {args.threads} threads")
    print(f"{args.preset}: {len(picks)} patches from {args.posters} posters; median of {args.rounds}\n")
    for title, times in (("forward", forward), ("backward", backward)):
        loop, gather = (1e3 * statistics.median(times[name]) for name in ("loop", "gather"))
        print(f"{title:10} loop {loop:8.2f} ms   gather {gather:8.2f} ms   {loop / gather:5.1f}×")


if __name__ == "__main__":
    main()
