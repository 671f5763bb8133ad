"""Accuracy against the pixel budget, as a picture."""

from __future__ import annotations

import itertools
import textwrap
from pathlib import Path
from typing import Any

import pandas as pd

from ppodd.errors import BadInput, unknown
from ppodd.files import atomic_path
from results.compare import BUDGETS
from results.frame import chosen_steps, kinds, last_stages, over_seeds, settings, varied

FORMATS = (".png", ".svg", ".pdf")
# Okabe and Ito's colours: told apart by colour-blind readers; markers, dashes and hollow faces serve black and white.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_MARKERS = "osD^vPX*"
_DASHES: tuple[Any, ...] = ("-", (0, (5, 2)), (0, (5, 2, 1, 2)), (0, (1, 1.5)))
_AXES = {
    "poster_ipc": "images per class (IPC) of one poster",
    "cumulative_ipc": "images per class (IPC) of all posters drawn on",
}
_STYLE = {
    "font.size": 9, "axes.spines.top": False, "axes.spines.right": False, "axes.edgecolor": "#888888",
    "xtick.color": "#444444", "ytick.color": "#444444", "svg.fonttype": "none", "svg.hashsalt": "ppodd",
    "pdf.fonttype": 42,
}  # fmt: skip
_NOTE_CHARS = 125  # of a line of the footnote
_ASIDE, _ASIDE_IN_ALL = 0.012, 0.06  # of the axis: how far lines' points of one poster IPC stand apart


def curve_points(
    frame: pd.DataFrame, at: str = "poster_ipc", by: list[str] | None = None, steps: int | None = None
) -> pd.DataFrame:
    """What a curve shows: a row per line and budget with mean, std (percent) over seeds and their number.

    Every setting is a line, and the point of a trial is its last stage. With `by`, a line is a value of these fields:
    the other settings are pooled, a seed counting as the mean of its trials.
    """
    points, _ = _points(frame, at, by, steps)
    return points


def curve(
    frame: pd.DataFrame, output: str, at: str = "poster_ipc", by: list[str] | None = None, steps: int | None = None
) -> pd.DataFrame:
    """Draw accuracy against IPC with error bars over seeds to a `.png`, `.svg` or `.pdf`; returns the points drawn.

    Raises:
        BadInput: the file's ending, a field, or a training budget that is not there.
    """
    suffix = Path(output).suffix.lower()
    if suffix not in FORMATS:
        raise BadInput(f"cannot draw {output!r}: accepted are files that end in {', '.join(FORMATS)}")
    points, pooled = _points(frame, at, by, steps)
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.style import context

    with context(_STYLE):
        figure = Figure(figsize=(6.8, 3.9), layout="constrained", dpi=200)
        FigureCanvasAgg(figure)
        axes = figure.add_subplot()
        _draw(axes, points, at)
        rows = chosen_steps(last_stages(frame), steps)
        axes.set_title(_heading(rows), fontsize=9.5, loc="left", pad=8)
        figure.supxlabel(_protocol(rows, points, pooled), fontsize=6.5, color="#555555", x=0.01, ha="left")
        metadata = {".svg": {"Date": None}, ".pdf": {"CreationDate": None}}.get(suffix)  # one picture for one store
        with atomic_path(output) as temporary:
            figure.savefig(temporary, format=suffix[1:], metadata=metadata)
    return points


def _points(frame: pd.DataFrame, at: str, by: list[str] | None, steps: int | None) -> tuple[pd.DataFrame, list[str]]:
    """The points, and the settings that were pooled into them."""
    if at not in BUDGETS:
        raise unknown("budget", at, BUDGETS)
    rows = chosen_steps(last_stages(frame), steps)
    everything = settings(rows)
    for name in by or ():
        if name not in rows.columns:
            raise unknown("field", name, [*varied(frame), *kinds(rows)])
    lines = list(dict.fromkeys([*(everything if by is None else by), *kinds(rows)]))
    pooled = [name for name in everything if name not in lines]
    rows = rows.assign(**{at: rows[at].round(4)})
    cells = over_seeds(rows, [*lines, at])
    if pooled and len({_values(group[pooled]) for _, group in rows.groupby([*lines, at], dropna=False)}) > 1:
        pooled = [f"{', '.join(pooled)} (not the same values at every point)"]
    cells["line"] = [_label(dict(zip(lines, values, strict=True))) for values in cells[lines].to_numpy(object)]
    columns = ["line", at, "accuracy_pct", "std_pct", "seeds", "nets"]
    order = cells["line"].drop_duplicates().tolist()
    cells = cells.sort_values(["line", at], key=lambda c: c.map(order.index) if c.name == "line" else c, kind="stable")
    return cells[columns].reset_index(drop=True), pooled


def _values(table: pd.DataFrame) -> frozenset[tuple[str, ...]]:
    return frozenset(map(tuple, table.astype(str).to_numpy()))


def _label(values: dict[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in values.items() if value != "") or "all"


def _draw(axes: Any, points: pd.DataFrame, at: str) -> None:
    lines = list(points.groupby("line", sort=False))
    reach = points[at].max() - points[at].min() or 0.2 * points[at].max()
    # at one poster IPC stand the points of all lines: their bars beside each other, not on each other
    apart = min(_ASIDE, _ASIDE_IN_ALL / len(lines)) * reach if at == "poster_ipc" else 0
    looks = zip(itertools.cycle(_COLOURS), itertools.cycle(_MARKERS), itertools.cycle(_DASHES), strict=False)
    for number, ((line, group), (colour, marker, dashes)) in enumerate(zip(lines, looks, strict=False)):
        axes.errorbar(
            group[at] + (number - (len(lines) - 1) / 2) * apart, group["accuracy_pct"], yerr=group["std_pct"].fillna(0),
            label=line, color=colour, marker=marker, linestyle=dashes, markersize=5,
            markerfacecolor="white" if number % 2 else colour, markeredgewidth=1.1, linewidth=1.3, capsize=2.5,
            elinewidth=0.9,
        )  # fmt: skip
    ticks = sorted(points[at].unique())
    if all(second - first > 0.07 * reach for first, second in itertools.pairwise(ticks)):
        axes.set_xticks(ticks, [f"{tick:.3g}" for tick in ticks])
    axes.set_xlim(min(ticks) - 0.12 * reach, max(ticks) + 0.12 * reach)
    axes.set_xlabel(_AXES[at])
    axes.set_ylabel("test accuracy (%)")
    axes.grid(alpha=0.25, linewidth=0.6)
    axes.set_axisbelow(True)
    if lines[0][0] != "all":
        small = len(lines) > 12
        axes.figure.legend(frameon=False, fontsize=6 if small else 7.5, loc="outside right upper", handlelength=3)


def _heading(rows: pd.DataFrame) -> str:
    return f"{', '.join(sorted(set(rows['dataset'].map(str))))}: accuracy after {rows['steps'].iloc[0]} training steps"


def _protocol(rows: pd.DataFrame, points: pd.DataFrame, pooled: list[str]) -> str:
    """What a reader must know to compare the curve with another: the protocol, the scale, what the bars are."""
    several = points["seeds"].max() > 1
    facts = [
        f"{rows['steps'].iloc[0]} training steps, {_one_or_range(points['nets'])} networks of width "
        f"{_one_or_range(rows['width'])} ({_one_or_range(rows['eval_arch'])})",
        f"trained on: {_one_or_range(rows['mode'])}",
        *(f"evaluated with {departs}" for departs in sorted(set(rows["protocol"]) - {""})),
        f"{_one_or_range(points['seeds'])} seeds",
        "bars: std over seeds" if several else "one seed: no bars",
        *(["no bar: one seed"] if several and points["seeds"].min() == 1 else []),
        *(["points of one IPC stand side by side"] if points["line"].nunique() > 1 and "poster_ipc" in points else []),
        f"{_one_or_range(rows['meta_steps'])} meta-steps",
        f"window {_one_or_range(rows['window'])}",
        "last stage of each trial",
        *([f"averaged over {', '.join(pooled)}"] if pooled else []),
        *(["'released' LEAKS the test set"] if rows["leaks_test_set"].any() else []),
    ]
    return textwrap.fill("; ".join(facts), _NOTE_CHARS)


def _one_or_range(values: pd.Series) -> str:
    if values.dtype == object:
        return ", ".join(sorted(set(values.map(str))))
    low, high = values.min(), values.max()
    return f"{low}" if low == high else f"{low}–{high}"
