"""How long the small sweeps in examples/ take on two cores, from the first stages of a trial each.

    python benchmarks/examples.py [--epochs 3] [examples/FILE.yaml …]

The trial of most stages is distilled for few epochs a stage on one thread, and evaluated; meta-steps, the ends of
stages and evaluations are measured apart and counted up over the sweep's trials. Seconds are the processor's: those on
the clock of a machine that does nothing else, whatever else runs here. Starting Ray and Python is not in them.
"""

import argparse
import itertools
import time
from pathlib import Path

import torch

from ppodd.config import build, protocols
from ppodd.datasets.loading import load
from ppodd.distillation.stages import distill
from ppodd.evaluation.accuracy import evaluate
from ppodd.machine.device import resolve_device
from ppodd.posters.layout import Layout
from ppodd.training import choose_compiled
from tune.sweep_file import load_sweep

EXAMPLES = Path(__file__).parents[1] / "examples"
CORES = 2


def measured(sweep, epochs):
    """Meta-steps of an epoch, and processor seconds of a meta-step, a stage's end, and an evaluation of the last."""
    config = max(sweep.trials.values(), key=lambda c: (c.num_stages, c.poster_width * c.poster_height))
    config = build(type(config), {**config.model_dump(), "device": "cpu", "epochs": epochs * config.num_stages})
    dataset = load(config.data, resolve_device("cpu"))
    marks = []  # of every meta-step and stage
    config = build(type(config), {**config.model_dump(), "print_freq": 1})
    stages = []
    for stage in distill(config, dataset, on_progress=lambda _: marks.append(("step", time.process_time()))):
        marks.append(("stage", time.process_time()))
        stages.append(stage)
    steps = [after - before for (_, before), (kind, after) in itertools.pairwise(marks) if kind == "step"]
    ends = [after - before for (_, before), (kind, after) in itertools.pairwise(marks) if kind == "stage"]
    layout = Layout.of(config.geometry, dataset.spec, stages[-1].poster.class_order)
    posters, blend = [stage.poster for stage in stages], stages[-1].evaluation_blend
    started = time.process_time()
    for protocol in protocols(sweep.evaluations, config):
        evaluate(posters, blend, layout, protocol, dataset.test)
    evaluation = time.process_time() - started
    an_epoch = stages[-1].meta_steps / (epochs * config.num_stages)
    return an_epoch, sum(steps) / len(steps), sum(ends) / len(ends), evaluation


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", nargs="*", type=Path, default=sorted(EXAMPLES.glob("paper-*-small.yaml")))
    parser.add_argument("--epochs", type=int, default=3, help="of each stage")
    args = parser.parse_args()
    torch.set_num_threads(1)
    choose_compiled("auto")
    for file in args.files:
        sweep = load_sweep(str(file))
        configs = sweep.trials.values()
        stages = sum(config.num_stages for config in configs)
        an_epoch, step, end, evaluation = measured(sweep, args.epochs)
        meta_steps = round(an_epoch * sum(config.stage_epochs * config.num_stages for config in configs))
        hours = (meta_steps * step + stages * (end + evaluation)) / CORES / 3600
        print(
            f"{file.stem}: {len(configs)} trials, {meta_steps} meta-steps of {step:.3f} s, {stages} stages of "
            f"{end:.1f} + {evaluation:.1f} s: {hours:.2f} h on {CORES} cores"
        )


if __name__ == "__main__":
    main()
