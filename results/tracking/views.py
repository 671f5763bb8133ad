"""Pages of MLflow that compare at once: views saved with a sweep's experiment, and links that open them.

MLflow keeps the state of its runs page (columns, order, groups, charts) in tags of the experiment, from which its own
"saved views" come; the keys below are those of MLflow 3.17. Another MLflow that does not know them shows its usual
page.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from ppodd.errors import hidden
from results.tracking import schema

if TYPE_CHECKING:
    from results.tracking.store import Store

_SAVED = "mlflow.sharedViewState."  # + the view's id: a tag of the experiment
_TABLE, _CURVES = "ppodd-settings", "ppodd-curves"
_TITLES = {_TABLE: "Settings by accuracy", _CURVES: "Accuracy against stage and IPC"}
_TRAINING = "machine_learning"  # MLflow's workspace for trainings, not for language models
LOCAL = "http://127.0.0.1:5000"  # where `mlflow ui` serves a store that no server has


class Link(NamedTuple):
    """A page of MLflow, by what it shows."""

    title: str
    url: str


def links(experiment: str, server: str = "") -> list[Link]:
    """Links to the views of an experiment (its id); without a server as MLflow's own pages hold them."""
    page = f"{server and server.rstrip('/') + '/'}#/experiments/{experiment}/runs?workflowType={_TRAINING}"
    table, curves = (f"{page}&viewStateShareKey={view}" for view in (_TABLE, _CURVES))
    return [Link(_TITLES[_TABLE], table), Link(_TITLES[_CURVES], f"{curves}&compareRunsMode=CHART")]


def links_of(store: Store, sweep: str) -> list[Link]:
    """Links to the views of a sweep, on its store's server or where `mlflow ui` will serve the store."""
    found = store.experiment(sweep)
    server = hidden(store.uri) if store.uri.startswith("http") else LOCAL
    return links(found.id, server) if found else []


def saved_views(
    modes: Sequence[str],
    metrics: Iterable[str],
    varied: Sequence[str],
    settings: Iterable[str],
    at_ms: int,
    saved: Mapping[str, str],
) -> dict[str, str]:
    """The experiment's tags that hold its views.

    Args:
        modes: how its stages are evaluated, the main one first.
        metrics: the names of those that its runs have, as far as they are known.
        varied: the fields in which its trials differ.
        settings: the tags of its runs that the table is grouped by.
        at_ms: when the views were made, as they show it.
        saved: the tags that it has.
    """
    accuracies = [schema.headline(mode) for mode in modes]
    folded = sorted({_section(name) for name in metrics} | _folded(saved.get(_SAVED + _CURVES)))
    states = {_TABLE: _table(accuracies, varied, settings), _CURVES: _curves(accuracies, folded, varied)}
    for state in states.values():
        state |= {
            "searchFilter": f"tags.`{schema.PARENT}` != ''",  # trials alone: the sweep's own run has no parent
            "orderByKey": f"metrics.`{accuracies[0]}`",
            "orderByAsc": False,
            "startTime": "ALL",
            "lifecycleFilter": "Active",
            "modelVersionFilter": "All Runs",
            "datasetsFilter": [],
        }
    return {
        _SAVED + name: json.dumps(
            {"name": _TITLES[name], "createdAt": at_ms, "updatedAt": at_ms, "state": json.dumps(state)}
        )
        for name, state in states.items()
    }


def _table(accuracies: list[str], varied: Sequence[str], settings: Iterable[str]) -> dict[str, Any]:
    """Runs averaged over seeds, the best first."""
    metrics = [*accuracies, schema.STAGE_ACCURACY, schema.POSTER_IPC, schema.CUMULATIVE_IPC]
    params = [name for name in varied if name != "seed"]
    columns = [*(f"metrics.`{name}`" for name in metrics), *(f"params.`{name}`" for name in params)]
    return {
        "selectedColumns": [*columns, f"tags.`{schema.NOW}`"],
        "columnOrder": columns,
        "groupBy": _average([("tag", schema.SETTING)]),
        "groupsExpanded": {f"tag.{schema.SETTING}.{setting}": False for setting in settings},
        "runsHiddenMode": "SHOW_ALL",
        "useGroupedValuesInCharts": True,
    }


def _curves(accuracies: list[str], folded: list[str], varied: Sequence[str]) -> dict[str, Any]:
    """Charts of the accuracy; those of everything else in sections that are folded."""
    by = [name for name in ("num_stages", "blend") if name in varied]
    chapters = [("Accuracy against stage", "stage"), ("Accuracy against IPC", "ipc")]
    charts = [chart for accuracy in accuracies for chart in _charts(accuracy)]
    sections = [{"uuid": uuid, "name": name, "display": True} for name, uuid in chapters]
    sections += [{"uuid": f"rest-{name}", "name": name, "display": False} for name in folded]
    return {
        "compareRunCharts": charts,
        "compareRunSections": [{"isReordered": False, **section} for section in sections],
        "isAccordionReordered": True,
        "groupBy": _average([("param", name) for name in by] or [("tag", schema.SETTING)]),
        "useGroupedValuesInCharts": True,
        "runsHiddenMode": "SHOW_ALL",
        "selectedColumns": [f"metrics.`{name}`" for name in (*accuracies, schema.POSTER_IPC, schema.CUMULATIVE_IPC)],
    }


def _charts(accuracy: str) -> list[dict[str, Any]]:
    mode = accuracy.removeprefix(schema.ACCURACY)  # a card's title has room for few letters
    line = {
        "type": "LINE", "metricKey": accuracy, "selectedMetricKeys": [accuracy], "deleted": False, "isGenerated": False,
        "runsCountToCompare": 100, "lineSmoothness": 0, "xAxisScaleType": "linear", "scaleType": "linear",
        "range": {}, "displayPoints": True, "yAxisKey": "metric", "yAxisExpressions": [], "ignoreOutliers": False,
        "useGlobalXaxisKey": False, "useGlobalLineSmoothing": False,
    }  # fmt: skip
    against = [
        {**line, "uuid": f"{accuracy}-stage", "metricSectionId": "stage", "xAxisKey": "step",
         "selectedXAxisMetricKey": "", "displayName": f"{mode} vs stage"},
        {**line, "uuid": f"{accuracy}-over-ipc", "metricSectionId": "stage", "xAxisKey": "metric",
         "selectedXAxisMetricKey": schema.CUMULATIVE_IPC, "displayName": f"{mode} vs cumulative IPC"},
    ]  # fmt: skip
    points = [
        {"type": "SCATTER", "uuid": f"{accuracy}-{ipc}", "metricSectionId": "ipc", "deleted": False,
         "isGenerated": False, "runsCountToCompare": 100, "displayName": f"{mode} vs {ipc}",
         "xaxis": {"key": ipc, "type": "METRIC"}, "yaxis": {"key": accuracy, "type": "METRIC"}}
        for ipc in (schema.POSTER_IPC, schema.CUMULATIVE_IPC)
    ]  # fmt: skip
    return [*against, *points]


def _average(keys: list[tuple[str, str]]) -> dict[str, Any]:
    return {"aggregateFunction": "average", "groupByKeys": [{"mode": m, "groupByData": name} for m, name in keys]}


def _folded(saved: str | None) -> set[str]:
    """The sections that a saved view folds."""
    sections = json.loads(json.loads(saved)["state"])["compareRunSections"] if saved else []
    return {section["name"] for section in sections if not section["display"]}


def _section(metric: str) -> str:
    """The section of MLflow's charts that a metric's own chart is put in."""
    return metric.rpartition("/")[0] or "Model metrics"
