"""scikit-learn's embedded scans: 1,797 images of 8 × 8 grey levels from 0 to 16."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np

from ppodd.datasets.parts import Part, arrays_part


def find_digits(folder: Path) -> list[Path]:
    """Where scikit-learn keeps them, found without importing it, which takes seconds; none if it is elsewhere now."""
    del folder
    package = importlib.util.find_spec("sklearn")
    file = Path(package.origin).parent / "datasets/data/digits.csv.gz" if package and package.origin else None
    return [file] if file and file.is_file() else []


def read_digits(files: list[Path]) -> list[Part]:
    """The digits that scikit-learn brings, without files."""
    del files
    from sklearn.datasets import load_digits

    bunch = load_digits()
    pixels = np.round(bunch.images * (255 / 16)).astype(np.uint8)
    return [arrays_part("scikit-learn's digits", pixels, bunch.target.tolist(), names=tuple("0123456789"))]
