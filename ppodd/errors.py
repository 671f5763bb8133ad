"""What a user can get wrong, and how a run can fail; each message is one line that says what to do."""

from __future__ import annotations

import contextlib
import difflib
import re
from collections.abc import Iterable, Iterator, Sequence

_WRITTEN_OUT = 20  # names


class PpoddError(Exception):
    """A failure whose message is meant for the user (exit code 1)."""


class BadInput(PpoddError):
    """The user's input cannot work: the message names the value, what is accepted and the next step (exit code 2)."""


class StorageError(PpoddError):
    """A place could not be written or read: the disk is full, access is denied, nobody answers (exit code 1).

    The message names the first path and the reason. Whatever is already there stays whole, so a run can go on.
    """


class NonFinite(PpoddError):
    """A loss or gradient stopped being a number; the poster was not touched."""


class CorruptArchive(PpoddError):
    """A file of the archive is missing, truncated or differs from its recorded digest."""


class LaterVersion(CorruptArchive):
    """A file that a later version wrote: it may be whole, but this version cannot read it."""


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


def near_miss(value: object, names: Sequence[str], most: int = 1) -> str:
    """`; did you mean …?` where some of the `names` are near, else nothing."""
    near = difflib.get_close_matches(str(value), names, n=most)
    return f"; did you mean {' or '.join(map(repr, near))}?" if near else ""
