"""One tidy table of everything measured: a row per trial × stage × mode × architecture × protocol × training budget."""

from __future__ import annotations

import json
from collections.abc import Sequence

import pandas as pd

from ppodd.config import CIRCUMSTANCES, DistillConfig
from ppodd.datasets import is_path
from ppodd.errors import BadInput, unknown
from ppodd.posters import Geometry
from ppodd.words import counted
from results.analysis.baselines import OF_FULL_DATA, OVER_RANDOM, PREPARED, with_baselines
from results.analysis.selection import Chosen, choose, listed
from results.analysis.statistics import ENOUGH_SEEDS, t_quantile
from results.tracking import StoredRun, schema

_DTYPES = {int: "int64", float: "float64", bool: "bool"}
# Fields that tell settings apart beside those that vary on purpose; not settings themselves.
NOT_SETTINGS = frozenset({"seed", *CIRCUMSTANCES})

SIZE = ("poster_width", "poster_height")
_LAYOUT = (set(Geometry._fields) | {"distill_batch_size"}) - set(SIZE)  # what is chosen along with it
KINDS = ("mode", "eval_arch", "protocol", "origin")

MEASURED = {
    "sweep": "object",
    "trial": "object",
    "run_id": "object",
    "status": "object",
    "leaks_test_set": "bool",
    "stage": "int64",
    "mode": "object",
    "eval_arch": "object",
    "protocol": "object",
    "origin": "object",
    "steps": "int64",
    "accuracy_pct": "float64",
    "std_pct": "float64",
    "nets": "int64",
    "poster_ipc": "float64",
    "cumulative_ipc": "float64",
    "storage_bytes": "int64",
    "meta_steps": "int64",
    "distill_seconds": "float64",
    "meta_loss": "float64",
    "stage_accuracy_pct": "float64",
    "balanced_pct": "float64",
    OVER_RANDOM: "float64",
    OF_FULL_DATA: "float64",
}
_AVERAGED = ("nets", "poster_ipc", "cumulative_ipc", "meta_steps", "distill_seconds")  # beside the accuracy
_PER_STAGE = {
    "poster_ipc": schema.POSTER_IPC,
    "cumulative_ipc": schema.CUMULATIVE_IPC,
    "storage_bytes": schema.STORAGE,
    "meta_steps": schema.META_STEPS,
    "distill_seconds": schema.DISTILL_SECONDS,
    "meta_loss": schema.META_LOSS,
    "stage_accuracy_pct": schema.STAGE_ACCURACY,
}


def frame(tracking_uri: str, sweeps: Sequence[str] | None = None, filter_string: str = "") -> pd.DataFrame:
    """Every test accuracy of these sweeps (default: all), with its budgets and the whole config of its trial.

    Columns are those of `MEASURED` and one for each config field. `protocol` says where an evaluation departs from the
    settings of the distillation, such as `nets=3`; it is empty where it does not. Without results the frame is empty.

    Raises:
        BadInput: as `results.runs.choose`.
    """
    return frame_of(choose(tracking_uri, sweeps, filter_string))


def frame_of(chosen: Chosen) -> pd.DataFrame:
    """The frame of trials that were chosen already."""
    values = chosen.metrics
    rows = _accuracies(values).merge(_of_runs(chosen.trials), on="run_id")
    for column, key in _PER_STAGE.items():
        # a stage that is being written has no results: an inner join leaves out what is without its budgets
        unknown_of_imported = column in ("distill_seconds", "meta_loss")
        on = ["run_id", "stage"]
        rows = rows.merge(_metric(values, key, column), on=on, how="left" if unknown_of_imported else "inner")
    rows = rows.merge(_protocols(chosen.trials), on=["run_id", "suffix"], how="left")
    rows["protocol"] = rows["protocol"].fillna(rows["suffix"])
    latest = rows["mode"] == "latest"  # draws on one poster, whatever the stage's blend
    rows.loc[latest, "storage_bytes"] *= rows["poster_ipc"] / rows["cumulative_ipc"]
    rows.loc[latest, "cumulative_ipc"] = rows["poster_ipc"]
    config = [name for name in rows.columns if name in DistillConfig.model_fields and name not in MEASURED]
    if rows.empty:
        return pd.DataFrame({name: pd.Series(dtype=dtype) for name, dtype in {**MEASURED, **_config_dtypes()}.items()})
    rows = with_baselines(rows)
    order = ["sweep", "trial", "stage", "mode", "eval_arch", "protocol", "steps"]
    return rows[[*MEASURED, *config]].astype(MEASURED).sort_values(order, kind="stable", ignore_index=True)


def _config_dtypes() -> dict[str, str]:
    fields = DistillConfig.model_fields.items()
    return {k: _DTYPES.get(f.annotation, "object") for k, f in fields if k not in MEASURED}  # type: ignore[arg-type]


def _metric(values: pd.DataFrame, key: str, column: str) -> pd.DataFrame:
    """One metric: `run_id`, `stage` and its value as `column`."""
    return values[values["key"] == key][["run_id", "stage", "value"]].rename(columns={"value": column})


def _accuracies(values: pd.DataFrame) -> pd.DataFrame:
    """A row for each test accuracy, with its std and balanced accuracy (NaN where there is none) and its networks."""
    keys = {key: accuracy for key in values["key"].unique() if (accuracy := schema.AccuracyMetric.parse(key))}
    named = [
        {"key": key, "mode": a.mode, "eval_arch": a.arch, "suffix": a.protocol, "steps": a.steps, "std": a.std,
         "of": a.nets, "even": a.balanced}
        for key, a in keys.items()
    ]  # fmt: skip
    columns = ["key", "mode", "eval_arch", "suffix", "steps", "std", "of", "even"]
    means = values.merge(pd.DataFrame(named, columns=columns), on="key").rename(columns={"value": "accuracy_pct"})
    stds = values.rename(columns={"key": "std", "value": "std_pct"})
    nets = values.rename(columns={"key": "of", "value": "nets"})
    balanced = values.rename(columns={"key": "even", "value": "balanced_pct"})
    means = means.merge(stds, on=["run_id", "stage", "std"], how="left")
    means = means.merge(balanced, on=["run_id", "stage", "even"], how="left")
    return means.merge(nets, on=["run_id", "stage", "of"])


def _of_runs(runs: list[StoredRun]) -> pd.DataFrame:
    """What a run says of all its rows: its place, its status, its config."""
    rows, data = [], _data(runs)
    for run in runs:
        sweep, trial = run.tags[schema.KEY].split("/", 1)
        rows.append(
            {
                **schema.config_values(run.params),
                **data.get(run.id, {}),
                "sweep": sweep,
                "trial": trial,
                "run_id": run.id,
                "status": run.tags.get(schema.STATUS, "running"),
                "origin": run.tags.get(schema.ORIGIN, "distilled"),
                "leaks_test_set": json.loads(run.tags.get(schema.LEAKS, "false")),
            }
        )
    return pd.DataFrame(rows, columns=None if rows else ["run_id"])


def _data(runs: list[StoredRun]) -> dict[str, dict[str, str]]:
    """For runs on data at a path what it is called: as where it lay first, wherever data of its digest lies now.

    Other data at the same path, prepared alike, is another data set: its digest tells it.
    """
    named: dict[str, str] = {}
    first: dict[tuple[str | None, ...], str] = {}
    found: dict[str, dict[str, str]] = {}
    for run in runs:
        path, digest = run.params.get("dataset", ""), run.tags.get(schema.DATA)
        if digest and is_path(path):
            prepared = tuple(run.params.get(name) for name in PREPARED)
            other = first.setdefault(prepared, digest) != digest
            found[run.id] = {"dataset": named.setdefault(digest, f"{path} ({digest[:8]})" if other else path)}
    return found


def _protocols(runs: list[StoredRun]) -> pd.DataFrame:
    """What the protocols of each run depart in, by the suffix of their metrics."""
    rows = [(run.id, suffix, text) for run in runs for suffix, text in schema.departures(run.tags).items()]
    return pd.DataFrame(rows, columns=["run_id", "suffix", "protocol"])


def varied(table: pd.DataFrame) -> list[str]:
    """Config fields of which the table holds several values, seeds and circumstances left out.

    So is what has one value in each method, where there are several: it goes along with the method. So is what of the
    layout has one value for each size of the poster.
    """
    if "run_id" in table.columns:
        table = table.drop_duplicates("run_id")  # all rows of a trial have its config
    fields = [c for c in table.columns if c not in MEASURED and c not in NOT_SETTINGS]
    found = [name for name in fields if len(set(map(str, table[name]))) > 1]
    if size := [name for name in SIZE if name in found]:
        of_size = table[found].map(str).groupby(size).nunique()
        found = [name for name in found if name not in _LAYOUT or (of_size[name] > 1).any()]
    if "method" not in found:
        return found
    texts = table[found].map(str)
    return [n for n in found if n == "method" or (texts.groupby(texts["method"])[n].nunique() > 1).any()]


def settings(table: pd.DataFrame) -> list[str]:
    """The varied fields that tell settings of one pixel budget apart: the poster's size only where IPC does not."""
    size = [] if _determined(table, "poster_ipc", [*SIZE]) else [*SIZE]
    return [name for name in varied(table) if name not in SIZE or name in size]


def kinds(table: pd.DataFrame) -> list[str]:
    """What tells kinds of evaluation apart, where the table holds several."""
    return [name for name in KINDS if table[name].nunique() > 1]


def own_networks(table: pd.DataFrame) -> pd.Series:
    """The network that each row's poster was distilled for, as `eval_arch` names it."""
    return table["arch"].map(schema.network)


def _determined(table: pd.DataFrame, by: str, names: list[str]) -> bool:
    return not len(table) or bool((table.groupby(table[by].round(4))[names].nunique() <= 1).all(axis=None))


def trial_keys(table: pd.DataFrame) -> pd.Series:
    """Which trial each row is of: names are a sweep's own."""
    return table["sweep"] + "/" + table["trial"]


def by_seed(table: pd.DataFrame, keys: Sequence[str]) -> pd.DataFrame:
    """A row for each group of `keys` and seed: the mean accuracy and budgets of that seed's trials."""
    means = {name: (name, "mean") for name in ("accuracy_pct", *_AVERAGED) if name not in keys}
    return table.groupby([*keys, "seed"], dropna=False).agg(**means).reset_index()


def over_seeds(table: pd.DataFrame, keys: Sequence[str]) -> pd.DataFrame:
    """A row for each group of `keys`: mean, std and 95% interval over seeds of the accuracy in percent, and budgets.

    Several rows of one seed count once, as their mean: what is not in `keys` is pooled, seeds alone make the spread.
    One seed gives no std, fewer than three no interval (NaN); `seeds` says how many there were.
    """
    keys = list(keys)
    a_seed = by_seed(table, keys)
    budgets = [name for name in _AVERAGED if name not in keys]
    groups = a_seed.groupby(keys, dropna=False)
    spread = {
        "accuracy_pct": ("accuracy_pct", "mean"),
        "std_pct": ("accuracy_pct", "std"),
        "seeds": ("seed", "nunique"),
    }
    cells = groups.agg(**spread, **{name: (name, "mean") for name in budgets}).reset_index()
    reach = {n: t_quantile(n) / n**0.5 for n in set(cells["seeds"]) if n >= ENOUGH_SEEDS}
    half = cells["std_pct"] * cells["seeds"].map(reach)
    cells = cells.assign(low_pct=cells["accuracy_pct"] - half, high_pct=cells["accuracy_pct"] + half)
    columns = ["accuracy_pct", "std_pct", "low_pct", "high_pct", "seeds", *budgets]
    return cells[[*keys, *columns]].astype({"nets": "int64"} if "nets" in cells else {})


def where(table: pd.DataFrame, conditions: Sequence[str]) -> pd.DataFrame:
    """The rows that meet every `column=value`, such as `mode=blend`; values of one column given twice are alternatives.

    Raises:
        BadInput: no such column, or no such value in it.
    """
    wanted: dict[str, list[str]] = {}
    for condition in conditions:
        name, equals, value = condition.partition("=")
        if not equals:
            raise BadInput(f"--where {condition!r}: write FIELD=VALUE, such as mode=latest or num_stages=4")
        if name not in table.columns:
            raise unknown("field", name, [*varied(table), *kinds(table), "stage", "steps", "sweep"])
        wanted.setdefault(name, []).append(value)
    for name, values in wanted.items():
        texts = table[name].map(str)
        for value in values:
            if value not in set(texts):
                there = sorted(table[name].unique(), key=lambda v: (str(type(v)), v))
                raise BadInput(f"--where {name}={value} matches nothing (there: {listed(there)})")
        table = table[texts.isin(values)]
    return table


def last_stages(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of each finished trial's last stage."""
    return table[table["stage"] == table["num_stages"]] if len(table) else table


def timed(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of trials whose seconds are known; those of imported posters are not. Raises `BadInput` without any."""
    rows = table[table["distill_seconds"].notna()]
    if len(table) and rows.empty:
        raise BadInput("how long these posters took is not known (they were imported): compare at meta_steps")
    return rows


def chosen_steps(table: pd.DataFrame, steps: int | None) -> pd.DataFrame:
    """The rows of one training budget: the one asked for, else the largest of those that most trials have.

    Raises:
        BadInput: nothing was measured at that budget, or nothing at all.
    """
    if table.empty:
        raise BadInput("no finished results yet: wait for the sweep, or run `ppodd results sync`")
    there = sorted(table["steps"].unique())
    if steps is not None and steps not in there:
        raise BadInput(f"no results at {steps} training steps (there: {', '.join(map(str, there))})")
    trials = trial_keys(table).groupby(table["steps"]).nunique()
    return table[table["steps"] == (steps or trials[trials == trials.max()].index.max())]


def remarks(table: pd.DataFrame) -> list[str]:
    """What must be said beside any summary of these rows, a line each; `table` holds every stage."""
    notes = []
    apart = (table["balanced_pct"] - table["accuracy_pct"]).abs() if "balanced_pct" in table else pd.Series(dtype=float)
    if (apart >= schema.TELLING_PCT).any():
        notes.append(
            "classes of the test set are of unequal size, and accuracy is mostly that of the large ones: `balanced` "
            "(balanced_pct) counts each class alike; that of each class is in the report"
        )
    names = table["trial"] if table["sweep"].nunique() < 2 else trial_keys(table)
    behind = ~names.isin(set(names[table.index.isin(last_stages(table).index)]))
    stopped = table["status"] == "stopped"
    if unfinished := sorted(set(names[behind & ~stopped])):
        many = counted(len(unfinished), "trial")
        notes.append(f"{many} without results of the last stage (yet): {listed(unfinished, 3)}")
    if early := sorted(set(names[behind & stopped])):
        notes.append(f"{counted(len(early), 'trial')} stopped early, before the last stage: {listed(early, 3)}")
    if len(table) and table["leaks_test_set"].any():
        leaking = sorted(set(names[table["leaks_test_set"]]))
        notes.append(
            f"LEAKING: the test set chose blend or poster of {counted(len(leaking), 'trial')}: {listed(leaking, 3)}"
        )
    return notes
