"""Archive posters that another implementation of PoDD or P-PoDD distilled, and evaluate them like any other.

Give the flags of the run that made them: they say the data set, the layout, the network and the compute.
"""

from __future__ import annotations

import argparse
import functools
from typing import Any

from ppodd.cli.distill import announce, configure
from ppodd.cli.options import add_archive, add_config_flags
from ppodd.cli.output import CommandResult
from ppodd.config import PRESETS, DistillConfig, as_name
from ppodd.distillation import paired

USAGE = "%(prog)s POSTER.pt [LABEL.pt] … [--preset NAME] [--FLAG VALUE …]"
EXAMPLES = """\
  ppodd import checkpoints/RUN_poster.pt --preset cifar10 --epochs 10000
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "files", nargs="+", metavar="POSTER.pt [LABEL.pt]",
        help="a poster for each stage, in order; a …_label.pt after its poster, or beside it, holds its learned labels",
    )  # fmt: skip
    parser.add_argument("--preset", default="", help=f"settings to start from: {', '.join(PRESETS)}")
    add_archive(parser)
    parser.add_argument("--no-evaluate", action="store_true", help="leave the evaluation to `ppodd evaluate`")
    add_config_flags(parser, DistillConfig, "the flags of the run that made them (default: size and labels as saved)")


def run(args: argparse.Namespace) -> CommandResult:
    files = paired(args.files)

    from ppodd.archive import trial_of
    from ppodd.cli.console import console, say, stage_line
    from ppodd.cli.evaluate import evaluate_trials, say_tables
    from ppodd.config import EvaluationConfig
    from ppodd.distillation import import_posters, load_posters

    posters = load_posters(files)
    first = posters[0]
    height, width = first.held.poster.shape[-2:]
    known = {
        "name": as_name(first.path.stem.removesuffix("_poster")),
        "poster_width": width,
        "poster_height": height,
        "num_stages": len(posters),
    }
    config = configure(args, known | ({"train_y": True} if first.labels else {}))
    out, trial = console(), trial_of(args.archive, config)
    announce(out, config, trial.url)

    def layout(order: Any) -> None:
        rows = " / ".join(" ".join(map(str, row)) for row in order)
        say(out, f"class layout, row by row: {rows} (class_order {config.class_order}): it must be that of the run")

    found: dict[str, Any] = {"trial": trial.url, "stages": [], "evaluations": []}
    for record in import_posters(config, trial, posters, layout, functools.partial(say, out)):
        say(out, stage_line(record))
        found["stages"].append(record)
    say(
        out,
        "note: PoDD's code trains on the whole training set, with what is held out here, and keeps the poster that did "
        "best on the test set: the results are marked as leaking it",
    )
    if not args.no_evaluate:
        found["evaluations"] = evaluate_trials(out, [(trial, trial.stages())], EvaluationConfig(), config.device)
    out.print(f"archived in {trial.url}")
    if not args.no_evaluate:
        say_tables(out, [trial])
    return CommandResult(0, found)
