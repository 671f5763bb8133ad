"""One meta-step's time and memory: the default engine against the unrolled one, and against the method as published.

    python benchmarks/meta_step.py [--preset cifar10] [--window 20] [--real 500] [--rounds 3] [key=value …]
    python benchmarks/meta_step.py --sizes [digits-16 digits-32 cifar10-32 cifar10-64 cifar10-128] [--threads 1]

`published` is the unrolled engine with patches cut in a Python loop and the allocator as it comes. Images are random
and nothing is downloaded; there are no plain steps. Each line is a process of its own, timed in turn with the others.
`--device cuda` measures on a GPU, and its memory.

`--sizes` prints a table over presets and widths instead: seconds of one seed's meta-step with `--window` steps (10), as
published, by the default engine with torch's operations alone and with compiled functions, and in lockstep of 4, which
a sweep's `lockstep: auto` forms at digits size. There 10 plain steps come before the window, as they do in a run.
"""

from __future__ import annotations

import argparse

import numpy as np
import torch
import yaml
from measure import Task, in_turn, machine, matmul_rate

from ppodd.config import DistillConfig, build
from ppodd.config.presets import preset
from ppodd.datasets.loading import Dataset, Split
from ppodd.datasets.report import DataReport
from ppodd.datasets.sources import SPECS
from ppodd.distillation.lockstep import Lockstep
from ppodd.distillation.stages import Distillation
from ppodd.machine.memory import keep_freed_memory
from ppodd.posters.patches import Patches
from ppodd.training.compiled import choose_compiled

SIZES = ("digits-16", "digits-32", "cifar10-32", "cifar10-64", "cifar10-128")
MEMBERS = 4


class LoopedPatches(Patches):
    """Patches cut one by one, as the published code does."""

    def __init__(self, layout, device):
        super().__init__(layout, device)
        self.corners = [(x, y) for x in layout.patch_xs for y in layout.patch_ys]

    def crop(self, posters, picks):
        height, width = self.shape[1:]
        cut = []
        for pick in picks.tolist():
            poster, (x, y) = posters[pick // self.count], self.corners[pick % self.count]
            cut.append(poster[:, y : y + height, x : x + width])
        return torch.stack(cut)


def random_dataset(config):
    """Random images of the shape and number that a meta-step needs, on the config's device."""
    spec = SPECS[config.dataset]
    random = np.random.default_rng(0)
    images = random.standard_normal((config.batch_size, spec.channels, spec.height, spec.width), dtype=np.float32)
    labels = torch.from_numpy(random.integers(0, spec.classes, config.batch_size))
    split = Split(torch.from_numpy(images).to(config.device), labels.to(config.device))
    classes, shape = tuple(map(str, range(spec.classes))), (spec.channels, spec.height, spec.width)
    report = DataReport(place="random", classes=classes, splits={}, test_from="", shape=shape, sizes={})
    return Dataset("random", "", classes, spec, split, split, split, None, report)


def meta_step(values: dict, threads: int, looped: bool, tuned: bool) -> Task:
    """A task that takes one meta-step from the initial poster; gives its loss and the poster gradient's norm."""
    if tuned:
        keep_freed_memory()
    torch.set_num_threads(threads)
    config = build(DistillConfig, values)
    choose_compiled(config.compile)
    run = Distillation(config, random_dataset(config), None)
    if looped:
        object.__setattr__(run.inner, "patches", LoopedPatches(run.layout, run.device))

    def step() -> tuple[float, float]:
        position = run.first_state()
        return run.meta_step(position, run.problems([]), [1.0]), position.norm_average

    return step


def in_lockstep(values: dict, threads: int) -> Task:
    """A task that takes one meta-step of several seeds, from their initial posters; gives the last one's loss."""
    keep_freed_memory()
    torch.set_num_threads(threads)
    configs = [build(DistillConfig, {**values, "seed": seed}) for seed in range(MEMBERS)]
    runs = [Distillation(config, random_dataset(config), None) for config in configs]

    def one_stage(run: Distillation):
        yield from run.train_stage(state := run.first_state(), [], [1.0], None, None)
        yield state.loss.last

    def task() -> float:
        return [came.what for came in Lockstep([one_stage(run) for run in runs])][-1]

    return task


def of_size(size: str, window: int) -> dict:
    """The settings of a preset at a width."""
    name, _, width = size.rpartition("-")
    base, small = preset(name), name == "digits"
    real, plain = (base["batch_size"], 10) if small else (500, 0)
    return {
        **base, "device": "cpu", "width": int(width), "batch_size": real, "steps_per_epoch": 1, "epochs": 1,
        "num_stages": 1, "zca": False, "class_order": "sequential", "cctype": 0, "window": window,
        "totwindow": window + plain,
    }  # fmt: skip


def table(sizes: list[str], window: int, threads: int, rounds: int) -> None:
    """With one thread processor seconds, which other programs disturb least; with more, seconds by the clock."""
    kind = "processor seconds" if threads == 1 else "seconds"
    print(f"{machine()}, {threads} threads, window {window}: {kind} of a seed's meta-step, medians of {rounds};")
    print("how many times as fast as published; what published convolutions would so be of a matrix product's rate\n")
    names = "published", "torch", "compiled", f"lockstep of {MEMBERS}"
    print(f"{'size':14}" + "".join(f"{name:>22}" for name in names))
    for size in sizes:
        values = of_size(size, window)
        tasks = {
            "matmul": (matmul_rate, ("cpu", threads)),
            "published": (meta_step, ({**values, "engine": "unrolled"}, threads, True, False)),
            "torch": (meta_step, ({**values, "compile": "off"}, threads, False, True)),
            "compiled": (meta_step, ({**values, "compile": "on"}, threads, False, True)),
        }
        tasks["lockstep"] = (in_lockstep, (values, threads))
        found = in_turn(tasks, rounds)
        rate = found.pop("matmul").result
        took = {
            name: (m.cpu_median if threads == 1 else m.median) / (MEMBERS if name == "lockstep" else 1)
            for name, m in found.items()
        }
        first, work = took["published"], gigaflops(build(DistillConfig, values))
        cells = (f"{s:10.3f}{first / s:6.2f}×{work / s / rate:5.0%}" for s in took.values())
        print(f"{size:14}" + "".join(cells), flush=True)


def gigaflops(config: DistillConfig) -> float:
    """Multiplications and additions of an unrolled meta-step's convolutions, direct ones, in 10⁹; with all plain steps.

    Differentiating a gradient once more takes two products for each of its three, and two for the forward pass's.
    """
    gradients = config.totwindow + 2 * config.window
    return (config.distill_batch_size * gradients + config.batch_size) * gradient_gigaflops(config)


def gradient_gigaflops(config: DistillConfig) -> float:
    """Those of one image's gradient: a forward pass and the products to weights and to inputs, but for the image."""
    spec, width, padding = SPECS[config.dataset], config.width, 3 if SPECS[config.dataset].channels == 1 else 1
    side_y, side_x, channels = spec.height + 2 * padding - 2, spec.width + 2 * padding - 2, spec.channels
    layers = []
    for _ in range(3):
        layers.append(2e-9 * 9 * channels * width * side_y * side_x)
        side_y, side_x, channels = side_y // 2, side_x // 2, width
    return 2 * layers[0] + 3 * sum(layers[1:])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="*", help=f"print a table over these; of {' '.join(SIZES)} if none is named")
    parser.add_argument("--preset", default="cifar10", help="cifar10, cifar100 or digits")
    parser.add_argument("--window", type=int, help="20; in a table 10")
    parser.add_argument("--real", type=int, default=500, help="real images")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu", help="cpu, or cuda")
    parser.add_argument("--only", nargs="*", help="some of: published unrolled recomputed longer")
    parser.add_argument("settings", nargs="*", help="key=value over the preset")
    args = parser.parse_args()
    if args.sizes is not None:
        table(args.sizes or list(SIZES), args.window or 10, args.threads, args.rounds)
        return
    args.window = args.window or 20
    changes = {key: yaml.safe_load(value) for key, _, value in (s.partition("=") for s in args.settings)}
    values = {
        **preset(args.preset), "device": args.device, "ddtype": "standard", "batch_size": args.real,
        "steps_per_epoch": 1, "zca": False, "class_order": "sequential", "window": args.window,
        "totwindow": args.window, **changes,
    }  # fmt: skip
    config = build(DistillConfig, values)
    longer = {**values, "window": 3 * args.window, "totwindow": 3 * args.window}
    tasks = {
        "published": (meta_step, ({**values, "engine": "unrolled"}, args.threads, True, False)),
        "unrolled": (meta_step, ({**values, "engine": "unrolled"}, args.threads, False, True)),
        "recomputed": (meta_step, (values, args.threads, False, True)),
        "longer": (meta_step, (longer, args.threads, False, True)),
    }
    tasks = {name: task for name, task in tasks.items() if not args.only or name in args.only}
    measured = in_turn(
        {"matmul": (matmul_rate, (args.device, args.threads)), **tasks}, args.rounds, warm=args.device != "cpu"
    )
    rate = measured.pop("matmul").result
    print(f"{machine(args.device)}, {args.threads} threads, {rate:.0f} GFLOP/s in a matrix product")
    print(
        f"{args.preset}: width {config.width}, window {args.window} (longer: {3 * args.window}), "
        f"{config.distill_batch_size} patches, {args.real} real images; median of {args.rounds}\n"
    )
    head = ("seconds", "speed", "cpu s", "speed", "peak MiB", "of matmul", "loss", "|gradient|")
    print(" " * 12 + "".join(f"{title:>11}" for title in head))
    first = next(iter(measured.values()))
    for name, m in measured.items():
        work = gigaflops(build(DistillConfig, longer if name == "longer" else values))
        print(
            f"{name:12}{m.median:11.2f}{first.median / m.median:10.2f}×{m.cpu_median:11.2f}"
            f"{first.cpu_median / m.cpu_median:10.2f}×{m.peak_mib:11.0f}{work / m.median / rate:11.0%}"
            f"{m.result[0]:11.5f}{m.result[1]:11.4g}",
            flush=True,
        )


if __name__ == "__main__":
    main()
