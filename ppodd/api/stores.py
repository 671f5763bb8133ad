"""Results of sweeps and runs as frames, comparisons and pictures, read as the commands read them."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ppodd.api.pictures import ShownImage
from ppodd.api.runs import ARCHIVE

if TYPE_CHECKING:
    import pandas as pd

    from results.analysis import Comparison


def results(
    archive: str | Path = ARCHIVE,
    sweeps: str | Sequence[str] | None = None,
    where: Sequence[str] = (),
    tracking_uri: str | None = None,
) -> pd.DataFrame:
    """Everything measured: a row per trial × stage × mode × network × training budget, as `ppodd results table -o` has.

    What the archive has and MLflow has not is brought there first.

    Args:
        sweeps: these only (default: all, and the runs that belong to none: `runs`).
        where: conditions such as `"mode=latest"`.
        tracking_uri: MLflow store (default: that of the archive).
    """
    from results.analysis import frame
    from results.analysis import where as kept
    from results.tracking import default_tracking_uri, sync

    names = [sweeps] if isinstance(sweeps, str) else sweeps
    uri = tracking_uri or default_tracking_uri(str(archive))
    sync(str(archive), uri, list(names) if names else None)
    return kept(frame(uri, names), list(where))


def compare(
    rows: pd.DataFrame | str | Path,
    by: str,
    at: str = "poster_ipc",
    steps: int | None = None,
    against: str | None = None,
) -> Comparison:
    """Values of one setting side by side at an equal budget, with paired tests, as `ppodd results compare` does.

    Args:
        rows: what `results` gave, or an archive.
        by: a config field such as `blend` or `num_stages`, or `mode`, `eval_arch`, `sweep`.
        at: the budget held equal: `poster_ipc`, `cumulative_ipc`, `meta_steps` or `seconds`.
        steps: the training budget (default: the largest that most trials have).
        against: test every value against this one (default: all pairs).
    """
    from results.analysis import compare as compared

    return compared(_frame(rows), by, at, steps, against)


def curve(
    rows: pd.DataFrame | str | Path, x: str = "poster_ipc", by: Sequence[str] | None = None, steps: int | None = None
) -> ShownImage:
    """Accuracy against a budget, stages or compute, as `ppodd results curve` draws it.

    Args:
        rows: what `results` gave, or an archive.
        x: `poster_ipc`, `cumulative_ipc`, `num_stages`, `stage`, `steps`, `meta_steps` or `seconds`.
        by: a line for each value of these fields (default: all that vary).
    """
    from results.reporting import curve as drawn

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "curve.png")
        drawn(_frame(rows), str(path), x, list(by) if by is not None else None, steps)
        return ShownImage(path.read_bytes())


def _frame(rows: pd.DataFrame | str | Path) -> pd.DataFrame:
    return results(rows) if isinstance(rows, (str, Path)) else rows
