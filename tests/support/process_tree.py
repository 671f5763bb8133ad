"""Processes found by their ancestry, or by a variable of their environment."""

import contextlib
import re
from pathlib import Path


def descendants(root):
    """The processes that a process began, and those that these began: by number, what each is called."""
    parents = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:  # it has ended
                continue
    found = [root]
    for one in found:
        found += [pid for pid, parent in parents.items() if parent == one]
    return {pid: name for pid in found[1:] if (name := called(pid))}


def marked(name, value):
    """The processes in whose environment a variable has this value, orphans too: by number, what each is called."""
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):  # it has ended, or is another user's
                if f"{name}={value}".encode() in (entry / "environ").read_bytes().split(b"\0"):
                    found[int(entry.name)] = called(entry.name)
    return found


def called(pid):
    """Its command line; empty where it has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""


def private_mib(pid="self"):
    """Memory of a process alone: what it shares with others is not its own. `None` where it has ended."""
    try:
        status = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:
        return None
    return sum(int(kib) for kib in re.findall(r"^Private_\w+: +(\d+) kB", status, re.MULTILINE)) / 1024
