"""Templates of clusters for sweeps: Kubernetes (KubeRay), AWS (ray up), Slurm."""

from __future__ import annotations

import argparse
import sys


def add_arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", required=True, metavar="template")
    template = actions.add_parser(
        "template", help="a template with your numbers filled in; without a name: all of them"
    )
    template.add_argument("name", nargs="?", metavar="NAME", help="kuberay-cluster, kuberay-job, ray-up-aws or slurm")
    template.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="a setting (repeatable)")
    template.add_argument("-o", "--output", metavar="FILE", help="write a file (default: print it)")


def run(args: argparse.Namespace) -> int:
    from cluster.templates import KINDS, describe, render
    from ppodd.cli.sweep import require
    from ppodd.files import atomic_write

    if not args.name:
        print("\n\n".join(map(describe, KINDS)))
        return 0
    require("jinja2", extra="cluster")
    values = dict(map(_setting, args.set))
    text = render(args.name, *_with_sweep(values))
    if not args.output:
        sys.stdout.write(text)
        return 0
    atomic_write(args.output, text.encode())
    print(args.output)
    return 0


def _setting(text: str) -> tuple[str, str]:
    from ppodd.errors import BadInput

    key, equals, value = text.partition("=")
    if not equals:
        raise BadInput(f"--set {text!r}: write key=value, such as nodes=4; `ppodd cluster template` lists the keys")
    return key, value


def _with_sweep(values: dict[str, str]) -> tuple[dict[str, str], str]:
    """The settings with a sweep file's path absolute, and its text. Raises `BadInput` where it is no sweep."""
    from tune.sweep_file import SWEEPS, find_sweep_file, load_sweep

    if "sweep" not in values:
        return values, ""
    load_sweep(values["sweep"])
    path = find_sweep_file(values["sweep"]).resolve()
    shipped = path.parent == SWEEPS.resolve()
    return {**values, "sweep": values["sweep"] if shipped else str(path)}, path.read_text(encoding="utf-8")
