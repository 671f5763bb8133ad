"""What reduced precision of convolutions costs in accuracy, and what it brings in time, part by part.

    python benchmarks/precision.py [--preset digits] [--device cpu] [--seeds 5] [--precision bf16 real=bf16 …] [key=…]

First the error of the poster's meta-gradient against float64, from the poster after `--before` meta-steps of its
preset: cosine, norm of the difference, ratio of the norms, means over the seeds; and seconds of a meta-step. Then, with
`--meta-steps N`, posters of one stage of so many meta-steps, the seeds in lockstep: their accuracy on the validation
split, and the paired difference to float32's with its 95% interval. `float32'` is float32 by torch's operations alone:
how far rounding by itself leads.
"""

from __future__ import annotations

import argparse
import statistics
import time

import torch
import yaml
from measure import machine
from scipy import stats

from ppodd.config import DistillConfig, build, preset
from ppodd.datasets import load
from ppodd.distillation.lockstep import Lockstep
from ppodd.distillation.stages import Distillation
from ppodd.distillation.training_state import TrainingState
from ppodd.machine import keep_freed_memory, resolve_device
from ppodd.training import choose_compiled

_AGAIN = "float32'"


def distillation(values: dict, **changes) -> Distillation:
    config = build(DistillConfig, {**values, **changes})
    return Distillation(config, load(config.data, resolve_device(config.device)), None)


def of(precision: str) -> str:
    """The precision that a line is of, its functions chosen on the way."""
    choose_compiled("off" if precision == _AGAIN else "auto")
    return precision.removesuffix("'")


def gradient(run: Distillation, state: TrainingState) -> tuple[torch.Tensor, float]:
    """The poster's meta-gradient in float64, and processor seconds (on a GPU, by the clock)."""
    clock = time.process_time if run.device.type == "cpu" else time.perf_counter
    started = clock()
    found = run._meta_gradient(state, run.problems([]), [1.0])[1]["poster"].double().cpu()
    return found.flatten(), clock() - started


def errors(values: dict, precisions: list[str], seeds: int, before: int) -> None:
    """A line a precision: how far its meta-gradient is from float64's."""
    found: dict[str, list[tuple[float, ...]]] = {precision: [] for precision in precisions}
    for seed in range(seeds):
        run = distillation(values, seed=seed)
        state, problems = run.first_state(), run.problems([])
        for _ in range(before):
            run.meta_step(state, problems, [1.0])
        double = {name: tensor.double() for name, tensor in state.learned.items()}
        there = TrainingState(double, state.moments, state.stage, state.step)
        exact, _ = gradient(distillation(values, seed=seed, dtype="float64"), there)
        for precision in precisions:
            changed = distillation(values, seed=seed, precision=of(precision))
            mine, seconds = gradient(changed, state)
            cosine = float(mine @ exact / (mine.norm() * exact.norm()))
            off = float((mine - exact).norm() / exact.norm())
            found[precision].append((cosine, off, float(mine.norm() / exact.norm()), seconds))
        choose_compiled("auto")
    print(f"{'precision':28}{'cosine':>10}{'error':>10}{'norm':>8}{'seconds':>10}")
    for precision, rows in found.items():
        cosine, off, norm, seconds = map(statistics.fmean, zip(*rows, strict=True))
        print(f"{precision:28}{cosine:10.5f}{off:10.1e}{norm:8.3f}{seconds:10.3f}", flush=True)


def accuracies(values: dict, precisions: list[str], seeds: int, meta_steps: int) -> None:
    """A line a precision: what its posters teach, beside float32's of the same seeds."""
    one_stage = {"num_stages": 1, "epochs": 1, "steps_per_epoch": meta_steps}
    found: dict[str, list[float]] = {}
    print(f"\n{meta_steps} meta-steps, {seeds} seeds\n\n{'precision':28}{'accuracy':>9}{'difference':>12}  95%")
    for precision in precisions:
        kind = of(precision)
        runs = [distillation(values, **one_stage, seed=seed, precision=kind) for seed in range(seeds)]
        came = {member: result.accuracy.mean for member, result in Lockstep([run.stages() for run in runs])}
        found[precision] = [came[member] for member in range(seeds)]
        apart = [mine - other for mine, other in zip(found[precision], found[precisions[0]], strict=True)]
        mean, half = statistics.fmean(apart), stats.t.ppf(0.975, seeds - 1) * statistics.stdev(apart) / seeds**0.5
        said = f"{mean:+12.2f}  {mean - half:+.2f} to {mean + half:+.2f}" if precision != precisions[0] else ""
        print(f"{precision:28}{statistics.fmean(found[precision]):9.2f}{said}", flush=True)
    choose_compiled("auto")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="digits")
    parser.add_argument("--device", default="cpu", help="cpu, or cuda")
    parser.add_argument("--precision", nargs="*", default=["plain=bf16", "window=bf16", "real=bf16", "bf16"])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--before", type=int, default=20, help="meta-steps before the gradient that is compared")
    parser.add_argument("--meta-steps", type=int, default=0, help="of posters whose accuracy is compared (0: of none)")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("settings", nargs="*", help="key=value over the preset")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    keep_freed_memory()
    changes = {key: yaml.safe_load(value) for key, _, value in (s.partition("=") for s in args.settings)}
    values = {**preset(args.preset), "device": args.device, **changes}
    precisions = ["float32", *([_AGAIN] if args.device == "cpu" else []), *args.precision]
    print(f"{machine(args.device)}, {args.threads} threads; {args.preset} {' '.join(args.settings)}\n")
    errors(values, precisions, args.seeds, args.before)
    if args.meta_steps:
        accuracies(values, precisions, args.seeds, args.meta_steps)


if __name__ == "__main__":
    main()
