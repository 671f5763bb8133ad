"""What a command prints for other programs: one JSON document (`--json`), or the file that it writes (`-o -`).

Either has standard output to itself; what is said to people goes to standard error.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import io
import json
import math
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ppodd.errors import BadInput

SCHEMA = 1  # of the documents; a key that is added keeps it
STANDARD = "-"


class CommandResult(NamedTuple):
    """How a command ended: its exit code, and what it found."""

    code: int
    found: Mapping[str, Any]


def add_output(parser: argparse.ArgumentParser, form: str, **how: Any) -> None:
    """The flag for the file that a command writes; to standard output (`-`) in this form, `-.md` in another."""
    how["help"] = f"{how['help']}; - or -{form} writes to standard output"
    parser.add_argument("-o", "--output", metavar="FILE", type=_file_here, **how)
    parser.set_defaults(standard_form=form)


def _file_here(path: str) -> str:
    """The path of a file on this machine. Raises `BadInput` for a URL: it would become a folder `s3:` here."""
    if "://" in path:
        raise BadInput(f"--output {path!r} is a URL: files are written on this machine, write a path")
    return path


def attached(argv: Sequence[str]) -> list[str]:
    """The line with `-o -.md` as one word: by itself `-.md` would be a flag."""
    out: list[str] = []
    for word in argv:
        if out and out[-1] in ("-o", "--output") and word.startswith(f"{STANDARD}."):
            out[-1] = f"--output={word}"
        else:
            out.append(word)
    return out


@contextlib.contextmanager
def standard_output(args: argparse.Namespace, json_wanted: bool) -> Iterator[None]:
    """Keep standard output free for a JSON document or a file, if one is asked for.

    Raises:
        BadInput: both are.
    """
    output = getattr(args, "output", None) or ""
    if output == STANDARD or output.startswith(f"{STANDARD}."):
        if json_wanted:
            raise BadInput("--json and --output -: both want standard output; name a file, or leave one out")
        with _to_standard_output(args, output[1:] or args.standard_form):
            yield
    elif json_wanted:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    else:
        yield


@contextlib.contextmanager
def _to_standard_output(args: argparse.Namespace, form: str) -> Iterator[None]:
    """Have the command write a file that is printed at its end."""
    said = io.StringIO()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, f"output{form}")
        args.output = str(path)
        try:
            with contextlib.redirect_stdout(said):
                yield
        except BadInput as error:
            raise BadInput(str(error).replace(str(path), f"{STANDARD}{form}")) from None
        finally:
            sys.stderr.write(said.getvalue().replace(str(path), "standard output"))
        if path.exists():
            sys.stdout.flush()
            sys.stdout.buffer.write(path.read_bytes())


def document(command: str, done: CommandResult) -> str:
    """What a command found, as JSON: numbers that are not known are null."""
    from ppodd import __version__

    head = {"schema": SCHEMA, "ppodd": __version__, "command": command}
    return json.dumps({**head, **_plain(dict(done.found))}, indent=1, allow_nan=False)


def records(table: Any) -> list[dict[str, Any]]:
    """The rows of a frame."""
    return [dict(zip(table.columns, row, strict=True)) for row in table.itertuples(index=False, name=None)]


def _plain(value: Any) -> Any:
    """The value as JSON has it."""
    if hasattr(value, "to_json"):
        return _plain(value.to_json())
    if hasattr(value, "_asdict"):
        return _plain(value._asdict())
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_plain(inner) for inner in value]
    if hasattr(value, "item"):  # numpy's
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if value is None or isinstance(value, (bool, int, float, str)) else str(value)
