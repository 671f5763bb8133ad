"""Tables, comparisons, curves and a report out of MLflow; `sync` rebuilds or completes MLflow from the archive."""

from __future__ import annotations

import argparse
import dataclasses
import shlex
from typing import TYPE_CHECKING, Any

from ppodd.cli.options import add_archive
from ppodd.cli.output import CommandResult, add_output, records
from ppodd.words import counted

if TYPE_CHECKING:
    import pandas as pd

EXAMPLES = """\
  ppodd results table
  ppodd results compare --by num_stages --at cumulative_ipc
  ppodd results curve --by blend -o curve.svg
  ppodd results report -o report.html
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(
        dest="action", required=True, metavar="table|compare|curve|report|paper|ddranking|sync"
    )
    table = actions.add_parser("table", help="every setting's last stage at every training budget")
    compare = actions.add_parser("compare", help="values of one setting side by side at equal budgets, with a test")
    compare.add_argument("--by", default="num_stages", help="what to compare: num_stages, blend, any config field")
    compare.add_argument(
        "--at",
        default="poster_ipc",
        help="budget held equal: poster_ipc (default), cumulative_ipc, meta_steps, seconds",
    )
    compare.add_argument("--against", metavar="VALUE", help="test every value against this one (default: all pairs)")
    curve = actions.add_parser("curve", help="accuracy vs a budget, stages or compute, as a picture")
    curve.add_argument(
        "--x",
        default="poster_ipc",
        help="poster_ipc (default), cumulative_ipc, num_stages, stage, steps, meta_steps, seconds",
    )
    curve.add_argument("--by", action="append", help="a line for each value of this field (repeatable; default: all)")
    curve.add_argument("--published", action="store_true", help="the published numbers as dashed lines (cifar10)")
    curve.add_argument(
        "--width", default="column", help="of the picture: column of a paper (3.25 in, default), page (6.75 in), inches"
    )
    report = actions.add_parser("report", help="one HTML file: the answer, curves, tables, posters, provenance")
    paper = actions.add_parser("paper", help="a published table with the measured numbers beside it")
    paper.add_argument("table", metavar="TABLE", help="ipc, boost, blend or stages")
    ranking = actions.add_parser(
        "ddranking", help="DD-Ranking's label- and augmentation-robust scores of every setting"
    )
    sync = actions.add_parser("sync", help="bring MLflow up to date with the archive; twice changes nothing")
    sync.add_argument("--rebuild", action="store_true", help="put an SQLite store aside and make it anew")
    for action, form, default, text in (
        (table, ".csv", None, "write a file: .csv, .parquet (every stage, seed and budget), .tex, .md (the table)"),
        (compare, ".csv", None, "write means and differences to a file: .csv, .parquet, .tex, .md"),
        (paper, ".csv", None, "write the table to a file: .csv, .parquet, .tex, .md"),
        (ranking, ".csv", None, "write the table to a file: .csv, .parquet, .tex, .md"),
        (curve, ".png", "curve.png", "write .png, .svg or .pdf (default: %(default)s)"),
        (report, ".html", "report.html", "write .html (default: %(default)s)"),
    ):
        add_output(action, form, default=default, help=text)
        action.add_argument("--filter", default="", help="MLflow filter of trials, such as \"params.blend = 'latest'\"")
        action.add_argument("--where", action="append", default=[], metavar="FIELD=VALUE", help="these rows only")
    for action in (compare, curve, report, paper, ranking):
        action.add_argument("--steps", type=int, help="training budget (default: the largest that most trials have)")
    for action in (table, compare, curve, report, paper, ranking, sync):
        add_archive(action)
        action.add_argument("--sweep", action="append", help="this sweep only (repeatable; default: all)")
        action.add_argument("--tracking-uri", help="MLflow store (default: that of the archive)")


def run(args: argparse.Namespace) -> CommandResult:
    from ppodd.libraries import require

    require("mlflow", "pandas", "matplotlib", "jinja2")

    from ppodd.archive import Archive
    from ppodd.errors import BadInput
    from results.tracking import default_tracking_uri, exists, require_store

    archive = Archive(args.archive)
    uri = args.tracking_uri or default_tracking_uri(archive.url)
    if args.action == "sync":
        return _sync(archive.url, uri, args.sweep, args.rebuild)
    if not args.tracking_uri and not exists(uri):
        archive.require()
        raise BadInput(
            f"{archive.url} is not in MLflow yet: run `ppodd results sync --archive {shlex.quote(args.archive)}`"
        )
    require_store(uri)
    actions = {
        "table": _table,
        "compare": _compare,
        "curve": _curve,
        "report": _report,
        "paper": _paper,
        "ddranking": _dd_ranking,
    }
    return CommandResult(0, actions[args.action](args, uri))


def _rows(args: argparse.Namespace, uri: str) -> tuple[pd.DataFrame, list[str]]:
    """The rows asked for, and what must be said of the trials they are of."""
    from ppodd.errors import BadInput
    from results.analysis import choose, frame_of, trial_remarks, trials, where

    chosen = choose(uri, args.sweep, args.filter)
    rows, notes = frame_of(chosen), trial_remarks(chosen, trials(chosen))
    if rows.empty:
        so_far = "".join(f"; {note}" for note in notes)
        raise BadInput(
            f"{uri} holds no evaluations yet: wait for the evaluators, or bring them from an archive: "
            f"`ppodd results sync --archive …`{so_far}"
        )
    return where(rows, args.where), notes


def _table(args: argparse.Namespace, uri: str) -> dict[str, Any]:
    from ppodd.cli.console import fitted, width
    from results.reporting import as_text, export, is_page, means, notes, table

    page = is_page(args.output) if args.output else True
    rows, said = _rows(args, uri)
    shown = table(rows) if page else rows.drop(columns="run_id")  # of this store alone: a rebuilt one has others
    said = [*notes(rows), *said]
    if args.output:
        export(shown, args.output, said)
        print(f"{args.output}: {len(shown)} rows")
    else:
        print("\n".join([fitted(said[:1]), as_text(shown, width()), fitted(said[1:])]))
    return {"settings": records(means(rows)), "notes": said}


def _compare(args: argparse.Namespace, uri: str) -> dict[str, Any]:
    from ppodd.cli.console import width
    from results.analysis import compare
    from results.reporting import as_text, is_page

    if args.output:
        is_page(args.output)
    rows, said = _rows(args, uri)
    result = compare(rows, args.by, args.at, args.steps, args.against)
    tables = {"means": result.table, "differences": result.pairs, "overall": result.overall}
    print("\n\n".join(as_text(table, width()) for table in tables.values() if len(table)))
    notes = [*result.notes, *said]
    _written(tables, args.output, notes)
    return {**{name: records(table) for name, table in tables.items()}, "notes": notes}


def _curve(args: argparse.Namespace, uri: str) -> dict[str, Any]:
    from results.reporting import MANY, curve, require_format, width_inches

    require_format(args.output)
    inches = width_inches(args.width)
    rows, said = _rows(args, uri)
    points = curve(rows, args.output, args.x, args.by, args.steps, args.published, inches)
    if (lines := points["line"].nunique()) > MANY:
        said = [f"{lines} lines in one picture: choose some with --where, or average over settings with --by", *said]
    print("\n".join([args.output, *said]))
    return {"file": args.output, "points": records(points), "notes": said}


def _report(args: argparse.Namespace, uri: str) -> dict[str, Any]:
    from results.reporting import report, require_html

    require_html(args.output)
    made = report(uri, args.output, args.sweep, args.filter, args.where, args.steps)
    print(args.output)
    return {"file": args.output, "answers": made.answers, "mlflow": {link.title: link.url for link in made.mlflow}}


def _paper(args: argparse.Namespace, uri: str) -> dict[str, Any]:
    from ppodd.cli.console import width
    from results.analysis import published
    from results.reporting import as_text, beside

    wanted = published(args.table)
    rows, said = _rows(args, uri)
    result = beside(rows, wanted, args.steps)
    print(f"{wanted.title} ({wanted.source})\n{as_text(result.table, width())}")
    notes = [*result.notes, *said]
    _written(result.table, args.output, notes)
    return {"title": wanted.title, "source": wanted.source, "rows": records(result.table), "notes": notes}


def _dd_ranking(args: argparse.Namespace, uri: str) -> dict[str, Any]:
    from ppodd.cli.console import width
    from results.analysis import robust_scores
    from results.reporting import as_text

    rows, said = _rows(args, uri)
    result = robust_scores(rows, args.steps)
    print(as_text(result.table, width()))
    notes = [*result.notes, *said]
    _written(result.table, args.output, notes)
    return {"rows": records(result.table), "notes": notes}


def _written(tables: Any, output: str | None, notes: list[str]) -> None:
    """The notes, and the table, or several by name, to a file if one is named."""
    from ppodd.cli.console import fitted
    from results.reporting import export

    print(fitted(notes))
    if output:
        export(tables, output, notes)
        print(output)


def _sync(archive: str, uri: str, sweeps: list[str] | None, rebuild: bool) -> CommandResult:
    from ppodd.errors import BadInput, hidden
    from results.reporting import publish
    from results.tracking import set_aside, sqlite_path, sync

    if rebuild:
        path = sqlite_path(uri)
        if path is None:
            raise BadInput(f"--rebuild: {hidden(uri)} is no SQLite file; delete its experiments there instead")
        if path.exists():
            print(f"the store as it was: {set_aside(path)}")
    report = sync(archive, uri, sweeps, publish)
    print(
        f"{hidden(uri)} is up to date: {counted(report.stages, 'stage')} and "
        f"{counted(report.evaluations, 'evaluation')} read anew from {archive}"
    )
    for problem in report.problems:
        print(f"not read: {hidden(problem)}")
    return CommandResult(1 if report.problems else 0, {"store": hidden(uri), **dataclasses.asdict(report)})
