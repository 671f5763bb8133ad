"""Frames as a store gives them, of made-up trials."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pandas as pd


def rows(trials: list[dict[str, Any]], budgets: tuple[int, ...] = (100,)) -> pd.DataFrame:
    """A frame as `results.frame.frame` makes it, of these trials: every stage done, accuracy 10·stages + seed."""
    found = []
    for number, values in enumerate(trials):
        trial: dict[str, Any] = {
            "sweep": "s", "trial": f"t{number}", "status": "finished", "leaks_test_set": False, "mode": "blend",
            "eval_arch": "convnet", "protocol": "", "std_pct": 1.0, "nets": 3, "dataset": "digits", "arch": "convnet",
            "num_stages": 2 if "blend" in values else 1,  # in one stage it plays no part
            "blend": "dynamic", "blend_boost": 1.5, "seed": 0, "num_train_eval": 3, "lr": 0.1, "epochs": 8,
            "width": 4, "window": 2, "poster_width": 20, "poster_height": 16, "stages_done": None,
            "accuracy": None, "seconds": 5.0, "origin": "distilled", **values,
        }  # fmt: skip
        done, accuracy = trial.pop("stages_done") or trial["num_stages"], trial.pop("accuracy")
        seconds = trial.pop("seconds")
        ipc = trial["poster_width"] * trial["poster_height"] / 640
        for stage in range(1, done + 1):
            drawn = 1 if trial["blend"] == "latest" else stage
            meta_steps = stage * trial["epochs"] // trial["num_stages"]
            budget = {"poster_ipc": ipc, "cumulative_ipc": drawn * ipc, "storage_bytes": 9, "meta_steps": meta_steps}
            budget |= {"distill_seconds": seconds * stage, "stage_accuracy_pct": 40.0 + stage, "meta_loss": 2.0}
            reached = 10.0 * stage + trial["seed"] if accuracy is None else accuracy
            found += [{**trial, **budget, "stage": stage, "steps": b, "accuracy_pct": reached} for b in budgets]
    return pd.DataFrame(found)


def words(svg: Path) -> str:
    """The text of a picture, its lines joined."""
    return " ".join(re.findall(r"<t(?:ext|span)[^>]*>([^<]+)<", svg.read_text()))


def seeds(**values: Any) -> list[dict[str, Any]]:
    return [{"seed": seed, **values} for seed in (0, 1, 2)]


def spread(blend: str, *accuracies: float, **values: Any) -> list[dict[str, Any]]:
    return [{"blend": blend, "seed": s, "accuracy": a, **values} for s, a in enumerate(accuracies)]
