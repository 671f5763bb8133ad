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
    text = render(args.name, *_with_sweep(values, several=args.name == "slurm"))
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


def _with_sweep(values: dict[str, str], several: bool) -> tuple[dict[str, str], str]:
    """The settings with sweep files' paths absolute, and their text.

    Raises:
        BadInput: one is no sweep, or two of `several` have one name.
    """
    from ppodd.errors import BadInput
    from tune.sweep_file import SWEEPS, find_sweep_file, load_sweep

    if "sweep" not in values:
        return values, ""
    given = values["sweep"].split(",") if several else [values["sweep"]]
    names = [load_sweep(sweep).name for sweep in given]
    if twice := [name for name in names if names.count(name) > 1]:
        raise BadInput(
            f"--set sweep={values['sweep']}: two files are of sweep {twice[0]!r}; give each a name of its own"
        )
    paths = [find_sweep_file(sweep).resolve() for sweep in given]
    shipped = SWEEPS.resolve()
    where = [sweep if path.parent == shipped else str(path) for sweep, path in zip(given, paths, strict=True)]
    return {**values, "sweep": ",".join(where)}, "".join(path.read_text(encoding="utf-8") for path in paths)
