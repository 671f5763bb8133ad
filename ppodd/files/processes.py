"""Processes by machine and number: whether one that left something behind is still there."""

from __future__ import annotations

import functools
import hashlib
import os
import uuid
from pathlib import Path


@functools.cache
def this_machine() -> str:
    """What tells this machine, since it was started, and this container from others."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip() + os.readlink("/proc/self/ns/pid")
    except OSError:
        return str(uuid.getnode())


def short_machine() -> str:
    """The same, short enough for the name of a file."""
    return hashlib.sha256(this_machine().encode()).hexdigest()[:8]


def has_ended(pid: int) -> bool:
    """Whether this machine has no process of this number (any more)."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        pass
    return False
