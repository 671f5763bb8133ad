"""A stage's patches and soft labels as a ready training set: .safetensors, .npz, .parquet, or .pt for DD-Ranking."""

from __future__ import annotations

import argparse

from ppodd.cli.output import CommandResult, add_output
from ppodd.errors import BadInput
from ppodd.words import counted

EXAMPLES = """\
  ppodd export ppodd-archive/runs/NAME/stage-03 -o patches.safetensors
  ppodd export ppodd-archive/runs/NAME/stage-03 -o patches.npz --unwhitened
"""
_SUFFIXES = (".safetensors", ".npz", ".parquet", ".pt")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("path", metavar="STAGE", help="folder of an archived stage: …/stage-03")
    add_output(parser, ".safetensors", required=True, help=f"file to write: {', '.join(_SUFFIXES)}")
    parser.add_argument(
        "--mode", choices=("blend", "latest"), default="blend", help="all posters by π (default), or one"
    )
    parser.add_argument(
        "--unwhitened",
        action="store_true",
        help="images in the data's own colours, not as the networks of an evaluation see them",
    )


def run(args: argparse.Namespace) -> CommandResult:
    suffix = next((s for s in _SUFFIXES if args.output.endswith(s)), None)
    if suffix is None:
        raise BadInput(f"cannot write {args.output!r}: accepted are files that end in {', '.join(_SUFFIXES)}")

    from ppodd.archive import stages_at
    from ppodd.evaluation import FORMATS, training_set
    from ppodd.files import atomic_write

    trial, stages = stages_at(args.path)
    if len(stages) > 1:
        raise BadInput(f"{args.path!r} has {len(stages)} stages: name one, such as {args.path.rstrip('/')}/stage-01")
    content = training_set(trial, stages[0], args.mode)
    if args.unwhitened:
        content = content.as_pixels()
    atomic_write(args.output, FORMATS[suffix](content))
    stage = content.patches["stage"]
    print(f"{args.output}: {len(stage)} patches of {counted(len(set(stage)), 'poster')}")
    return CommandResult(0, {"file": args.output, "patches": len(stage), "stages": sorted(set(map(int, stage)))})
