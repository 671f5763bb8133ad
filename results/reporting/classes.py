"""The accuracy of each class, where those of the test set are of unequal size and the accuracy hides the small ones."""

from __future__ import annotations

from collections.abc import Iterable

import pandas as pd

from results.reporting.grid import Grid, grid
from results.tracking import StoredRun, schema

_MOST = 20  # classes that are shown, the worst


def class_grid(runs: Iterable[StoredRun]) -> Grid:
    """For each setting, the mean over its finished trials of each class's accuracy in the last stage, worst first."""
    found = [row for run in runs for row in _of_run(run)]
    if not found:
        return Grid([], [])
    means = pd.DataFrame(found).groupby(["setting", "trained on", "network", "steps"], dropna=False, sort=False).mean()
    worst = means.mean().sort_values(kind="stable").index[:_MOST]
    return grid(means[worst].round(1).reset_index())


def _of_run(run: StoredRun) -> list[dict[str, object]]:
    done, wanted = run.tags.get(schema.STAGES, "0/1").split("/")
    rows = []
    for (mode, arch), told in schema.classes_of(run.tags).items():
        if done == wanted == str(told.stage):
            setting = run.tags.get(schema.SETTING, run.tags[schema.KEY].partition("/")[2])
            kind = {"setting": setting, "trained on": mode, "network": arch, "steps": told.steps}
            rows.append({**kind, **told.percent})
    return rows
