"""What a user can get wrong, and how a run can fail; each message is one line that says what to do."""

from __future__ import annotations

import contextlib
import difflib
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

_WRITTEN_OUT = 20  # names


class PpoddError(Exception):
    """A failure whose message is meant for the user (exit code 1)."""


class BadInput(PpoddError):
    """The user's input cannot work: the message names the value, what is accepted and the next step (exit code 2).

    `field` is that of the config whose value it is, where it is one: a sweep file's line is found by it.
    """

    def __init__(self, message: str, field: str = ""):
        super().__init__(message)
        self.field = field


class StorageError(PpoddError):
    """A place could not be written or read: the disk is full, access is denied, nobody answers (exit code 1).

    The message names the first path and the reason. Whatever is already there stays whole, so a run can go on.
    """


class NonFinite(PpoddError):
    """A loss or gradient stopped being a number; the poster was not touched."""


class CorruptArchive(PpoddError):
    """A file of the archive is missing, truncated or differs from its recorded digest."""


class LaterVersion(CorruptArchive):
    """A file that another version wrote, mostly a later one: it may be whole, but this version cannot read it."""


def later_version(where: str, what: str, writer: str = "") -> LaterVersion:
    """The error for the file `where` with `what` only later versions know; `writer` wrote it, if that is known."""
    return LaterVersion(f"{where}{what}: use {_version(writer)}, or a later one")


def earlier_version(where: str, what: str, writer: str = "") -> LaterVersion:
    """The same for what no version reads any more but those like the writer's."""
    return LaterVersion(f"{where}{what}: use {_version(writer)}")


def _version(writer: str) -> str:
    return f"ppodd {writer}" if writer else "the ppodd version that wrote it"


@contextlib.contextmanager
def under_way() -> Iterator[None]:
    """In the block work has started and can be resumed, so this is a failure, not bad input."""
    try:
        yield
    except BadInput as error:
        raise PpoddError(str(error)) from error


def one_line(error: BaseException) -> str:
    """What an error says, on one line, without passwords; the name of its kind where it says nothing of ours.

    Notes on it follow in brackets: where in a user's code it was raised.
    """
    text = hidden(" ".join(str(error).split()))
    notes = "".join(f" ({note})" for note in getattr(error, "__notes__", ()))
    return f"{text}{notes}" if isinstance(error, PpoddError) else f"{type(error).__name__}: {text}{notes}"


def hidden(text: str) -> str:
    """The text without the passwords of URLs in it."""
    return re.sub(r"(://[^\s/@:]*):[^\s/@]*@", r"\1:***@", text)


def unknown(what: str, value: object, accepted: Iterable[str], listed: str = "", also: Sequence[str] = ()) -> BadInput:
    """The error for `value`, which is none of the `accepted` names, with near misses.

    Many names are not written out where there is a list of them: `listed` says where. `also` says what is accepted
    beside the names.
    """
    names = sorted(accepted)
    if listed and len(names) > _WRITTEN_OUT:
        return BadInput(f"unknown {what} {value!r}{near_miss(value, names, most=3)} (all {len(names)}: {listed})")
    return BadInput(f"unknown {what} {value!r}{near_miss(value, names)} (accepted: {', '.join([*names, *also])})")


def wrong_field(error: Any, shown_chars: int = 80) -> str:
    """What pydantic's `error` found wrong first, in one line that begins with the field."""
    first = error.errors()[0]
    field = ".".join(str(part) for part in first["loc"] if part != "[key]")
    if first["type"] == "missing":
        return f"{field} is missing"
    if not field:
        return str(first["msg"])
    value = repr(first["input"])
    shown = value if len(value) <= shown_chars else f"{value[:shown_chars]}…"
    message = first["msg"].removeprefix("Value error, ")
    return f"{field} is {shown}: {message[0].lower()}{message[1:]}"


def check_utf8(text: str) -> str:
    """A path, which records and URLs hold as text. Raises `BadInput` where it is not in UTF-8, or not read so."""
    try:
        text.encode()
        return text
    except UnicodeEncodeError:
        pass
    try:
        os.fsencode(text).decode("utf-8")
    except UnicodeDecodeError:
        raise BadInput(f"{text!a} is not in UTF-8: rename it, or link to it by another name") from None
    raise BadInput(f"{text!a} is read as ASCII in this locale: set PYTHONUTF8=1")


def near_miss(value: object, names: Sequence[str], most: int = 1) -> str:
    """`; did you mean …?` where some of the `names` are near, else nothing."""
    near = difflib.get_close_matches(str(value), names, n=most)
    return f"; did you mean {' or '.join(map(repr, near))}?" if near else ""
