"""What every accuracy stands beside: random real images of the same pixel budget, and the whole training set.

Both were evaluated as it was: the same networks, mode, protocol and training steps.
"""

from __future__ import annotations

import pandas as pd

from ppodd.config import METHODS

OVER_RANDOM, OF_FULL_DATA = "over_random_pct", "of_full_data_pct"
BESIDE = (OVER_RANDOM, OF_FULL_DATA)
# Config fields that an evaluation takes over, beside what the columns of kinds tell.
_EVALUATED = ("width", "distill_batch_size", "inner_optim", "inner_lr", "syn_strategy", "comp_aug", "decay")
# Config fields that say which images there are, and as what a network sees them.
PREPARED = ("dataset", "image_size", "zca", "validation", "classes", "per_class", "dtype")
_ALIKE = ("mode", "eval_arch", "protocol", "steps")


def with_baselines(frame: pd.DataFrame) -> pd.DataFrame:
    """The frame with two columns more, NaN where nothing was measured to compare with.

    They are the points above random real images of the same cumulative IPC and seed, and the share (percent) of the
    accuracy that the whole training set gives.
    """
    alike = [*_ALIKE, *(name for name in (*PREPARED, *_EVALUATED) if name in frame)]
    budget = frame.assign(_drawn=frame["cumulative_ipc"].round(4))
    same = [*alike, "seed", "_drawn", *(["train_y"] if "train_y" in frame else [])]  # labels learned beside learned
    random = _mean(budget, "random", same)
    ceiling = _mean(budget, "ceiling", alike)
    beside = budget.merge(random, on=same, how="left").merge(ceiling, on=alike, how="left")
    own = beside["random"].mask(_role(frame).isin(("random", "ceiling", "chance")).to_numpy())
    return frame.assign(
        **{
            OVER_RANDOM: (beside["accuracy_pct"] - own).to_numpy(),
            OF_FULL_DATA: (100 * beside["accuracy_pct"] / beside["ceiling"]).to_numpy(),
        }
    )


def _mean(frame: pd.DataFrame, role: str, keys: list[str]) -> pd.DataFrame:
    rows = frame[_role(frame) == role]
    return rows.groupby(keys, dropna=False)["accuracy_pct"].mean().rename(role).reset_index()


def _role(frame: pd.DataFrame) -> pd.Series:
    return frame["method"].map({name: METHODS.known(name).role for name in frame["method"].unique()})


def is_reference(frame: pd.DataFrame) -> pd.Series:
    """Which rows are of a method that is of no pixel budget: nothing stands beside it at an equal one."""
    if "method" not in frame:
        return pd.Series(False, index=frame.index)
    return frame["method"].map({name: METHODS.known(name).reference for name in frame["method"].unique()}).astype(bool)


def beside(rows: pd.DataFrame, keys: list[str]) -> pd.DataFrame:
    """A row for each group of `keys`: the means over seeds of both columns, those of which anything is known."""
    known = [name for name in BESIDE if name in rows and rows[name].notna().any()]
    seeds = rows.groupby([*keys, "seed"], dropna=False)[known].mean()
    return seeds.groupby(keys, dropna=False).mean().reset_index()


def references(rows: pd.DataFrame) -> dict[str, float]:
    """The mean accuracy (percent) of each reference among these rows, by its name."""
    found = rows[is_reference(rows)]
    if found.empty:
        return {}
    return {str(name): float(mean) for name, mean in found.groupby("method")["accuracy_pct"].mean().items()}


def note(rows: pd.DataFrame, steps: int) -> list[str]:
    """What both columns mean, where anything is known of them."""
    said = {
        OVER_RANDOM: "over random: points above random real images of the same cumulative IPC and seed",
        OF_FULL_DATA: "of full data: percent of the accuracy that as many steps on the whole training set give",
    }
    known = [text for name, text in said.items() if name in rows and rows[name].notna().any()]
    return [f"{'; '.join(known)}; after {steps} training steps"] if known else []
