"""Accuracy against a budget, the stages or the compute: the lines of a curve, and what distinguishes them."""

from __future__ import annotations

from typing import Any, NamedTuple

import pandas as pd

from ppodd.errors import BadInput, unknown
from results.analysis.baselines import is_reference, references
from results.analysis.tidy_frame import KINDS, chosen_steps, kinds, last_stages, over_seeds, settings, timed, varied

AXES = {
    "poster_ipc": "images per class (IPC) of one poster",
    "cumulative_ipc": "images per class (IPC) of all posters drawn on",
    "num_stages": "number of stages",
    "stage": "stage",
    "steps": "training steps of the evaluated network",
    "meta_steps": "meta-steps of the distillation",
    "seconds": "seconds of the distillation",
}
MARKERS = "osD^vPX*"
EVERY_STAGE = ("stage", "meta_steps", "seconds")  # a trial is a line here; elsewhere its last stage is a point
# Fields that make another protocol of an evaluation, as the kinds do: never averaged in one curve.
_PROTOCOL = (*KINDS, "dataset", "width", "num_train_eval")
BETWEEN = " · "
_POINT = ["accuracy_pct", "std_pct", "low_pct", "high_pct", "seeds", "nets"]


class LineField(NamedTuple):
    """A field that tells lines apart, and its values in order."""

    name: str
    values: list[Any]


class CurveLines(NamedTuple):
    """What a curve shows, before it is drawn.

    Attributes:
        points: a row per line and x with mean, std and interval (percent) over seeds and their number.
        rows: the rows of the frame that the points were made of.
        pooled: settings that were averaged over.
        looks: for each line the number of its colour and marker, and that of its dashes and faces.
        told_by: the fields whose values differ between lines. Where they are two, dashes and faces are numbered by the
            first one's values, colours and markers by the second's.
        short: for each line the values of these fields alone, or its whole name where there are none.
        common: the fields that have one value in all of several lines, with it.
        references: the accuracy of what is of no pixel budget, by its name; level over the whole axis.
    """

    points: pd.DataFrame
    rows: pd.DataFrame
    pooled: list[str]
    looks: dict[str, tuple[int, int]]
    told_by: list[LineField]
    short: dict[str, str]
    common: str
    references: dict[str, float]


def curve_points(
    frame: pd.DataFrame, x: str = "poster_ipc", by: list[str] | None = None, steps: int | None = None
) -> pd.DataFrame:
    """What a curve shows: a row per line and x with mean, std, 95% interval (percent) over seeds and their number.

    Every setting is a line. Against an IPC, `num_stages` or training `steps` the point of a trial is its last stage;
    against `stage`, `meta_steps` or `seconds` every stage is one. With `by`, a line is a value of these fields: the
    other settings are pooled, a seed counting as the mean of its trials.

    Raises:
        BadInput: an unknown x or field, no results, or a line that would mix two protocols.
    """
    return lines(frame, x, by, steps).points


def lines(frame: pd.DataFrame, x: str, by: list[str] | None, steps: int | None) -> CurveLines:
    """The points of a curve, with the rows they come from. Raises `BadInput` as `curve_points`."""
    if x not in AXES:
        raise unknown("x", x, AXES)
    level = is_reference(frame) & (x != "steps")
    whole, frame = frame, frame[~level]
    measured = frame if x in EVERY_STAGE else last_stages(frame)
    measured = timed(measured) if x == "seconds" else measured
    rows = chosen_steps(measured, steps)
    if x == "steps":
        rows = measured
    everything = [name for name in settings(rows) if name != x]
    for name in by or ():
        if name not in rows.columns:
            raise unknown("field", name, [*varied(frame), *kinds(rows)])
    fields = list(dict.fromkeys([*everything, *kinds(rows)] if by is None else by))
    _require_one_protocol(rows, fields)
    pooled = [name for name in everything if name not in fields]
    if x in EVERY_STAGE and "num_stages" in pooled and x != "stage":
        raise BadInput(f"at one {x} trials of different num_stages are at different stages: add --by num_stages")
    if x not in ("poster_ipc", "cumulative_ipc") and rows["poster_ipc"].round(4).nunique() > 1:
        fields = [*fields, "poster_ipc"] if "poster_ipc" not in fields and by is None else fields
    fields = [name for name in fields if not (name in ("poster_width", "poster_height") and "poster_ipc" in fields)]
    rows = rows.assign(poster_ipc=rows["poster_ipc"].round(4), cumulative_ipc=rows["cumulative_ipc"].round(4))
    points = _over_stages(rows, fields, x) if x == "seconds" else over_seeds(rows, [*fields, x])
    if pooled and len({_values(group[pooled]) for _, group in rows.groupby([*fields, x], dropna=False)}) > 1:
        pooled = [f"{', '.join(pooled)} (not the same values at every point)"]
    points["line"] = [_label(dict(zip(fields, values, strict=True))) for values in points[fields].to_numpy(object)]
    told_by = _told_by(points, fields)
    looks, short = _looks(points, told_by), _short_names(points, told_by)
    alike = {name: points[name].iloc[0] for name in fields if told_by and points[name].nunique(dropna=False) == 1}
    order = list(looks)
    points = points.sort_values(["line", x], key=lambda c: c.map(order.index) if c.name == "line" else c, kind="stable")
    shown = points[["line", x, *_POINT]].reset_index(drop=True)
    beside = references(whole[level & whole["steps"].isin(rows["steps"])])
    return CurveLines(shown, rows, pooled, looks, told_by, short, _label(alike) if alike else "", beside)


def level(shown: CurveLines, x: str) -> dict[str, list[tuple[float, float]]]:
    """The references as lines from one end of the axis to the other."""
    ends = (float(shown.points[x].min()), float(shown.points[x].max()))
    return {f"{name} ({at:.1f})": [(end, at) for end in ends] for name, at in shown.references.items()}


def _told_by(points: pd.DataFrame, fields: list[str]) -> list[LineField]:
    values = {name: list(dict.fromkeys(points[name])) for name in fields}
    return [LineField(name, there) for name, there in values.items() if len(there) > 1]


def _looks(points: pd.DataFrame, told_by: list[LineField]) -> dict[str, tuple[int, int]]:
    """Where two fields tell the lines apart, colour and marker show the one, dashes and hollow faces the other."""
    first = points.drop_duplicates("line")
    if len(told_by) == 2:
        dashes, colours = ([field.values.index(value) for value in first[field.name]] for field in told_by)
    else:
        colours = list(range(len(first)))
        dashes = [number + number // len(MARKERS) for number in colours]  # another one when the markers repeat
    return dict(zip(first["line"], zip(colours, dashes, strict=True), strict=True))


def _short_names(points: pd.DataFrame, told_by: list[LineField]) -> dict[str, str]:
    if not told_by:
        return {line: line for line in points["line"]}
    said = [dict(zip(map(str, field.values), texts(field.values), strict=True)) for field in told_by]
    names = [field.name for field in told_by]
    first = points.drop_duplicates("line")
    values = [[of[str(v)] for of, v in zip(said, row, strict=True)] for row in first[names].to_numpy(object)]
    return dict(zip(first["line"], map(BETWEEN.join, values), strict=True))


def _over_stages(rows: pd.DataFrame, fields: list[str], x: str) -> pd.DataFrame:
    """Wall time is never the same twice: the points are those of the stages, at their mean seconds."""
    return over_seeds(rows, [*dict.fromkeys([*fields, "num_stages", "stage"])]).rename(columns={"distill_seconds": x})


def _require_one_protocol(rows: pd.DataFrame, fields: list[str]) -> None:
    for name in _PROTOCOL:
        if name not in fields and rows[name].nunique() > 1:
            there = ", ".join(repr(v) if v == "" else str(v) for v in sorted(rows[name].unique()))
            raise BadInput(
                f"two protocols in one curve: {name} is {there}; choose one with --where {name}=…, "
                f"or separate the lines with --by {name}"
            )


def _values(table: pd.DataFrame) -> frozenset[tuple[str, ...]]:
    return frozenset(map(tuple, table.astype(str).to_numpy()))


def _label(values: dict[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in values.items() if value != "") or "all"


def texts(values: list[Any]) -> list[str]:
    """The values in words, numbers to three digits where these tell them apart."""
    short = [f"{value:.3g}" if isinstance(value, float) else str(value) or "–" for value in values]
    return short if len(set(short)) == len(values) else list(map(str, values))
