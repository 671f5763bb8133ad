"""What posters teach networks of other kinds: the accuracy of each setting's posters on each architecture."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import pandas as pd

from results.analysis import chosen_steps, label, last_stages, main_protocol, over_seeds, settings

_DEEPEST = 60  # percent of the accent's colour behind the best accuracy


class Cell(NamedTuple):
    """An accuracy: its text (`61.2 ± 0.8`, – where there is none), its seeds, and how deep its colour is (percent)."""

    text: str
    seeds: int
    depth: int


class HeatMap(NamedTuple):
    """Settings × architectures, with what must be said beside them. No rows where there is one architecture."""

    columns: list[str]
    rows: list[tuple[str, list[Cell]]]
    note: str


def heat_map(frame: pd.DataFrame, steps: int | None = None) -> HeatMap:
    """The last stages' accuracies on every network, in the mode and of the origin that most trials have."""
    main = main_protocol(frame)
    alike = frame[frame["mode"].isin(main["mode"]) & frame["origin"].isin(main["origin"])]
    rows = last_stages(alike)
    if rows.empty:
        return HeatMap([], [], "")
    rows = chosen_steps(rows, steps)
    columns = ["eval_arch", "protocol"]
    if len(rows.drop_duplicates(columns)) < 2:
        return HeatMap([], [], "")
    fields = [*settings(rows), *(["poster_ipc"] if rows["poster_ipc"].round(3).nunique() > 1 else [])]
    rows = rows.assign(poster_ipc=rows["poster_ipc"].round(3))
    named = [label(dict(zip(fields, values, strict=True))) for values in rows[fields].to_numpy(object)]
    cells = over_seeds(rows.assign(setting=named), ["setting", *columns])
    names = list(dict.fromkeys(zip(cells["eval_arch"], cells["protocol"], strict=True)))
    low, high = cells["accuracy_pct"].min(), cells["accuracy_pct"].max()
    found = {(c["setting"], c["eval_arch"], c["protocol"]): _cell(c, low, high) for c in cells.to_dict("records")}
    shown = [
        (setting, [found.get((setting, *name), Cell("–", 0, 0)) for name in names]) for setting in dict.fromkeys(named)
    ]
    mode, budget = rows["mode"].iloc[0], rows["steps"].iloc[0]
    note = f"Test accuracy in percent after {budget} training steps, mean ± std over seeds; trained on: {mode}."
    return HeatMap([f"{arch}, {departs}" if departs else arch for arch, departs in names], shown, note)


def _cell(cell: Mapping[Any, Any], low: float, high: float) -> Cell:
    mean, std = cell["accuracy_pct"], cell["std_pct"]
    text = f"{mean:.1f}" if math.isnan(std) else f"{mean:.1f} ± {std:.1f}"
    return Cell(text, int(cell["seeds"]), round(_DEEPEST * (mean - low) / (high - low)) if high > low else 0)
