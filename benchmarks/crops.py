"""Cutting a batch of patches from posters, forward and backward: one gather against a Python loop, in one process.

    python benchmarks/crops.py [--preset cifar10] [--posters 1] [--rounds 21] [--threads 1]

Processor times, medians of runs that take turns. The gradients of both are checked to be equal.
"""

from __future__ import annotations

import argparse
import statistics
import time

import numpy as np
import torch
from measure import machine
from meta_step import LoopedPatches

from ppodd.config import DistillConfig, build
from ppodd.datasets.specs import SPECS
from ppodd.geometry import Layout
from ppodd.memory import keep_freed_memory
from ppodd.poster import Patches
from ppodd.presets import preset
from ppodd.seeding import generator


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="cifar10")
    parser.add_argument("--posters", type=int, default=1, help="posters that patches are drawn from")
    parser.add_argument("--rounds", type=int, default=21)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    keep_freed_memory()
    config = build(DistillConfig, preset(args.preset))
    spec = SPECS[config.dataset]
    order = np.arange(spec.classes).reshape(config.poster_class_num_y, config.poster_class_num_x)
    layout, cpu, random = Layout.of(config, spec, order), torch.device("cpu"), generator("crops")
    shape = (args.posters, spec.channels, layout.height, layout.width)
    posters = torch.randn(shape, generator=random).requires_grad_()
    picks = torch.randperm(args.posters * layout.patches, generator=random)[: config.distill_batch_size]
    kinds = {"loop": LoopedPatches(layout, cpu), "gather": Patches(layout, cpu)}
    weights = torch.randn(kinds["gather"].crop(posters, picks).shape, generator=random)
    forward, backward, gradients = {k: [] for k in kinds}, {k: [] for k in kinds}, {}
    for _ in range(args.rounds):
        for name, patches in kinds.items():
            started = time.process_time()
            cut = patches.crop(posters, picks)
            between = time.process_time()
            (gradients[name],) = torch.autograd.grad(cut, posters, weights)
            forward[name].append(between - started)
            backward[name].append(time.process_time() - between)
    torch.testing.assert_close(gradients["gather"], gradients["loop"], rtol=1e-4, atol=1e-4)
    print(f"{machine()}, {args.threads} threads")
    print(f"{args.preset}: {len(picks)} patches from {args.posters} posters; median of {args.rounds}\n")
    for title, times in (("forward", forward), ("backward", backward)):
        loop, gather = (1e3 * statistics.median(times[name]) for name in ("loop", "gather"))
        print(f"{title:10} loop {loop:8.2f} ms   gather {gather:8.2f} ms   {loop / gather:5.1f}×")


if __name__ == "__main__":
    main()
