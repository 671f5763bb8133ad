"""Names of sweeps, trials and runs: each is a folder of the archive, so one rule holds for all of them."""

from __future__ import annotations

import re
from collections.abc import Collection

from ppodd.errors import BadInput

RUNS = "runs"  # folder of the runs in an archive that belong to no sweep
_RULE = "letters, digits and _ . = , + - (the first a letter, a digit or _)"
_CHARACTERS = re.compile(r"\w[\w.=,+-]*")
_LONGEST_BYTES = 240  # a file's name has 255 at most, and a report's is this name with an ending
# What an archive, or a sweep's folder in it, keeps beside sweeps and trials.
_KEPT = {RUNS, "protocols", "sweep.json", "driver.json", "hours.json", "mlflow-artifacts", "accuracy-vs-ipc.png"}
_STORE = "mlflow.db"  # and what SQLite puts beside it
STAGE_NAME = re.compile(r"stage-\d\d+")  # of a stage's folder in a trial's, by which users name it


def check_name(name: str) -> str:
    """`name`, where a sweep, a trial or a run may be called so.

    Raises:
        BadInput: it is a path, hidden, too long, or kept for the archive's own files.
    """
    folded = name.casefold()  # on many disks, names that differ in case only are one
    if folded in _KEPT or folded.startswith(_STORE) or STAGE_NAME.fullmatch(folded):
        raise BadInput(f"name={name!r}: the archive keeps files of its own there; choose another name", "name")
    if not _CHARACTERS.fullmatch(name):
        raise BadInput(f"name={name!r}: a name is a folder of the archive: write {_RULE}", "name")
    if len(name.encode()) > _LONGEST_BYTES:
        raise BadInput(
            f"name={shortened(name, 40)!r}…: a name is a folder of the archive: at most {_LONGEST_BYTES} bytes, "
            f"not {len(name.encode())}",
            "name",
        )
    return name


def check_twin(name: str, there: Collection[str]) -> None:
    """Raise `BadInput` where one of the names that are there differs from a new one in case only."""
    for other in there if name not in there else ():
        if other.casefold() == name.casefold():
            raise BadInput(
                f"name={name!r}: {other!r} is there, and on many disks the two are one folder; choose another name",
                "name",
            )


def as_name(text: str) -> str:
    """Any text as a name: what no name may hold is a dash, what is too long is cut."""
    name = re.sub(r"[^\w.=,+-]", "-", text).lstrip(".=,+-") or "run"
    return shortened(f"run-{name}" if STAGE_NAME.fullmatch(name.casefold()) else name, _LONGEST_BYTES)


def shortened(text: str, most_bytes: int = _LONGEST_BYTES) -> str:
    """The beginning of a text, as many whole characters as so many bytes hold."""
    return text.encode()[:most_bytes].decode(errors="ignore")
