"""Flags made from the fields of a config, so that there is no second list of them."""

from __future__ import annotations

import argparse
import typing
from collections.abc import Collection
from typing import Any

import pydantic
from pydantic.fields import FieldInfo

from ppodd.config import IPC, registry_of
from ppodd.errors import BadInput
from ppodd.files import address

DEFAULT_ARCHIVE = "ppodd-archive"
_ALIASES = {"epochs": ["--epoch"], "workers": ["-j"]}


def add_config_flags(
    parser: argparse.ArgumentParser, kind: type[pydantic.BaseModel], title: str, only: Collection[str] = ()
) -> None:
    """One flag a field, absent from the namespace unless given; values stay text for pydantic to judge."""
    group = parser.add_argument_group(title)
    for name, field in kind.model_fields.items():
        if only and name not in only:
            continue
        flags = [f"--{name}", *_ALIASES.get(name, [])]
        text = _help(field).replace("%", "%%")
        if field.annotation is bool or bool in typing.get_args(field.annotation):
            group.add_argument(
                *flags, dest=name, action=argparse.BooleanOptionalAction, default=argparse.SUPPRESS, help=text
            )
        else:
            group.add_argument(*flags, dest=name, default=argparse.SUPPRESS, metavar=_metavar(field), help=text)


def _help(field: FieldInfo) -> str:
    """What a field is and, where it holds names, which are accepted."""
    registry = registry_of(field)
    return f"{field.description}: {registry.listing}" if registry else field.description or ""


def _metavar(field: Any) -> str:
    return "LIST" if "tuple" in str(field.annotation) else "VALUE"


def given(args: argparse.Namespace, kind: type[pydantic.BaseModel]) -> dict[str, Any]:
    """The config values that were given as flags; comma-separated text becomes a list where the field is one."""
    values = {name: getattr(args, name) for name in kind.model_fields if hasattr(args, name)}
    for name, value in values.items():
        if isinstance(value, str) and _metavar(kind.model_fields[name]) == "LIST":
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
    return [*args.set, *ipc]


def add_autoscaling(parser: argparse.ArgumentParser) -> None:
    """The flag for clusters that add nodes, of all that check what a cluster holds."""
    parser.add_argument(
        "--autoscaling", action="store_true", help="the cluster adds nodes: what it has now limits and refuses nothing"
    )


def check_autoscaling(args: argparse.Namespace) -> None:
    """Raise `BadInput` where no cluster is named that could scale."""
    if args.autoscaling and args.ray_address is None:
        raise BadInput("--autoscaling is said of a cluster: name it by --ray-address")
