"""The answer to a sweep's question in words: the best setting, and whether it is really ahead.

The setting is chosen by validation accuracy; test accuracy only reports. Settings that leak the test set are not
chosen.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import pandas as pd

from ppodd.config import LATER_STAGES
from ppodd.words import counted
from results.analysis.baselines import OF_FULL_DATA, OVER_RANDOM, is_reference
from results.analysis.statistics import ALPHA, ENOUGH_SEEDS, Mean, Paired, holm, mean_interval, paired
from results.analysis.tidy_frame import (
    KINDS,
    by_seed,
    chosen_steps,
    last_stages,
    own_networks,
    settings,
    trial_keys,
)


class Answer(NamedTuple):
    """The best setting of one poster size.

    Attributes:
        validation: its mean stage accuracy (percent), by which it was chosen.
        ahead: how many of the `others` it is ahead of beyond chance (paired t over shared seeds, Holm).
        most_seeds: it was chosen among those that have as many seeds as it, others have fewer.
        runner_up: the setting next to it by validation accuracy; `lead` the difference to it, `p_holm` its p.
        cumulative: IPC that it draws on, and the range over the others.
        sentences: all of that in words, the claim first.
    """

    poster_ipc: float
    steps: int
    best: str
    accuracy: Mean
    validation: float
    others: int
    ahead: int
    most_seeds: bool
    runner_up: str
    lead: Paired | None
    p_holm: float
    cumulative: tuple[float, float, float]
    sentences: list[str]


def main_protocol(frame: pd.DataFrame) -> pd.DataFrame:
    """The rows of the kind of evaluation that most trials have: modes, networks and protocols are never mixed.

    Where the trials distil for several networks and none judges all their posters, each counts with its own network.
    Posters that were imported count only where none were distilled here.
    """
    if frame.empty:
        return frame
    chosen = _most_common(frame, list(KINDS))
    each_own = frame.assign(eval_arch=frame["eval_arch"].mask(frame["eval_arch"] == own_networks(frame), "its own"))
    own = _most_common(each_own, list(KINDS))
    return frame.loc[(own if trial_keys(own).nunique() > trial_keys(chosen).nunique() else chosen).index]


def _most_common(frame: pd.DataFrame, kinds: list[str]) -> pd.DataFrame:
    """The rows of the kind that most trials have."""
    own = frame[frame["origin"] == "distilled"]
    trials = (frame if own.empty else own).drop_duplicates([*kinds, "sweep", "trial"])
    chosen = trials.groupby(kinds).size().sort_values(ascending=False, kind="stable").index[0]
    return frame[(frame[kinds] == list(chosen)).all(axis=1)]


def answers(frame: pd.DataFrame, steps: int | None = None) -> list[Answer]:
    """One answer for each poster size, the largest first; none before a trial has finished its last stage."""
    whole = last_stages(main_protocol(frame))
    whole = whole[~is_reference(whole)]
    if whole.empty:
        return []
    rows = chosen_steps(whole, steps)
    fields = settings(rows)
    rows = rows.assign(poster_ipc=rows["poster_ipc"].round(4), setting=_labels(rows, fields))
    sizes = sorted(rows["poster_ipc"].unique(), reverse=True)
    return [_answer(rows[rows["poster_ipc"] == ipc], float(ipc)) for ipc in sizes]


def scope(frame: pd.DataFrame, steps: int | None = None) -> str:
    """Which trials the answers are of, where these are not all that finished, or of several sweeps; else empty."""
    main = last_stages(main_protocol(frame))
    if main.empty:
        return ""
    rows, own = chosen_steps(main, steps), frame[frame["origin"] == main["origin"].iloc[0]]
    count, finished = (trial_keys(table).nunique() for table in (rows, last_stages(own)))
    sweeps = sorted(set(own["sweep"]))
    if count == finished and len(sweeps) == 1:
        return ""
    several = f" of {len(sweeps)} sweeps ({', '.join(sweeps)}; --sweep takes one)" if len(sweeps) > 1 else ""
    return (
        f"Of {counted(finished, 'finished trial')}{several} the answer counts {count}: evaluated alike and read after "
        f"{rows['steps'].iloc[0]} training steps."
    )


def _labels(rows: pd.DataFrame, fields: list[str]) -> list[str]:
    """Settings in words; of one stage without what only later stages depend on."""
    found = []
    for values, stages in zip(rows[fields].to_numpy(object), rows["num_stages"], strict=True):
        setting = dict(zip(fields, values, strict=True))
        found.append(label({k: v for k, v in setting.items() if stages > 1 or k not in LATER_STAGES}))
    return found


def label(values: dict[str, object]) -> str:
    """A setting in words: `num_stages 4, blend dynamic`."""
    return ", ".join(f"{name} {value}" for name, value in values.items()) or "the one setting"


def _answer(rows: pd.DataFrame, ipc: float) -> Answer:
    """Of the settings that do not leak the test set, unless all do."""
    leaking = rows["leaks_test_set"]
    rows = rows if leaking.all() else rows[~leaking]
    ranked = _ranked(rows)
    seeds = {s: g.set_index("seed")["accuracy_pct"].to_dict() for s, g in by_seed(rows, ["setting"]).groupby("setting")}
    drawn = rows.groupby("setting")["cumulative_ipc"].mean()
    best, *rest = ranked.index
    tests = {other: paired(seeds[best], seeds[other]) for other in seeds if other != best}
    corrected = dict(zip(tests, holm([test.p for test in tests.values()]), strict=True))
    others = drawn.drop(best)
    runner_up = rest[0] if rest else ""
    answer = Answer(
        poster_ipc=ipc,
        steps=int(rows["steps"].iloc[0]),
        best=best,
        accuracy=mean_interval(list(seeds[best].values())),
        validation=ranked[best],
        others=len(tests),
        ahead=sum(corrected[other] < ALPHA and test.difference > 0 for other, test in tests.items()),
        most_seeds=any(len(of) < len(seeds[best]) for of in seeds.values()),
        runner_up=runner_up,
        lead=tests.get(runner_up),
        p_holm=corrected.get(runner_up, math.nan),
        cumulative=(drawn[best], others.min() if len(others) else math.nan, others.max() if len(others) else math.nan),
        sentences=[],
    )
    claim, *rest_said = _sentences(answer, bool(leaking.any()), bool(leaking.all()))
    return answer._replace(sentences=[claim, *_beside(rows[rows["setting"] == best]), *rest_said])


def _beside(rows: pd.DataFrame) -> list[str]:
    """What the setting has over random real images, and of what the whole training set gives; one sentence at most."""
    said = []
    if OVER_RANDOM in rows and rows[OVER_RANDOM].notna().any():
        lead = mean_interval(list(rows.groupby("seed")[OVER_RANDOM].mean().dropna()))
        interval = f"95% interval {lead.low:.1f} to {lead.high:.1f}, " if lead.n >= ENOUGH_SEEDS else ""
        said.append(
            f"{lead.mean:+.1f} points over random real images of as many pixels ({interval}n = "
            f"{counted(lead.n, 'seed')})"
        )
    if OF_FULL_DATA in rows and rows[OF_FULL_DATA].notna().any():
        said.append(f"{rows[OF_FULL_DATA].mean():.0f}% of the accuracy that the whole training set gives")
    return [f"That is {' and '.join(said)}."] if said else []


def _ranked(rows: pd.DataFrame) -> pd.Series:
    """The validation accuracy of each setting, the best first; those of most seeds before others."""
    table = rows.groupby("setting").agg(seeds=("seed", "nunique"), validation=("stage_accuracy_pct", "mean"))
    return table.sort_values(["seeds", "validation"], ascending=False, kind="stable")["validation"]


def _sentences(answer: Answer, leaks: bool, all_leak: bool) -> list[str]:
    mean = answer.accuracy
    if mean.n >= ENOUGH_SEEDS:
        spread = f"95% interval {mean.low:.1f} to {mean.high:.1f}, n = {mean.n} seeds"
    else:
        spread = f"n = {counted(mean.n, 'seed')}, so no interval"
    chosen = f"; {answer.validation:.1f}% in validation" if answer.others and not all_leak else ""
    said = [
        f"At {answer.poster_ipc:.3g} IPC, {answer.best} reaches {mean.mean:.1f}% test accuracy after {answer.steps} "
        f"training steps ({spread}{chosen})."
    ]
    if answer.others:
        said += [_ahead(answer), *_runner_up(answer), *_unequal(answer)]
    if all_leak:
        return [*said, "All of these settings leak the test set, which chose their blend or their posters."]
    return [*said, *(["Settings that leak the test set were not chosen."] if leaks else [])]


def _ahead(answer: Answer) -> str:
    among = f" of the settings of {answer.accuracy.n} seeds" if answer.most_seeds else ""
    if answer.lead is None or answer.lead.n < ENOUGH_SEEDS:
        seeds = f"{answer.lead.n} shared seeds" if answer.lead and answer.lead.n > 1 else "one shared seed"
        return f"It is the best by validation accuracy{among}; with {seeds} no difference can be told from chance."
    many = f"{answer.others} other settings" if answer.others > 1 else "1 other setting"
    if answer.ahead == answer.others:
        return f"The difference is real: it is ahead of the {many} beyond chance (paired t-test over seeds, Holm)."
    if answer.ahead == 0:
        return (
            f"It is the best by validation accuracy{among}, but the difference is not shown to be real: "
            f"it is ahead of none of the {many} beyond chance (paired t-test over seeds, Holm)."
        )
    return f"It is ahead of {answer.ahead} of the {many} beyond chance (paired t-test over seeds, Holm)."


def _runner_up(answer: Answer) -> list[str]:
    lead = answer.lead
    if lead is None or not lead.n:
        return []
    behind = ["The test set, which does not choose, has the runner-up ahead."] if lead.difference < 0 else []
    if lead.n < ENOUGH_SEEDS:
        beside = f"To the runner-up, {answer.runner_up}, it is {lead.difference:+.1f} points"
        return [f"{beside} (n = {lead.n}, no interval).", *behind]
    verdict = "a real difference" if answer.p_holm < ALPHA else "not shown to be a real difference"
    return [
        f"To the runner-up, {answer.runner_up}, it is {lead.difference:+.1f} points (95% interval {lead.low:.1f} to "
        f"{lead.high:.1f}; p = {lead.p:.3g}, {answer.p_holm:.3g} corrected for {answer.others} comparisons; "
        f"n = {lead.n}): {verdict}.",
        *behind,
    ]


def _unequal(answer: Answer) -> list[str]:
    own, low, high = answer.cumulative
    if max(own, high) <= 1.01 * min(own, low):
        return []
    span = f"{low:.2f}" if high <= 1.01 * low else f"{low:.2f} to {high:.2f}"
    return [
        f"Not an equal cumulative budget: it draws on {own:.2f} IPC of posters, the others on {span}; "
        f"see the comparison at equal cumulative IPC."
    ]
