"""Flags made from the fields of a config, so that there is no second list of them."""

from __future__ import annotations

import argparse
import json
import typing
from collections.abc import Collection, Mapping
from typing import Any

from pydantic.fields import FieldInfo

from ppodd.config import IPC, Config, registry_of
from ppodd.errors import BadInput
from ppodd.files import address

DEFAULT_ARCHIVE = "ppodd-archive"
_ALIASES = {"epochs": ["--epoch"], "workers": ["-j"], "on_bad_image": ["--on-bad-image"]}


def add_config_flags(
    parser: argparse.ArgumentParser,
    kind: type[Config],
    title: str,
    only: Collection[str] = (),
    standard: Mapping[str, Any] | None = None,
) -> None:
    """One flag a field, absent from the namespace unless given; values stay text for pydantic to judge.

    Args:
        title: of the group in the help, where the config names no sections of its own.
        only: these fields alone.
        standard: what is taken where no preset is named, by field.
    """
    group = None
    for name, field in kind.model_fields.items():
        if name in kind.sections and not only:
            group = parser.add_argument_group(kind.sections[name])
        if only and name not in only:
            continue
        group = group or parser.add_argument_group(title)
        flags = [f"--{name}", *_ALIASES.get(name, [])]
        text = _help(name, field, standard or {}).replace("%", "%%")
        if field.annotation is bool or bool in typing.get_args(field.annotation):
            group.add_argument(
                *flags, dest=name, action=argparse.BooleanOptionalAction, default=argparse.SUPPRESS, help=text
            )
        else:
            group.add_argument(*flags, dest=name, default=argparse.SUPPRESS, metavar=_metavar(field), help=text)


def _help(name: str, field: FieldInfo, standard: Mapping[str, Any]) -> str:
    """What a field is, which names it accepts, and what it is where nothing is said."""
    registry = registry_of(field)
    text = f"{field.description}: {registry.listing}" if registry else field.description or ""
    usual = _shown(field.default)
    digits = _shown(standard.get(name))
    if digits and digits != usual:
        return f"{text} (default: {digits}, of the preset digits{f'; else {usual}' if usual else ''})"
    return f"{text} (default: {usual})" if usual else text


def _shown(value: Any) -> str:
    """A default as it would be written; nothing where it is empty."""
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, (tuple, list)):
        return ",".join(map(str, value))
    return "" if value is None else str(value)


def _metavar(field: FieldInfo) -> str:
    """What stands for a value in the help: its choices, or what kind of value it is."""
    annotation = field.annotation
    if typing.get_origin(annotation) is typing.Literal:
        return f"{{{','.join(map(str, typing.get_args(annotation)))}}}"
    if _is_list(field):
        return "A,B,…"
    text = str(annotation)
    return "X" if "float" in text else "N" if "int" in text else "NAME" if registry_of(field) else "TEXT"


def _is_list(field: FieldInfo) -> bool:
    return "tuple" in str(field.annotation)


def given(args: argparse.Namespace, kind: type[Config]) -> dict[str, Any]:
    """The config values that were given as flags; comma-separated text becomes a list where the field is one."""
    values = {name: getattr(args, name) for name in kind.model_fields if hasattr(args, name)}
    for name, value in values.items():
        if isinstance(value, str) and _is_list(kind.model_fields[name]):
            values[name] = [part for part in value.split(",") if part]
    return values


def add_archive(parser: argparse.ArgumentParser) -> None:
    """The flag that says which archive, of every command that writes one."""
    parser.add_argument(
        "--archive",
        type=address,
        default=DEFAULT_ARCHIVE,
        help=f"archive folder or fsspec URL (default: {DEFAULT_ARCHIVE})",
    )


def add_overrides(parser: argparse.ArgumentParser) -> None:
    """The flags that change what a sweep file says, of all that read one."""
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="override a key of the file")
    for name, what in (("dataset", "the data lies"), ("root", "the folder lies that holds it")):
        parser.add_argument(f"--{name}", help=f"where {what} now, in place of the file's (its content is checked)")
    parser.add_argument(
        f"--{IPC}",
        default="",
        metavar="LIST",
        help="images per class of one poster, such as 0.3,0.5,0.9: chooses size, class and patch grid for the data",
    )


def overrides(args: argparse.Namespace) -> list[str]:
    """What these flags change: `key=value`."""
    several = "," in args.ipc
    ipc = [f"grid.{IPC}=[{args.ipc}]" if several else f"{IPC}={args.ipc}"] if args.ipc else []
    data = [f"{name}={json.dumps(where)}" for name in ("dataset", "root") if (where := getattr(args, name))]
    return [*args.set, *data, *ipc]


def add_autoscaling(parser: argparse.ArgumentParser) -> None:
    """The flag for clusters that add nodes, of all that check what a cluster holds."""
    parser.add_argument(
        "--autoscaling", action="store_true", help="the cluster adds nodes: what it has now limits and refuses nothing"
    )


def check_autoscaling(args: argparse.Namespace) -> None:
    """Raise `BadInput` where no cluster is named that could scale."""
    if args.autoscaling and args.ray_address is None:
        raise BadInput("--autoscaling is said of a cluster: name it by --ray-address")
