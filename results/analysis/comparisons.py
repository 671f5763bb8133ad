"""Settings side by side at an equal budget: mean, std and interval over seeds, and whether they differ."""

from __future__ import annotations

import functools
import html
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from ppodd.config import LATER_STAGES
from ppodd.errors import BadInput, unknown
from ppodd.words import counted
from results.analysis.baselines import beside, is_reference, note, references
from results.analysis.protocol_text import facts, one_or_range
from results.analysis.statistics import ALPHA, ENOUGH_SEEDS, PairedColumns, alike, few_seeds, holm, paired_columns
from results.analysis.tidy_frame import (
    KINDS,
    MEASURED,
    SIZE,
    by_seed,
    chosen_steps,
    kinds,
    last_stages,
    over_seeds,
    remarks,
    timed,
    trial_keys,
    varied,
)

BUDGETS = ("poster_ipc", "cumulative_ipc", "meta_steps", "seconds")
_SHOWN = 3  # notes of one kind
_EQUAL = 0.01  # budgets that differ by less than this share count as equal
_EQUAL_SECONDS = 0.1  # wall time, which no two runs share exactly
_MEASURED = ("difference_pct", "low_pct", "high_pct", "p", "p_exact", "seeds")
_PAIR = ("difference_pct", "low_pct", "high_pct", "seeds", "verdict", "p_holm", "p", "p_exact")
OVERALL = "all of these"


class Comparison(NamedTuple):
    """The result of a comparison.

    Attributes:
        table: means over seeds.
        pairs: paired differences at every budget and other setting, `overall` over all of these together (empty where
            there is but one).
        notes: what must be said beside them.
    """

    table: pd.DataFrame
    pairs: pd.DataFrame
    overall: pd.DataFrame
    notes: list[str]

    def _repr_html_(self) -> str:
        tables = [table.round(2).to_html(index=False) for table in (self.table, self.pairs, self.overall) if len(table)]
        return "".join([*tables, *(f"<p>{html.escape(note)}</p>" for note in self.notes)])


class _ComparisonPlan(NamedTuple):
    """What is held equal (`keys`), what keeps cells of one row of it apart (`apart`), and what goes along with `by`."""

    by: str
    at: str
    keys: list[str]
    apart: list[str]
    size: list[str]
    tied: list[str]


def compare(
    frame: pd.DataFrame, by: str, at: str = "poster_ipc", steps: int | None = None, against: str | None = None
) -> Comparison:
    """Values of `by` side by side, at one budget `at` and one training budget; mean, std, interval are over seeds.

    At equal poster IPC each trial's last stage counts. At equal cumulative IPC or equal meta-steps every stage does, so
    that few posters of many stages meet many posters of few. At equal seconds each setting counts with the last stage
    that it had finished when the quickest was done. Other settings that vary have rows of their own, but for those that
    change along with `by` (such as a schedule set to fit `num_stages`): the notes name them.

    Differences are paired over shared seeds: all pairs, or every value against one.

    Args:
        by: a config field, or `mode`, `eval_arch`, `protocol` or `sweep`.
        at: the budget, one of `BUDGETS`.
        steps: the training budget; by default the largest of those that most trials have.
        against: the value of `by` to compare the others with.

    Raises:
        BadInput: `by`, `at` or `against` is not there, nothing varies in `by`, or there are no results.
    """
    if at not in BUDGETS:
        raise unknown("budget", at, BUDGETS)
    _require_field(frame, by)
    whole, frame = frame, frame[~is_reference(frame)]
    frame = timed(frame) if at == "seconds" else frame
    rows = chosen_steps(last_stages(frame) if at == "poster_ipc" else frame, steps)
    _require_values(rows, by, against)
    plan, rows = _plan(rows, by, at)
    stages = rows.groupby(plan.keys, dropna=False)["stage"].transform("max")
    alike = (stages == 1) & (by in LATER_STAGES)
    if alike.all():
        raise BadInput(f"{by} plays no part in a first stage, and there are no others here: nothing to compare")
    rows = rows[~alike]
    _require_values(rows, by, against)
    every = [*plan.keys, *(() if by in SIZE else (by,)), *plan.apart]
    cells = over_seeds(rows, every)
    cells = cells.merge(beside(rows, every), on=every)
    first = [*plan.keys, by]
    cells = cells[[*first, *(name for name in cells.columns if name not in first)]]
    cells = cells.sort_values([at, *(n for n in first if n != at)], key=_sortable, kind="stable", ignore_index=True)
    pairs, overall = _pairs(by_seed(rows, every), plan, against)
    data = f"test accuracy on {one_or_range(rows['dataset'])} in percent after {int(rows['steps'].iloc[0])}"
    head = f"{data} training steps, mean and std over seeds, at equal {at}"
    after = int(rows["steps"].iloc[0])
    notes = ["; ".join([head, *facts(rows)]), *note(rows, after), *_budgets(cells, plan), *few_seeds(cells["seeds"])]
    if known := references(whole[whole["steps"] == after]):
        shown = ", ".join(f"{name} ({accuracy:.1f})" for name, accuracy in known.items())
        notes.append(f"left out, being of no pixel budget: {shown}")
    if untimed := trial_keys(whole[~is_reference(whole)]).nunique() - trial_keys(frame).nunique():
        notes.append(f"left out: {counted(untimed, 'trial')} of unknown seconds (imported posters)")
    if alike.any():
        notes.append(f"left out: first stages beside each other, in which {by} plays no part")
    notes += _tied(cells, by, [name for name in plan.tied if name not in plan.size])
    if missing := _unmeasured(frame, rows):
        notes.append(f"{counted(missing, 'trial')} without results at this training budget: name another with --steps")
    notes += _test_notes(pairs)
    return Comparison(cells.drop(columns=_shown_elsewhere(cells, plan)), pairs, overall, [*notes, *remarks(whole)])


def _require_field(frame: pd.DataFrame, by: str) -> None:
    comparable = [name for name in frame.columns if name not in MEASURED or name in (*KINDS, "sweep")]
    if by not in comparable:
        sweeps = ["sweep"] if frame["sweep"].nunique() > 1 else []
        there = [*varied(frame), *kinds(frame), *sweeps]
        raise unknown("field", by, there) if there else BadInput(f"--by {by}: no field varies here: nothing to compare")


def _require_values(rows: pd.DataFrame, by: str, against: str | None) -> None:
    values = list(dict.fromkeys(rows[by].map(str)))
    if len(values) < 2:
        there = ", ".join([*varied(rows), *kinds(rows)]) or "nothing"
        raise BadInput(
            f"{by} has one value at {rows['steps'].iloc[0]} training steps, {rows[by].iloc[0]}: nothing to compare "
            f"(varied there: {there})"
        )
    if against is not None and against not in values:
        raise unknown(f"value of {by}", against, values)


def _plan(rows: pd.DataFrame, by: str, at: str) -> tuple[_ComparisonPlan, pd.DataFrame]:
    """How the rows are grouped; the rows come back with the budget rounded, or cut to it."""
    fields = varied(rows)
    others = [name for name in (*fields, *kinds(rows)) if name not in (by, *SIZE)]
    size = [name for name in SIZE if name in fields]
    along = rows.groupby([by, *SIZE], dropna=False)
    tied = [name for name in others if along[name].nunique(dropna=False).max() == 1]
    # equal compute means little unless the posters are of one size too
    ipc = ["poster_ipc"] if at in ("meta_steps", "seconds") and rows["poster_ipc"].round(4).nunique() > 1 else []
    ipc = [] if by in SIZE else ipc
    keys = [at, *ipc, *(name for name in others if name not in tied)]
    rows = rows.assign(**{name: rows[name].round(4) for name in ("poster_ipc", "cumulative_ipc") if name in keys})
    if at == "seconds":
        rows = _within_seconds(rows, by, keys[1:])
    stage = [] if at == "poster_ipc" else ["stage"]
    # what is averaged is one setting: size, stage and tied fields keep cells of a row apart, whether shown or not
    return _ComparisonPlan(by, at, keys, [*size, *stage, *tied], size, tied), rows


def _within_seconds(rows: pd.DataFrame, by: str, keys: list[str]) -> pd.DataFrame:
    """Each setting's last stage that was finished in the mean time of the quickest value of `by`; a column says it.

    By the setting's mean over its trials, those that have finished all stages: were it each trial's own time, a cell
    would mix stages by chance.
    """
    setting = list(dict.fromkeys([by, "num_stages", *varied(rows), *kinds(rows)]))
    rows = rows[trial_keys(rows).isin(trial_keys(last_stages(rows)))]
    mean = rows.groupby([*setting, "stage"], dropna=False)["distill_seconds"].transform("mean")
    rows = rows.assign(_mean_seconds=mean)
    found = []
    for _, group in rows.groupby(keys, dropna=False) if keys else [((), rows)]:
        whole = last_stages(group)
        if whole.empty:
            continue
        limit = float(whole.groupby(by)["distill_seconds"].mean().min())
        inside = group[group["_mean_seconds"] <= limit * (1 + _EQUAL_SECONDS)]
        latest = inside[inside["stage"] == inside.groupby(setting, dropna=False)["stage"].transform("max")]
        found.append(latest.drop(columns="_mean_seconds").assign(seconds=round(limit, 1)))
    if not found:
        raise BadInput("no trial has finished its last stage yet: equal seconds are those of the quickest setting")
    return pd.concat(found, ignore_index=True)


def _sortable(column: pd.Series) -> pd.Series:
    return column.map(str) if column.dtype == object else column


def _shown_elsewhere(cells: pd.DataFrame, plan: _ComparisonPlan) -> list[str]:
    """Columns that tell no more than the poster IPC does; of tied fields the notes speak."""
    groups = cells.groupby(cells["poster_ipc"].round(4))
    hidden = [n for n in (*plan.size, *plan.tied) if n in plan.tied or groups[n].nunique().max() == 1]
    unused = [] if plan.at == "seconds" else ["distill_seconds"]
    return [name for name in (*hidden, *unused) if name != plan.by]


# Pairs


def _pairs(seeds: pd.DataFrame, plan: _ComparisonPlan, against: str | None) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Paired differences at every budget and other setting, then over all of these together."""
    by, found, together = plan.by, [], []
    values = list(dict.fromkeys(seeds[by].sort_values(key=_sortable).map(str)))
    for key, group in seeds.groupby(plan.keys, dropna=False):
        # where several stages of a value have one budget, its last counts: the one trained longest
        group = group.assign(**{by: group[by].map(str)}).sort_values("meta_steps", kind="stable")
        table = group.groupby([by, "seed"])["accuracy_pct"].last().unstack(by)
        table = table[[value for value in values if value in table]]
        a, b = _which(list(table.columns), against)
        of_all = table.to_numpy(float)
        found.append(_rows(list(table.columns), a, b, [key] * len(a), paired_columns(of_all[:, a], of_all[:, b])))
        together.append(table)
    return _corrected(found, plan), _overall(together, values, plan, against)


def _overall(tables: list[pd.DataFrame], values: list[str], plan: _ComparisonPlan, against: str | None) -> pd.DataFrame:
    """One row a pair: a seed's difference is its mean over the rows of the comparison, those that hold most seeds."""
    every = functools.reduce(pd.Index.union, (table.index for table in tables))
    cells = np.stack([table.reindex(index=every, columns=values).to_numpy(float) for table in tables])
    there = np.array([[value in table for value in values] for table in tables])
    a, b = _which(values, against)
    known = ~np.isnan(cells)
    both, paired_there = known[:, :, a] & known[:, :, b], there[:, a] & there[:, b]
    words = np.full(len(a), "", object)
    means = np.full((2, len(every), len(a)), np.nan)
    for told, pairs in alike(np.concatenate([both.reshape(-1, len(a)), paired_there])):
        seeds, rows = told[: -len(tables)].reshape(len(tables), -1), np.flatnonzero(told[-len(tables) :])
        fullest = max((seeds[row] for row in rows), key=np.count_nonzero, default=np.array([]))
        whole = [row for row in rows if (seeds[row] == fullest).all()]
        if len(whole) > 1 and fullest.any():
            words[pairs] = OVERALL if len(whole) == len(rows) else f"{len(whole)} of these {len(rows)}"
            for mean, side in zip(means, (a, b), strict=True):
                own = np.ix_(fullest, side[pairs])
                mean[np.ix_(fullest, pairs)] = sum(cells[row][own] for row in whole) / len(whole)
    kept = np.flatnonzero(words)
    keys = [(text,) * len(plan.keys) for text in words[kept]]
    return _corrected([_rows(values, a[kept], b[kept], keys, paired_columns(*means[:, :, kept]))], plan)


def _which(values: list[str], against: str | None) -> tuple[np.ndarray, np.ndarray]:
    """The pairs to compare, by the numbers of their values: all, or every value against one."""
    if against is None:
        first, second = np.triu_indices(len(values), 1)
        return second, first
    others = np.array([n for n, value in enumerate(values) if value != against and against in values], int)
    return others, np.full(len(others), values.index(against) if len(others) else 0)


def _rows(
    values: list[str], a: np.ndarray, b: np.ndarray, keys: list[tuple[Any, ...]], found: PairedColumns
) -> dict[str, Any]:
    """What was found of the pairs, and where (`keys`), by columns."""
    measured = zip(_MEASURED, found, strict=True)
    named = {"a": [values[n] for n in a], "b": [values[n] for n in b]}
    return {"keys": keys, **named, **dict(measured)}


def _corrected(found: list[dict[str, Any]], plan: _ComparisonPlan) -> pd.DataFrame:
    """The table of these rows; all its comparisons are corrected together."""
    keys, *named = ([value for rows in found for value in rows[name]] for name in ("keys", "a", "b"))
    where = {name: list(values) for name, values in zip(plan.keys, zip(*keys, strict=True), strict=False)}
    measured = {name: np.concatenate([rows[name] for rows in found]) for name in _MEASURED}
    columns = {**where, **dict(zip("ab", named, strict=True)), **measured}
    pairs = pd.DataFrame(columns, columns=[*plan.keys, "a", "b", *_PAIR])
    pairs = pairs.assign(p_holm=holm(pairs["p"].to_numpy(float)))
    told = zip(pairs["p_holm"], pairs["difference_pct"], pairs["seeds"], strict=True)
    return pairs.assign(verdict=[verdict(*values) for values in told])


def verdict(p_holm: float, difference: float, seeds: int) -> str:
    """The outcome of a pair, in words."""
    if seeds == 0:
        return "no shared seed"
    if seeds == 1:
        return "one seed: cannot tell"
    if seeds < ENOUGH_SEEDS:
        return f"{seeds} seeds: too few to tell"
    if p_holm < ALPHA:
        return "higher" if difference > 0 else "lower"
    return "not shown"


def _test_notes(pairs: pd.DataFrame) -> list[str]:
    tested = pairs["p"].notna().sum()
    if not tested:
        return ["no pair of values shares three seeds: no difference can be tested"]
    return [
        "differences are paired over shared seeds; p of the paired t-test, p_holm for all comparisons of the table "
        f"together (Holm), p_exact by sign flips; 'higher' or 'lower' below {ALPHA:.2f}"
    ]


# Notes


def _budgets(cells: pd.DataFrame, plan: _ComparisonPlan) -> list[str]:
    """Where the comparison misses a value of `by`, and where another budget is not equal."""
    by = plan.by
    missing: list[str] = []
    others = [name for name in ("cumulative_ipc", "poster_ipc", "meta_steps") if name != plan.at]
    unequal: dict[str, list[str]] = {name: [] for name in others}
    values = cells[by].map(str).nunique()
    for key, group in cells.groupby(plan.keys, dropna=False):
        where = ", ".join(f"{k}={v}" for k, v in zip(plan.keys, key, strict=True))
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


def _unmeasured(frame: pd.DataFrame, rows: pd.DataFrame) -> int:
    return len(set(trial_keys(frame)) - set(trial_keys(frame[frame["steps"] == rows["steps"].iloc[0]])))


def _first(notes: list[str]) -> list[str]:
    rest = len(notes) - _SHOWN
    return [*notes[:_SHOWN], *([f"… and so in {rest} more rows"] if rest > 0 else [])]


def _tied(cells: pd.DataFrame, by: str, tied: list[str]) -> list[str]:
    """A line for every field that changes along with `by`, so that a difference may be due to either."""
    notes = []
    for name in tied:
        pairs = cells.groupby(by, sort=True)[name].unique()
        if pairs.map(str).nunique() > 1:
            shown = ", ".join(f"{value}: {'/'.join(map(str, there))}" for value, there in pairs.items())
            notes.append(f"{name} changes along with {by} ({shown}): a difference may be due to either")
    return notes
