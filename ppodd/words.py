"""Words for people."""

from __future__ import annotations


def counted(number: int, noun: str) -> str:
    """`1 trial`, `2 trials`, `12,000 meta-steps`, `10 classes`."""
    return f"{number:,} {noun}{('es' if noun.endswith('ss') else 's') * (number != 1)}"
