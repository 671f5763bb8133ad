"""Which instructions the processor has."""

from __future__ import annotations

import functools
from pathlib import Path


@functools.cache
def instructions() -> frozenset[str]:
    """Names of its instruction sets as Linux has them (`avx512_bf16`); none where the system does not say."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return frozenset()
    named = (line.partition(":")[2] for line in lines if line.startswith(("flags", "Features")))
    return frozenset(next(named, "").split())
