"""Entry point: finds the command, turns errors into one line and an exit code (0 done, 1 failed, 2 bad input)."""

from __future__ import annotations

import argparse
import contextlib
import importlib
import io
import keyword
import os
import shutil
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import NoReturn

from ppodd import logs, own_packages, signals
from ppodd.cli.output import CommandResult, attached, document, standard_output
from ppodd.errors import BadInput, PpoddError, near_miss, one_line, unknown
from ppodd.files import give_home
from ppodd.words import wrapped

COMMANDS = {
    "distill": "distil a data set into posters, stage by stage",
    "evaluate": "train fresh networks on archived posters and report their accuracy",
    "render": "posters of a trial or stage as a picture; stages as a strip or GIF",
    "import": "posters of PoDD / P-PoDD implementations into an archive",
    "export": "a stage's patches and soft labels as a ready training set",
    "sweep": "run a sweep file: many distillations on Ray, evaluated and logged to MLflow",
    "evaluators": "start, watch, scale and stop the evaluators of an archive or cluster",
    "submit": "run a sweep file on a Ray cluster, as a job that goes on without you",
    "jobs": "submitted sweeps: status, logs, stop",
    "cluster": "templates of clusters: Kubernetes, a cloud, Slurm",
    "results": "tables, comparisons and accuracy-vs-IPC curves out of MLflow",
    "archive": "what is damaged or left over in an archive, and mending it",
    "doctor": "what this machine offers, what is missing, how to get it",
    "completion": "what makes a shell complete these commands and their flags",
}
RESUMABLE = {"distill", "sweep"}  # commands that take --resume and keep checkpoints


class Parser(argparse.ArgumentParser):
    """Exact flags only; errors are `BadInput`, not a usage dump."""

    def __init__(self, *args: object, **kwargs: object):
        super().__init__(*args, **{"allow_abbrev": False, **kwargs})  # type: ignore[arg-type]

    def error(self, message: str) -> NoReturn:
        """Raise what argparse found wrong, in place of its usage dump and exit."""
        message = message.replace("ignored explicit argument", "takes no value, but was given")
        raise BadInput(f"{message} (see {self.prog} --help)")

    def parse(self, argv: Sequence[str]) -> argparse.Namespace:
        """The flags of a command. Raises `BadInput` for one that is unknown, with the one that is meant."""
        args, extra = self.parse_known_args(attached(argv))
        if extra:
            flags = [option for option in self._option_string_actions if option.startswith("--")]
            raise _unknown_flag(extra[0].split("=")[0], flags, self.prog)
        return args


def _unknown_flag(flag: str, flags: list[str], prog: str) -> BadInput:
    if not flag.startswith("-"):
        return BadInput(f"unexpected argument {flag!r}: flags are written --name=value")
    return BadInput(f"unknown flag {flag!r}{near_miss(flag, flags)} (see {prog} --help)")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line `argv` (default: the process's own, which then ends by signals). Returns the exit code."""
    if argv is None:
        argv = sys.argv[1:]
        _open_what_is_closed()
        signals.take_over(lambda: _say_interrupted(argv))
    return signals.exit_code(_main(list(argv)))


def _main(argv: list[str]) -> int:
    debug = "--debug" in argv
    _write_what_the_terminal_can()
    try:
        own_packages.claim()
        everywhere, argv = _everywhere(argv)
        _start_logs(everywhere)
        give_home()
        return _run(argv, debug, everywhere.json)
    except PpoddError as error:
        if debug:
            raise
        print(f"ppodd: {one_line(error)}", file=sys.stderr)
        return 2 if isinstance(error, BadInput) else 1
    except KeyboardInterrupt:
        _say_interrupted(argv)
        return 1
    except BrokenPipeError:
        sys.stderr.close()
        return 1
    except Exception as error:
        if signals.name():  # such as of a terminal that was closed, which nothing can be written to
            _say_interrupted(argv)
            return 1
        if debug:
            raise
        print(f"ppodd: {one_line(error)} (--debug shows where)", file=sys.stderr)
        return 1


def _open_what_is_closed() -> None:
    """Have closed standard streams (`>&-`) lead nowhere: a file of ours would get their number, and what is said."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # the least number that is free: this one
            setattr(sys, name, os.fdopen(number, "r" if number == 0 else "w", encoding="utf-8"))


def _write_what_the_terminal_can() -> None:
    """Have a letter that the terminal's encoding lacks be a question mark, not the end of the command."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def _take_up_folder() -> None:
    """Have the working folder on the path, for a network of the user's own (`--arch module:attribute`) there.

    Raises:
        BadInput: it was deleted.
    """
    try:
        folder = os.getcwd()
    except FileNotFoundError:
        raise BadInput("the working folder was deleted: change to one that is there") from None
    if folder not in sys.path:
        sys.path.append(folder)


def _say_interrupted(argv: Sequence[str]) -> None:
    """Say, in one line, what ended the command and how to go on; a terminal that was closed is told nothing."""
    ended = "interrupted" + (f" by {signals.name()}" if signals.name() else "")
    resume = "; the same command with --resume goes on from the last checkpoint"
    try:
        print(f"ppodd: {ended}{resume if _keeps_checkpoints(argv) else ''}", file=sys.stderr, flush=True)
        sys.stdout.flush()
    except OSError:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        for stream in (1, 2):  # for what else is said on the way out
            os.dup2(nowhere, stream)


def _keeps_checkpoints(argv: Sequence[str]) -> bool:
    """Whether the line is of a command that another with `--resume` goes on from."""
    with contextlib.suppress(BadInput):
        return bool(RESUMABLE & {*_everywhere(list(argv))[1][:1]}) and "--dry-run" not in argv
    return False


def _everywhere(argv: list[str]) -> tuple[argparse.Namespace, list[str]]:
    """The flags that every command takes, wherever they stand, and what is left."""
    parser = Parser(prog="ppodd", add_help=False)
    parser.add_argument("--debug", action="store_true")
    parser.add_argument("-v", dest="verbose", action="count", default=0)
    parser.add_argument("--log-level", metavar="LEVEL")
    parser.add_argument("--json", action="store_true")
    return parser.parse_known_args(argv)


def _start_logs(flags: argparse.Namespace) -> None:
    """Log at the level that the flags ask for, and have the processes that this one starts do so too."""
    asked = flags.log_level or ("", "info", "debug")[min(flags.verbose, 2)]
    logs.start(asked or os.environ.get(logs.VARIABLE) or "warning")
    if asked:
        os.environ[logs.VARIABLE] = asked


def _run(argv: list[str], debug: bool, json_wanted: bool) -> int:
    if not argv or argv[0] in ("-h", "--help"):
        print(_overview())
        return 0
    if argv[0] == "--version":
        from ppodd import __version__

        print(f"ppodd {__version__}")
        return 0
    _take_up_folder()
    if argv[0] not in COMMANDS:
        raise unknown("command", argv[0], COMMANDS)
    module = module_of(argv[0])
    parser = parser_of(argv[0])
    try:
        args = parser.parse(argv[1:])
    except SystemExit as leave:  # --help
        return int(leave.code or 0)
    args.debug = debug
    with standard_output(args, json_wanted):
        ended = module.run(args)
    done = ended if isinstance(ended, CommandResult) else CommandResult(ended, {})
    if json_wanted:
        print(document(" ".join([argv[0], *filter(None, [getattr(args, "action", None)])]), done))
    return done.code


def module_of(command: str) -> ModuleType:
    """The module of a command: its docstring is the help, `add_arguments` declares its flags, `run` does it.

    `USAGE` stands for a list of flags that is too long to be read, `EXAMPLES` at the end of the help.
    """
    return importlib.import_module(f"ppodd.cli.{command}{'_' * keyword.iskeyword(command)}")


def _fitted(text: str) -> str:
    """Paragraphs in lines that the terminal has room for."""
    columns = shutil.get_terminal_size().columns - 2
    return "\n\n".join(wrapped(" ".join(part.split()), columns, indent="") for part in text.split("\n\n"))


def parser_of(command: str) -> Parser:
    """The parser of a command's line."""
    module = module_of(command)
    examples = getattr(module, "EXAMPLES", "")
    parser = Parser(
        prog=f"ppodd {command}",
        usage=getattr(module, "USAGE", None),
        description=_fitted(module.__doc__ or ""),
        epilog=examples and f"examples:\n{examples}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    module.add_arguments(parser)
    return parser


def _overview() -> str:
    commands = "\n".join(f"  {name:11} {text}" for name, text in COMMANDS.items())
    return (
        "usage: ppodd COMMAND [--help] …\n\n"
        "Progressive Poster Dataset Distillation: distil, sweep, evaluate, compare.\n\n"
        f"{commands}\n\nEverywhere: -v, -vv or --log-level LEVEL (also $PPODD_LOG_LEVEL) say on standard error what is "
        "being done;\n--json prints what was found as one JSON document (docs/json.md); --debug shows the traceback of "
        "an error; --version.\n"
        "Exit codes: 0 done, 1 failed, 2 bad input."
    )
