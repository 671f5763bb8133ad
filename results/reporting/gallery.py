"""The posters of a sweep, each with its accuracy, and what its blends were."""

from __future__ import annotations

import base64
import struct
from typing import NamedTuple

import pandas as pd

from results.analysis import TrialSummary, label, main_protocol, varied


class PosterImage(NamedTuple):
    """A stage's poster as a data URI, what is said below it, and its size, so that nothing moves once it is drawn."""

    stage: int
    uri: str
    text: str
    width: int
    height: int

    @classmethod
    def of(cls, stage: int, png: bytes, text: str) -> PosterImage:
        """The picture of a PNG, whose head holds its size."""
        width, height = struct.unpack(">II", png[16:24]) if png.startswith(b"\x89PNG") else (0, 0)
        return cls(stage, f"data:image/png;base64,{base64.b64encode(png).decode()}", text, width, height)


class GalleryEntry(NamedTuple):
    """A trial in the gallery; `first` for the first seed of its setting."""

    title: str
    status: str
    first: bool
    pictures: list[PosterImage]


class BlendWeights(NamedTuple):
    """π of one setting, stage by stage; means over its trials."""

    title: str
    trials: int
    stages: list[tuple[int, list[float]]]


def varying(every: list[TrialSummary]) -> list[str]:
    """Config fields that tell the trials' settings apart."""
    configs = pd.DataFrame([trial.config for trial in every])
    return varied(configs.astype(object)) if len(configs) else []


def _setting(trial: TrialSummary, fields: list[str]) -> str:
    """`num_stages 4, blend dynamic, 38×15 px`."""
    size = {"poster_width", "poster_height"}
    words = [label({n: trial.config[n] for n in fields if n not in size and n in trial.config})]
    words += [f"{trial.config['poster_width']}×{trial.config['poster_height']} px"] if size & set(fields) else []
    return ", ".join(word for word in words if word != "the one setting") or trial.name


def cards(
    every: list[TrialSummary], pictures: dict[str, dict[int, bytes]], frame: pd.DataFrame, fields: list[str]
) -> list[GalleryEntry]:
    """A card for each trial that has posters; `fields` tell their settings apart."""
    accuracy = _accuracies(frame)
    seen: set[str] = set()
    found = []
    for trial in every:
        shown = [
            PosterImage.of(stage, png, _caption(trial, stage, accuracy))
            for stage, png in pictures.get(trial.run_id, {}).items()
        ]
        setting = _setting(trial, fields)
        first = setting not in seen
        seen.add(setting)
        found.append(GalleryEntry(f"{setting}, seed {trial.config.get('seed')}", trial.status, first, shown))
    return [card for card in found if card.pictures]


def _accuracies(frame: pd.DataFrame) -> dict[tuple[str, int], str]:
    """Test accuracy of each run and stage at its largest training budget, in words; of imported posters too."""
    kinds = [main_protocol(rows) for _, rows in frame.groupby("origin")]
    rows = (pd.concat(kinds) if kinds else frame).sort_values("steps", kind="stable")
    found = zip(rows["run_id"], rows["stage"], rows["accuracy_pct"], rows["steps"], strict=True)
    return {(run, stage): f"{value:.1f}% after {steps} steps" for run, stage, value, steps in found}  # the last counts


def _caption(trial: TrialSummary, stage: int, accuracy: dict[tuple[str, int], str]) -> str:
    return f"stage {stage}: {accuracy.get((trial.run_id, stage), 'not evaluated')}"


def blends(every: list[TrialSummary], fields: list[str]) -> list[BlendWeights]:
    """π of each setting, whatever the posters' size."""
    groups: dict[str, list[TrialSummary]] = {}
    names = [name for name in fields if name not in ("poster_width", "poster_height")]
    for trial in every:
        if trial.blends:
            groups.setdefault(_setting(trial, names), []).append(trial)
    found = []
    for title, group in groups.items():
        stages = sorted({stage for trial in group for stage in trial.blends})
        means = [(stage, _mean([trial.blends[stage] for trial in group if stage in trial.blends])) for stage in stages]
        found.append(BlendWeights(title if title != group[0].name else "all trials", len(group), means))
    return found


def _mean(blends: list[list[float]]) -> list[float]:
    return [sum(weights) / len(blends) for weights in zip(*blends, strict=True)]
