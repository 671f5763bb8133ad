"""A curve as a picture for a paper."""

from __future__ import annotations

import itertools
import textwrap
from pathlib import Path
from typing import Any

import pandas as pd

from ppodd.errors import BadInput
from ppodd.files import atomic_path
from results.analysis import (
    AXES,
    BETWEEN,
    DATASET,
    EVERY_STAGE,
    MARKERS,
    CurveLines,
    facts,
    level,
    lines,
    one_or_range,
    series,
    texts,
)

FORMATS = (".png", ".svg", ".pdf")
COLUMN, PAGE = 3.25, 6.75  # inches: a column of a two-column paper, and its page
# Okabe and Ito's colours: told apart by colour-blind readers; markers, dashes and hollow faces serve black and white.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_DASHES: tuple[Any, ...] = ("-", (0, (5, 2)), (0, (5, 2, 1, 2)), (0, (1, 1.5)))
_BANDS = (*EVERY_STAGE, "steps")
_STYLE = {
    "font.size": 8, "axes.labelsize": 8, "xtick.labelsize": 8, "ytick.labelsize": 8, "legend.fontsize": 8,
    "axes.spines.top": False, "axes.spines.right": False, "axes.edgecolor": "#888888",
    "xtick.color": "#444444", "ytick.color": "#444444", "svg.fonttype": "none", "svg.hashsalt": "ppodd",
    "pdf.fonttype": 42,
}  # fmt: skip
_POINTS, _SMALL_POINTS = 8, 6  # of letters; of the footnote's, and of a legend's with many entries
MANY = 12  # entries that make a legend small
_NAMED = 48  # lines, or values of a field, that a legend names: colours and marks come again long before
_COLUMNS = 4  # of a legend above the picture, at most
_EDGE, _HANDLE = 0.04, 0.6  # inches: free at the side; of a legend's lines with what is around them
_ASIDE, _ASIDE_IN_ALL = 0.012, 0.06  # of the axis: how far lines' points of one poster IPC stand apart
_ALONE, _ALONE_IN_ALL = 0.02, 0.18  # likewise, where there is no other IPC

Entry = tuple[Any, str]  # of a legend: what it shows, and the text beside it


def require_format(output: str) -> str:
    """The ending of a picture's path. Raises `BadInput` for one that cannot be drawn."""
    suffix = Path(output).suffix.lower()
    if suffix not in FORMATS:
        raise BadInput(f"cannot draw {output!r}: accepted are files that end in {', '.join(FORMATS)}")
    return suffix


def width_inches(text: str) -> float:
    """The width that `column`, `page` or a number of inches names. Raises `BadInput` for another."""
    named = {"column": COLUMN, "page": PAGE}
    try:
        inches = named[text] if text in named else float(text)
    except ValueError:
        inches = 0.0
    if not 2 <= inches <= 20:
        raise BadInput(f"--width {text}: accepted are column ({COLUMN} in), page ({PAGE} in), or inches from 2 to 20")
    return inches


def curve(
    frame: pd.DataFrame,
    output: str,
    x: str = "poster_ipc",
    by: list[str] | None = None,
    steps: int | None = None,
    published: bool = False,
    width: float = COLUMN,
) -> pd.DataFrame:
    """Draw accuracy against `x` to a `.png`, `.svg` or `.pdf`; returns the points drawn.

    Bars are the std over seeds, and bands where a line is a course (over stages, steps or compute). `published` adds
    the published curves of that axis, dashed and grey. `width` is in inches; letters are of one size at every width.

    Raises:
        BadInput: the file's ending; as `curve_points`; or published numbers of another data set or axis.
    """
    suffix = require_format(output)
    shown = lines(frame, x, by, steps)
    reference = {**level(shown, x), **(_reference(shown, x) if published else {})}
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.style import context

    with context(_STYLE):
        figure = Figure(figsize=(width, 0.62 * width), layout="constrained", dpi=300)
        FigureCanvasAgg(figure)
        axes = figure.add_subplot()
        _draw(axes, shown, x, reference)
        beside, above, tall = _legend(figure, axes, shown)
        room = width - beside - 0.65  # what the ticks and the label of the other axis leave
        title, label = (_wrapped(figure, text, room) for text in (_heading(shown.rows, x), AXES[x]))
        note = _wrapped(figure, _protocol(shown, x), width - 2 * _EDGE, _SMALL_POINTS)
        axes.set_title(title, fontsize=_POINTS, loc="left", pad=6)
        axes.set_xlabel(label)
        figure.supxlabel(note, fontsize=_SMALL_POINTS, color="#555555", x=_EDGE / width, ha="left")
        texts = [(title, _POINTS), (label, _POINTS), (note, _SMALL_POINTS)]
        letters = sum(1.3 * points / 72 * (text.count("\n") + 1) for text, points in texts)
        figure.set_figheight(max(0.45 * width + 0.45, tall) + above + letters)
        metadata = {".svg": {"Date": None}, ".pdf": {"CreationDate": None}}.get(suffix)  # one picture for one store
        with atomic_path(output) as temporary:
            figure.savefig(temporary, format=suffix[1:], metadata=metadata)
    return shown.points


def _reference(shown: CurveLines, x: str) -> dict[str, list[tuple[float, float]]]:
    found = series(x)
    if not found:
        raise BadInput(f"nothing was published over x={x}: name --x poster_ipc or --x num_stages")
    if there := sorted(set(shown.rows["dataset"]) - {DATASET}):
        raise BadInput(
            f"the published numbers are of {DATASET}, these results of {', '.join(there)}: leave --published out"
        )
    return {f"published {method}": points for method, points in found.items()}


def _draw(axes: Any, shown: CurveLines, x: str, reference: dict[str, list[tuple[float, float]]]) -> None:
    points = shown.points
    every = list(points.groupby("line", sort=False))
    ticks = sorted({*points[x], *(at for known in reference.values() for at, _ in known)})
    reach = ticks[-1] - ticks[0] or 0.2 * ticks[0]
    # at one x stand the points of all lines: their bars beside each other, not on each other
    each, in_all = (_ASIDE, _ASIDE_IN_ALL) if len(ticks) > 1 else (_ALONE, _ALONE_IN_ALL)
    apart = min(each, in_all / len(every)) * reach if x in ("poster_ipc", "num_stages") else 0
    for number, (line, group) in enumerate(every):
        hue, look = shown.looks[str(line)]
        colour, marker, dashes = (of[i % len(of)] for of, i in ((COLOURS, hue), (MARKERS, hue), (_DASHES, look)))
        at, spread = group[x] + (number - (len(every) - 1) / 2) * apart, group["std_pct"].fillna(0)
        bars = {} if x in _BANDS else {"yerr": spread}
        axes.errorbar(
            at, group["accuracy_pct"], **bars, label=line, color=colour, marker=marker, linestyle=dashes, markersize=5,
            markerfacecolor="white" if look % 2 else colour, markeredgewidth=1.1, linewidth=1.3, capsize=2.5,
            elinewidth=0.9,
        )  # fmt: skip
        if x in _BANDS:
            low, high = group["accuracy_pct"] - spread, group["accuracy_pct"] + spread
            axes.fill_between(at, low, high, color=colour, alpha=0.15, linewidth=0)
    for number, (label, known) in enumerate(reference.items()):
        dashes = ((0, (6, 3)), (0, (3, 2)))[number % 2]
        axes.plot(*zip(*known, strict=True), label=label, color="#777777", linestyle=dashes, linewidth=1.1, zorder=1)
    if all(second - first > 0.07 * reach for first, second in itertools.pairwise(ticks)):
        axes.set_xticks(ticks, [f"{tick:.3g}" if tick < 1000 else f"{tick:.0f}" for tick in ticks])
    axes.set_xlim(ticks[0] - 0.12 * reach, ticks[-1] + 0.12 * reach)
    axes.set_ylabel("test accuracy (%)")
    axes.grid(alpha=0.25, linewidth=0.6)
    axes.set_axisbelow(True)


def _legend(figure: Any, axes: Any, shown: CurveLines) -> tuple[float, float, float]:
    """The legend, at the side or in a narrow picture above.

    Returns the inches it takes: of width at the side, of height above, of height at the side.
    """
    handles, labels = axes.get_legend_handles_labels()
    if labels == ["all"]:
        return 0.0, 0.0, 0.0
    of_all = list(zip(handles, labels, strict=True))
    published = [(handle, label) for handle, label in of_all if label not in shown.looks]
    names = [field.name for field in shown.told_by]
    groups = _of_two_fields(shown)
    if not groups:
        name = f"{names[0]} " if len(names) == 1 else ""
        lines = {label: (handle, name + shown.short[label]) for handle, label in of_all if label in shown.looks}
        groups = [_best(shown, lines, {line: line for line in lines})]
    groups[-1] += published
    title = BETWEEN.join(names) if len(names) > 2 else ""  # once for all entries
    width, points = figure.get_figwidth(), _SMALL_POINTS if len(labels) > MANY else _POINTS

    def draw(columns: int, place: str) -> tuple[float, float]:
        """The legend in so many columns; its inches."""
        for old in [*figure.legends]:
            old.remove()
        entries = _in_columns(groups) if columns == len(groups) else [entry for group in groups for entry in group]
        legend = figure.legend(
            [handle for handle, _ in entries],
            [_wrapped(figure, text, width - _HANDLE, points) for _, text in entries],
            title=_wrapped(figure, title, width - 2 * _EDGE, points) or None,
            loc=f"outside {place}", ncols=columns, fontsize=points, title_fontsize=points, alignment="left",
            frameon=False, handlelength=2.8, columnspacing=1.2,
        )  # fmt: skip
        box = legend.get_window_extent(figure.canvas.get_renderer())
        return box.width / figure.dpi, box.height / figure.dpi

    across, high = draw(1, "right upper")
    if width - across >= PAGE / 2:
        return across, 0.0, high
    for columns in range(len(groups) if len(groups) > 1 else min(_COLUMNS, len(labels)), 0, -1):
        across, high = draw(columns, "upper center")
        if across <= width:
            break
    return 0.0, high, 0.0


def _best(shown: CurveLines, entries: dict[Any, Entry], of_line: dict[str, Any]) -> list[Entry]:
    """Of a legend's entries those that reach the highest accuracy, as many as there is room for, and how many more.

    `of_line` says which of them each line belongs to.
    """
    reached = shown.points["accuracy_pct"].groupby(shown.points["line"].map(of_line)).max()
    best = set(reached.nlargest(_NAMED).index)
    named = [entry for which, entry in entries.items() if which in best]
    more = len(entries) - len(named)
    return [*named, _without_mark(f"… and {more} more, of lower accuracy")] if more else named


def _without_mark(text: str) -> Entry:
    """An entry of a legend that is of no line."""
    from matplotlib.lines import Line2D

    return Line2D([], [], linestyle=""), text


def _in_columns(groups: list[list[Entry]]) -> list[Entry]:
    """The groups made equally long, so that each fills a column."""
    rows = max(map(len, groups))
    return [entry for group in groups for entry in [*group, *[_without_mark("")] * (rows - len(group))]]


def _wrapped(figure: Any, text: str, inches: float, points: float = _POINTS) -> str:
    """The text in lines that are no longer than that."""
    from matplotlib.font_manager import FontProperties

    renderer, font = figure.canvas.get_renderer(), FontProperties(size=points)

    def fits(line: str) -> bool:
        return renderer.get_text_width_height_descent(line, font, ismath=False)[0] <= inches * figure.dpi

    lines = [text]
    for characters in range(len(text), 1, -1):
        if all(map(fits, lines)):
            break
        lines = textwrap.wrap(text, characters, break_on_hyphens=False)
    return "\n".join(lines)


def _of_two_fields(shown: CurveLines) -> list[list[Entry]]:
    """Where two fields tell the lines apart, an entry for each value of the two instead of one for each line."""
    from matplotlib.lines import Line2D

    if len(shown.told_by) != 2:
        return []
    first, second = shown.told_by
    style: dict[str, Any] = {"linewidth": 1.3, "markersize": 5, "markeredgewidth": 1.1}
    dashed = [
        Line2D([], [], color="#444444", marker="o", linestyle=_DASHES[i % len(_DASHES)],
               markerfacecolor="white" if i % 2 else "#444444", **style)
        for i in range(len(first.values))
    ]  # fmt: skip
    coloured = [
        Line2D([], [], color=COLOURS[i % len(COLOURS)], marker=MARKERS[i % len(MARKERS)], linestyle="", **style)
        for i in range(len(second.values))
    ]
    columns = []
    for handles, field, number in ((dashed, first, 1), (coloured, second, 0)):
        named = [(handle, f"{field.name} {text}") for handle, text in zip(handles, texts(field.values), strict=True)]
        columns.append(_best(shown, dict(enumerate(named)), {line: look[number] for line, look in shown.looks.items()}))
    return columns


def _heading(rows: pd.DataFrame, x: str) -> str:
    after = "" if x == "steps" else f" after {rows['steps'].iloc[0]} training steps"
    return f"{one_or_range(rows['dataset'])}: accuracy{after}"


def _protocol(shown: CurveLines, x: str) -> str:
    """What a reader must know to compare the curve with another: the protocol, the scale, what the bars are."""
    points, rows = shown.points, shown.rows
    several = points["seeds"].max() > 1
    spread = "bands" if x in _BANDS else "bars"
    said = [
        f"{one_or_range(rows['steps'])} training steps",
        *facts(rows),
        *([shown.common] if shown.common else []),
        f"{one_or_range(points['seeds'])} seeds",
        f"{spread}: std over seeds" if several else f"one seed: no {spread}",
        *([f"no {spread[:-1]}: one seed"] if several and points["seeds"].min() == 1 else []),
        *(["points of one IPC stand side by side"] if points["line"].nunique() > 1 and x == "poster_ipc" else []),
        "every stage" if x in EVERY_STAGE else "last stage of each trial",
        *([f"averaged over {', '.join(shown.pooled)}"] if shown.pooled else []),
        *(["some posters LEAK the test set"] if rows["leaks_test_set"].any() else []),
    ]
    return "; ".join(said)
