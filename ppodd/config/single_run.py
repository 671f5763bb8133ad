"""The config of a run that belongs to no sweep: a preset, what was set, a layout for the data, and a name."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from typing import Any

from ppodd.config.distillation import DistillConfig, absolute_paths
from ppodd.config.layout import IPC, in_words, laid_out, preset_for
from ppodd.config.methods import P_PODD
from ppodd.config.names import as_name, check_name, shortened
from ppodd.config.presets import PRESETS, preset
from ppodd.config.validation import build
from ppodd.datasets import is_path

_LONGEST_LABEL_BYTES = 100


def configured(
    start_from: str,
    settings: dict[str, Any],
    default: dict[str, Any] | None = None,
    say: Callable[[str], None] = lambda line: None,
    choose: Callable[[DistillConfig, DistillConfig], DistillConfig] = lambda plain, apart: plain,
) -> DistillConfig:
    """The config: the preset (by name, else the data set's own), then the settings, fields or `ipc`.

    Args:
        default: what is known of a run that is imported, whose other settings are the published ones.
        say: receives a line with the layout that was chosen for the data.
        choose: of a run on data of one's own that is given no name, between the one that its folder alone makes, and
            the one by which it is told apart from a folder of that name elsewhere.
    """
    flags = {name: value for name, value in settings.items() if name != IPC}
    if "name" in flags:
        check_name(flags["name"])
    name = start_from or preset_for(flags.get("dataset", "digits"))
    start = preset(name)
    its_own = flags.get("dataset", start["dataset"]) == start["dataset"]
    meant = its_own or bool(start_from)
    if default is not None and not meant:
        start, meant = {}, True
    values, spec = laid_out({**start, **(default or {}), **settings}, flags, meant)
    config = absolute_paths(build(DistillConfig, values))
    if spec:
        say(in_words(config.geometry, spec))
    if not config.name:
        config = _called(config, name if its_own else _label(config.dataset))
        if is_path(config.dataset):
            config = choose(config, _called(config, _label(config.dataset, apart=True)))
    check_name(config.name)
    return config


def _called(config: DistillConfig, label: str) -> DistillConfig:
    method = "" if config.method == P_PODD else f"-{config.method}"
    called = as_name(f"{label}{method}-stages{config.num_stages}-{config.blend}-seed{config.seed}")
    return config.model_copy(update={"name": called})


def _label(dataset: str, apart: bool = False) -> str:
    """What a run on a data set is called after: for data of one's own its folder or file, told apart where need be.

    Two folders whose names are cleaned to the same get distinct ones, and none is called as a preset is. Two of one
    name at different places do where they are to be told `apart`.
    """
    if not is_path(dataset):
        return shortened(dataset, _LONGEST_LABEL_BYTES)
    called = os.path.basename(dataset)
    label = as_name(shortened(called, _LONGEST_LABEL_BYTES))
    if label == called and label.casefold() not in PRESETS and not apart:
        return label
    return f"{label}-{hashlib.sha256((dataset if apart else called).encode()).hexdigest()[:6]}"
