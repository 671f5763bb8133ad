"""PoCO: which class goes where on the poster, similar classes next to each other (PoDD, section 3.2)."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np

from ppodd.datasets import Dataset
from ppodd.errors import BadInput
from ppodd.posters.class_distances import means
from ppodd.posters.class_order import CLASS_ORDERS, TABLES

# Orders that PoDD's text distances give, where they were published: (data set, rows, columns).
_PUBLISHED = {("cifar10", 2, 5): [[0, 8, 5, 7, 4], [1, 9, 3, 2, 6]]}


def arrange_classes(method: str, dataset: Dataset, rows: int, columns: int) -> np.ndarray:
    """Labels `[rows, columns]` of the class grid.

    Args:
        method: a name of `CLASS_ORDERS` or an import path, a comma-separated list of labels row by row, or the path of
            a distance table (`.csv`, `.npy`).

    Raises:
        BadInput: there is no such method, it does not give each label once or a table that is square, symmetric and
            finite, or CLIP is not there.
    """
    if "," in method:
        return _listed(method, rows, columns)
    if method.endswith(TABLES):
        return order_from_distances(distance_table(method, rows * columns), rows, columns)
    arranged = CLASS_ORDERS.get(method)
    with CLASS_ORDERS.tried(method):
        returned = arranged(dataset, rows, columns) if _takes_grid(arranged.function) else arranged(dataset)
    if _takes_grid(arranged.function):
        return _checked_order(method, returned, rows, columns)
    return order_from_distances(_checked_distances(method, returned, rows * columns), rows, columns)


def _takes_grid(function: Any) -> bool:
    """Whether a function lays out the classes itself, as its parameters say; if not, it tells their distances."""
    try:
        inspect.signature(function).bind(None, None, None)
    except TypeError:
        return False
    return True


def _checked_order(method: str, order: Any, rows: int, columns: int) -> np.ndarray:
    labels = np.asarray(order)
    if labels.shape != (rows, columns) or sorted(labels.flat) != list(range(rows * columns)):
        raise CLASS_ORDERS.returned(method, order, f"{rows} rows and {columns} columns")
    return labels.astype(int)


def _checked_distances(method: str, table: Any, classes: int) -> np.ndarray:
    distances = np.asarray(table)
    if not _are_distances(distances, classes):
        raise CLASS_ORDERS.returned(method, table, f"{classes} classes")
    return distances


def _are_distances(table: np.ndarray, classes: int) -> bool:
    return (
        table.shape == (classes, classes)
        and np.issubdtype(table.dtype, np.number)
        and bool(np.isfinite(table).all())
        and np.allclose(table, table.T)
    )


def auto(dataset: Dataset, rows: int, columns: int) -> np.ndarray:
    """The published order where one is known, else that of the classes' mean images."""
    published = published_order(dataset.name, rows, columns)
    return order_from_distances(means(dataset), rows, columns) if published is None else published


def sequential(dataset: Dataset, rows: int, columns: int) -> np.ndarray:
    """By label, row by row."""
    del dataset
    return np.arange(rows * columns).reshape(rows, columns)


def published_order(dataset: str, rows: int, columns: int) -> np.ndarray | None:
    """The order that PoDD's text distances give, where it was published."""
    found = _PUBLISHED.get((dataset, rows, columns))
    return None if found is None else np.array(found)


def order_from_distances(distances: np.ndarray, rows: int, columns: int) -> np.ndarray:
    """Walk the grid by anti-diagonals; each cell takes the class nearest to its already placed 4-neighbours.

    The first cell takes class 0; of equally near classes the lowest is taken.
    """
    order = np.full((rows, columns), -1)
    remaining = list(range(rows * columns))
    cells = sorted(((r, c) for r in range(rows) for c in range(columns)), key=lambda cell: (sum(cell), cell[0]))
    for row, column in cells:
        around = [(row - 1, column), (row, column - 1), (row + 1, column), (row, column + 1)]
        placed = [order[r, c] for r, c in around if 0 <= r < rows and 0 <= c < columns and order[r, c] >= 0]
        chosen = min(remaining, key=lambda label: (sum(distances[label, other] for other in placed), label))
        order[row, column] = chosen
        remaining.remove(chosen)
    return order


def distance_table(path: str, classes: int) -> np.ndarray:
    """A `K × K` table of distances from a `.csv` or `.npy` file."""
    try:
        table = np.load(path, allow_pickle=False) if path.endswith(".npy") else np.loadtxt(path, delimiter=",", ndmin=2)
    except (OSError, ValueError) as error:
        raise BadInput(f"class_order {path!r} is no readable distance table: {error}") from None
    if not _are_distances(table, classes):
        raise BadInput(
            f"class_order {path!r} is a table of shape {table.shape}: needed is a symmetric, finite one of "
            f"{classes} × {classes}"
        )
    return table


def _listed(text: str, rows: int, columns: int) -> np.ndarray:
    try:
        labels = [int(part) for part in text.split(",")]
    except ValueError:
        raise BadInput(f"class_order {text!r} is no list of labels such as 0,8,5,7,4,1,9,3,2,6") from None
    if sorted(labels) != list(range(rows * columns)):
        raise BadInput(f"class_order {text!r} must name each label from 0 to {rows * columns - 1} once, row by row")
    return np.array(labels).reshape(rows, columns)
