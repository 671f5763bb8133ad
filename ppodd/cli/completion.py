"""What makes a shell complete ppodd's commands and flags: print it, and have the shell read it when it starts."""

from __future__ import annotations

import argparse

from ppodd.cli.output import CommandResult
from ppodd.errors import BadInput

EXAMPLES = """\
  ppodd completion bash >> ~/.bashrc
  ppodd completion zsh > ~/.zsh/completions/_ppodd       # a folder of $fpath
"""
_SHELLS = ("bash", "zsh", "tcsh")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("shell", metavar="|".join(_SHELLS), choices=_SHELLS, help="the shell that is to complete")


def run(args: argparse.Namespace) -> CommandResult:
    try:
        import shtab
    except ImportError:
        raise BadInput("completion needs shtab: pip install shtab") from None

    script = shtab.complete(_all_commands(), args.shell)
    print(script)
    return CommandResult(0, {"script": script})


def _all_commands() -> argparse.ArgumentParser:
    """All commands in one parser, as shtab takes them."""
    from ppodd.cli.main import COMMANDS, module_of

    root = argparse.ArgumentParser(prog="ppodd", allow_abbrev=False)
    commands = root.add_subparsers(dest="command")
    for name, text in COMMANDS.items():
        module_of(name).add_arguments(commands.add_parser(name, help=text))
    return root
