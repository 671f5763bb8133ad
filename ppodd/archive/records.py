"""What the records of the archive hold. Accuracies are percent."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

SCHEMA = 1


def summary(values: Sequence[float]) -> dict[str, Any]:
    """Mean, sample standard deviation (`None` for one value) and the values of a set of networks."""
    std = statistics.stdev(values) if len(values) > 1 else None
    return {"mean": statistics.fmean(values), "std": std, "values": list(values)}
