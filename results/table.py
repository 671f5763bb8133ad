"""The comparison table of a sweep: every setting's last stage, at every training budget, over seeds."""

from __future__ import annotations

import pandas as pd

from results.frame import KINDS, last_stages, over_seeds, settings


def table(frame: pd.DataFrame) -> pd.DataFrame:
    """A row per setting, mode and architecture; a column per training budget with mean ± std over seeds (percent).

    `results.frame.remarks` says what must stand beside it.
    """
    last = last_stages(frame)
    if last.empty:
        return pd.DataFrame(columns=["setting"])
    last = last.assign(poster_ipc=last["poster_ipc"].round(4), cumulative_ipc=last["cumulative_ipc"].round(4))
    keys = [*settings(last), *KINDS, "poster_ipc", "cumulative_ipc"]
    cells = over_seeds(last, [*keys, "steps"])
    cells["shown"] = [mean_std(m, s) for m, s in zip(cells["accuracy_pct"], cells["std_pct"], strict=True)]
    rows = []
    for values, group in cells.groupby(keys, sort=True, dropna=False):
        row = dict(zip(keys, values, strict=True))
        row["seeds"], row["nets"] = _one_or_range(group["seeds"]), int(group["nets"].max())
        at = zip(group["steps"], group["shown"], strict=True)
        rows.append(row | {f"{steps} steps": shown for steps, shown in at})
    budgets = [f"{steps} steps" for steps in sorted(cells["steps"].unique())]
    out = pd.DataFrame(rows)[[*keys, "seeds", "nets", *budgets]].fillna(dict.fromkeys(budgets, ""))
    if last["leaks_test_set"].any():
        out["leaks"] = last.groupby(keys, sort=True, dropna=False)["leaks_test_set"].any().to_numpy()
    return out.drop(columns=[name for name in KINDS if out[name].nunique() == 1])


def _one_or_range(counts: pd.Series) -> int | str:
    low, high = int(counts.min()), int(counts.max())
    return low if low == high else f"{low}–{high}"


def mean_std(mean: float, std: float) -> str:
    """`mean ± std` in percent; the mean alone where one seed gives no std (NaN)."""
    return f"{mean:.1f}" + (f" ± {std:.1f}" if pd.notna(std) else "")


def as_text(table: pd.DataFrame, markdown: bool = False) -> str:
    """The table as aligned text, or as a Markdown table."""
    cells = [
        [str(name) for name in table.columns],
        *zip(*(as_cells(table[name]) for name in table.columns), strict=True),
    ]
    widths = [max(len(row[i]) for row in cells) for i in range(len(cells[0]))]
    lines = [[cell.rjust(width) for cell, width in zip(row, widths, strict=True)] for row in cells]
    if markdown:
        rule = [f"{'-' * (width - 1)}:" if width > 1 else "-" for width in widths]
        return "\n".join(f"| {' | '.join(line)} |" for line in [lines[0], rule, *lines[1:]])
    rule = ["─" * width for width in widths]
    return "\n".join("  ".join(line) for line in [lines[0], rule, *lines[1:]])


def as_cells(column: pd.Series) -> list[str]:
    """Percentages to a tenth, other fractions to three digits, what is missing as a dash."""
    if not pd.api.types.is_float_dtype(column):
        return [str(value) for value in column]
    percent = str(column.name).endswith("_pct")
    formats = [".1f" if percent else ".0f" if value % 1 == 0 or value > 999 else ".3g" for value in column]
    return ["–" if pd.isna(value) else f"{value:{form}}" for value, form in zip(column, formats, strict=True)]
