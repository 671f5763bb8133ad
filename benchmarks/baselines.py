"""What distillation adds on digits, at one pixel budget: initial poster, downscaled real images, distilled posters.

    python benchmarks/baselines.py [--seeds 3] [--nets 8] [--blend dynamic] [key=value …]

Every line is the test accuracy (percent) of fresh networks: mean over networks and seeds ± std over seeds.
"""

import argparse
import statistics

import numpy as np
import torch
import torch.nn.functional as F
import yaml

from ppodd.archive import PosterFile
from ppodd.config import DistillConfig, EvaluationConfig, build
from ppodd.config.presets import preset
from ppodd.datasets.loading import load
from ppodd.distillation.stages import Distillation, distill
from ppodd.evaluation.accuracy import evaluate
from ppodd.machine.seeding import generator
from ppodd.posters.blend import evaluation_weights
from ppodd.posters.labels import fixed_labels
from ppodd.posters.layout import Layout


def real_pixels(config, dataset, seed):
    """One random training image a class, downscaled so that all fit the poster's pixels, then scaled up to train on."""
    spec = dataset.spec
    side = int((config.poster_width * config.poster_height / spec.classes) ** 0.5)
    picks = generator("real pixels", seed)
    images = []
    for label in range(spec.classes):
        rows = torch.nonzero(dataset.train.y == label).flatten()
        images.append(dataset.train.x[rows[torch.randint(len(rows), (), generator=picks)]])
    small = F.interpolate(torch.stack(images), (side, side), mode="bilinear", antialias=True)
    full = F.interpolate(small, (spec.height, spec.width), mode="bilinear")
    columns, rows_ = config.poster_class_num_x, config.poster_class_num_y
    shape = {
        "poster_width": columns * spec.width, "poster_height": rows_ * spec.height,
        "patch_num_x": columns, "patch_num_y": rows_, "distill_batch_size": spec.classes,
    }  # fmt: skip
    tiled = build(DistillConfig, {**config.model_dump(), **shape})
    layout = Layout.of(tiled.geometry, spec, np.arange(spec.classes).reshape(rows_, columns))
    grid = full.reshape(rows_, columns, spec.channels, spec.height, spec.width).permute(2, 0, 3, 1, 4)
    poster = grid.reshape(spec.channels, layout.height, layout.width).numpy()
    return PosterFile(poster, fixed_labels(layout).numpy(), layout.class_order), layout, side


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--nets", type=int, default=8)
    parser.add_argument("settings", nargs="*", help="key=value over the digits preset")
    args = parser.parse_args()
    torch.set_num_threads(1)
    changes = {key: yaml.safe_load(value) for key, _, value in (s.partition("=") for s in args.settings)}
    rows = {}
    for seed in range(args.seeds):
        config = build(DistillConfig, {**preset("digits"), **changes, "seed": seed})
        dataset = load(config.data, torch.device("cpu"))
        (protocol,) = EvaluationConfig(nets=args.nets).protocols(config)

        def judge(name, posters, blend, layout, seed=seed, protocol=protocol, dataset=dataset):
            accuracies = evaluate(posters, blend, layout, protocol, dataset.test)
            for steps, values in accuracies.items():
                rows.setdefault((name, steps), []).append(statistics.fmean(values))
            print(
                f"seed {seed}: {name}: { ({k: round(statistics.fmean(v), 1) for k, v in accuracies.items()}) }",
                flush=True,
            )

        run = Distillation(config, dataset, None)
        judge("initial poster", [run.poster_file(run.first_state())], [1.0], run.layout)
        poster, layout, side = real_pixels(config, dataset, seed)
        judge(f"real images at {side} × {side} px", [poster], [1.0], layout)
        posters, accuracies = [], []
        for result in distill(config, dataset):
            posters.append(result.poster)
            weights = evaluation_weights(config.blend, accuracies, config.blend_parameters)
            accuracies.append(result.accuracy.mean)
        latest = [0.0] * (len(posters) - 1) + [1.0]
        judge(f"distilled, last of {len(posters)} posters alone", posters, latest, run.layout)
        judge(f"distilled, {config.blend} blend of {len(posters)} posters", posters, weights, run.layout)
    print(
        f"\npixel budget of a poster: {config.geometry.ipc(dataset.spec):.3f} IPC; {args.nets} networks, "
        f"{args.seeds} seeds; {result.meta_steps} meta-steps in {result.seconds:.0f} s (last seed)"
    )
    for (name, steps), values in rows.items():
        spread = f" ± {statistics.stdev(values):.1f}" if len(values) > 1 else ""
        print(f"{name:45} {steps:5} steps  {statistics.fmean(values):5.1f}{spread}")


if __name__ == "__main__":
    main()
