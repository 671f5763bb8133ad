"""Run a sweep: many distillations on Ray, every stage evaluated, everything logged to MLflow."""

from __future__ import annotations

import argparse
import functools
import shlex
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ppodd.cli.options import add_archive, add_autoscaling, add_overrides, check_autoscaling, overrides
from ppodd.cli.output import CommandResult, records
from ppodd.errors import BadInput, PpoddError, hidden, one_line
from ppodd.words import counted

EXAMPLES = """\
  ppodd sweep quickstart                                 # ships with ppodd: five minutes on two cores
  ppodd sweep boost.yaml --dry-run                       # trials, budgets, how long
  ppodd sweep boost.yaml --set seeds=[0,1,2,3] --resume  # add a seed
"""
_SHOWN = 10  # failures or layouts printed
_RECORDED = "trace, node and log file of each are in its folder's failure.json or stage-…/failures/"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE.yaml|NAME", help="a sweep file, or a shipped one by name: quickstart")
    add_archive(parser)
    parser.add_argument("--resume", action="store_true", help="finish what is unfinished of this sweep")
    add_overrides(parser)
    parser.add_argument(
        "--dry-run", action="store_true", help="print the trials, their budgets and what they will cost, and stop"
    )
    parser.add_argument("--no-estimate", action="store_true", help="with --dry-run: time nothing, read no data")
    parser.add_argument("--ray-address", help="a running cluster (auto, HOST:PORT); default: this machine")
    parser.add_argument(
        "--tracking-uri", help="MLflow store (default: $MLFLOW_TRACKING_URI, else SQLite in the archive)"
    )
    add_autoscaling(parser)
    parser.add_argument("--wait", action="store_true", help="on a cluster too, end when every stage is evaluated")
    parser.add_argument(
        "--require", metavar="NAME=VERSION,…", help="run only with these versions of ppodd, python, ray (for submit)"
    )


def run(args: argparse.Namespace) -> CommandResult:
    from cluster import prepare
    from tune.sweep_file import load_sweep

    prepare()
    if args.require:
        from cluster.jobs import versions

        versions.require_equal(versions.here(), versions.parse(args.require))
    sweep = load_sweep(args.file, overrides(args))
    from ppodd.cli.console import fitted  # once what is bad input is said

    for line in _announced(sweep, args.archive):
        print(fitted([line]), flush=True)
    if args.ray_address:
        from cluster.service import check_address

        check_address(args.ray_address)
    if args.dry_run:
        return _dry_run(sweep, args)
    check_autoscaling(args)

    from ppodd.archive import Archive
    from ppodd.libraries import require
    from tune.running import check_claim

    archive = Archive(args.archive)
    held = check_claim(sweep, archive, args.resume)  # before Ray is loaded, which takes seconds
    require("ray", "mlflow", "pandas", "matplotlib")
    if args.resume and held is None:
        print("nothing to resume: no sweep of this name is archived there; it starts anew", flush=True)

    from ppodd.cli.console import console, duration, say
    from ppodd.cli.live_sweep import LiveSweep
    from tune.running import run_sweep

    uri = _store(args, archive)
    out = console()
    how = {"resume": args.resume, "ray_address": args.ray_address, "wait": args.wait}
    how["autoscaling"] = args.autoscaling
    with LiveSweep(out) as show:
        outcome = run_sweep(sweep, archive.url, uri, **how, show=show, say=functools.partial(say, out))
    out.print(f"took {duration(show.seconds)}")
    _say_what_ended_early(out, outcome, args.debug)
    if args.debug:
        _show_traces(out, sweep, archive)
    found = {"sweep": sweep.name, "archive": archive.url, "seconds": show.seconds, "outcome": outcome}
    if outcome.open_evaluations:
        out.print(
            f"still open: {counted(outcome.open_evaluations, 'evaluation')}, which the evaluators finish: look with "
            f"`ppodd evaluators status`, then `ppodd results table --archive {shlex.quote(archive.url)}`"
        )
    else:
        try:
            found |= _results(out, archive, sweep, uri, args.tracking_uri)
        except PpoddError as error:  # the sweep is done all the same
            out.print(f"no results from {hidden(uri)}: {one_line(error)}")
    for line in _what_resume_would_do(sweep, outcome):
        say(out, line)
    return CommandResult(0 if outcome.complete else 1, found)


def _announced(sweep: Any, archive: str) -> Iterator[str]:
    """What is about to be run, and where to."""
    from ppodd.config import LATER_STAGES

    stages = sum(config.num_stages for config in sweep.trials.values())
    size = counted(sweep.wanted, "trial") + (f", {counted(stages, 'stage')}" if stages else "")
    yield f"sweep {sweep.name}: {size} → {archive}/{sweep.name}"
    if repeats := sweep.repeats:
        apart = ", ".join(sorted(LATER_STAGES & set(sweep.varied)))
        yield f"{counted(len(repeats), 'trial')} will repeat another: in one stage, {apart} has no part"
    yield from sweep.layouts[:_SHOWN]


def _say_what_ended_early(out: Any, outcome: Any, debug: bool) -> None:
    """Trials and evaluations that failed, trials that were stopped or never made, and why."""
    _said(out, "failed", failures := {**outcome.failures, **outcome.evaluation_failures})
    if failures:
        out.print(f"{'' if debug else '--debug shows their traces; '}{_RECORDED}")
    _said(out, "stopped early", outcome.stopped)
    if outcome.untried:
        out.print(f"{counted(outcome.untried, 'trial')} fewer than wanted: the space holds no more (valid) settings")


def _what_resume_would_do(sweep: Any, outcome: Any) -> Iterator[str]:
    """For what is left to do, the command that goes on."""
    waiting = outcome.unfinished if outcome.hours_over else []
    if outcome.limited or waiting:
        given = sweep.file.limits.model_dump(exclude_none=True)
        limits = ", ".join(f"{limit} {hours:.3g}" for limit, hours in given.items())
        stopped = f"stopped {counted(len(outcome.limited), 'trial')}" if outcome.limited else ""
        left = f"left {counted(len(waiting), 'trial')} unfinished" if waiting else ""
        ended = " and ".join(filter(None, [stopped, left]))
        yield f"limits ({limits}) {ended}: the same command with --resume and more of them goes on"
    if outcome.unfinished and not waiting:
        yield f"unfinished: {counted(len(outcome.unfinished), 'trial')}; the same command with --resume goes on"
    elif outcome.evaluation_failures:
        failed = counted(len(outcome.evaluation_failures), "evaluation")
        yield f"{failed} failed: the same command with --resume tries again"


def _dry_run(sweep: Any, args: argparse.Namespace) -> CommandResult:
    """Print budgets and hours; at last, as an error, what keeps the sweep from being run."""
    from ppodd.archive import Archive
    from ppodd.cli.console import fitted
    from tune.running import Timer, budgets, check_start

    timer = None
    if not args.no_estimate:
        try:
            timer = Timer(sweep)
        except BadInput as error:
            print(f"no estimate: {error}")
    found: dict[str, Any] = {"sweep": sweep.name, "trials": sweep.wanted, "settings": []}
    if sweep.trials:
        found["settings"] = budgets(sweep, timer.images if timer else None)
        print(_budget_table(found["settings"]))
    else:
        file = sweep.file
        space = "; ".join(f"{key}: {d.kind} {d.values}" for key, d in sweep.space.items())
        print(f"{file.search.algorithm} suggests {file.num_samples} settings (× {len(file.seeds)} seeds) of {space}")
    if timer:
        print(fitted([_hours(sweep, timer)]))
        found["estimate"] = None if timer.no_gpu else timer.hours()
    archive = Archive(args.archive)
    check_start(sweep, archive, _store(args, archive), args.resume)
    return CommandResult(0, found)


def _store(args: argparse.Namespace, archive: Any) -> str:
    """The MLflow store of the sweep."""
    from results.tracking import default_tracking_uri

    return args.tracking_uri or default_tracking_uri(archive.url, cluster=args.ray_address is not None)


def _budget_table(budgets: list[Any]) -> str:
    from ppodd.cli.console import fitted, width

    head = ("setting", "seeds", "stages", "poster IPC", "cumulative IPC", "meta-steps", "evaluation steps")
    rows = [head]
    for b in budgets:
        ipc, cumulative = ("?" if value is None else f"{value:.3f}" for value in (b.poster_ipc, b.cumulative_ipc))
        steps = "?" if b.meta_steps is None else f"{b.meta_steps:,}"
        seeds = ",".join(map(str, b.seeds))
        rows.append((b.setting, seeds, str(b.stages), ipc, cumulative, steps, f"{b.evaluation_steps:,}"))
    widths = [max(len(row[column]) for row in rows) for column in range(len(head))]
    lines = [
        "  ".join(cell.ljust(wide) if column < 2 else cell.rjust(wide) for column, (cell, wide) in enumerate(cells))
        for cells in (list(zip(row, widths, strict=True)) for row in rows)
    ]
    if (columns := width()) and len(lines[0]) > columns:
        lines = [_narrow(head, rows[1:], columns)]
    known = all(b.meta_steps is not None for b in budgets)
    steps = f"{sum((b.meta_steps or 0) * len(b.seeds) for b in budgets):,} meta-steps, " if known else ""
    evaluations = sum(b.evaluation_steps * len(b.seeds) for b in budgets)
    return "\n".join([*lines, fitted([f"in all: {steps}{evaluations:,} training steps of evaluations"])])


def _narrow(head: tuple[str, ...], rows: Sequence[tuple[str, ...]], columns: int) -> str:
    """The table as results are shown on so narrow a terminal."""
    import pandas as pd

    from results.reporting import as_text

    return as_text(pd.DataFrame(rows, columns=list(head)), columns)


def _hours(sweep: Any, timer: Any) -> str:
    """The estimate in words."""
    from ppodd.cli.console import duration
    from ppodd.machine import cores
    from tune.sweep_file import groups

    if timer.no_gpu:
        who = " and ".join(timer.no_gpu)
        return f"no estimate: the {who} want a GPU, and there is none here to time them on"
    found = timer.hours()
    most = max(map(len, groups(sweep.file, sweep.trials, found.at_once)))
    shared = f", one trial after another: up to {most} share a process, in which each takes less" if most > 1 else ""
    devices = timer.trials.device
    if timer.evaluators.device != devices:
        devices = f"{devices}, evaluations on {timer.evaluators.device}"

    def reserved(seconds: float, share: Any) -> str:
        unit, amount = ("GPU", share.gpus) if share.gpus else ("core", share.cpus or 1)
        return f"{seconds / 3600 * amount:.2g} {unit} hours"

    return (
        f"estimate: trials {reserved(found.trials_s, sweep.file.resources)}, evaluations "
        f"{reserved(found.evaluations_s, sweep.file.evaluators)}; about {duration(found.wall_s)} by the clock on "
        f"{counted(cores(), 'core')} of this machine, {counted(found.at_once, 'trial')} at a time (from {found.timed} "
        f"work items timed here on {devices}{shared})"
    )


def _said(out: Any, what: str, reasons: dict[str, str]) -> None:
    """Why trials ended as they did, a line each; the first few of many."""
    for name, why in list(reasons.items())[:_SHOWN]:
        out.print(f"{what}: {name}: {why}")
    if len(reasons) > _SHOWN:
        out.print(f"{what}: {len(reasons) - _SHOWN} more; the report shows them all")


def _show_traces(out: Any, sweep: Any, archive: Any) -> None:
    """The tracebacks of what failed, as the archive holds them, from whichever node."""
    for name in sweep.trials:
        trial = archive.trial(sweep.name, name)
        evaluations = [failure for stage in trial.stages() for failure in trial.evaluation_failures(stage)]
        for failure in filter(None, [trial.failure(), *evaluations]):
            if failure.traceback:
                out.print(f"{name}, on {failure.node or 'a node'}, log {failure.log_file or 'unknown'}:")
                out.print(failure.traceback)


def _results(out: Any, archive: Any, sweep: Any, uri: str, tracking_uri: str | None) -> dict[str, Any]:
    """The table, the curve's path, and how to look at the rest."""
    from ppodd.cli.console import fitted, width
    from ppodd.config import LATER_STAGES
    from results.analysis import chosen_steps, frame, kinds, last_stages, settings
    from results.reporting import as_text, curve, means, notes, table

    rows = frame(uri, [sweep.name])
    last = last_stages(rows)
    if last.empty:
        return {}
    out.print("\n".join(["", as_text(table(rows), width()), fitted(notes(rows)), ""]))
    with tempfile.TemporaryDirectory() as folder:
        picture = Path(folder, "accuracy-vs-ipc.png")
        curve(rows, str(picture))
        (archive.folder / sweep.name).write(picture.name, picture.read_bytes())
    out.print(f"accuracy vs IPC: {(archive.folder / sweep.name).at(picture.name)}")
    these = f"--sweep {sweep.name} --archive {shlex.quote(archive.url)}"
    if tracking_uri:
        these += f" --tracking-uri {shlex.quote(hidden(tracking_uri))}"
    out.print(f"report: ppodd results report {these} -o {sweep.name}.html")
    last = chosen_steps(last, None)
    vary = settings(last)
    if (last["num_stages"] == 1).all():
        vary = [name for name in vary if name not in LATER_STAGES]
    if by := [*(name for name in sweep.varied if name in vary), *kinds(last)]:
        out.print(f"compare: ppodd results compare --by {by[0]} {these}")
    pages = _pages(uri, sweep.name)
    serve = "" if uri.startswith("http") else f": mlflow ui --backend-store-uri {shlex.quote(hidden(uri))}, then"
    out.print("\n".join([f"in MLflow{serve}", *(f"  {title}: {url}" for title, url in pages.items())]))
    return {"settings": records(means(rows)), "notes": notes(rows), "mlflow": pages}


def _pages(uri: str, sweep: str) -> dict[str, str]:
    """The store's pages that compare the sweep's settings."""
    from results.tracking import Store, links_of

    return {link.title: link.url for link in links_of(Store(uri), sweep)}
