"""Submitted sweeps: their status and logs, and how to stop one."""

from __future__ import annotations

import argparse
import contextlib
import sys
import time
from typing import TYPE_CHECKING

from ppodd.cli.output import CommandResult
from ppodd.cli.submit import add_address, follow

if TYPE_CHECKING:
    from cluster.jobs import Job, Jobs

EXAMPLES = """\
  ppodd jobs status
  ppodd jobs logs boost --follow
"""
_SHOWN = 10  # logs of failed trials that are named


def add_arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", required=True, metavar="status|logs|stop")
    status = actions.add_parser("status", help="every submitted sweep, or one")
    status.add_argument("name", nargs="?", metavar="NAME", help="a job, or a sweep (its latest job)")
    logs = actions.add_parser("logs", help="a job's log")
    logs.add_argument("--follow", action="store_true", help="go on until the job ends; exit with its exit code")
    stop = actions.add_parser("stop", help="end a job; its evaluators go on with what is archived")
    for action in (logs, stop):
        action.add_argument("name", metavar="NAME", help="a job, or a sweep (its latest job)")
    for action in (status, logs, stop):
        add_address(action)


def run(args: argparse.Namespace) -> CommandResult:
    from cluster.jobs import Jobs, dashboard
    from ppodd.libraries import require

    address = dashboard(args.address)
    require("ray", "aiohttp", "requests", extra="cluster")
    return {"status": _status, "logs": _logs, "stop": _stop}[args.action](Jobs(address), args)


def _status(jobs: Jobs, args: argparse.Namespace) -> CommandResult:
    if not args.name:
        found = jobs.attempts()
        print("\n".join(map(_line, found)) or f"no sweep was submitted to {jobs.address}")
        return CommandResult(0, {"jobs": found})
    job = jobs.find(args.name)
    print(_line(job))
    said = [line for line in jobs.logs(job.id).splitlines() if line.strip()]
    print(f"  {said[-1] if said else job.message}")
    if job.status in ("FAILED", "STOPPED") and not job.did_nothing:
        print(f"  the log: ppodd jobs logs {job.id}; the same ppodd submit with --resume goes on")
    return CommandResult(0, {"jobs": [job]})


def _line(job: Job) -> str:
    from ppodd.cli.console import duration

    took = duration(max(0, (job.ended or time.time()) - job.started))
    return f"{job.id}: {job.status} after {took}, archive {job.archive}"


def _logs(jobs: Jobs, args: argparse.Namespace) -> CommandResult:
    job = jobs.find(args.name)
    if args.follow:
        return CommandResult(follow(jobs, job.id), {"jobs": [jobs.info(job.id)]})
    print(log := jobs.logs(job.id), end="")
    print(_workers_logs(job), file=sys.stderr)
    return CommandResult(0, {"jobs": [job], "log": log})


def _workers_logs(job: Job) -> str:
    """Where the rest is logged, and for trials that failed the file, where this machine sees the archive."""
    from ppodd.archive import Archive
    from ppodd.errors import PpoddError

    found: list[str] = []
    with contextlib.suppress(PpoddError, OSError):
        archive = Archive(job.archive, patience_s=0)
        failures = {name: archive.trial(job.sweep, name).failure() for name in archive.trials(job.sweep)}
        found += [f"log of {name}: {why.node}:{why.log_file}" for name, why in failures.items() if why and why.log_file]
    others = "so far the driver's log; trials log on their nodes, in worker-*.err of Ray's folder, evaluators as well"
    return "\n".join([f"{others} (`ppodd evaluators status` names their files)", *found[:_SHOWN]])


def _stop(jobs: Jobs, args: argparse.Namespace) -> CommandResult:
    job = jobs.find(args.name)
    if job.over:
        print(f"job {job.id} has ended already: {job.status}")
        return CommandResult(0, {"jobs": [job]})
    job = jobs.stop(job.id)
    print(
        f"job {job.id}: {job.status}. Its evaluators go on with what is archived; "
        f"the same ppodd submit with --resume finishes the sweep"
    )
    return CommandResult(0, {"jobs": [job]})
