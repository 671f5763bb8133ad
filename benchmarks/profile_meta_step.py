"""Where a meta-step's time goes, size by size, alone and in lockstep of 4: shares of processor time on one thread.

    python benchmarks/profile_meta_step.py [digits-16 digits-32 cifar10-32 cifar10-64 cifar10-128] [--window 10]

Compiled functions and torch's convolutions are timed call by call, among them those that take a network's derivatives
as a whole; the rest is torch's other operations, some 0.5 to 10 µs each, and Python. What convolutions reach is the
arithmetic of the published method's by their own time, or that of whole networks, as a share of the rate of a matrix
product in the same process: more than all of it where there is less to do, by Winograd's way, taps beside an image left
out, and a map and its tangent going through together.
"""

from __future__ import annotations

import argparse
import time
from collections import defaultdict
from functools import partial

import torch
from measure import machine, matmul_rate
from meta_step import MEMBERS, SIZES, gigaflops, in_lockstep, meta_step, of_size

from ppodd.config import DistillConfig, build
from ppodd.training.compiled import functions
from ppodd.training.convolution import Direct

KINDS = {
    "whole networks": ("net_",),
    "convolutions": ("few_", "small_", "narrow_", "image_", "map_"),
    "norm, ReLU, pool": ("forward", "backward"),
    "classifier": ("head",),
    "Adam": ("adam",),
}
_ROUNDS = 5


def timed(spent: dict[str, float]) -> None:
    """From now on compiled functions and torch's convolutions add their seconds to those of their kind."""

    def wrapped(kind, function, *args):
        started = time.perf_counter()
        found = function(*args)
        spent[kind] += time.perf_counter() - started
        return found

    compiled = functions(torch.float32)
    for name, function in vars(compiled).items():
        kinds = [kind for kind, begin in KINDS.items() if name.startswith(begin)]
        if callable(function) and kinds:
            setattr(compiled, name, partial(wrapped, kinds[0], function))
    for name in ("_product", "_gradients"):
        honest = getattr(Direct, name)
        setattr(Direct, name, lambda self, *args, honest=honest: wrapped("convolutions", honest, self, *args))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sizes", nargs="*", default=SIZES)
    parser.add_argument("--window", type=int, default=10)
    args = parser.parse_args()
    torch.set_num_threads(1)
    assert functions(torch.float32), "no C compiler: nothing to take apart"
    rate = matmul_rate()()
    spent: dict[str, float] = defaultdict(float)
    timed(spent)
    print(f"{machine()}, 1 thread, {rate:.0f} GFLOP/s in a matrix product, window {args.window}; mean of {_ROUNDS}\n")
    heads = [*KINDS, "the rest"]
    print(
        f"{'size':14}{'':12}{'seconds':>9}" + "".join(f"{head:>18}" for head in heads) + f"{'convolutions reach':>20}"
    )
    for size in args.sizes:
        values = of_size(size, args.window)
        work = gigaflops(build(DistillConfig, values))
        tasks = {"alone": (meta_step(values, 1, False, True), 1), "lockstep": (in_lockstep(values, 1), MEMBERS)}
        for name, (task, members) in tasks.items():
            task()
            spent.clear()
            started = time.process_time()
            for _ in range(_ROUNDS):
                task()
            took = time.process_time() - started
            shares = [spent[kind] / took for kind in KINDS]
            reached = work * members * _ROUNDS / (spent["convolutions"] + spent["whole networks"]) / rate
            print(
                f"{size:14}{name:12}{took / _ROUNDS / members:9.3f}"
                + "".join(f"{share:18.0%}" for share in [*shares, 1 - sum(shares)])
                + f"{reached:20.0%}",
                flush=True,
            )


if __name__ == "__main__":
    main()
