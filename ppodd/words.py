"""Words for people."""

from __future__ import annotations

import textwrap

_NARROWEST = 20  # columns: a terminal that says it has fewer is not believed
_NO_BREAK = "\u00a0"


def counted(number: int, noun: str) -> str:
    """`1 trial`, `2 trials`, `12,000 meta-steps`, `10 classes`."""
    return f"{number:,} {noun}{('es' if noun.endswith('ss') else 's') * (number != 1)}"


def together(text: str) -> str:
    """The text as one word: `wrapped` breaks no line in it."""
    return text.replace(" ", _NO_BREAK)


def apart(text: str) -> str:
    """The text with the spaces that `together` took."""
    return text.replace(_NO_BREAK, " ")


def wrapped(text: str, width: int, indent: str = "  ") -> str:
    """The text in lines of at most `width` letters, broken between words alone; lines after the first are indented."""
    columns = max(width, _NARROWEST)
    return apart(textwrap.fill(text, columns, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False))
