"""The class orders that are known by name. Light: needs no torch."""

from __future__ import annotations

from ppodd.registry import Entry, Registry

TABLES = (".csv", ".npy")  # how the names of distance tables end


def _names(value: str) -> list[str]:
    """None in a list of labels or the path of a table."""
    return [] if "," in value or value.endswith(TABLES) else [value]


CLASS_ORDERS = Registry(
    "class_order",
    Entry,
    "ppodd.class_orders",
    "a function (dataset, rows, columns) -> labels [rows, columns], each once, or (dataset) -> distances [K, K] "
    "between the classes, symmetric and finite",
    {
        "auto": Entry("ppodd.posters.poco:auto", "the published order where one is known, else means"),
        "clip": Entry("ppodd.posters.class_distances:clip", "similar names together, by CLIP's text encoder"),
        "means": Entry("ppodd.posters.class_distances:means", "similar mean images together"),
        "sequential": Entry("ppodd.posters.poco:sequential", "by label"),
    },
    also=("0,1,2,… (labels row by row)", "distances.csv", "distances.npy"),
    within=_names,
)
