"""What is damaged in an archive, file by file: `verify` says it, `repair` mends what comes out to the same bits again.

What was removed is made again on resume (`--resume`, evaluators, a sync). Exit code 1 where damage is left.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from ppodd.cli.options import add_archive
from ppodd.cli.output import CommandResult
from ppodd.errors import BadInput
from ppodd.words import counted

if TYPE_CHECKING:
    from ppodd.archive import Archive, Damage

EXAMPLES = """\
  ppodd archive verify
  ppodd archive repair --sweep boost
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", required=True, metavar="verify|repair")
    verify = actions.add_parser("verify", help="read every file and check its digest; nothing is changed")
    repair = actions.add_parser("repair", help="mend what can be mended, and say what is left")
    for action in (verify, repair):
        add_archive(action)
        action.add_argument("--sweep", action="append", help="this sweep only (repeatable; default: all)")
    repair.add_argument(
        "--redo", action="store_true", help="also have made anew what comes out otherwise, such as a GPU's stages"
    )


def run(args: argparse.Namespace) -> CommandResult:
    from ppodd.archive import Archive

    archive = Archive(args.archive)
    archive.require()
    there = archive.sweeps()
    for sweep in args.sweep or ():
        if sweep not in there:
            raise BadInput(f"no sweep {sweep!r} in {archive.url} (there: {', '.join(there)})")
    found = [one for sweep in args.sweep or there for one in _of_sweep(archive, sweep, args)]
    left = sum(not one["mended"] for one in found)
    trials = sum(len(archive.trials(sweep)) for sweep in args.sweep or there)
    print(_summary(archive, trials, found, left))
    return CommandResult(1 if left else 0, {"archive": archive.url, "damaged": found, "left": left})


def _of_sweep(archive: Archive, sweep: str, args: argparse.Namespace) -> list[dict[str, Any]]:
    """What is damaged of a sweep, mended where that is asked for; said line by line as it is found."""
    from ppodd.archive import damage, repair

    verify = args.action == "verify"
    damaged = damage(archive, sweep, redo=not verify and args.redo, picture=_picture)
    found = []
    for one, left in ((one, one.then) for one in damaged) if verify else repair(archive, sweep, damaged):
        entry = {"path": one.path, "what": one.what, "then": one.then, "mended": not verify and not left}
        found.append(entry)
        print(_line(one, args.action, left), flush=True)
    return found


def _line(one: Damage, action: str, left: str) -> str:
    if action == "verify":
        then = f"`repair` mends it: {one.then}" if one.mend and one.then else one.then or "`repair` removes it"
        return f"{one.what}; {then}"
    return f"left: {one.what}; {left}" if left else f"mended: {one.what}" + (f"; {one.then}" if one.then else "")


def _summary(archive: Archive, trials: int, found: list[dict[str, Any]], left: int) -> str:
    if not found:
        return f"{archive.url}: every file of {counted(trials, 'trial')} is whole"
    mended = f", {len(found) - left} mended" if len(found) > left else ""
    return f"{archive.url}: {counted(len(found), 'file')} damaged or left over{mended}, {left} left"


def _picture(trial: Any, stage: int) -> bytes:
    from ppodd.distillation import picture  # brings torch

    return picture(trial, stage)
