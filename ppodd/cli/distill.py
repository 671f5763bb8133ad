"""Distil a data set into posters, stage by stage, then evaluate every stage on the test set."""

from __future__ import annotations

import argparse
import functools
import shlex
from collections.abc import Callable
from typing import Any

from ppodd import logs
from ppodd.cli.options import add_archive, add_config_flags, given
from ppodd.cli.output import CommandResult
from ppodd.config import (
    DEFAULT_IPC,
    IPC,
    PRESETS,
    DistillConfig,
    configured,
    known_poster_ipc,
    preset,
)
from ppodd.words import counted

USAGE = "%(prog)s [--preset NAME] [--archive DIR] [--resume] [--FLAG VALUE …]"
EXAMPLES = """\
  ppodd distill --preset digits                          # some minutes on two cores
  ppodd distill --preset digits --num_stages 2 --blend uniform --seed 1
  ppodd distill --dataset ./my-images --preset cifar10-small
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--preset",
        default="",
        help=f"settings to start from: {', '.join(PRESETS)} (default: the data set's own; else those of digits, with "
        f"a layout chosen as by --ipc {DEFAULT_IPC})",
    )
    parser.add_argument(
        f"--{IPC}",
        default=argparse.SUPPRESS,
        metavar="VALUE",
        help="images per class of one poster: chooses its size, class grid and patch grid for the data, but for those "
        "that are given",
    )
    add_archive(parser)
    parser.add_argument("--resume", action="store_true", help="continue this run where its last checkpoint left it")
    parser.add_argument("--no-evaluate", action="store_true", help="leave the evaluation to `ppodd evaluate`")
    add_config_flags(parser, DistillConfig, "the method's flags", standard=preset("digits"))


def configure(
    args: argparse.Namespace, default: dict[str, Any] | None = None, say: Callable[[str], None] = lambda line: None
) -> DistillConfig:
    """The config that the flags say, as `configured` makes it."""

    def choose(plain: DistillConfig, apart: DistillConfig) -> DistillConfig:
        from ppodd.archive import with_own_folder

        return with_own_folder(args.archive, args.resume, plain, apart)

    ipc = {IPC: args.ipc} if hasattr(args, IPC) else {}
    return configured(args.preset, {**given(args, DistillConfig), **ipc}, default, say, choose)


def run(args: argparse.Namespace) -> CommandResult:
    notices: list[str] = []
    config = configure(args, say=notices.append)

    from ppodd.archive import trial_of
    from ppodd.cli.console import bar, console, say, stage_line
    from ppodd.cli.evaluate import evaluate_trials, say_tables
    from ppodd.config import EvaluationConfig
    from ppodd.distillation import run as distil
    from ppodd.machine import limit_threads

    out = console()
    trial = trial_of(args.archive, config)
    limit_threads()
    for line in (*notices, *(f"note: {notice}" for notice in config.notices())):
        say(out, line)
    announce(out, config, trial.url)
    if args.resume and not trial.state().is_trial:
        say(out, "nothing to resume: no run is archived there; it starts anew")
    found: dict[str, Any] = {"trial": trial.url, "stages": [], "evaluations": []}
    with logs.about(sweep=trial.sweep, trial=trial.trial), bar(out) as show:
        for record in distil(config, trial, resume=args.resume, progress=show, say=functools.partial(say, out)):
            say(out, stage_line(record))
            found["stages"].append(record)
    if not args.no_evaluate:
        found["evaluations"] = evaluate_trials(out, [(trial, trial.stages())], EvaluationConfig(), config.device)
    out.print(f"archived in {trial.url}; pictures: ppodd render {shlex.quote(trial.url)} -o posters.png")
    if not args.no_evaluate:
        say_tables(out, [trial])
    return CommandResult(0, found)


def announce(out: Any, config: DistillConfig, url: str) -> None:
    """Say what the config is of, in one line."""
    from ppodd.cli.console import say

    size = f"{config.poster_width} × {config.poster_height} px"
    known = known_poster_ipc(config)
    ipc = f" ({known:.3f} IPC)" if known else ""
    say(
        out,
        f"{config.name}: {config.method} on {config.dataset}, poster {size}{ipc}, "
        f"{counted(config.num_stages, 'stage')} of {counted(config.stage_epochs, 'epoch')}, blend {config.blend}, "
        f"seed {config.seed} → {url}",
    )
