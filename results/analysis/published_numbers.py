"""The published numbers that results are laid beside: P-PoDD's tables on CIFAR-10, as data with their source.

They are of one seed, read from the test set after 2000 training steps; each P-PoDD accuracy trained on the blend of all
posters of its run, its weights set by test accuracies (our blend `released`). PoDD's own curve is of a schedule 67
times as long.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from ppodd.errors import unknown

DATASET = "cifar10"
META_STEPS, STEPS = 1500, 2000  # of a distillation; of a network's training
_SOURCE = "P-PoDD paper, CIFAR-10, ConvNet, one seed"
# What stands for P-PoDD here: the published code, and the algorithm as its text intends.
PROGRESSIVE = ("dynamic", "released")


class Row(NamedTuple):
    """One published accuracy in percent, of a method, at the values of the config fields (or `poster_ipc`) in `at`."""

    method: str
    at: dict[str, Any]
    accuracy_pct: float


class Published(NamedTuple):
    """A published table; `x` is what its rows differ in."""

    name: str
    title: str
    x: str
    rows: tuple[Row, ...]
    source: str = _SOURCE


_IPC = {0.9: (51.5, 53.8), 0.8: (49.6, 51.9), 0.7: (47.7, 49.4), 0.6: (47.2, 48.3)}
# Accuracy (percent) by images per class that PoDD reports for CIFAR-10, arXiv 2403.12040.
PODD_META_STEPS = 100_000
PODD_CURVE = {0.3: 42.3, 0.5: 49.5, 1.0: 59.1}
_STAGES = {3: 52.2, 4: 52.7, 5: 53.8, 6: 52.5, 7: 51.9}

TABLES = {
    table.name: table
    for table in (
        Published(
            "ipc",
            "Accuracy (%) vs IPC, 5 stages",
            "poster_ipc",
            tuple(
                row
                for ipc, (plain, progressive) in _IPC.items()
                for row in (
                    Row("PoDD", {"poster_ipc": ipc, "blend": ("latest",)}, plain),
                    Row("P-PoDD", {"poster_ipc": ipc, "blend": PROGRESSIVE}, progressive),
                )
            ),
        ),
        Published(
            "boost",
            "Boost of the poster in training, 0.9 IPC, 5 stages",
            "blend_boost",
            (
                Row("boost 1.5", {"blend_boost": 1.5, "blend": PROGRESSIVE}, 53.8),
                Row("no boost", {"blend_boost": 1.0, "blend": PROGRESSIVE}, 51.2),
            ),
        ),
        Published(
            "blend",
            "Dynamic and uniform blends, 0.9 IPC, 5 stages",
            "blend",
            (
                Row("dynamic", {"blend": PROGRESSIVE}, 53.8),
                Row("uniform", {"blend": ("uniform",)}, 50.4),
            ),
        ),
        Published(
            "stages",
            "Number of stages, 0.9 IPC",
            "num_stages",
            tuple(Row("P-PoDD", {"num_stages": n, "blend": PROGRESSIVE}, a) for n, a in _STAGES.items()),
        ),
    )
}


def published(name: str) -> Published:
    """A table by its name. Raises `BadInput` for an unknown one."""
    if name not in TABLES:
        raise unknown("table", name, TABLES)
    return TABLES[name]


def series(x: str) -> dict[str, list[tuple[float, float]]]:
    """Published curves over `x`, by method: points of x and accuracy. Empty where none was published."""
    found: dict[str, list[tuple[float, float]]] = {}
    for table in TABLES.values():
        if table.x == x and x in ("poster_ipc", "num_stages"):
            for row in table.rows:
                found.setdefault(row.method, []).append((float(row.at[x]), row.accuracy_pct))
    if x == "poster_ipc":
        found[f"PoDD, {PODD_META_STEPS:,} meta-steps"] = list(PODD_CURVE.items())
    return {method: sorted(points) for method, points in found.items()}
