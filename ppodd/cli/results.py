"""Tables, comparisons and curves out of MLflow; `sync` rebuilds or completes MLflow from the archive."""

from __future__ import annotations

import argparse

from ppodd.cli.options import add_archive


def add_arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", required=True, metavar="table|compare|curve|sync")
    table = actions.add_parser("table", help="every setting's last stage at every training budget")
    compare = actions.add_parser("compare", help="values of one setting side by side at equal budgets")
    compare.add_argument("--by", default="num_stages", help="what to compare: num_stages, blend, any config field")
    curve = actions.add_parser("curve", help="accuracy vs IPC with error bars over seeds, as a picture")
    curve.add_argument("-o", "--output", default="accuracy-vs-ipc.png", help=".png, .svg or .pdf")
    curve.add_argument("--by", action="append", help="a line for each value of this field (repeatable; default: all)")
    sync = actions.add_parser("sync", help="bring MLflow up to date with the archive; twice changes nothing")
    for action in (compare, curve):
        action.add_argument("--at", default="poster_ipc", help="pixel budget: poster_ipc (default) or cumulative_ipc")
        action.add_argument("--steps", type=int, help="training budget (default: the largest)")
    table.add_argument("--csv", metavar="FILE", help="write the tidy rows instead: every stage, seed and budget")
    for action in (table, compare, curve, sync):
        add_archive(action)
        action.add_argument("--sweep", action="append", help="this sweep only (repeatable; default: all)")
        action.add_argument("--tracking-uri", help="MLflow store (default: that of the archive)")


def run(args: argparse.Namespace) -> int:
    from ppodd.cli.sweep import require

    require("mlflow", "pandas", "matplotlib")

    from ppodd.archive import Archive
    from ppodd.errors import BadInput
    from results.store import default_tracking_uri

    archive = Archive(args.archive)
    uri = args.tracking_uri or default_tracking_uri(archive.url)
    if args.action == "sync":
        return _sync(archive.url, uri, args.sweep)
    if uri.startswith("sqlite:///") and not archive.folder.exists("mlflow.db") and not args.tracking_uri:
        raise BadInput(f"no results in {archive.url}: name the sweep's --archive, or run `ppodd results sync`")

    from results.compare import compare
    from results.curve import curve
    from results.frame import frame
    from results.table import as_text, table

    rows = frame(uri, args.sweep)
    if rows.empty:
        raise BadInput(f"{uri} holds no evaluations yet: wait for the evaluators, or run `ppodd results sync`")
    if args.action == "table" and args.csv:
        from ppodd.files import atomic_write

        atomic_write(args.csv, rows.to_csv(index=False).encode())
        print(f"{args.csv}: {len(rows)} rows")
    elif args.action == "table":
        print("test accuracy in percent of the last stage, by training steps (mean ± std over seeds)")
        print(as_text(table(rows)))
    elif args.action == "compare":
        comparison = compare(rows, args.by, args.at, args.steps)
        print(as_text(comparison.table))
        print("\n".join(comparison.notes))
    else:
        curve(rows, args.output, args.at, args.by, args.steps)
        print(args.output)
    return 0


def _sync(archive: str, uri: str, sweeps: list[str] | None) -> int:
    from results.sync import sync

    report = sync(archive, uri, sweeps)
    print(f"{uri} is up to date: {report.stages} stages and {report.evaluations} evaluations read from {archive}")
    for problem in report.problems:
        print(f"not read: {problem}")
    return 1 if report.problems else 0
