"""One tidy table of everything measured: a row per trial × stage × mode × architecture × protocol × training budget."""

from __future__ import annotations

import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pandas as pd

from ppodd.config import CIRCUMSTANCES, DistillConfig
from ppodd.errors import BadInput, unknown
from results import schema
from results.runs import Chosen, choose, listed
from results.statistics import t_quantile

_ALL = 10**9  # history entries a query may return
_DTYPES = {int: "int64", float: "float64", bool: "bool"}
# Fields that tell settings apart beside those that vary on purpose; not settings themselves.
NOT_SETTINGS = frozenset({"seed", *CIRCUMSTANCES})

SIZE = ("poster_width", "poster_height")
KINDS = ("mode", "eval_arch", "protocol")

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
    client, runs, _ = chosen
    history = histories(client, {run.info.run_id: [key for key in run.data.metrics if _wanted(key)] for run in runs})
    rows = [row for run in runs for row in _rows(run, history.get(run.info.run_id, {}))]
    if not rows:
        return pd.DataFrame({name: pd.Series(dtype=dtype) for name, dtype in {**MEASURED, **_config_dtypes()}.items()})
    table = pd.DataFrame(rows).astype(MEASURED)
    order = ["sweep", "trial", "stage", "mode", "eval_arch", "protocol", "steps"]
    return table.sort_values(order, kind="stable", ignore_index=True)


def _config_dtypes() -> dict[str, str]:
    fields = DistillConfig.model_fields.items()
    return {k: _DTYPES.get(f.annotation, "object") for k, f in fields if k not in MEASURED}  # type: ignore[arg-type]


def _wanted(key: str) -> bool:
    return key in _PER_STAGE.values() or key.startswith("test_accuracy/")


History = dict[str, dict[str, dict[int, float]]]  # run → metric → stage → value


def histories(client: Any, wanted: dict[str, list[str]]) -> History:
    """Metric histories of all runs: one query a metric where the store can, else one a run and metric, in parallel."""
    found: History = {}
    store = getattr(client._tracking_client, "store", None)
    if store is not None and hasattr(store, "get_metric_history_bulk"):
        run_ids = list(wanted)
        for key in sorted({key for keys in wanted.values() for key in keys}):
            for start in range(0, len(run_ids), 500):
                for metric in store.get_metric_history_bulk(run_ids[start : start + 500], key, _ALL):
                    found.setdefault(metric.run_id, {}).setdefault(key, {})[metric.step] = metric.value
        return found
    with ThreadPoolExecutor(8) as pool:
        pairs = [(run_id, key) for run_id, keys in wanted.items() for key in keys]
        for (run_id, key), metrics in zip(pairs, pool.map(lambda p: client.get_metric_history(*p), pairs), strict=True):
            in_time = sorted(metrics, key=lambda metric: metric.timestamp)  # the latest value of a stage counts
            found.setdefault(run_id, {})[key] = {metric.step: metric.value for metric in in_time}
    return found


def _rows(run: Any, history: dict[str, dict[int, float]]) -> list[dict[str, Any]]:
    tags = run.data.tags
    sweep, trial = tags[schema.KEY].split("/", 1)
    fixed = {
        "sweep": sweep,
        "trial": trial,
        "run_id": run.info.run_id,
        "status": tags.get(schema.STATUS, "running"),
        "leaks_test_set": json.loads(tags.get(schema.LEAKS, "false")),
        **{k: v for k, v in schema.config_values(run.data.params).items() if k not in MEASURED},
    }
    protocols = schema.departures(tags)
    rows = []
    for metric, by_stage in history.items():
        accuracy = schema.Accuracy.parse(metric)
        if accuracy is None:
            continue
        for stage, value in by_stage.items():
            if any(stage not in history.get(key, {}) for key in (*_PER_STAGE.values(), accuracy.nets)):
                continue  # being written: without its budgets an accuracy is no result
            per_stage = {column: history[key][stage] for column, key in _PER_STAGE.items()}
            if accuracy.mode == "latest":  # draws on one poster, whatever the stage's blend
                per_stage["storage_bytes"] *= per_stage["poster_ipc"] / per_stage["cumulative_ipc"]
                per_stage["cumulative_ipc"] = per_stage["poster_ipc"]
            rows.append(
                {
                    **fixed,
                    "stage": stage,
                    "mode": accuracy.mode,
                    "eval_arch": accuracy.arch,
                    "protocol": protocols.get(accuracy.protocol, accuracy.protocol),
                    "steps": accuracy.steps,
                    "accuracy_pct": value,
                    "std_pct": history.get(accuracy.std, {}).get(stage, float("nan")),
                    "nets": history[accuracy.nets][stage],
                    **per_stage,
                }
            )
    return rows


def varied(table: pd.DataFrame) -> list[str]:
    """Config fields of which the table holds several values, seeds and circumstances left out."""
    fields = [c for c in table.columns if c not in MEASURED and c not in NOT_SETTINGS]
    return [name for name in fields if table[name].map(str).nunique() > 1]


def settings(table: pd.DataFrame) -> list[str]:
    """The varied fields that tell settings of one pixel budget apart: the poster's size only where IPC does not."""
    size = [] if _determined(table, "poster_ipc", [*SIZE]) else [*SIZE]
    return [name for name in varied(table) if name not in SIZE or name in size]


def kinds(table: pd.DataFrame) -> list[str]:
    """What tells kinds of evaluation apart, where the table holds several."""
    return [name for name in KINDS if table[name].nunique() > 1]


def _determined(table: pd.DataFrame, by: str, names: list[str]) -> bool:
    return not len(table) or bool((table.groupby(table[by].round(4))[names].nunique() <= 1).all(axis=None))


def by_seed(table: pd.DataFrame, keys: Sequence[str]) -> pd.DataFrame:
    """A row for each group of `keys` and seed: the mean accuracy and budgets of that seed's trials."""
    means = {name: (name, "mean") for name in ("accuracy_pct", *_AVERAGED) if name not in keys}
    return table.groupby([*keys, "seed"], dropna=False).agg(**means).reset_index()


def over_seeds(table: pd.DataFrame, keys: Sequence[str]) -> pd.DataFrame:
    """A row for each group of `keys`: mean, std and 95% interval over seeds of the accuracy in percent, and budgets.

    Several rows of one seed count once, as their mean: what is not in `keys` is pooled, seeds alone make the spread.
    One seed gives no std and no interval (NaN); `seeds` says how many there were.
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
    reach = {n: t_quantile(n) / n**0.5 for n in set(cells["seeds"]) - {1}}
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


def chosen_steps(table: pd.DataFrame, steps: int | None) -> pd.DataFrame:
    """The rows of one training budget: the one asked for, else the largest.

    Raises:
        BadInput: nothing was measured at that budget, or nothing at all.
    """
    if table.empty:
        raise BadInput("no finished results yet: wait for the sweep, or run `ppodd results sync`")
    there = sorted(table["steps"].unique())
    if steps is not None and steps not in there:
        raise BadInput(f"no results at {steps} training steps (there: {', '.join(map(str, there))})")
    return table[table["steps"] == (steps or there[-1])]


def remarks(table: pd.DataFrame) -> list[str]:
    """What must be said beside any summary of these rows, a line each; `table` holds every stage."""
    notes = []
    if behind := sorted(set(table["trial"]) - set(last_stages(table)["trial"])):
        shown = ", ".join(behind[:3]) + (f" and {len(behind) - 3} more" if len(behind) > 3 else "")
        notes.append(f"{len(behind)} trials have no results of their last stage (yet): {shown}")
    if len(table) and table["leaks_test_set"].any():
        notes.append("rows of the blend 'released' LEAK the test set into training")
    if departs := sorted(set(table["protocol"]) - {""}):
        notes.append(f"evaluated otherwise than distilled: {'; '.join(departs)}")
    return notes
