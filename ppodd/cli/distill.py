"""Distil a data set into posters, stage by stage, then evaluate every stage on the test set."""

from __future__ import annotations

import argparse
import hashlib
import os
from typing import TYPE_CHECKING, Any

from ppodd import logs
from ppodd.cli.options import add_archive, add_config_flags, given
from ppodd.config import (
    P_PODD,
    PRESETS,
    RUNS,
    DistillConfig,
    absolute_paths,
    as_name,
    build,
    check_name,
    check_twin,
    known_poster_ipc,
    preset,
    shortened,
)
from ppodd.datasets import is_path
from ppodd.words import counted

_LONGEST_LABEL_BYTES = 100

if TYPE_CHECKING:
    from ppodd.archive import TrialArchive


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--preset", default="", help=f"settings to start from: {', '.join(PRESETS)} (default: digits)")
    add_archive(parser)
    parser.add_argument("--resume", action="store_true", help="continue this run where its last checkpoint left it")
    parser.add_argument("--no-evaluate", action="store_true", help="leave the evaluation to `ppodd evaluate`")
    add_config_flags(parser, DistillConfig, "the method's flags")


def configure(args: argparse.Namespace, default: dict[str, Any] | None = None) -> DistillConfig:
    """The config: the preset (by name, else the data set's own, else `digits`), what is known, the given flags."""
    flags = given(args, DistillConfig)
    dataset = flags.get("dataset", "digits")
    name = args.preset or (dataset if dataset in PRESETS else "")
    values: dict[str, Any] = {**(preset(name) if name else {}), **(default or {}), **flags}
    config = absolute_paths(build(DistillConfig, values))
    if not config.name:
        label = name or _label(config.dataset)
        method = "" if config.method == P_PODD else f"-{config.method}"
        called = as_name(f"{label}{method}-stages{config.num_stages}-{config.blend}-seed{config.seed}")
        config = config.model_copy(update={"name": called})
    check_name(config.name)
    return config


def _label(dataset: str) -> str:
    """What a run on a data set is called after: for data of one's own its folder or file, told apart where need be.

    Two folders whose names are cleaned to the same get distinct ones, and none is called as a preset is.
    """
    if not is_path(dataset):
        return shortened(dataset, _LONGEST_LABEL_BYTES)
    called = os.path.basename(dataset)
    label = as_name(shortened(called, _LONGEST_LABEL_BYTES))
    plain = label == called and label.casefold() not in PRESETS
    return label if plain else f"{label}-{hashlib.sha256(called.encode()).hexdigest()[:6]}"


def trial_of(archive: str, config: DistillConfig) -> TrialArchive:
    """The folder of a run that belongs to no sweep. Raises `BadInput` where its name is another's but for case."""
    from ppodd.archive import TrialArchive
    from ppodd.files import Folder

    runs = Folder(archive) / RUNS
    check_twin(config.name, runs.names())
    return TrialArchive(runs.at(config.name))


def run(args: argparse.Namespace) -> int:
    config = configure(args)

    from ppodd.cli.console import bar, console, stage_line
    from ppodd.cli.evaluate import evaluate_trials, say_tables
    from ppodd.config import EvaluationConfig
    from ppodd.distillation import run as distil
    from ppodd.machine import limit_threads

    out = console()
    trial = trial_of(args.archive, config)
    limit_threads()
    for notice in config.notices():
        out.print(f"note: {notice}")
    announce(out, config, trial.url)
    if args.resume and not trial.state().is_trial:
        out.print("nothing to resume: no run is archived there; it starts anew")
    with logs.about(sweep=trial.sweep, trial=trial.trial), bar(out) as show:
        for record in distil(config, trial, resume=args.resume, progress=show, say=out.print):
            out.print(stage_line(record))
    if not args.no_evaluate:
        evaluate_trials(out, [trial], EvaluationConfig(), config.device)
    out.print(f"archived in {trial.url}; pictures: ppodd render {trial.url} -o posters.png")
    if not args.no_evaluate:
        say_tables(out, [trial])
    return 0


def announce(out: Any, config: DistillConfig, url: str) -> None:
    """Say what the config is of, in one line."""
    size = f"{config.poster_width} × {config.poster_height} px"
    known = known_poster_ipc(config)
    ipc = f" ({known:.3f} IPC)" if known else ""
    out.print(
        f"{config.name}: {config.method} on {config.dataset}, poster {size}{ipc}, "
        f"{counted(config.num_stages, 'stage')} of {counted(config.stage_epochs, 'epoch')}, blend {config.blend}, "
        f"seed {config.seed} → {url}"
    )
