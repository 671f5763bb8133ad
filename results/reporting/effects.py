"""What each varied setting does at one equal budget, in tables and in words."""

from __future__ import annotations

from typing import Any, NamedTuple

import pandas as pd

from ppodd.errors import BadInput
from results.analysis import BUDGETS, ENOUGH_SEEDS, NOT_SETTINGS, OVERALL, compare, kinds, main_protocol, settings
from results.reporting.grid import Grid, grid

_BUDGET_NAMES = {
    "poster_ipc": "poster IPC",
    "cumulative_ipc": "cumulative IPC",
    "meta_steps": "meta-steps",
    "seconds": "seconds",
}
_EFFECTS = 6  # fields whose effect is shown
_SAID = 12  # pairs that are put into words
_SHORT = 4  # of these in one sentence
_ROWS = 2000  # differences in a table


class Effect(NamedTuple):
    """What a field does at one equal budget: in short, a sentence a pair, the table, the tests, what to say beside."""

    by: str
    at: str
    real: str
    short: str
    sentences: list[str]
    cells: Grid
    pairs: Grid
    notes: list[str]


def effects(frame: pd.DataFrame, steps: int | None) -> list[Effect]:
    """What each varied setting does, at equal pixels and at equal compute."""
    rows = main_protocol(frame)
    fields = [name for name in settings(rows) if name not in NOT_SETTINGS][:_EFFECTS]
    found = [_effect(rows, name, at, steps) for name in fields for at in BUDGETS]
    found += [_effect(frame, name, "poster_ipc", steps) for name in kinds(frame)]
    return [effect for effect in found if effect]


def _effect(rows: pd.DataFrame, by: str, at: str, steps: int | None) -> Effect | None:
    try:
        found = compare(rows, by, at, steps)
    except BadInput:  # nothing finished, or one value left at this budget
        return None
    summed = found.overall if len(found.overall) else found.pairs
    said = [_pair_sentence(pair, by, at) for pair in summed.to_dict("records")] if len(summed) <= _SAID else []
    pairs, notes = _most_telling(found.pairs, by, at)
    shown = pairs.rename(columns={"a": by, "b": "minus"})
    told = int(summed["verdict"].isin(("higher", "lower")).sum())
    real = _in_numbers(told, len(summed), len(_tested(summed)))
    short = in_short(summed, by)
    return Effect(by, _BUDGET_NAMES[at], real, short, said, grid(found.table), grid(shown), [*found.notes, *notes])


def _most_telling(pairs: pd.DataFrame, by: str, at: str) -> tuple[pd.DataFrame, list[str]]:
    """The pairs that a page has room for, and what must be said of the others: of 300 values there are 45,000."""
    if len(pairs) <= _ROWS:
        return pairs, []
    shown = pairs.sort_values("p_holm", kind="stable").head(_ROWS).sort_index()
    rest = f"`ppodd results compare --by {by} --at {at} -o FILE` writes all"
    return shown, [f"shown are the {_ROWS:,} of {len(pairs):,} differences that have the least p; {rest}"]


def _tested(pairs: pd.DataFrame) -> pd.DataFrame:
    """The pairs of enough shared seeds for a test."""
    return pairs[pairs["seeds"] >= ENOUGH_SEEDS]


def _in_numbers(told: int, pairs: int, tested: int) -> str:
    if not tested:
        return f"too few shared seeds to test {'it' if pairs == 1 else 'them'}"
    if pairs > 1:
        return f"{told} of {pairs} differences shown to be real"
    return "a real difference" if told else "no difference shown"


def in_short(pairs: pd.DataFrame, by: str) -> str:
    """Such as "blend: latest above uniform by 9.1 points (p 0.012); 2 other differences not shown to be real."."""
    told = pairs[pairs["verdict"].isin(("higher", "lower"))]
    above = []
    for pair in told.head(_SHORT).to_dict("records"):
        high, low = (pair["a"], pair["b"]) if pair["difference_pct"] > 0 else (pair["b"], pair["a"])
        above.append(f"{high} above {low} by {abs(pair['difference_pct']):.1f} points (p {pair['p_holm']:.2g})")
    above += [f"{len(told) - _SHORT} more such"] if len(told) > _SHORT else []
    rest = len(pairs) - len(told)
    if not len(_tested(pairs)):
        return f"{by}: no difference could be tested (fewer than {ENOUGH_SEEDS} shared seeds)."
    if told.empty:
        return f"{by}: no difference shown to be real ({len(_tested(pairs))} tested)."
    return f"{by}: {'; '.join(above)}" + (f"; {rest} of {len(pairs)} not shown to be real." if rest else ".")


def _pair_sentence(pair: dict[Any, Any], by: str, at: str) -> str:
    value = pair[at]
    if isinstance(value, str):  # rows taken together
        where = f"over {value} rows" if value != OVERALL else "over all rows"
    else:
        where = f"at {_BUDGET_NAMES[at]} {value:.3g}"
    return f"{by} {pair['a']} against {pair['b']}, {where}: {_pair_words(pair)}"


def _pair_words(pair: dict[Any, Any]) -> str:
    if not pair["seeds"]:
        return "no shared seed"
    if pair["seeds"] < ENOUGH_SEEDS:
        return f"{pair['difference_pct']:+.1f} points, {pair['verdict']}"
    real = "real" if pair["verdict"] in ("higher", "lower") else "not shown to be real"
    interval = f"{pair['low_pct']:.1f} to {pair['high_pct']:.1f}"
    return f"{pair['difference_pct']:+.1f} points ({interval}, p {pair['p_holm']:.3g}, n {pair['seeds']}): {real}"
