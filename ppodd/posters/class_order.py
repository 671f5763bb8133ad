"""PoCO: which class goes where on the poster, similar classes next to each other (PoDD, section 3.2)."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import torch

from ppodd.datasets import Dataset
from ppodd.errors import BadInput, unknown

CLASS_ORDERS = ("auto", "clip", "means", "sequential")
_CLIP = "openai/clip-vit-base-patch32"
# Orders that PoDD's text distances give, where they were published: (data set, rows, columns).
_PUBLISHED = {("cifar10", 2, 5): [[0, 8, 5, 7, 4], [1, 9, 3, 2, 6]]}


def arrange_classes(method: str, dataset: Dataset, rows: int, columns: int) -> np.ndarray:
    """Labels `[rows, columns]` of the class grid.

    Args:
        method: `auto` (the published order where one is known, else `means`), `clip` (CLIP text distances of the class
            names), `means` (distances of the classes' mean images), `sequential`, a comma-separated list of labels row
            by row, or the path of a distance table (`.csv`, `.npy`).

    Raises:
        BadInput: the list is no permutation, the table is not square, symmetric and finite, or CLIP is not there.
    """
    classes = rows * columns
    published = published_order(dataset.name, rows, columns)
    if method == "auto" and published is not None:
        return published
    if method in ("auto", "means"):
        return order_from_distances(class_mean_distances(dataset), rows, columns)
    if method == "sequential":
        return np.arange(classes).reshape(rows, columns)
    if method == "clip":
        return order_from_distances(clip_distances(dataset.classes), rows, columns)
    if "," in method:
        return _listed(method, rows, columns)
    if method.endswith((".csv", ".npy")):
        return order_from_distances(distance_table(method, classes), rows, columns)
    raise unknown(
        "class_order", method, (*CLASS_ORDERS, "0,1,2,… (labels row by row)", "distances.csv", "distances.npy")
    )


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


def class_mean_distances(dataset: Dataset) -> np.ndarray:
    """Euclidean distances `[K, K]` between the classes' mean training images."""
    x, y = dataset.train
    means = torch.stack([x[y == label].flatten(1).double().mean(dim=0) for label in range(dataset.spec.classes)])
    return torch.cdist(means, means, compute_mode="donot_use_mm_for_euclid_dist").cpu().numpy()


def distance_table(path: str, classes: int) -> np.ndarray:
    """A `K × K` table of distances from a `.csv` or `.npy` file."""
    try:
        table = np.load(path, allow_pickle=False) if path.endswith(".npy") else np.loadtxt(path, delimiter=",", ndmin=2)
    except (OSError, ValueError) as error:
        raise BadInput(f"class_order {path!r} is no readable distance table: {error}") from None
    if table.shape != (classes, classes) or not np.isfinite(table).all() or not np.allclose(table, table.T):
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


def clip_distances(names: tuple[str, ...]) -> np.ndarray:
    """1 − cosine of CLIP's last hidden text states of the class names, padded to 77 tokens and flattened.

    The model is `openai/clip-vit-base-patch32`, or the folder that `PPODD_CLIP` names.
    """
    try:
        from transformers import CLIPTextModel, CLIPTokenizer
    except ImportError:
        raise BadInput(
            "class_order 'clip' needs transformers: pip install 'ppodd[clip]', or use --class_order means"
        ) from None
    folder = os.environ.get("PPODD_CLIP")
    place = folder or _CLIP

    def loaded(offline: bool) -> tuple[Any, Any]:
        kinds = CLIPTokenizer, CLIPTextModel
        tokenizer, model = (kind.from_pretrained(place, local_files_only=offline) for kind in kinds)
        return tokenizer, model.eval()

    try:
        try:
            tokenizer, model = loaded(offline=True)
        except OSError:
            if folder:
                raise
            from huggingface_hub import snapshot_download

            # fails at once where there is no network; the download of all tries for minutes
            snapshot_download(_CLIP, allow_patterns="config.json")
            tokenizer, model = loaded(offline=False)
    except (OSError, ValueError) as error:
        raise BadInput(
            f"class_order 'clip': cannot load {place} ({str(error).splitlines()[0]}): "
            f"set PPODD_CLIP to a local copy, or use --class_order means"
        ) from None
    with torch.no_grad():
        tokens = tokenizer(list(names), padding="max_length", max_length=77, truncation=True, return_tensors="pt")
        states = model(**tokens).last_hidden_state.flatten(1).double()
    states /= states.norm(dim=1, keepdim=True)
    return (1 - states @ states.T).numpy()
