"""The evaluators of an archive or cluster: start them, watch them, change how many there are, end them."""

from __future__ import annotations

import argparse
import contextlib
import os
import time
from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ppodd.cli.options import add_archive, add_autoscaling, check_autoscaling
from ppodd.cli.output import CommandResult
from ppodd.errors import BadInput
from ppodd.words import counted

if TYPE_CHECKING:
    from cluster.dispatch import Pool, ServiceStatus
    from ppodd.archive import Archive
    from ppodd.config import EvaluationConfig

EXAMPLES = """\
  ppodd evaluators start --sweep boost --protocol 'mode: latest, nets: 8'
  ppodd evaluators status --watch
"""
_SHOWN_FAILURES = 20
_WATCH_S = 2.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", required=True, metavar="start|status|scale|stop")
    start = actions.add_parser("start", help="evaluate what an archive holds, and what comes to it")
    status = actions.add_parser("status", help="what is pending, running, done and failed, and who does what")
    scale = actions.add_parser("scale", help="have at most N evaluators")
    stop = actions.add_parser("stop", help="end all evaluators; what they were at stays open")
    add_archive(start)
    start.add_argument("--sweep", action="append", help="this sweep only (repeatable; default: all of the archive)")
    start.add_argument(
        "--protocol",
        action="append",
        default=[],
        metavar="YAML",
        help="evaluate in this way too: 'mode: latest, nets: 4', or a file of such YAML (repeatable)",
    )
    start.add_argument(
        "--tracking-uri", help="MLflow store (default: $MLFLOW_TRACKING_URI, else SQLite in the archive)"
    )
    pool = start.add_argument_group("pool", "of a sweep that is served already, what is not given stays as it is")
    pool.add_argument("--count", type=int, help="at most this many evaluators (default: 1)")
    pool.add_argument("--cpus", type=float, help="cores that each reserves (default: 1; 0: what others leave)")
    pool.add_argument("--gpus", type=float, help="share of a GPU that each reserves, such as 0.25 (default: 0)")
    pool.add_argument("--idle-s", type=float, help="seconds without work after which one stops (default: 120)")
    start.add_argument(
        "--ray-address", help="a running cluster (auto, HOST:PORT); default: this machine, until all is done"
    )
    add_autoscaling(start)
    scale.add_argument("count", type=int, metavar="N")
    status.add_argument("--watch", action="store_true", help="go on showing it")
    for action in (status, scale, stop):
        action.add_argument(
            "--ray-address", default="auto", help="the cluster (default: auto, the one on this machine)"
        )


def run(args: argparse.Namespace) -> CommandResult:
    from cluster import prepare
    from ppodd.libraries import require

    if args.action == "start":
        _check_numbers(args)
        evaluations = [protocol(text) for text in args.protocol]
    if args.action == "scale" and args.count < 0:
        raise BadInput(f"scale {args.count}: name 0 or more evaluators")
    require("ray", "mlflow", "pandas")
    prepare()
    if args.action == "start":
        return _start(args, evaluations)

    from cluster.service import answer, connect
    from cluster.service import client as evaluators
    from ppodd.cli.console import console

    connect(args.ray_address, otherwise="name the cluster that has the evaluators: --ray-address HOST:PORT")
    out = console()
    if args.action == "stop":
        evaluators.stop()  # whatever is left of them, with or without a coordinator
        out.print(
            "evaluators stopped; what is open is evaluated by the next ones (ppodd evaluators start, ppodd sweep)"
        )
        return CommandResult(0, {"count": 0})
    coordinator = evaluators.find()
    if args.action == "scale":
        answer(coordinator.resize.remote(args.count))
        out.print(
            f"at most {counted(args.count, 'evaluator')} from now on; those too many stop when they have nothing to do"
        )
        return CommandResult(0, {"count": args.count})
    return CommandResult(0, _found(_status(out, coordinator, args.watch)))


def _found(status: ServiceStatus) -> dict[str, Any]:
    """A status for other programs."""
    trials = [{"sweep": sweep, "trial": trial, "now": now} for sweep, trial, now in status["trials"]]
    return {**status, "trials": trials}


def _check_numbers(args: argparse.Namespace) -> None:
    for flag, value, least in (("count", args.count, 1), ("cpus", args.cpus, 0), ("gpus", args.gpus, 0)):
        if value is not None and value < least:
            raise BadInput(f"--{flag}={value}: at least {least}")
    check_autoscaling(args)
    if args.idle_s is not None and args.idle_s < 0:
        raise BadInput(f"--idle-s={args.idle_s}: at least 0 seconds")
    if args.gpus is not None and args.gpus > 1:
        raise BadInput(
            f"--gpus={args.gpus:g}: an evaluator computes on one GPU: write 1 or a fraction, and raise --count"
        )


def protocol(text: str) -> EvaluationConfig:
    """The evaluation that `--protocol` describes: YAML fields, or a file of them."""
    from pathlib import Path

    import yaml

    from ppodd.config import EvaluationConfig, build

    try:
        values = yaml.safe_load(Path(text).read_text(encoding="utf-8") if Path(text).is_file() else f"{{{text}}}")
    except yaml.YAMLError:
        values = None
    if not isinstance(values, dict) or None in values.values():
        raise BadInput(
            f"--protocol {text!r}: write fields as in a sweep file's `evaluation`, such as 'mode: latest, nets: 4'"
        )
    lists = {"arch", "mode", "budgets"}
    return build(EvaluationConfig, {k: [v] if k in lists and not isinstance(v, list) else v for k, v in values.items()})


def _start(args: argparse.Namespace, evaluations: list[EvaluationConfig]) -> CommandResult:
    from cluster.dispatch import Pool
    from cluster.service import check_archive, connect
    from cluster.service import client as evaluators
    from ppodd.archive import Archive, mended
    from ppodd.cli.console import console
    from results.tracking import absolute, default_tracking_uri, open_store

    archive, out = Archive(args.archive), console()
    there = archive.sweeps()
    sweeps = args.sweep or there
    for sweep in sweeps:
        if sweep not in there:
            raise BadInput(f"no sweep {sweep!r} in {archive.url} (there: {', '.join(there) or 'none'})")
    if not sweeps:
        raise BadInput(f"no sweep or run in {archive.url}: name the archive that one wrote to (--archive)")
    for sweep in sweeps if evaluations else ():
        _check_protocols(archive, sweep, evaluations)
    uri, on_cluster = args.tracking_uri or os.environ.get("MLFLOW_TRACKING_URI"), args.ray_address is not None
    in_process = connect(args.ray_address)
    given = {key: getattr(args, key) for key in ("count", "cpus", "gpus", "idle_s") if getattr(args, key) is not None}
    uris, pools = {}, {}
    for sweep in sweeps:  # what is shown somewhere stays there, and so does its pool
        shown, pool = (None if in_process else evaluators.serving(archive.url, sweep)) or (None, Pool())
        shown, pools[sweep] = uri or shown, replace(pool, **given)
        uris[sweep] = absolute(shown) if shown else default_tracking_uri(archive.url, on_cluster)
    if not in_process:
        check_archive(archive.url)
    if not args.autoscaling:
        _require_place(pools.values())
    for uri in sorted(set(uris.values())):
        open_store(uri)
    for sweep in sweeps:
        for evaluation in evaluations:
            archive.add_evaluation(sweep, evaluation)
        archive.clear_evaluation_failures(sweep)
        for line in mended(archive, sweep, archive.sweep(sweep)):
            out.print(line)
    for sweep in sweeps:
        coordinator = evaluators.start(archive.url, sweep, uris[sweep], pools[sweep], begin=False)
    if not in_process:
        most = counted(max(pool.count for pool in pools.values()), "evaluator")
        out.print(f"evaluating {', '.join(sweeps)} with at most {most}: `ppodd evaluators status` shows it")
        return CommandResult(0, {"sweeps": sweeps})
    return _until_done(out, coordinator)


def _check_protocols(archive: Archive, sweep: str, evaluations: list[EvaluationConfig]) -> None:
    """Raise `BadInput` where a network does not fit the images that a sweep's posters are of."""
    from ppodd.config import check_evaluation
    from ppodd.errors import CorruptArchive

    record = archive.sweep(sweep)
    configs = list(record.configs().values()) if record else []
    for trial in archive.trials(sweep) if record is None else ():
        with contextlib.suppress(CorruptArchive):  # the evaluators say so
            configs.append(archive.trial(sweep, trial).config())
    for dataset, image_size in {(config.dataset, config.image_size) for config in configs}:
        for evaluation in evaluations:
            try:
                check_evaluation(evaluation, dataset, image_size)
            except BadInput as error:
                raise BadInput(f"--protocol for {sweep}: {error}") from None


def _require_place(pools: Iterable[Pool]) -> None:
    from tune.running import nodes, require_place
    from tune.sweep_file import Resources

    for pool in pools:
        require_place("--cpus, --gpus: an evaluator", Resources(cpus=pool.cpus, gpus=pool.gpus), nodes())


def _until_done(out: Any, coordinator: Any) -> CommandResult:
    """Show the evaluators of this process's own Ray until nothing is open; then end them."""
    import ray

    from cluster.service import client as evaluators
    from cluster.service import watched

    with watched("the same command goes on with what is still open"):
        with _Live(out) as live:
            status = evaluators.wait(coordinator, show=live.show)
        evaluators.stop()
    ray.shutdown()
    out.print(f"in the archive: {counted(status['done'], 'evaluation')}, {len(status['failed'])} failed")
    for reason in status["failed"].values():
        out.print(f"failed: {reason}")
    if status["sync_error"]:
        out.print(f"MLflow lags: {status['sync_error']}; `ppodd results sync` brings it up to date")
    return CommandResult(1 if status["failed"] else 0, _found(status))


def _status(out: Any, coordinator: Any, watch: bool) -> ServiceStatus:
    from cluster.service import answer, watched

    status: ServiceStatus = answer(coordinator.status.remote(fresh=True))
    if not watch:
        out.print(tables(status), width=None if out.is_terminal else 160, soft_wrap=False)
        return status
    with watched("`ppodd evaluators status` shows it again when it is back"), _Live(out) as live:
        while True:
            live.show(status)
            time.sleep(_WATCH_S)
            status = answer(coordinator.status.remote())


class _Live:
    """The tables, kept up to date on a terminal; elsewhere a line whenever the counts change."""

    def __init__(self, out: Any):
        from rich.live import Live

        self._out, self._line = out, ""
        self._live = Live(console=out, transient=True) if out.is_terminal else None

    def __enter__(self) -> _Live:
        if self._live:
            self._live.start()
        return self

    def __exit__(self, *exception: object) -> None:
        if self._live:
            self._live.stop()

    def show(self, status: ServiceStatus) -> None:
        if self._live:
            self._live.update(tables(status))
        elif (line := counts(status)) != self._line:
            self._line = line
            self._out.print(line)


def counts(status: ServiceStatus) -> str:
    """The counts in a line."""
    failed = len(status["failed"])
    return f"{status['pending']} pending, {status['running']} running, {status['done']} done, {failed} failed"


def tables(status: ServiceStatus) -> Any:
    """Sweeps, evaluators and running trials as tables, and what failed."""
    from rich.console import Group

    from ppodd.cli.console import duration

    pools = [
        f"{counted(pool['count'], 'evaluator')} of {pool['cpus']:g} CPU, {pool['gpus']:g} GPU"
        for pool in status["pools"]
    ]
    head = (
        f"ppodd {status['version']}: {counts(status)}, {status['per_minute']:.1f} a minute; at most "
        f"{', '.join(pools) or 'no evaluators'}"
    )
    sweeps = _table("sweep", "archive", "pending", "running", "done", "failed")
    for sweep in status["sweeps"]:
        numbers = (sweep["pending"], sweep["running"], sweep["done"], len(sweep["failed"]))
        sweeps.add_row(sweep["sweep"], sweep["archive_url"], *map(str, numbers))
    evaluators = _table("evaluator", "node", "device", "at", "for", "done", "failed")
    for one in status["evaluators"]:
        what = (one["name"], one.get("node", ""), one.get("device", ""), one["at"], duration(one["seconds"]))
        evaluators.add_row(*what, str(one["done"]), str(one["failed"]))
    trials = _table("running trial", "stage", "meta-step", "meta-loss", "s/meta-step", "left")
    for of, trial, now in status["trials"]:
        at = (f"{now.stage}/{now.num_stages}", f"{now.meta_step}/{now.meta_steps}", f"{now.meta_loss:.3f}")
        silent = f"silent for {duration(time.time() - now.updated_at)}"
        left = duration(now.seconds_left) if now.is_fresh(time.time()) else silent
        trials.add_row(f"{of}/{trial}", *at, f"{now.seconds_per_meta_step:.2f}", left)
    reasons = [f"failed: {reason}" for reason in status["failed"].values()]
    more = [f"… and {len(reasons) - _SHOWN_FAILURES} more"] if len(reasons) > _SHOWN_FAILURES else []
    lag = [f"MLflow lags: {status['sync_error']}"] if status["sync_error"] else []
    shown = [table for table in (sweeps, evaluators, trials) if table.row_count]
    return Group(head, *shown, *reasons[:_SHOWN_FAILURES], *more, *lag, *status["trouble"], *_logs(status))


def _logs(status: ServiceStatus) -> list[str]:
    """Where the log of each process is, as `node:path`."""
    processes = {"coordinator": status.get("log", {}), **{one["name"]: one for one in status["evaluators"]}}
    found = {name: (one.get("node"), one.get("log_file")) for name, one in processes.items()}
    return [f"log of {name}: {node}:{path}" for name, (node, path) in found.items() if path]


def _table(*columns: str) -> Any:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for number, column in enumerate(columns):
        table.add_column(column, overflow="fold" if number < 2 else "ellipsis")
    return table
