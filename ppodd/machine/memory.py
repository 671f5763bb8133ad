"""Keeping freed memory in the process: page faults would otherwise cost a CPU more than its arithmetic."""

from __future__ import annotations

import ctypes
import sys

_TRIM_THRESHOLD, _MMAP_MAX = -1, -4  # mallopt's names for them (malloc.h)


def keep_freed_memory() -> bool:
    """Have glibc reuse large blocks instead of returning them to the system; returns whether it does.

    A tensor above `M_MMAP_THRESHOLD` (32 MiB at most) is mapped afresh each time, and a shrinking heap is trimmed; each
    page of the next tensor then faults and is zeroed. So: no mappings, no trimming. For the whole process; the peak
    of its memory stays its own until it ends. Calling it again changes nothing.
    """
    if sys.platform != "linux":
        return False
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):  # another C library
        return False
    return bool(mallopt(_MMAP_MAX, 0) and mallopt(_TRIM_THRESHOLD, 2**31 - 1))
