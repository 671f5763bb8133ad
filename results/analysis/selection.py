"""Which trials of a store are meant: by sweep, by MLflow filter; and what is there where none is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import pandas as pd

from ppodd.errors import BadInput
from results.tracking import Store, StoredRun, all_runs, read, schema

_VALUES, _FIELDS = 8, 6  # shown in a message


class Chosen(NamedTuple):
    """The store and the runs of the trials that were asked for.

    Attributes:
        parents: the parent runs of the sweeps, by name.
        begun: how many trials of each sweep the store holds, those not asked for too.
        metrics: every value of the runs: `run_id`, `key`, `stage`, `value`.
    """

    store: Store
    trials: list[StoredRun]
    parents: dict[str, StoredRun]
    begun: dict[str, int]
    metrics: pd.DataFrame


def choose(tracking_uri: str, sweeps: Sequence[str] | None = None, filter_string: str = "") -> Chosen:
    """The trials of these sweeps (default: all) that an MLflow filter such as `params.blend = 'dynamic'` lets through.

    Experiments that are no sweeps of ppodd are passed over, unless one was asked for by name.

    Raises:
        BadInput: the store or a sweep is not there, the filter cannot be read or matches no trial, or a trial was
            logged under another schema.
    """
    store = Store(tracking_uri)
    experiments = {found.name: found.id for found in store.experiments()}
    for sweep in sweeps or ():
        if sweep not in experiments:
            there = ", ".join(sorted(experiments.keys() - {"Default"})) or "none"
            raise BadInput(f"no sweep {sweep!r} in {tracking_uri} (there: {there})")
    names = {i: name for name, i in experiments.items() if sweeps is None or name in sweeps}
    runs, metrics = read(store, list(names))
    for sweep in set(sweeps or ()) - {names[run.experiment] for run in runs}:
        raise BadInput(f"experiment {sweep!r} in {tracking_uri} holds no runs of ppodd: name one that a sweep wrote")
    trials = [run for run in runs if schema.PARENT in run.tags]
    begun = Counter(run.tags[schema.KEY].split("/")[0] for run in trials)
    if filter_string:
        trials = _filtered(store, list(names), trials, filter_string)
    for run in trials:
        if (found := run.tags.get(schema.SCHEMA_TAG)) != schema.SCHEMA:
            raise BadInput(
                f"run {run.tags[schema.KEY]!r} in {tracking_uri} has schema {found}, this ppodd reads "
                f"{schema.SCHEMA}: sync the archive into a new store, or choose others with --sweep"
            )
    parents = {run.tags[schema.KEY]: run for run in runs if schema.PARENT not in run.tags}
    return Chosen(store, trials, parents, begun, metrics)


def _filtered(store: Store, experiments: list[str], trials: list[StoredRun], filter_string: str) -> list[StoredRun]:
    from mlflow.exceptions import MlflowException

    try:
        passed = {run.info.run_id for run in all_runs(store.client, experiments, filter_string)}
    except MlflowException as error:
        raise BadInput(
            f"--filter {filter_string!r}: {str(error).splitlines()[0]}; write it as MLflow does, "
            f"such as \"params.blend = 'dynamic' and metrics.poster_ipc < 0.7\""
        ) from None
    chosen = [run for run in trials if run.id in passed]
    if trials and not chosen:
        raise BadInput(f"--filter {filter_string!r} matches none of {len(trials)} trials (there: {_there(trials)})")
    return chosen


def _there(trials: list[StoredRun]) -> str:
    """The params that vary over the trials, with their values: what a filter could name."""
    values: dict[str, list[str]] = {}
    for run in trials:
        for name, value in run.params.items():
            if name != "name" and value not in values.setdefault(name, []):
                values[name].append(value)
    varied = {name: sorted(there) for name, there in values.items() if len(there) > 1} or {
        name: values[name] for name in ("dataset", "blend", "num_stages") if name in values
    }
    shown = [f"params.{name}: {listed(there)}" for name, there in sorted(varied.items())[:_FIELDS]]
    return "; ".join(shown) + ("; …" if len(varied) > _FIELDS else "")


def listed(values: Sequence[object], most: int = _VALUES) -> str:
    """The first values, and how many more there are."""
    rest = len(values) - most
    return ", ".join(map(str, values[:most])) + (f" and {rest} more" if rest > 0 else "")
