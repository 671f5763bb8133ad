"""DD-Ranking's scores (Li et al. 2025, arXiv 2505.13300) of archived posters, from evaluations that are in the store.

The label-robust score weighs what soft labels bring over random real images against what hard labels leave to the whole
training set; the augmentation-robust score weighs the lead over random real images with and without augmentation:

    HLR = real, hard labels − posters, hard labels           IOR = posters − random, own labels
    LRS = score(w · IOR − (1 − w) · HLR)                     ARS = score(w · IOR + (1 − w) · IOR without augmentation)
    score(x) = (eˣ − e⁻¹) / (e − e⁻¹)

Accuracies count as fractions here: only then is x within −1 and 1, and a score within 0 and 1, as the definition says.
Its code (ddranking 0.2.0) puts percent into the same formula, which gives other numbers. It trains the whole data
set to the end, we as many steps as the posters; and it searches a learning rate for each, where we take the protocol's.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import pandas as pd

from ppodd.config import METHODS
from ppodd.errors import BadInput
from results.analysis.answer import main_protocol
from results.analysis.tidy_frame import chosen_steps, last_stages, settings

HARD, PLAIN = "labels=hard", "strategy=none"
_WEIGHT = 0.5
_ALIKE = ["eval_arch", "seed"]
_BUDGETS = ("poster_ipc", "cumulative_ipc")


class Scores(NamedTuple):
    """A row a setting and architecture, and what must be said beside them."""

    table: pd.DataFrame
    notes: list[str]


def score(x: float) -> float:
    """A weighted difference of accuracies (fractions) on DD-Ranking's scale of 0 to 1."""
    return (math.exp(x) - math.exp(-1)) / (math.exp(1) - math.exp(-1))


def robust_scores(frame: pd.DataFrame, steps: int | None = None) -> Scores:
    """HLR and IOR in points, LRS and ARS from 0 to 1: means over seeds, of all settings that were evaluated for them.

    Raises:
        BadInput: no setting was evaluated for either score.
    """
    rows = chosen_steps(last_stages(_comparable(frame)), steps)
    role = rows["method"].map(lambda name: METHODS.known(name).role)
    fields = ["method", *(name for name in settings(rows[role == ""]) if name != "method"), *_BUDGETS]
    rows = rows.assign(asked=rows["protocol"].map(_asked), drawn=rows["cumulative_ipc"].round(4))
    found = _by_seed(rows[role == ""], rows[role == "random"], rows[role == "ceiling"], fields)
    known = found[found[["LRS", "ARS"]].notna().any(axis=1)]
    if known.empty:
        raise BadInput(
            "no setting was evaluated for DD-Ranking's scores: evaluate posters, random images (method downscaled or "
            "random-images) and full-data alike, with `labels: [soft, hard]` for LRS and a protocol `strategy: none` "
            "beside the usual one for ARS"
        )
    shown = known.groupby([*fields, "eval_arch"], dropna=False, sort=False).agg(
        seeds=("seed", "nunique"), HLR_pct=("HLR_pct", "mean"), IOR_pct=("IOR_pct", "mean"), LRS=("LRS", "mean"),
        ARS=("ARS", "mean"),
    )  # fmt: skip
    said = (
        f"DD-Ranking (arXiv 2505.13300), weights 1/2, accuracies as fractions; {rows['steps'].iloc[0]} training steps "
        "on posters, random images and full data alike; its code puts percent into the formula: not for its leaderboard"
    )
    return Scores(shown.reset_index(), [said])


def _comparable(frame: pd.DataFrame) -> pd.DataFrame:
    """The rows of the mode and origin that most trials have; of all networks, and of what DD-Ranking departs in."""
    main = main_protocol(frame)
    usual = set(main["protocol"].map(_usual))
    return frame[
        frame["mode"].isin(main["mode"])
        & frame["origin"].isin(main["origin"])
        & frame["protocol"].map(_usual).isin(usual)
    ]


def _usual(protocol: str) -> str:
    """A protocol without what DD-Ranking asks to depart in."""
    return ", ".join(part for part in protocol.split(", ") if part not in (HARD, PLAIN))


def _asked(protocol: str) -> str:
    parts = {part for part in protocol.split(", ") if part in (HARD, PLAIN)}
    return {frozenset(): "own", frozenset({HARD}): "hard", frozenset({PLAIN}): "plain"}.get(frozenset(parts), "both")


def _by_seed(posters: pd.DataFrame, random: pd.DataFrame, real: pd.DataFrame, fields: list[str]) -> pd.DataFrame:
    """The scores of every setting, network and seed: NaN where an evaluation is missing."""
    alike = [*fields, *_ALIKE]
    rows = posters[[*alike, "drawn"]].drop_duplicates(alike)
    for asked in ("own", "hard", "plain"):
        rows = rows.merge(_mean(posters, asked, alike, asked), on=alike, how="left")
    for asked in ("own", "plain"):
        rows = rows.merge(
            _mean(random, asked, ["drawn", *_ALIKE], f"random {asked}"), on=["drawn", *_ALIKE], how="left"
        )
    rows = rows.merge(_mean(real, "own", ["eval_arch"], "real"), on="eval_arch", how="left")
    hlr, ior, plain = (
        rows["real"] - rows["hard"],
        rows["own"] - rows["random own"],
        rows["plain"] - rows["random plain"],
    )
    label_robust = (_WEIGHT * ior - (1 - _WEIGHT) * hlr) / 100
    augmentation_robust = (_WEIGHT * ior + (1 - _WEIGHT) * plain) / 100
    robust = {name: x.map(score) for name, x in {"LRS": label_robust, "ARS": augmentation_robust}.items()}
    return rows.assign(HLR_pct=hlr, IOR_pct=ior, **robust)


def _mean(rows: pd.DataFrame, asked: str, keys: list[str], name: str) -> pd.DataFrame:
    return rows[rows["asked"] == asked].groupby(keys, dropna=False)["accuracy_pct"].mean().rename(name).reset_index()
