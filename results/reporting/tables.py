"""The comparison table of a sweep: every setting's last stage, at every training budget, over seeds."""

from __future__ import annotations

from typing import Any

import pandas as pd

from ppodd.words import together, wrapped
from results.analysis import (
    KINDS,
    OF_FULL_DATA,
    OVER_RANDOM,
    beside,
    chosen_steps,
    facts,
    few_seeds,
    last_stages,
    note,
    one_or_range,
    over_seeds,
    remarks,
    settings,
    trial_keys,
)

# Columns that a narrow terminal does without, the first of them first; then training budgets, but for the largest;
# then the last ones.
_SPARE = (
    *("balanced", "p_exact", "p", "nets", "meta_steps", "cumulative_ipc", "of_full_data_pct"),
    *("evaluation steps", "cumulative IPC"),  # of a dry run's budgets
)
_LAST_SPARE = ("of full data", "validation")
_BASELINES = {OVER_RANDOM: ("over random", "{:+.1f}"), OF_FULL_DATA: ("of full data", "{:.0f} %")}


def table(frame: pd.DataFrame) -> pd.DataFrame:
    """A row per setting, mode and architecture; a column per training budget with mean ± std over seeds (percent).

    `validation` is the stage accuracy of the last stage, which choices are made by: on held-out training images, but
    where `leaks` says that it was on the test set. `balanced` is there where classes of the test set are
    of unequal size: the mean over classes at the largest budget.

    Trials without their last stage are no results: a column `unfinished` counts them, and a setting that has no others
    is a row without numbers. `notes` says what must stand beside the table.
    """
    if frame.empty:
        return pd.DataFrame(columns=["setting"])
    rows = frame.assign(poster_ipc=frame["poster_ipc"].round(4), cumulative_ipc=frame["cumulative_ipc"].round(4))
    last = last_stages(rows)
    keys = [*settings(rows), *KINDS, "poster_ipc"]
    cells = over_seeds(last, [*keys, "cumulative_ipc", "steps"])
    chosen_by = over_seeds(last.assign(accuracy_pct=last["stage_accuracy_pct"]), [*keys, "cumulative_ipc"])
    chosen_by["validation"] = list(map(mean_std, chosen_by["accuracy_pct"], chosen_by["std_pct"]))
    cells = cells.merge(chosen_by[[*keys, "cumulative_ipc", "validation"]], on=[*keys, "cumulative_ipc"])
    balanced = _balanced(last, [*keys, "cumulative_ipc", "steps"])
    cells = cells.merge(balanced, on=[*keys, "cumulative_ipc", "steps"], how="left")
    budgets = [f"{steps} steps" for steps in sorted(rows["steps"].unique())]
    done = [
        _row(dict(zip([*keys, "cumulative_ipc"], values, strict=True)), group)
        for values, group in cells.groupby([*keys, "cumulative_ipc"], sort=True, dropna=False)
    ]
    imbalanced = ["balanced"] if len(balanced) else []
    columns = [*keys, "cumulative_ipc", "seeds", "nets", "validation", *budgets, *imbalanced]
    out = pd.DataFrame(done, columns=columns)
    if len(waiting := _waiting(rows, last, keys)):
        out = out.merge(waiting, on=keys, how="outer")
        counts = out[["seeds", "unfinished"]].astype("float64")  # which has a place for what the merge left open
        out = out.assign(**counts.fillna(0).astype("int64"))
    out = out.fillna(dict.fromkeys(["validation", *budgets, *imbalanced], ""))
    out = _with_baselines(out, last, [*keys, "cumulative_ipc"])
    if rows["leaks_test_set"].any():
        leaks = rows.groupby(keys, dropna=False)["leaks_test_set"].any().rename("leaks")
        out = out.merge(leaks.reset_index(), on=keys, how="left")
    return out.drop(columns=[name for name in KINDS if out[name].nunique() == 1])


def means(frame: pd.DataFrame) -> pd.DataFrame:
    """The table's numbers: a row per setting, kind of evaluation and training budget, of the last stage."""
    last = last_stages(frame.assign(poster_ipc=frame["poster_ipc"].round(4)))
    return over_seeds(last, [*settings(last), *KINDS, "poster_ipc", "steps"])


def _with_baselines(out: pd.DataFrame, last: pd.DataFrame, keys: list[str]) -> pd.DataFrame:
    """What each setting has over random real images, and of what the whole training set gives, where that is known."""
    found = beside(chosen_steps(last, None) if len(last) else last, keys)
    out = out.merge(found, on=keys, how="left")
    for name, (heading, form) in _BASELINES.items():
        if name in out:
            out[heading] = ["–" if pd.isna(value) else form.format(value) for value in out.pop(name)]
    return out


def notes(frame: pd.DataFrame) -> list[str]:
    """What must stand beside the table of these rows."""
    last = last_stages(frame)
    if last.empty:
        return remarks(frame)
    few = few_seeds(over_seeds(last, [*settings(last), *KINDS, "poster_ipc", "steps"])["seeds"])
    data = f"test accuracy on {one_or_range(last['dataset'])} in percent, of the last stage, mean ± std over seeds"
    at = chosen_steps(last, None)
    return ["; ".join([data, *facts(last)]), *note(at, int(at["steps"].iloc[0])), *few, *remarks(frame)]


def _row(setting: dict[str, Any], cells: pd.DataFrame) -> dict[str, Any]:
    shown = [mean_std(m, s) for m, s in zip(cells["accuracy_pct"], cells["std_pct"], strict=True)]
    at = {f"{steps} steps": text for steps, text in zip(cells["steps"], shown, strict=True)}
    counts = {"seeds": _one_or_range(cells["seeds"]), "nets": int(cells["nets"].max())}
    return {
        **setting,
        **counts,
        "validation": cells["validation"].iloc[0],
        **at,
        "balanced": cells["balanced"].iloc[-1],
    }


def _balanced(last: pd.DataFrame, keys: list[str]) -> pd.DataFrame:
    """The balanced accuracies, `mean ± std` over seeds, of those rows that have one."""
    rows = last if "balanced_pct" in last else last.assign(balanced_pct=float("nan"))  # of an earlier version
    rows = rows.dropna(subset="balanced_pct")
    cells = over_seeds(rows.assign(accuracy_pct=rows["balanced_pct"]), keys)
    cells["balanced"] = pd.Series(map(mean_std, cells["accuracy_pct"], cells["std_pct"]), dtype="object")
    return cells[[*keys, "balanced"]]


def _waiting(rows: pd.DataFrame, last: pd.DataFrame, keys: list[str]) -> pd.DataFrame:
    """How many trials of each setting have no last stage."""
    behind = rows[~trial_keys(rows).isin(trial_keys(last))].drop_duplicates([*keys, "sweep", "trial"])
    return behind.groupby(keys, dropna=False).size().rename("unfinished").reset_index()


def _one_or_range(counts: pd.Series) -> int | str:
    low, high = int(counts.min()), int(counts.max())
    return low if low == high else f"{low}–{high}"


def mean_std(mean: float, std: float) -> str:
    """`mean ± std` in percent; the mean alone where one seed gives no std (NaN)."""
    return f"{mean:.1f}" + (f" ± {std:.1f}" if pd.notna(std) else "")


def as_text(table: pd.DataFrame, width: int | None = None, markdown: bool = False) -> str:
    """The table as aligned text, or as a Markdown table.

    Where its lines are longer than `width`, what is the same in every row is said once above it; then columns that say
    least are left out, and named below it; where that does not help, each row is a paragraph.
    """
    if markdown:
        head, *rows = _aligned(table)
        rule = [f"{'-' * (len(cell) - 1)}:" if len(cell) > 1 else "-" for cell in head]
        return "\n".join(f"| {' | '.join(line)} |" for line in [head, rule, *rows])
    if width is None or len(_lines(table)[0]) <= width:
        return "\n".join(_lines(table))
    same = [name for name in table.columns if len(table) > 1 and table[name].map(str).nunique() == 1]
    rest = table.drop(columns=same)
    said = [_paragraph(_named(table[same].iloc[:1])[0], width, "in every row: ")] if same else []
    if len(rest.columns) and len(_lines(rest)[0]) <= width:
        return "\n".join([*said, *_lines(rest)])
    if len((few := _fewer(rest, width)).columns):
        left_out = [str(name) for name in rest.columns if name not in few]
        return "\n".join([*said, *_lines(few), _paragraph(left_out, width, "for want of room without ")])
    return "\n".join([*said, *(_paragraph(row, width) for row in _named(rest))])


def _fewer(table: pd.DataFrame, width: int) -> pd.DataFrame:
    """The table without the spare columns that it takes to fit; without any column where that is not enough."""
    budgets = [name for name in table.columns if str(name).endswith(" steps")]
    for name in (*_SPARE, *budgets[:-1], *_LAST_SPARE):
        table = table.drop(columns=[name], errors="ignore")
        if len(_lines(table)[0]) <= width:
            return table
    return table.iloc[:, :0]


def _aligned(table: pd.DataFrame) -> list[list[str]]:
    """The headings and the rows, the cells of a column equally wide."""
    columns = [[str(name), *as_cells(table[name])] for name in table.columns]
    widths = [max(map(len, column)) for column in columns]
    padded = [[cell.rjust(width) for cell in column] for column, width in zip(columns, widths, strict=True)]
    return [list(row) for row in zip(*padded, strict=True)]


def _lines(table: pd.DataFrame) -> list[str]:
    head, *rows = _aligned(table)
    return ["  ".join(line) for line in [head, ["─" * len(cell) for cell in head], *rows]]


def _named(table: pd.DataFrame) -> list[list[str]]:
    """Each row as `name value`."""
    cells = zip(*(as_cells(table[name]) for name in table.columns), strict=True)
    return [[f"{name} {cell}" for name, cell in zip(table.columns, row, strict=True) if cell] for row in cells]


def _paragraph(items: list[str], width: int, begins: str = "") -> str:
    """The items one after another, broken between them."""
    return wrapped(begins + ", ".join(map(together, items)), width, indent="    ")


def as_cells(column: pd.Series) -> list[str]:
    """Percentages to a tenth, other fractions to three digits, what is missing as a dash."""
    if not pd.api.types.is_float_dtype(column):
        return [str(value) for value in column]
    percent = str(column.name).endswith("_pct")
    formats = [".1f" if percent else ".0f" if value % 1 == 0 or value > 999 else ".3g" for value in column]
    return ["–" if pd.isna(value) else f"{value:{form}}" for value, form in zip(column, formats, strict=True)]
