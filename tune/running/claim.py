"""A sweep's place in the archive: free, or held by this very sweep, or by another one of its name."""

from __future__ import annotations

import time
from typing import Any, NamedTuple

from ppodd.archive import Archive, SweepRecord
from ppodd.config import CIRCUMSTANCES, DistillConfig, as_of_now, check_twin
from ppodd.datasets import is_path
from ppodd.errors import BadInput
from tune.sweep_file import Sweep

_ABOUT = ("description", "preset")  # what a sweep is called in words; the trials' settings are in their configs
# follows from the rest, is compared by itself, or may change
_DERIVED = {"trials", "varied", "wanted", "created_at", "evaluation", "writer", *_ABOUT}


def check_claim(sweep: Sweep, archive: Archive, resume: bool) -> SweepRecord | None:
    """Find `sweep.json` absent, or when resuming the same, or with fewer trials: seeds or values may be added.

    Returns:
        What the archive holds of the sweep, if anything.

    Raises:
        BadInput: the archive cannot be written, or holds another sweep of this name, or this one and `resume` is off.
    """
    (archive.folder / sweep.name).require_writable()
    held = archive.sweep(sweep.name)
    if held is None:
        check_twin(sweep.name, archive.folder.names())
        return None
    mine, theirs = _contents(sweep.record()), _contents(held)
    if mine != theirs and not _adds(mine, theirs):
        raise BadInput(
            f"{archive.url} holds another sweep {sweep.name!r}: {_first_difference(mine, theirs)}; "
            f"{_way_out(sweep, mine, theirs)}"
        )
    if not resume:
        how = "finish it" if mine == theirs else "add the new trials"
        raise BadInput(
            f"{archive.url} already holds sweep {sweep.name!r}: {how} with --resume, or give this one another name"
        )
    return held


def is_news(sweep: Sweep, held: SweepRecord) -> bool:
    """Whether `sweep.json` is to be rewritten: for trials that were added, or a changed description."""
    record = sweep.record()
    mended = any(getattr(held, key) != getattr(record, key) for key in _ABOUT)
    return mended or held.trials_wanted != record.trials_wanted


def write_claim(sweep: Sweep, archive: Archive, **changes: Any) -> None:
    """Write `sweep.json`. Its date and first evaluation stay; evaluations that were added are recorded beside it."""
    held = archive.sweep(sweep.name)
    kept: dict[str, Any] = {"created_at": time.time()}
    if held:
        kept = {key: getattr(held, key) for key in ("created_at", "evaluation") if key in held.model_fields_set}
    archive.write_sweep(sweep.record().model_copy(update={**changes, **kept}))


class _Contents(NamedTuple):
    """A sweep's record without where and how it is carried out; evaluations are added to those it has.

    Attributes:
        trials: what each computes; none of a searched sweep, whose trials are suggested.
        scheduled: whether a scheduler compares them.
        rest: everything else.
    """

    trials: dict[str, Any]
    scheduled: bool
    rest: dict[str, Any]


def _contents(record: SweepRecord) -> _Contents:
    search, trials = record.search, {}
    if search:
        record = record.model_copy(update={"search": search.model_copy(update={"base": _anywhere(search.base)})})
    else:
        trials = {trial.name: _method(trial.config) for trial in record.trials}
    rest = record.model_dump(mode="json", exclude_none=True, exclude=_DERIVED)
    return _Contents(trials, record.scheduler is not None, rest)


def _method(config: dict[str, Any]) -> dict[str, Any]:
    """What a trial computes, by the fields of this version."""
    return _anywhere({n: value for n, value in as_of_now(DistillConfig, config).items() if n not in CIRCUMSTANCES})


def _anywhere(fields: dict[str, Any]) -> dict[str, Any]:
    """Data at a path is known by its digest, wherever it lies."""
    return {**fields, "dataset": "a path"} if is_path(fields.get("dataset", "digits")) else fields


def _adds(mine: _Contents, theirs: _Contents) -> bool:
    """Whether mine is theirs and more trials; a scheduler would have judged theirs in other company."""
    return mine.rest == theirs.rest and not mine.scheduled and theirs.trials.items() <= mine.trials.items()


def _way_out(sweep: Sweep, mine: _Contents, theirs: _Contents) -> str:
    """What to do instead, in words."""
    both = mine.trials.keys() & theirs.trials.keys()
    if mine.rest != theirs.rest or any(mine.trials[name] != theirs.trials[name] for name in both):
        return "give this one another name, or another --archive"
    if sweep.file.scheduler:
        why = "none can be added where a scheduler compares them"
    elif any(section.sample for section in sweep.sections):
        why = "what `sample` draws changes with the seeds and the grid"
    else:
        why = "keep all that are there to add to them"
    return f"{why}, or give this one another name: `ppodd results table --sweep {sweep.name} --sweep NAME` pools both"


def _first_difference(mine: _Contents, theirs: _Contents) -> str:
    there, here = ({**contents.rest, "trials": contents.trials} for contents in (theirs, mine))
    return _difference(here, there)


def _difference(mine: Any, theirs: Any, where: str = "") -> str:
    """The first difference of two records, in words."""
    if not (isinstance(mine, dict) and isinstance(theirs, dict)):
        return f"{where} is {theirs!r} there, {mine!r} here"
    key = next(key for key in [*theirs, *mine] if mine.get(key) != theirs.get(key))
    if where == "trials":
        inside = f"trial {key}"
    else:
        inside = f"{where}{': ' if where.startswith('trial ') else '.'}{key}" if where else key
    if key not in theirs or key not in mine:
        return f"{inside} is only {'here' if key in mine else 'there'}"
    return _difference(mine[key], theirs[key], inside)
