"""A published table with what was measured beside it."""

from __future__ import annotations

from typing import NamedTuple

import pandas as pd

from ppodd.config import P_PODD
from ppodd.errors import BadInput
from results.analysis import (
    DATASET,
    META_STEPS,
    PODD_CURVE,
    PODD_META_STEPS,
    STEPS,
    Published,
    Row,
    chosen_steps,
    few_seeds,
    kinds,
    last_stages,
    one_or_range,
    over_seeds,
    remarks,
    settings,
)

_NEAR_IPC = 0.04  # posters of 0.896 stand for the published 0.9
_LEFT_OUT = ("poster_width", "poster_height", "num_stages", "blend", "blend_boost")


class PublishedComparison(NamedTuple):
    """Published and measured accuracies, and what must be said beside them."""

    table: pd.DataFrame
    notes: list[str]


def beside(frame: pd.DataFrame, published: Published, steps: int | None = None) -> PublishedComparison:
    """A row per published number and measured setting that stands for it; dashes where nothing was measured yet.

    Raises:
        BadInput: nothing measured stands for any row, or settings vary that the published table does not speak of.
    """
    frame = frame[frame["method"] == P_PODD] if "method" in frame else frame
    rows = chosen_steps(last_stages(frame), steps)
    _require_one_setting(rows, published)
    found = [line for row in published.rows for line in _lines(row, rows, published.x)]
    table = pd.DataFrame(found)
    if table["seeds"].sum() == 0:
        example = f"ppodd sweep examples/paper-{published.name}.yaml"
        raise BadInput(f"no trial here stands for a row of the table {published.name!r}: run `{example}` first")
    return PublishedComparison(table, _notes(frame, rows, table, published))


def _require_one_setting(rows: pd.DataFrame, published: Published) -> None:
    extra = [name for name in (*settings(rows), *kinds(rows)) if name not in (*_LEFT_OUT, published.x)]
    if published.x != "poster_ipc":
        extra += ["poster_ipc"] if rows["poster_ipc"].round(2).nunique() > 1 else []
    asked = {name for row in published.rows for name in row.at}
    extra += [n for n in ("num_stages", "blend_boost") if n not in asked and rows[n].nunique() > 1]
    for name in extra:
        there = ", ".join(map(str, sorted(rows[name].unique())))
        raise BadInput(
            f"{name} varies ({there}), but the table {published.name!r} is of one value: choose with --where {name}=… "
            f"or --sweep"
        )


def _lines(row: Row, rows: pd.DataFrame, x: str) -> list[dict[str, object]]:
    for name, value in row.at.items():
        if name == "poster_ipc":
            rows = rows[(rows[name] - value).abs() <= _NEAR_IPC]
        else:
            rows = rows[rows[name].isin(value if isinstance(value, tuple) else (value,))]
    known = {"method": row.method, **({x: row.at[x]} if x != "blend" else {}), "published_pct": row.accuracy_pct}
    if rows.empty:
        nothing = {"blend": "–", "accuracy_pct": float("nan"), "std_pct": float("nan"), "seeds": 0}
        return [{**known, **nothing, "low_pct": float("nan"), "high_pct": float("nan"), "leaks": False}]
    leaks = rows.groupby("blend")["leaks_test_set"].any()
    shown = ("blend", "accuracy_pct", "std_pct", "seeds", "low_pct", "high_pct")
    cells = over_seeds(rows, ["blend"]).to_dict("records")
    return [{**known, **{name: cell[name] for name in shown}, "leaks": bool(leaks[cell["blend"]])} for cell in cells]


def _notes(frame: pd.DataFrame, rows: pd.DataFrame, table: pd.DataFrame, published: Published) -> list[str]:
    dataset = ", ".join(sorted(set(rows["dataset"].map(str))))
    notes = [
        f"measured: {dataset}, {int(rows['steps'].iloc[0])} training steps, mean, std and 95% interval over seeds; "
        f"published: {published.source}, {STEPS} training steps"
    ]
    if published.x == "poster_ipc":
        own = ", ".join(f"{accuracy} at {ipc:g} IPC" for ipc, accuracy in PODD_CURVE.items())
        notes.append(
            f"PoDD's own paper: {own}, after {PODD_META_STEPS:,} meta-steps where this table's took {META_STEPS:,}"
        )
    if dataset != DATASET or rows["meta_steps"].max() < META_STEPS:
        notes.append(
            f"SCALED DOWN: {one_or_range(rows['meta_steps'])} meta-steps on {dataset}, networks of width "
            f"{one_or_range(rows['width'])}; published: {META_STEPS} meta-steps on {DATASET}"
        )
    if dataset != DATASET:
        notes.append(f"measured on {dataset}, published on {DATASET}: compare the direction, not the numbers")
    notes += few_seeds(table["seeds"])
    if missing := int((table["seeds"] == 0).sum()):
        notes.append(f"{missing} published rows have nothing measured beside them yet")
    if table["leaks"].any():
        notes.append("rows that leak chose weights or posters by test accuracy, as the published runs did")
    return [*notes, *remarks(frame)]
