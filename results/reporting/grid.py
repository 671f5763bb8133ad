"""Tables made ready to be shown."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import pandas as pd

from results.reporting.tables import as_cells


class Grid(NamedTuple):
    """A table ready to be shown: a cell is its text and the value it sorts by."""

    columns: list[str]
    rows: list[list[tuple[str, Any]]]


def grid(table: pd.DataFrame) -> Grid:
    """A frame as a table to show, its numbers rounded for reading and sorted by their full value."""
    columns = [as_cells(table[name]) for name in table.columns]
    values = [[_sortable(value) for value in table[name]] for name in table.columns]
    paired = [list(zip(texts, keys, strict=True)) for texts, keys in zip(columns, values, strict=True)]
    return Grid([str(name) for name in table.columns], [list(row) for row in zip(*paired, strict=True)])


def _sortable(value: Any) -> Any:
    """A number for numbers and for text that starts with one (`85.1 ± 0.6`), else the text."""
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, (int, float)):
        return "" if math.isnan(value) else float(value)
    try:
        return float(str(value).split(" ")[0])
    except ValueError:
        return str(value)
