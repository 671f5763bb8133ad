"""The report of a sweep: one HTML file that needs no network, made of the frame, the trials and their posters."""

from __future__ import annotations

import base64
import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from ppodd import __version__
from ppodd.errors import BadInput
from ppodd.files import atomic_write
from results import schema
from results.answer import Answer, answers, label, main_protocol
from results.charts import Chart, chart
from results.compare import BUDGETS, OVERALL, compare
from results.curve import lines
from results.frame import NOT_SETTINGS, frame_of, kinds, settings, varied, where
from results.published import DATASET, series
from results.runs import choose
from results.statistics import ENOUGH_SEEDS
from results.table import as_cells, notes, table
from results.trials import Trial, at, posters, state, trials
from results.trials import remarks as trial_remarks

_AXES = {
    "poster_ipc": "Poster IPC",
    "cumulative_ipc": "Cumulative IPC",
    "num_stages": "Number of stages",
    "stage": "Stage by stage",
    "steps": "Training budget",
    "seconds": "Compute",
}
_BUDGET_NAMES = {
    "poster_ipc": "poster IPC",
    "cumulative_ipc": "cumulative IPC",
    "meta_steps": "meta-steps",
    "seconds": "seconds",
}
_EFFECTS = 6  # fields whose effect is shown
_SAID = 12  # pairs that are put into words
_SHORT = 4  # of these in one sentence
_TEMPLATES = Path(__file__).parent / "templates"


class Grid(NamedTuple):
    """A table ready to be shown: a cell is its text and the value it sorts by."""

    columns: list[str]
    rows: list[list[tuple[str, Any]]]


class Effect(NamedTuple):
    """What a field does at one equal budget: in short, a sentence a pair, the table, the tests, what to say beside."""

    by: str
    at: str
    real: str
    short: str
    sentences: list[str]
    cells: Grid
    pairs: Grid
    notes: list[str]


class Picture(NamedTuple):
    stage: int
    uri: str
    text: str


class Card(NamedTuple):
    """A trial in the gallery; `first` for the first seed of its setting."""

    title: str
    status: str
    first: bool
    pictures: list[Picture]


class Blend(NamedTuple):
    """π of one setting, stage by stage; means over its trials."""

    title: str
    trials: int
    stages: list[tuple[int, list[float]]]


class Problem(NamedTuple):
    """A trial that failed, was stopped or is not finished, or an evaluation that failed."""

    trial: str
    status: str
    stages: str
    text: str


class Report(NamedTuple):
    title: str
    descriptions: list[str]
    answers: list[Answer]
    sizes: Grid
    facts: list[tuple[str, str]]
    charts: list[Chart]
    effects: list[Effect]
    settings: Grid
    remarks: list[str]
    cards: list[Card]
    blends: list[Blend]
    problems: list[Problem]
    unfinished: str
    provenance: list[tuple[str, str]]
    config: list[tuple[str, str]]
    archive: Grid
    leaks: bool


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
    frame = where(frame_of(chosen), conditions)
    every = trials(chosen)
    if conditions:
        kept = set(zip(frame["sweep"], frame["trial"], strict=True))
        every = [trial for trial in every if (trial.sweep, trial.name) in kept]
    rows = main_protocol(frame)
    names = list(dict.fromkeys(trial.sweep for trial in every))
    described = [schema.own_words(chosen.parents[n].tags.get(schema.NOTE, "")) for n in names if n in chosen.parents]
    varying = _varying(every)
    found = answers(frame, steps)
    problems = [problem for trial in every for problem in _problems(trial)]
    return Report(
        title=", ".join(names),
        descriptions=[text for text in described if text],
        answers=found,
        sizes=grid(pd.DataFrame([_size(answer) for answer in found])) if len(found) > 1 else Grid([], []),
        facts=_facts(every, frame),
        charts=_charts(rows, steps),
        effects=_effects(frame, steps),
        settings=grid(table(frame)),
        remarks=[*notes(frame), *trial_remarks(chosen, every)] if len(frame) else [],
        cards=_cards(every, posters(chosen, every), frame, varying),
        blends=_blends(every, varying),
        problems=problems,
        unfinished=_counted(problems),
        provenance=_provenance(every, tracking_uri),
        config=_config(every),
        archive=_archive(every),
        leaks=bool(len(frame) and frame["leaks_test_set"].any()),
    )


def page(made: Report) -> str:
    """The report as HTML."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    return environment.get_template("report.html.j2").render(report=made, version=__version__)


def grid(table: pd.DataFrame) -> Grid:
    """A frame as a table to show, its numbers rounded for reading and sorted by their full value."""
    columns = [as_cells(table[name]) for name in table.columns]
    values = [[_sortable(value) for value in table[name]] for name in table.columns]
    paired = [list(zip(texts, keys, strict=True)) for texts, keys in zip(columns, values, strict=True)]
    return Grid([str(name) for name in table.columns], [list(row) for row in zip(*paired, strict=True)])


def _sortable(value: Any) -> Any:
    """A number for numbers and for text that starts with one (`85.1 ± 0.6`), else the text."""
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, (int, float)):
        return "" if math.isnan(value) else float(value)
    try:
        return float(str(value).split(" ")[0])
    except ValueError:
        return str(value)


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


def _facts(every: list[Trial], frame: pd.DataFrame) -> list[tuple[str, str]]:
    finished = sum(trial.status == "finished" for trial in every)
    stages = sum(trial.stages_done for trial in every)
    facts = [
        ("trials finished", f"{finished} of {len(every)}"),
        ("stages", f"{stages} of {sum(trial.num_stages for trial in every)}"),
        ("seeds", str(len({trial.config.get("seed") for trial in every}))),
    ]
    for status in ("failed", "stopped"):
        if count := sum(trial.status == status for trial in every):
            facts.append((status, str(count)))
    if len(frame):
        facts.append(("poster IPC", " · ".join(f"{ipc:.2g}" for ipc in sorted(frame["poster_ipc"].round(4).unique()))))
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
        found.append(chart(shown, x, title, {f"published {name}": curve for name, curve in published.items()}))
    return found


def _effects(frame: pd.DataFrame, steps: int | None) -> list[Effect]:
    """What each varied setting does, at equal pixels and at equal compute."""
    rows = main_protocol(frame)
    fields = [name for name in settings(rows) if name not in NOT_SETTINGS][:_EFFECTS]
    found = [_effect(rows, name, at, steps) for name in fields for at in BUDGETS]
    found += [_effect(frame, name, "poster_ipc", steps) for name in kinds(frame)]
    return [effect for effect in found if effect]


def _effect(rows: pd.DataFrame, by: str, at: str, steps: int | None) -> Effect | None:
    try:
        found = compare(rows, by, at, steps)
    except BadInput:  # nothing finished, or one value left at this budget
        return None
    summed = found.overall if len(found.overall) else found.pairs
    said = [_pair_sentence(pair, by, at) for pair in summed.to_dict("records")] if len(summed) <= _SAID else []
    shown = found.pairs.rename(columns={"a": by, "b": "minus"})
    told = int(summed["verdict"].isin(("higher", "lower")).sum())
    real = (
        f"{told} of {len(summed)} differences shown to be real"
        if len(summed) > 1
        else "a real difference"
        if told
        else "no difference shown"
    )
    short = in_short(summed, by)
    return Effect(by, _BUDGET_NAMES[at], real, short, said, grid(found.table), grid(shown), found.notes)


def in_short(pairs: pd.DataFrame, by: str) -> str:
    """`blend: latest above uniform by 9.1 points (p 0.012); 2 other differences not shown to be real.`"""
    told = pairs[pairs["verdict"].isin(("higher", "lower"))].to_dict("records")
    above = []
    for pair in told[:_SHORT]:
        high, low = (pair["a"], pair["b"]) if pair["difference_pct"] > 0 else (pair["b"], pair["a"])
        above.append(f"{high} above {low} by {abs(pair['difference_pct']):.1f} points (p {pair['p_holm']:.2g})")
    above += [f"{len(told) - _SHORT} more such"] if len(told) > _SHORT else []
    rest = len(pairs) - len(told)
    if not told:
        return f"{by}: no difference shown to be real ({rest} tested)."
    return f"{by}: {'; '.join(above)}" + (f"; {rest} of {len(pairs)} not shown to be real." if rest else ".")


def _pair_sentence(pair: dict[Any, Any], by: str, at: str) -> str:
    value = pair[at]
    if isinstance(value, str):  # rows taken together
        where = f"over {value} rows" if value != OVERALL else "over all rows"
    else:
        where = f"at {_BUDGET_NAMES[at]} {value:.3g}"
    return f"{by} {pair['a']} against {pair['b']}, {where}: {_pair_words(pair)}"


def _pair_words(pair: dict[Any, Any]) -> str:
    if not pair["seeds"]:
        return "no shared seed"
    if pair["seeds"] < ENOUGH_SEEDS:
        return f"{pair['difference_pct']:+.1f} points, {pair['verdict']}"
    real = "real" if pair["verdict"] in ("higher", "lower") else "not shown to be real"
    interval = f"{pair['low_pct']:.1f} to {pair['high_pct']:.1f}"
    return f"{pair['difference_pct']:+.1f} points ({interval}, p {pair['p_holm']:.3g}, n {pair['seeds']}): {real}"


def _varying(every: list[Trial]) -> list[str]:
    """Config fields that tell the trials' settings apart."""
    configs = pd.DataFrame([trial.config for trial in every])
    return varied(configs.astype(object)) if len(configs) else []


def _setting(trial: Trial, fields: list[str]) -> str:
    """`num_stages 4, blend dynamic, 38×15 px`."""
    size = {"poster_width", "poster_height"}
    words = [label({n: trial.config[n] for n in fields if n not in size and n in trial.config})]
    words += [f"{trial.config['poster_width']}×{trial.config['poster_height']} px"] if size & set(fields) else []
    return ", ".join(word for word in words if word != "the one setting") or trial.name


def _cards(
    every: list[Trial], pictures: dict[str, dict[int, bytes]], frame: pd.DataFrame, fields: list[str]
) -> list[Card]:
    accuracy = _accuracies(frame)
    seen: set[str] = set()
    cards = []
    for trial in every:
        shown = [
            Picture(stage, f"data:image/png;base64,{base64.b64encode(png).decode()}", _caption(trial, stage, accuracy))
            for stage, png in pictures.get(trial.run_id, {}).items()
        ]
        setting = _setting(trial, fields)
        first = setting not in seen
        seen.add(setting)
        cards.append(Card(f"{setting}, seed {trial.config.get('seed')}", trial.status, first, shown))
    return [card for card in cards if card.pictures]


def _accuracies(frame: pd.DataFrame) -> dict[tuple[str, int], str]:
    """Test accuracy of each run and stage at the largest training budget, in words; of imported posters too."""
    kinds = [main_protocol(rows) for _, rows in frame.groupby("origin")]
    rows = pd.concat(kinds) if kinds else frame
    rows = rows[rows["steps"] == rows["steps"].max()] if len(rows) else rows
    found = zip(rows["run_id"], rows["stage"], rows["accuracy_pct"], strict=True)
    return {(run, stage): f"{value:.1f}%" for run, stage, value in found}


def _caption(trial: Trial, stage: int, accuracy: dict[tuple[str, int], str]) -> str:
    return f"stage {stage}: {accuracy.get((trial.run_id, stage), 'not evaluated')}"


def _blends(every: list[Trial], fields: list[str]) -> list[Blend]:
    groups: dict[str, list[Trial]] = {}
    names = [name for name in fields if name not in ("poster_width", "poster_height")]
    for trial in every:
        if trial.blends:
            groups.setdefault(_setting(trial, names), []).append(trial)
    found = []
    for title, group in groups.items():
        stages = sorted({stage for trial in group for stage in trial.blends})
        means = [(stage, _mean([trial.blends[stage] for trial in group if stage in trial.blends])) for stage in stages]
        found.append(Blend(title if title != group[0].name else "all trials", len(group), means))
    return found


def _mean(blends: list[list[float]]) -> list[float]:
    return [sum(weights) / len(blends) for weights in zip(*blends, strict=True)]


def _problems(trial: Trial) -> list[Problem]:
    name, how = f"{trial.sweep}/{trial.name}", state(trial)
    done = f"{trial.stages_done} of {trial.num_stages}"
    found = [] if how == "finished" else [Problem(name, how, done, _known(trial))]
    failures = trial.evaluation_failures
    return [*found, *(Problem(name, "evaluation failed", done, f"stage {at(failure)}") for failure in failures)]


def _counted(problems: list[Problem]) -> str:
    """`2 failed, 1 half-finished`."""
    return ", ".join(f"{count} {status}" for status, count in Counter(p.status for p in problems).items())


def _known(trial: Trial) -> str:
    if trial.status == "stopped":
        return f"stopped early, after stage {trial.stages_done}: it counts up to there in courses"
    if trial.failure:
        text = trial.failure
    elif trial.progress:
        now = trial.progress
        text = f"in stage {now.get('stage', '?')}, meta-step {now.get('meta_step', '?')}"
        text += f" of {now['meta_steps']}" if "meta_steps" in now else ""
    else:
        text = "not started" if not trial.stages_done else "between stages"
    return text


def _provenance(every: list[Trial], uri: str) -> list[tuple[str, str]]:
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


def _config(every: list[Trial]) -> list[tuple[str, str]]:
    """Every config field with its values over the trials, those that vary first."""
    fields: dict[str, list[str]] = {}
    for trial in every:
        for name, value in trial.config.items():
            if name not in ("name", "device") and str(value) not in fields.setdefault(name, []):
                fields[name].append(str(value))
    ordered = sorted(fields.items(), key=lambda item: (len(item[1]) == 1, item[0]))
    return [(name, ", ".join(values)) for name, values in ordered]


def _archive(every: list[Trial]) -> Grid:
    rows = [
        {"trial": f"{trial.sweep}/{trial.name}", "stage": stage, "poster digest (SHA-256)": f"{digest}…"}
        for trial in every
        for stage, digest in trial.digests.items()
    ]
    return grid(pd.DataFrame(rows)) if rows else Grid([], [])
