"""Accuracy against the pixel budget, as a picture."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from ppodd.errors import BadInput, unknown
from ppodd.files import atomic_path
from results.compare import BUDGETS
from results.frame import chosen_steps, last_stages, varied

FORMATS = (".png", ".svg", ".pdf")
# Okabe and Ito's colours: told apart by colour-blind readers; markers and dashes serve black and white.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_MARKERS = "osD^vPX*"
_DASHES: tuple[object, ...] = ("-", "--", "-.", ":")
_AXES = {"poster_ipc": "images per class of one poster", "cumulative_ipc": "images per class of all posters drawn on"}


def curve_points(frame: pd.DataFrame, at: str = "poster_ipc", by: list[str] | None = None, steps: int | None = None) -> pd.DataFrame:
    """What a curve shows: a row per line and budget with mean, std (percent) over seeds and their number.

    Lines are the settings that vary (`by` chooses among them); the point of a trial is its last stage.
    """
    if at not in BUDGETS:
        raise unknown("budget", at, BUDGETS)
    rows = chosen_steps(last_stages(frame), steps)
    size = ("poster_width", "poster_height")
    lines = by if by is not None else [name for name in varied(frame) if name not in size]
    for name in lines:
        if name not in rows.columns:
            raise unknown("field", name, varied(frame))
    lines += [name for name in ("mode", "eval_arch", "protocol") if rows[name].nunique() > 1 and name not in lines]
    label = rows[lines].apply(lambda row: ", ".join(f"{k} {v}" for k, v in row.items()), axis=1) if lines else "all"
    grouped = rows.assign(line=label, **{at: rows[at].round(4)}).groupby(["line", at])
    points = grouped.agg(
        accuracy_pct=("accuracy_pct", "mean"), std_pct=("accuracy_pct", "std"), seeds=("seed", "nunique"), nets=("nets", "max")
    )
    return points.reset_index()


def curve(
    frame: pd.DataFrame, output: str, at: str = "poster_ipc", by: list[str] | None = None, steps: int | None = None
) -> pd.DataFrame:
    """Draw accuracy against IPC with error bars over seeds to a `.png`, `.svg` or `.pdf`; returns the points drawn.

    Raises:
        BadInput: the file's ending, a field, or a training budget that is not there.
    """
    if Path(output).suffix.lower() not in FORMATS:
        raise BadInput(f"cannot draw {output!r}: accepted are files that end in {', '.join(FORMATS)}")
    points = curve_points(frame, at, by, steps)
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    style = {"font.size": 9, "axes.spines.top": False, "axes.spines.right": False, "svg.fonttype": "none"}
    with plt.rc_context(style):
        figure, axes = plt.subplots(figsize=(5.2, 3.6), layout="constrained", dpi=200)
        for number, (line, group) in enumerate(points.groupby("line")):
            axes.errorbar(
                group[at],
                group["accuracy_pct"],
                yerr=group["std_pct"].fillna(0),
                color=_COLOURS[number % len(_COLOURS)],
                marker=_MARKERS[number % len(_MARKERS)],
                linestyle=_DASHES[number % len(_DASHES)],
                markersize=4.5,
                linewidth=1.3,
                capsize=2.5,
                label=line,
            )
        axes.set_xlabel(_AXES[at])
        axes.set_ylabel("test accuracy (%)")
        axes.grid(alpha=0.25, linewidth=0.6)
        axes.legend(frameon=False, fontsize=7.5)
        axes.set_title(_protocol(frame, points, steps), fontsize=7, loc="left", color="#444444")
        with atomic_path(output) as temporary:
            figure.savefig(temporary, format=Path(output).suffix[1:].lower())
        plt.close(figure)
    return points


def _protocol(frame: pd.DataFrame, points: pd.DataFrame, steps: int | None) -> str:
    rows = chosen_steps(last_stages(frame), steps)

    def one_or_range(values: pd.Series) -> str:
        low, high = values.min(), values.max()
        return f"{low}" if low == high else f"{low}–{high}"

    seeds = one_or_range(points["seeds"])
    bars = "bars: std over seeds" if points["seeds"].max() > 1 else "one seed: no bars"
    leak = "; 'released' LEAKS the test set" if rows["leaks_test_set"].any() else ""
    return (
        f"{', '.join(sorted(set(rows['dataset'])))}; {rows['steps'].iloc[0]} training steps, "
        f"{one_or_range(points['nets'])} networks (width {one_or_range(rows['width'])}), {seeds} seeds\n"
        f"{one_or_range(rows['meta_steps'])} meta-steps, window {one_or_range(rows['window'])}; {bars}{leak}"
    )
