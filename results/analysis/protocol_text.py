"""What a reader must know of an accuracy to compare it with another, in words."""

from __future__ import annotations

import pandas as pd


def facts(rows: pd.DataFrame) -> list[str]:
    """Networks, what they trained on, and the compute behind the posters."""
    nets = one_or_range(rows["nets"])
    return [
        f"{nets} network{'s' * (nets != '1')} of width {one_or_range(rows['width'])} "
        f"({one_or_range(rows['eval_arch'])})",
        f"trained on: {one_or_range(rows['mode'])}",
        *(f"evaluated with {departs}" for departs in sorted(set(rows["protocol"]) - {""})),
        f"{one_or_range(rows['meta_steps'])} meta-steps",
        f"window {one_or_range(rows['window'])}",
    ]


def one_or_range(values: pd.Series) -> str:
    """A column in a few words: its one value, its range, or its texts."""
    if values.dtype == object or pd.api.types.is_string_dtype(values):
        return ", ".join(sorted(set(values.map(str))))
    low, high = values.min(), values.max()
    return f"{low}" if low == high else f"{low}–{high}"
