"""Templates of clusters for sweeps: Kubernetes (KubeRay), AWS (ray up), Slurm."""

from __future__ import annotations

import argparse
import sys

from ppodd.cli.output import CommandResult, add_output

EXAMPLES = """\
  ppodd cluster template slurm --set sweep=boost.yaml --set nodes=4 -o sweep.sh
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", required=True, metavar="template")
    template = actions.add_parser(
        "template", help="a template with your numbers filled in; without a name: all of them"
    )
    template.add_argument("name", nargs="?", metavar="NAME", help="kuberay-cluster, kuberay-job, ray-up-aws or slurm")
    template.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="a setting (repeatable)")
    add_output(template, "", help="write a file (default: print it)")


def run(args: argparse.Namespace) -> CommandResult:
    from cluster.templates import KINDS, describe, render
    from ppodd.files import atomic_write
    from ppodd.libraries import require

    if not args.name:
        print("\n\n".join(map(describe, KINDS)))
        return CommandResult(0, {"templates": list(KINDS)})
    require("jinja2", extra="cluster")
    values = dict(map(_setting, args.set))
    values, sweeps = _with_sweep(values, several=args.name == "slurm")
    text = render(args.name, values, sweeps)
    _check_resources(args.name, values)
    if not args.output:
        sys.stdout.write(text)
        return CommandResult(0, {"template": text})
    atomic_write(args.output, text.encode())
    print(args.output)
    return CommandResult(0, {"file": args.output, "template": text})


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


def _check_resources(template: str, values: dict[str, str]) -> None:
    """Raise `BadInput` where a node as the template has them could never take a trial or an evaluator of its sweep."""
    from cluster.templates import filled_in
    from tune.running import Node, require_place
    from tune.sweep_file import load_sweep

    settings = filled_in(template, values)
    others = {**settings.ray_resources, "memory": settings.memory_bytes}
    for sweep in values.get("sweep", "").split(",") if "sweep" in values else ():
        file = load_sweep(sweep).file
        for who, wanted in (("resources: a trial", file.resources), ("evaluators: one", file.evaluators)):
            node = Node(settings.cpus, [1.0] * settings.gpus, others)
            require_place(f"{sweep}: {who}", wanted, [node] * settings.nodes, "have nodes of more, with --set")
