"""Data sets of the Hugging Face hub, by `hf:owner/name`: fetched and kept by the library; offline, as it kept them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from ppodd.datasets.parts import Notes, Part
from ppodd.datasets.sources import HUB, Columns
from ppodd.datasets.splits import split_of
from ppodd.datasets.tables import Table, arrow_cells, library
from ppodd.errors import BadInput, one_line


def fetch(dataset: str) -> tuple[dict[str, Any], list[Path]]:
    """The splits of `hf:owner/name`, or of `hf:owner/name:configuration`, and the files that they are kept in.

    Raises:
        BadInput: the library cannot fetch it.
    """
    name, _, configuration = dataset.removeprefix(HUB).partition(":")
    if not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", name):
        raise BadInput(f"dataset {dataset!r}: write hf:owner/name, or hf:owner/name:configuration")
    try:
        splits: dict[str, Any] = library().load_dataset(name, configuration or None)
    except BadInput:
        raise
    except Exception as error:  # whatever the network or the library says
        raise BadInput(
            f"dataset {dataset!r} cannot be fetched ({one_line(error)}): give hf:owner/name, and :configuration "
            f"where it has several; without a network, fetch it to a folder and name that"
        ) from error
    return splits, [Path(kept["filename"]) for split in splits.values() for kept in split.cache_files]


def hub_parts(dataset: str, splits: dict[str, Any], columns: Columns, notes: Notes) -> list[Part]:
    """A part for each split."""
    return [
        Table(f"{dataset} ({name})", Path(), dict(split.features), partial(_cells, split)).part(
            columns, split_of(name), notes
        )
        for name, split in splits.items()
    ]


def _cells(split: Any, column: str) -> Iterator[Any]:
    return arrow_cells(split.select_columns([column]), column)
