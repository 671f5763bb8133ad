"""Curves laid out for a page: pixel positions and words, no markup."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from results.analysis import AXES, CurveLines, few_seeds

WIDTH, HEIGHT = 720, 440  # of the view box
LEFT, RIGHT, TOP, BOTTOM = 62, 18, 16, 56
_HUES, _MARKERS, _DASHES = 7, 5, 4
_ASIDE_PX = 7.0
_IN_VIEW_STDS = 2.5  # holds the interval of three seeds


class Point(NamedTuple):
    """A mean at its place, how far its bar reaches, and what is said of it."""

    x: float
    y: float
    low: float
    high: float
    text: str


class Series(NamedTuple):
    """One curve of a chart: its colour, marker and dash by number, and its points from left to right."""

    label: str
    hue: int
    marker: int
    dash: int
    hollow: bool
    points: list[Point]
    published: bool = False

    @property
    def path(self) -> str:
        """The line through its points, as SVG writes it."""
        return "M" + "L".join(f"{p.x:.1f},{p.y:.1f}" for p in self.points)


class Tick(NamedTuple):
    """A mark on an axis: where, in the units of the view box, and its text."""

    at: float
    text: str


class Chart(NamedTuple):
    """One curve: its axis, ticks and series, ready to be drawn."""

    name: str
    title: str
    x_label: str
    x_ticks: list[Tick]
    y_ticks: list[Tick]
    series: list[Series]
    note: str


class _Scale(NamedTuple):
    low: float
    high: float
    first: float
    last: float

    def __call__(self, value: float) -> float:
        return self.first + (value - self.low) / (self.high - self.low) * (self.last - self.first)


def chart(
    lines: CurveLines, x: str, title: str, published: dict[str, list[tuple[float, float]]] | None = None
) -> Chart:
    """Lay out the lines of a curve over `x`; bars are 95% intervals over seeds."""
    published = published or {}
    points = lines.points
    known = [point for curve in published.values() for point in curve]
    spread = _IN_VIEW_STDS * points["std_pct"].fillna(0)
    tops = [*(points["accuracy_pct"] + spread), *(y for _, y in known)]
    bottoms = [*(points["accuracy_pct"] - spread), *(y for _, y in known)]
    y_ticks = _nice(max(0.0, min(bottoms)), min(100.0, max(tops)))
    xs = sorted({*points[x], *(at for at, _ in known)})
    pad = 0.08 * ((xs[-1] - xs[0]) or xs[0] or 1)
    across = _Scale(xs[0] - pad, xs[-1] + pad, LEFT, WIDTH - RIGHT)
    up = _Scale(y_ticks[0], y_ticks[-1], HEIGHT - BOTTOM, TOP)
    x_ticks = xs if len(xs) <= 7 else [t for t in _nice(xs[0], xs[-1]) if across.low <= t <= across.high]
    of_lines: dict[str, list[dict[Any, Any]]] = {line: [] for line in lines.looks}
    for row in points.to_dict("records"):
        of_lines[row["line"]].append(row)
    series = [_series(lines, line, rows, number, x, across, up) for number, (line, rows) in enumerate(of_lines.items())]
    series += [_published(name, curve, i, across, up) for i, (name, curve) in enumerate(published.items())]
    note = "Bars: 95% intervals over seeds (t)." if points["low_pct"].notna().any() else ""
    note += "".join(f" {said[0].upper()}{said[1:]}." for said in few_seeds(points["seeds"]))
    note += f" Averaged over {', '.join(lines.pooled)}." if lines.pooled else ""
    return Chart(
        x, title, AXES[x], [Tick(across(t), f"{t:.3g}" if t < 1000 else f"{t:.0f}") for t in x_ticks],
        [Tick(up(t), f"{t:g}") for t in y_ticks], series, note.strip(),
    )  # fmt: skip


def _series(
    lines: CurveLines, line: str, rows: list[dict[Any, Any]], number: int, x: str, across: _Scale, up: _Scale
) -> Series:
    hue, look = lines.looks[line]
    count = len(lines.looks)
    # at one x the bars of all lines stand beside each other, not on each other
    aside = (number - (count - 1) / 2) * min(_ASIDE_PX, 60 / count) if x in ("poster_ipc", "num_stages") else 0.0
    points = [_point(row, line, x, across, up, aside) for row in rows]
    return Series(line, hue % _HUES, hue % _MARKERS, look % _DASHES, bool(look % 2), points)


def _point(row: dict[Any, Any], line: str, x: str, across: _Scale, up: _Scale, aside: float) -> Point:
    mean, low, high, n = row["accuracy_pct"], row["low_pct"], row["high_pct"], int(row["seeds"])
    seeds = f"{n} seeds" if n > 1 else "one seed"
    interval = f"{seeds}: no interval" if math.isnan(low) else f"95% interval {low:.1f} to {high:.1f}, n = {seeds}"
    low, high = (mean, mean) if math.isnan(low) else (max(low, up.low), min(high, up.high))
    text = f"{line}\n{x} {row[x]:.4g}: {mean:.1f}%\n{interval}"
    return Point(across(row[x]) + aside, up(mean), up(low), up(high), text)


def _published(name: str, curve: list[tuple[float, float]], number: int, across: _Scale, up: _Scale) -> Series:
    points = [Point(across(x), up(y), up(y), up(y), f"{name}\n{x:g}: {y:.1f}%\none seed") for x, y in curve]
    return Series(name, 0, number, 1 + number, True, points, published=True)


def _nice(low: float, high: float) -> list[float]:
    """Round ticks that span `low` to `high`."""
    from matplotlib.ticker import MaxNLocator

    if high - low < 1e-9:
        low, high = low - 1, high + 1
    return [float(tick) for tick in MaxNLocator(6, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high)]
