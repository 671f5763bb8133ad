"""`--set key=value`: what the command line changes in a sweep file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml

from ppodd.config import DistillConfig
from ppodd.errors import BadInput, unknown
from tune.sweep_file.document import Document, Loader
from tune.sweep_file.schema import SweepFile
from tune.sweep_file.space import FIELDS, keys


def apply_override(values: dict[str, Any], override: str, document: Document) -> str:
    """`key=value` on a sweep key (`num_samples`, `evaluation.nets`) or a config field, which varies no longer then.

    Returns the config field, if it is one.
    """
    key, equals, text = override.partition("=")
    if not equals:
        raise BadInput(f"--set {override!r}: write key=value, such as num_samples=2, evaluation.nets=4 or lr=0.01")
    try:
        value = yaml.load(text, Loader=Loader)
    except (yaml.YAMLError, RecursionError):
        raise BadInput(f"--set {override!r}: {text!r} is no YAML value") from None
    head, dot, tail = key.partition(".")
    if head in SweepFile.model_fields:
        if dot and isinstance(values.get(head), list):
            raise BadInput(f"--set {override!r}: {head} is a list in the file: change it there")
        document.overrides[(head, tail) if dot else (head,)] = override
        if dot:
            values[head] = {**(values.get(head) or {}), tail: value}
        else:
            values[key] = value
        return ""
    if key not in FIELDS:
        known = [*SweepFile.model_fields, *FIELDS]
        listed = f"{SweepFile.listed}, {DistillConfig.listed}"
        raise BadInput(f"--set {override!r}: {unknown('key', key, known, listed)}")
    document.overrides["config", key] = override
    values |= _without(key, values, override)
    when = [entry | _without(key, entry, override) for entry in values.get("when") or () if isinstance(entry, dict)]
    if when:
        values["when"] = [entry for entry in when if entry.get("grid") or entry.get("sample")]
    values["config"] = {**(values.get("config") or {}), key: value}
    return key


def _without(key: str, section: Mapping[str, Any], override: str) -> dict[str, Any]:
    """The grid and sample of a section without a field."""
    found = {}
    for kind in ("grid", "sample"):
        if not isinstance(section.get(kind), dict):
            continue
        found[kind] = {joint: values for joint, values in section[kind].items() if keys(joint) != [key]}
        if any(key in keys(joint) for joint in found[kind]):
            raise BadInput(f"--set {override!r}: {key} varies together with other keys in {kind}: change the file")
    return found
