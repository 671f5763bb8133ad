"""Evaluation's networks trained together against one after another: ratios measured in one run, turn by turn.

    python benchmarks/evaluate.py [--sizes digits cifar10] [--nets 8] [--rounds 5] [--threads 2] [--alone-threads 1 2]
    python benchmarks/evaluate.py --device cuda [--steps 500] [--images 10000]

Both ways train the same networks on the same patches for a few steps and judge them; their accuracies are compared.
The posters and test images are random: the time does not depend on what they show. Where other programs run too,
torch's own threads wait for each other and time on the clock says little: measure one after another on one thread
(--alone-threads 1), and read the ratio of processor seconds, which is that of a single core. On a GPU one after another
are ensembles of one network, whose gradient is autograd's, as in a bare loop. The share of a matrix product's rate
counts the convolutions of training, directly taken, by all of the time.
"""

import argparse
import statistics
import time
from threading import Event
from typing import NamedTuple

import numpy as np
import torch
from measure import machine, matmul_rate
from meta_step import gradient_gigaflops

from ppodd.archive import PosterFile
from ppodd.config import DistillConfig, EvaluationConfig, build
from ppodd.config.presets import preset
from ppodd.datasets.loading import Split
from ppodd.datasets.sources import SPECS
from ppodd.evaluation.accuracy import Task, evaluate, one_alone, one_ensemble
from ppodd.machine.seeding import generator
from ppodd.posters.labels import fixed_labels
from ppodd.posters.layout import Layout


class Size(NamedTuple):
    """A setting to measure: a preset, what is changed of it, steps in a turn, and test images."""

    preset: str
    changes: dict
    steps: int
    images: int


SIZES = {
    "digits": Size("digits", {}, 100, 360),
    "digits-small": Size("digits-small", {}, 100, 360),
    "cifar10": Size("cifar10", {}, 2, 32),
}


def setting(size, nets, device):
    """Arguments of `evaluate`."""
    config = build(DistillConfig, {**preset(size.preset), **size.changes})
    spec = SPECS[config.dataset]
    layout = Layout.of(config.geometry, spec, np.arange(spec.classes).reshape(config.poster_class_num_y, -1))
    random = generator("benchmark")
    poster = torch.randn(spec.channels, layout.height, layout.width, generator=random).numpy()
    images = torch.randn(size.images, spec.channels, spec.height, spec.width, generator=random)
    labels = torch.randint(spec.classes, (size.images,), generator=random)
    (protocol,) = EvaluationConfig(nets=nets, budgets=(size.steps,)).protocols(config)
    posters = [PosterFile(poster, fixed_labels(layout).numpy(), layout.class_order)]
    return posters, [1.0], layout, protocol, Split(images.to(device), labels.to(device))


def one_after_another(*arguments):
    task = Task.of(*arguments)
    networks = [task.network(net) for net in range(task.protocol.nets)]
    if task.split.x.device.type == "cpu":
        judged = [one_alone(task, network, net) for net, network in enumerate(networks)]
    else:
        judged = [one_ensemble(task, [network], [net], Event())[0] for net, network in enumerate(networks)]
    values = [[one.accuracy for one in of_net] for of_net in judged]
    return dict(zip(task.protocol.budgets, map(list, zip(*values, strict=True)), strict=True))


class Turn(NamedTuple):
    """One evaluation: seconds on the clock, processor seconds, and its accuracies."""

    clock: float
    processor: float
    accuracies: dict


def turn(way, threads, arguments):
    torch.set_num_threads(threads)
    clock, processor = time.perf_counter(), time.process_time()
    accuracies = way(*arguments)
    return Turn(time.perf_counter() - clock, time.process_time() - processor, accuracies)


def compare(name, size, nets, rounds, threads, alone_threads, device):
    """Together on `threads`, against one after another on each number of `alone_threads`."""
    arguments = setting(size, nets, device)
    evaluate(*arguments)  # the first call of each operation is slower
    together, alone = [], {n: [] for n in alone_threads}
    for _ in range(rounds):
        together.append(turn(evaluate, threads, arguments))
        for n, turns in alone.items():
            turns.append(turn(one_after_another, n, arguments))
    clock = statistics.median(one.clock for one in together)
    config = build(DistillConfig, {**preset(size.preset), **size.changes})
    steps = nets * size.steps * arguments[3].batch * gradient_gigaflops(config)
    torch.set_num_threads(threads)
    rate = matmul_rate(device)()
    print(
        f"{name}: {nets} networks, {size.steps} steps: together on {threads} threads {clock:.2f} s, in which the "
        f"convolutions of their steps reach {steps / clock / rate:.0%} of a matrix product's {rate:.0f} GFLOP/s"
    )
    for n, turns in alone.items():
        pairs = list(zip(turns, together, strict=True))
        ratios = [one.clock / other.clock for one, other in pairs]
        processor = statistics.median(one.processor / other.processor for one, other in pairs)
        apart = max(difference(one.accuracies, other.accuracies) for one, other in pairs)
        print(
            f"  one after another on {n}: {statistics.median(one.clock for one in turns):.2f} s, "
            f"ratio {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f} in {rounds} turns), "
            f"of processor seconds {processor:.2f}; accuracies at most {apart:.2f} points apart",
            flush=True,
        )


def difference(one, other):
    return max(abs(a - b) for budget in one for a, b in zip(one[budget], other[budget], strict=True))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=list(SIZES))
    parser.add_argument("--nets", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--alone-threads", type=int, nargs="+", help="of one after another (default: one, and all)")
    parser.add_argument("--device", default="cpu", help="cpu, or cuda")
    parser.add_argument("--steps", type=int, help="of a turn (default: few, by the size)")
    parser.add_argument("--images", type=int, help="to judge by (default: few, by the size)")
    args = parser.parse_args()
    alone_threads = args.alone_threads or sorted({1, args.threads} if args.device == "cpu" else {args.threads})
    print(f"{machine(args.device)}, {args.threads} threads", flush=True)
    for name in args.sizes:
        size = SIZES[name]
        size = size._replace(steps=args.steps or size.steps, images=args.images or size.images)
        compare(name, size, args.nets, args.rounds, args.threads, alone_threads, args.device)


if __name__ == "__main__":
    main()
