"""The comparison table of a sweep: every setting's last stage, at every training budget, over seeds."""

from __future__ import annotations

import pandas as pd

from results.frame import last_stages, varied


def table(frame: pd.DataFrame) -> pd.DataFrame:
    """A row per setting, mode and architecture; a column per training budget with mean ± std over seeds (percent)."""
    last = last_stages(frame)
    if last.empty:
        return pd.DataFrame(columns=["setting"])
    fields = [name for name in varied(frame) if name not in ("poster_width", "poster_height")]
    keys = [*fields, "mode", "eval_arch", "protocol", "poster_ipc", "cumulative_ipc"]
    rows = []
    for values, group in last.groupby(keys, sort=True, dropna=False):
        row = dict(zip(keys, values, strict=True))
        row["seeds"] = group["seed"].nunique()
        row["nets"] = int(group["nets"].max())
        for steps, at in group.groupby("steps"):
            row[f"{steps} steps"] = mean_std(at["accuracy_pct"])
        row["leaks"] = bool(group["leaks_test_set"].any())
        rows.append(row)
    out = pd.DataFrame(rows)
    drop = [name for name in ("mode", "eval_arch", "protocol") if out[name].nunique() == 1]
    if not out["leaks"].any():
        drop.append("leaks")
    return out.drop(columns=drop)


def mean_std(values: pd.Series) -> str:
    """`mean ± std` over seeds; the mean alone for one seed."""
    return f"{values.mean():.1f}" + (f" ± {values.std():.1f}" if len(values) > 1 else "")


def as_text(table: pd.DataFrame) -> str:
    """The table as aligned text."""
    shown = table.copy()
    for name in shown.columns:
        if pd.api.types.is_float_dtype(shown[name]):
            shown[name] = shown[name].map(lambda v: f"{v:.3f}" if abs(v) < 10 else f"{v:.1f}")
    cells = [[str(name) for name in shown.columns], *shown.astype(str).values.tolist()]
    widths = [max(len(row[i]) for row in cells) for i in range(len(cells[0]))]
    lines = ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in cells]
    return "\n".join([lines[0], "  ".join("─" * width for width in widths), *lines[1:]])
