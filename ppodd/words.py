"""Words for people."""

from __future__ import annotations

import textwrap

_NARROWEST = 20  # columns: a terminal that says it has fewer is not believed


def counted(number: int, noun: str) -> str:
    """`1 trial`, `2 trials`, `12,000 meta-steps`, `10 classes`."""
    return f"{number:,} {noun}{('es' if noun.endswith('ss') else 's') * (number != 1)}"


def wrapped(text: str, width: int, indent: str = "  ") -> str:
    """The text in lines of at most `width` letters, broken between words alone; lines after the first are indented."""
    columns = max(width, _NARROWEST)
    return textwrap.fill(text, columns, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)
