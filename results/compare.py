"""Settings side by side at equal budgets: mean ± std over seeds."""

from __future__ import annotations

from typing import NamedTuple

import pandas as pd

from ppodd.errors import BadInput, unknown
from results.frame import KINDS, MEASURED, SIZE, chosen_steps, kinds, last_stages, over_seeds, remarks, varied

BUDGETS = ("poster_ipc", "cumulative_ipc")
_SHOWN = 3  # notes of one kind
_EQUAL = 0.01  # budgets that differ by less than this share count as equal


class Comparison(NamedTuple):
    """The table of a comparison and what must be said beside it."""

    table: pd.DataFrame
    notes: list[str]


def compare(frame: pd.DataFrame, by: str, at: str = "poster_ipc", steps: int | None = None) -> Comparison:
    """Values of `by` side by side, at one budget `at` and one training budget; mean and std are over seeds alone.

    At equal poster IPC each trial's last stage counts; at equal cumulative IPC every stage does, so that few posters of
    many stages meet many posters of few. Other settings that vary have rows of their own, but for those that change
    along with `by` (such as a schedule set to fit `num_stages`): the notes name them.

    Args:
        by: a config field, or `mode`, `eval_arch`, `protocol` or `sweep`.
        at: the pixel budget, one of `BUDGETS`.
        steps: the training budget; by default the largest.

    Raises:
        BadInput: `by` or `at` is no field, nothing varies in `by`, or there are no results.
    """
    if at not in BUDGETS:
        raise unknown("budget", at, BUDGETS)
    fields = varied(frame)
    comparable = [name for name in frame.columns if name not in MEASURED or name in (*KINDS, "sweep")]
    if by not in comparable:
        raise unknown("field", by, [*fields, *kinds(frame), *(["sweep"] if frame["sweep"].nunique() > 1 else [])])
    rows = chosen_steps(frame if at == "cumulative_ipc" else last_stages(frame), steps)
    if rows[by].map(str).nunique() < 2:
        there = ", ".join([*fields, *kinds(rows)]) or "nothing"
        raise BadInput(f"{by} has one value, {rows[by].iloc[0]}: nothing to compare (varied here: {there})")
    rows = rows.assign(**{at: rows[at].round(4)})
    others = [name for name in (*fields, *kinds(rows)) if name not in (by, *SIZE)]
    size = [name for name in SIZE if name in fields]
    tied = [name for name in others if rows.groupby([by, *SIZE], dropna=False)[name].nunique(dropna=False).max() == 1]
    keys = [at, *(name for name in others if name not in tied)]
    # what is averaged is one setting: size, stage and tied fields keep cells of a row apart, whether shown or not
    stage = ["stage"] if at == "cumulative_ipc" else []
    cells = over_seeds(rows, [*keys, *(() if by in SIZE else (by,)), *size, *stage, *tied])
    first = [*keys, by]
    cells = cells[[*first, *(name for name in cells.columns if name not in first)]]
    cells = cells.sort_values([at, *(n for n in first if n != at)], key=_sortable, kind="stable", ignore_index=True)
    where = f"test accuracy in percent after {int(rows['steps'].iloc[0])} training steps"
    notes = [f"{where}, mean and std over seeds, at equal {at}", *_budgets(cells, keys, by, at), *_seeds(cells)]
    notes += _tied(cells, by, [name for name in tied if name in others])
    missing = set(frame["trial"]) - set(frame.loc[frame["steps"] == rows["steps"].iloc[0], "trial"])
    if missing:
        notes.append(f"{len(missing)} trials have no results at this training budget: name another with --steps")
    return Comparison(cells.drop(columns=_shown_elsewhere(cells, size, tied)), [*notes, *remarks(frame)])


def _sortable(column: pd.Series) -> pd.Series:
    return column.map(str) if column.dtype == object else column


def _shown_elsewhere(cells: pd.DataFrame, size: list[str], tied: list[str]) -> list[str]:
    """Columns that tell no more than the poster IPC does; of tied fields the notes speak."""
    groups = cells.groupby(cells["poster_ipc"].round(4))
    return [name for name in (*size, *tied) if name in tied or groups[name].nunique().max() == 1]


def _budgets(cells: pd.DataFrame, keys: list[str], by: str, at: str) -> list[str]:
    """Where the comparison misses a value of `by`, and where another budget is not equal."""
    missing: list[str] = []
    unequal: dict[str, list[str]] = {("cumulative_ipc" if at == "poster_ipc" else "poster_ipc"): [], "meta_steps": []}
    values = cells[by].map(str).nunique()
    for key, group in cells.groupby(keys, dropna=False):
        where = ", ".join(f"{k}={v}" for k, v in zip(keys, key, strict=True))
        there = list(dict.fromkeys(map(str, group[by])))
        if len(there) < values:
            missing.append(f"not every {by} was measured at {where}: only {', '.join(there)}")
        stages = [f" stage {stage}" for stage in group["stage"]] if "stage" in group else [""] * len(group)
        for other, notes in unequal.items():
            if len(there) > 1 and group[other].max() > (1 + _EQUAL) * group[other].min():
                digits = ".0f" if other == "meta_steps" else ".3f"
                each = zip(group[by], stages, group[other], strict=True)
                shown = ", ".join(f"{value}{stage}: {budget:{digits}}" for value, stage, budget in each)
                notes.append(f"at {where} the {other} is not equal ({shown}): a fair claim says so")
    return [line for notes in (missing, *unequal.values()) for line in _first(notes)]


def _first(notes: list[str]) -> list[str]:
    rest = len(notes) - _SHOWN
    return [*notes[:_SHOWN], *([f"… and so in {rest} more rows"] if rest > 0 else [])]


def _seeds(cells: pd.DataFrame) -> list[str]:
    if (cells["seeds"] == 1).all():
        return ["one seed: no spread can be given, and a difference may be chance"]
    if (cells["seeds"] == 1).any():
        return ["one seed in some rows: no spread can be given for them"]
    return []


def _tied(cells: pd.DataFrame, by: str, tied: list[str]) -> list[str]:
    """A line for every field that changes along with `by`, so that a difference may be due to either."""
    notes = []
    for name in tied:
        pairs = cells.groupby(by, sort=True)[name].unique()
        if pairs.map(str).nunique() > 1:
            shown = ", ".join(f"{value}: {'/'.join(map(str, there))}" for value, there in pairs.items())
            notes.append(f"{name} changes along with {by} ({shown}): a difference may be due to either")
    return notes
