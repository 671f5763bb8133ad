"""The report of a sweep: one HTML file that needs no network, made of the frame, the trials and their posters."""

from __future__ import annotations

import io
import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from ppodd import __version__
from ppodd.errors import BadInput
from ppodd.files import atomic_write
from results.analysis import (
    DATASET,
    ENOUGH_SEEDS,
    Answer,
    Chosen,
    TrialSummary,
    answers,
    choose,
    frame_of,
    is_reference,
    level,
    lines,
    main_protocol,
    posters,
    scope,
    series,
    standing,
    trial_remarks,
    trials,
    where,
)
from results.reporting.charts import Chart, chart
from results.reporting.classes import class_grid
from results.reporting.effects import Effect, effects
from results.reporting.gallery import BlendWeights, GalleryEntry, blends, cards, varying
from results.reporting.grid import Grid, grid
from results.reporting.heat_map import HeatMap, heat_map
from results.reporting.tables import notes, table
from results.tracking import Link, links_of, schema

_AXES = {
    "poster_ipc": "Poster IPC",
    "cumulative_ipc": "Cumulative IPC",
    "num_stages": "Number of stages",
    "stage": "Stage by stage",
    "steps": "Training budget",
    "seconds": "Compute",
}
_TEMPLATES = Path(__file__).parent / "templates"


class TrialProblem(NamedTuple):
    """A trial that failed, was stopped or is not finished, or an evaluation that failed."""

    trial: str
    status: str
    stages: str
    text: str


class Report(NamedTuple):
    """All that the template shows, worked out."""

    title: str
    descriptions: list[str]
    answers: list[Answer]
    scope: str
    sizes: Grid
    facts: list[tuple[str, str]]
    charts: list[Chart]
    effects: list[Effect]
    settings: Grid
    networks: HeatMap
    classes: Grid
    remarks: list[str]
    cards: list[GalleryEntry]
    blends: list[BlendWeights]
    problems: list[TrialProblem]
    unfinished: str
    provenance: list[tuple[str, str]]
    config: list[tuple[str, str]]
    archive: Grid
    leaks: bool
    mlflow: list[Link]  # pages of the store that compare
    left_out: int  # imported trials, where others were distilled here


def require_html(output: str) -> None:
    """Raise `BadInput` unless the report's path ends in .html."""
    if Path(output).suffix.lower() != ".html":
        raise BadInput(f"cannot write {output!r}: a report is one file that ends in .html")


def report(
    tracking_uri: str,
    output: str,
    sweeps: Sequence[str] | None = None,
    filter_string: str = "",
    conditions: Sequence[str] = (),
    steps: int | None = None,
) -> Report:
    """Write the report of these sweeps (default: all in the store) and return what it says.

    The same store gives the same file. Sweeps that are not finished are reported as far as they are.

    Raises:
        BadInput: as `results.runs.choose` and `results.frame.where`; the ending; or there is no trial.
    """
    require_html(output)
    made = gather(tracking_uri, sweeps, filter_string, conditions, steps)
    atomic_write(output, page(made).encode())
    return made


def gather(
    tracking_uri: str,
    sweeps: Sequence[str] | None = None,
    filter_string: str = "",
    conditions: Sequence[str] = (),
    steps: int | None = None,
) -> Report:
    """Everything that the report says, as data."""
    chosen = choose(tracking_uri, sweeps, filter_string)
    if not chosen.trials:
        raise BadInput(f"{tracking_uri} holds no trials yet: run a sweep, or `ppodd results sync`")
    return gather_of(chosen, where(frame_of(chosen), conditions), tracking_uri, conditions, steps)


def gather_of(
    chosen: Chosen, frame: pd.DataFrame, tracking_uri: str, conditions: Sequence[str] = (), steps: int | None = None
) -> Report:
    """The same of trials that were chosen already, and the rows of their frame that meet the conditions."""
    every = trials(chosen)
    if conditions:
        kept = set(zip(frame["sweep"], frame["trial"], strict=True))
        every = [trial for trial in every if (trial.sweep, trial.name) in kept]
    rows = main_protocol(frame)
    names = list(dict.fromkeys(trial.sweep for trial in every))
    described = [schema.own_words(chosen.parents[n].tags.get(schema.NOTE, "")) for n in names if n in chosen.parents]
    fields, evaluated = varying(every), set(frame["run_id"])
    found = answers(frame, steps)
    problems = [problem for trial in every for problem in _problems(trial)]
    return Report(
        title=", ".join(names),
        descriptions=[text for text in described if text],
        answers=found,
        scope=scope(frame, steps),
        sizes=grid(pd.DataFrame([_size(answer) for answer in found])) if len(found) > 1 else Grid([], []),
        facts=_facts(every, frame),
        charts=_charts(rows, steps),
        effects=effects(frame, steps),
        settings=grid(table(frame)),
        networks=heat_map(frame, steps),
        classes=class_grid(run for run in chosen.trials if run.id in evaluated),
        remarks=[*notes(frame), *trial_remarks(chosen, every)] if len(frame) else [],
        cards=cards(every, posters(chosen, every), frame, fields),
        blends=blends(every, fields),
        problems=problems,
        unfinished=_counted(problems),
        provenance=_provenance(every, tracking_uri),
        config=_config(every),
        archive=_archive(every),
        leaks=bool(len(frame) and frame["leaks_test_set"].any()),
        mlflow=_pages(chosen, names),
        left_out=_left_out(frame),
    )


def _pages(chosen: Chosen, sweeps: list[str]) -> list[Link]:
    """The store's own pages of these sweeps."""
    found = [(sweep, link) for sweep in sweeps for link in links_of(chosen.store, sweep)]
    return [Link(f"{sweep}: {link.title}" if len(sweeps) > 1 else link.title, link.url) for sweep, link in found]


def page(made: Report) -> str:
    """The report as HTML."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    written = io.StringIO()  # piece by piece: of thousands of trials there are a million
    written.writelines(environment.get_template("report.html.j2").generate(report=made, version=__version__))
    return written.getvalue()


def _size(answer: Answer) -> dict[str, Any]:
    """An answer as a row of the table over poster sizes."""
    lead, mean = answer.lead, answer.accuracy
    return {
        "poster_ipc": answer.poster_ipc,
        "best setting": answer.best,
        "accuracy_pct": mean.mean,
        "95% interval": f"{mean.low:.1f} to {mean.high:.1f}" if mean.n >= ENOUGH_SEEDS else "–",
        "seeds": mean.n,
        "ahead of": f"{answer.ahead} of {answer.others}",
        "lead_pct": lead.difference if lead else math.nan,
        "p_holm": answer.p_holm,
    }


def _left_out(frame: pd.DataFrame) -> int:
    imported = frame[frame["origin"] != "distilled"]
    return imported["run_id"].nunique() if len(imported) < len(frame) else 0


def _facts(every: list[TrialSummary], frame: pd.DataFrame) -> list[tuple[str, str]]:
    finished = sum(trial.status == "finished" for trial in every)
    stages = sum(trial.stages_done for trial in every)
    facts = [
        ("trials finished", f"{finished} of {len(every)}"),
        ("stages", f"{stages} of {sum(trial.num_stages for trial in every)}"),
        ("seeds", str(len({trial.config.get("seed") for trial in every}))),
    ]
    counts = {status: sum(trial.status == status for trial in every) for status in ("failed", "stopped")}
    facts += [(status, str(count)) for status, count in counts.items() if count]
    if len(frame):
        sizes = sorted(frame.loc[~is_reference(frame), "poster_ipc"].round(4).unique())
        facts.append(("poster IPC", " · ".join(f"{ipc:.2g}" for ipc in sizes)))
    return facts


def _charts(rows: pd.DataFrame, steps: int | None) -> list[Chart]:
    """A curve for each axis along which there is more than one point."""
    found = []
    for x, title in _AXES.items():
        try:
            shown = lines(rows, x, None, steps)
        except BadInput:  # nothing finished yet
            continue
        points = shown.points
        if points[x].nunique() < 2 or points.groupby("line")[x].nunique().max() < 2:
            continue
        published = series(x) if set(shown.rows["dataset"]) == {DATASET} else {}
        known = {f"published {name}": curve for name, curve in published.items()}
        found.append(chart(shown, x, title, {**level(shown, x), **known}))
    return found


def _problems(trial: TrialSummary) -> list[TrialProblem]:
    name, how = f"{trial.sweep}/{trial.name}", standing(trial)
    done = f"{trial.stages_done} of {trial.num_stages}"
    found = [] if how == "finished" else [TrialProblem(name, how, done, _known(trial))]
    failures = trial.evaluation_failures
    return [*found, *(TrialProblem(name, "evaluation failed", done, f"stage {failure}") for failure in failures)]


def _counted(problems: list[TrialProblem]) -> str:
    """`2 failed, 1 half-finished`."""
    return ", ".join(f"{count} {status}" for status, count in Counter(p.status for p in problems).items())


def _known(trial: TrialSummary) -> str:
    if trial.status == "stopped":
        return f"stopped early, after stage {trial.stages_done}: it counts up to there in courses"
    if trial.failure:
        text = trial.failure
    elif trial.progress:
        now = trial.progress
        text = f"in stage {now.stage}, meta-step {now.meta_step} of {now.meta_steps}"
    else:
        text = "not started" if not trial.stages_done else "between stages"
    return text


def _provenance(every: list[TrialSummary], uri: str) -> list[tuple[str, str]]:
    def values(of: list[str]) -> str:
        return ", ".join(dict.fromkeys(text for text in of if text)) or "–"

    versions = values([" · ".join(f"{k} {v}" for k, v in sorted(trial.versions.items())) for trial in every])
    return [
        ("sweeps", values([trial.sweep for trial in every])),
        ("data set", values([str(trial.config.get("dataset", "")) for trial in every])),
        ("data digest", values([trial.data for trial in every])),
        ("seeds", values(sorted({str(trial.config.get("seed")) for trial in every}, key=lambda s: (len(s), s)))),
        ("distilled with", versions),
        ("read from", _place(uri)),
    ]


def _place(uri: str) -> str:
    """A store's address for others to read: without a password, and without the folders of one machine."""
    if uri.startswith("sqlite:"):
        return f"SQLite, …/{'/'.join(uri.split('/')[-2:])}"
    return uri.split("@")[-1]


def _config(every: list[TrialSummary]) -> list[tuple[str, str]]:
    """Every config field with its values over the trials, those that vary first."""
    fields: dict[str, list[str]] = {}
    for trial in every:
        for name, value in trial.config.items():
            if name not in ("name", "device") and str(value) not in fields.setdefault(name, []):
                fields[name].append(str(value))
    ordered = sorted(fields.items(), key=lambda item: (len(item[1]) == 1, item[0]))
    return [(name, ", ".join(values)) for name, values in ordered]


def _archive(every: list[TrialSummary]) -> Grid:
    rows = [
        {"trial": f"{trial.sweep}/{trial.name}", "stage": stage, "poster digest (SHA-256)": f"{digest}…"}
        for trial in every
        for stage, digest in trial.digests.items()
    ]
    return grid(pd.DataFrame(rows)) if rows else Grid([], [])
