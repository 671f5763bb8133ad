"""Posters as pictures: one stage, or all stages of a trial side by side (PNG) or as an animation (GIF)."""

from __future__ import annotations

import argparse

from ppodd.cli.output import CommandResult, add_output
from ppodd.errors import BadInput

EXAMPLES = """\
  ppodd render ppodd-archive/runs/NAME -o stages.gif
  ppodd render ppodd-archive/runs/NAME/stage-03 -o poster.png --zoom 8
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("path", metavar="TRIAL|STAGE", help="folder of an archive: …/<trial> or …/stage-03")
    add_output(parser, ".png", required=True, help="file to write: .png or .gif")
    parser.add_argument("--zoom", type=int, default=4, help="screen pixels a poster pixel (default: 4)")


def run(args: argparse.Namespace) -> CommandResult:
    suffix = args.output.rsplit(".", 1)[-1].lower()
    if suffix not in ("png", "gif"):
        raise BadInput(f"cannot write {args.output!r}: accepted are files that end in .png or .gif")
    if args.zoom < 1:
        raise BadInput(f"--zoom={args.zoom}: at least 1")

    from ppodd.archive import stages_at
    from ppodd.files import atomic_write
    from ppodd.posters import gif, strip

    trial, stages = stages_at(args.path)
    for stage in stages:
        trial.poster(stage)  # no picture of a poster that is damaged
    pngs = [trial.png(stage) for stage in stages]
    atomic_write(args.output, (gif if suffix == "gif" else strip)(pngs, args.zoom))
    print(f"{args.output}: {len(pngs)} {'stages' if len(pngs) > 1 else 'stage'} of {trial.trial}")
    return CommandResult(0, {"file": args.output, "trial": trial.url, "stages": stages})
