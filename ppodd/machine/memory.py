"""Freed memory: kept where it is soon wanted again, given back to the system where it is not."""

from __future__ import annotations

import ctypes
import sys
from typing import Any

_TRIM_THRESHOLD, _MMAP_MAX = -1, -4  # mallopt's names for them (malloc.h)


def keep_freed_memory() -> bool:
    """Have glibc reuse large blocks instead of returning them to the system; returns whether it does.

    Page faults would otherwise cost a CPU more than its arithmetic.

    A tensor above `M_MMAP_THRESHOLD` (32 MiB at most) is mapped afresh each time, and a shrinking heap is trimmed; each
    page of the next tensor then faults and is zeroed. So: no mappings, no trimming. For the whole process; the peak
    of its memory stays its own until it ends. Calling it again changes nothing.
    """
    mallopt = _glibc("mallopt")
    return bool(mallopt and mallopt(_MMAP_MAX, 0) and mallopt(_TRIM_THRESHOLD, 2**31 - 1))


def return_freed_memory() -> bool:
    """Have glibc give freed memory back to the system now; returns whether it has given any.

    Each thread has a heap of its own, which keeps what the thread once needed. A process that many threads ask for
    large things, such as the coordinator, would keep that many times the largest. It takes about a tenth of a second.
    """
    trim = _glibc("malloc_trim")
    return bool(trim and trim(0))


def _glibc(name: str) -> Any:
    """A function of glibc; `None` on another system, or where there is another C library."""
    if sys.platform != "linux":
        return None
    try:
        return getattr(ctypes.CDLL("libc.so.6"), name)
    except (OSError, AttributeError):
        return None
