"""Settings side by side at equal budgets: mean ± std over seeds."""

from __future__ import annotations

from typing import NamedTuple

import pandas as pd

from ppodd.errors import BadInput, unknown
from results.frame import chosen_steps, last_stages, varied

BUDGETS = ("poster_ipc", "cumulative_ipc")


class Comparison(NamedTuple):
    """The table of a comparison and what must be said beside it."""

    table: pd.DataFrame
    notes: list[str]


def compare(frame: pd.DataFrame, by: str, at: str = "poster_ipc", steps: int | None = None) -> Comparison:
    """Values of `by` side by side, each row at one budget `at` and one training budget.

    At equal poster IPC each trial's last stage counts; at equal cumulative IPC every stage does, so that few posters of
    many stages meet many posters of few. Other settings that vary have rows of their own.

    Raises:
        BadInput: `by` or `at` is no field, nothing varies in `by`, or there are no results.
    """
    if at not in BUDGETS:
        raise unknown("budget", at, BUDGETS)
    fields = varied(frame)
    if by not in frame.columns:
        raise unknown("field", by, fields)
    rows = chosen_steps(frame if at == "cumulative_ipc" else last_stages(frame), steps)
    if rows[by].nunique() < 2:
        raise BadInput(f"{by} has one value, {rows[by].iloc[0]}: nothing to compare (varied here: {', '.join(fields)})")
    rows = rows.assign(**{at: rows[at].round(4)})
    size = ("poster_width", "poster_height")
    others = [f for f in fields if f != by and f not in size and not (by == "num_stages" and f == "epochs")]
    keys = [at, *others, *(n for n in ("mode", "eval_arch", "protocol") if rows[n].nunique() > 1)]
    grouped = rows.groupby([*keys, by], dropna=False)
    cells = grouped.agg(
        accuracy_pct=("accuracy_pct", "mean"),
        std_pct=("accuracy_pct", "std"),
        seeds=("seed", "nunique"),
        nets=("nets", "max"),
        poster_ipc_=("poster_ipc", "mean"),
        cumulative_ipc_=("cumulative_ipc", "mean"),
        meta_steps=("meta_steps", "mean"),
    ).reset_index()
    other = "cumulative_ipc" if at == "poster_ipc" else "poster_ipc"
    cells = cells.rename(columns={f"{other}_": other}).drop(columns=f"{at}_")
    return Comparison(cells, _notes(cells, keys, by, at, other, int(rows["steps"].iloc[0]), rows))


def _notes(
    cells: pd.DataFrame, keys: list[str], by: str, at: str, other: str, steps: int, rows: pd.DataFrame
) -> list[str]:
    notes = [f"test accuracy in percent after {steps} training steps, mean and std over seeds, at equal {at}"]
    values = cells[by].nunique()
    for key, group in cells.groupby(keys, dropna=False):
        where = ", ".join(f"{k}={v}" for k, v in zip(keys, key, strict=True))
        if len(group) < values:
            notes.append(f"not every {by} was measured at {where}: only {', '.join(map(str, group[by]))}")
        elif group[other].round(4).nunique() > 1:
            budgets = ", ".join(f"{v}: {b:.3f}" for v, b in zip(group[by], group[other], strict=True))
            notes.append(f"at {where} the {other} is not equal ({budgets}): a fair claim names both budgets")
    if (cells["seeds"] == 1).any():
        notes.append("one seed in some rows: no spread can be given for them")
    if rows["leaks_test_set"].any():
        notes.append("rows of the blend 'released' LEAK the test set into training")
    return notes
