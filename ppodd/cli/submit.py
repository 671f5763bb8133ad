"""Submit a sweep to a Ray cluster, as a job that keeps running when this machine leaves."""

from __future__ import annotations

import argparse
import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from ppodd.cli.options import add_autoscaling, add_overrides, overrides
from ppodd.cli.output import CommandResult
from ppodd.errors import BadInput, PpoddError
from ppodd.words import counted

EXAMPLES = """\
  ppodd submit boost.yaml --address http://HEAD:8265 --archive s3://bucket/runs --tracking-uri http://MLFLOW:5000
"""
_NOT_SEEN = "it has not begun yet, as far as the archive is seen from here, and will without you"

if TYPE_CHECKING:
    from cluster.jobs import Jobs


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE.yaml|NAME", help="a sweep file, or a shipped one by name: quickstart")
    add_address(parser)
    parser.add_argument("--archive", help="archive that every node sees: s3://… or a shared folder's absolute path")
    parser.add_argument("--tracking-uri", help="MLflow store as the cluster reaches it (default: $MLFLOW_TRACKING_URI)")
    add_overrides(parser)
    add_autoscaling(parser)
    parser.add_argument("--resume", action="store_true", help="finish what is unfinished of this sweep, as a new job")
    parser.add_argument(
        "--follow", action="store_true", help="show the job's log until it ends; exit with its exit code"
    )
    parser.add_argument(
        "--env",
        action="append",
        default=[],
        metavar="NAME",
        help="give the sweep this variable of the environment (repeatable; its value is never shown)",
    )
    parser.add_argument(
        "--working-dir", metavar="DIR", help="ship this folder of code (default: rely on what is installed)"
    )
    parser.add_argument("--exclude", action="append", default=[], metavar="PATTERN", help="of --working-dir, not these")
    parser.add_argument("--any-version", action="store_true", help="do not ask for equal versions here and there")


def add_address(parser: argparse.ArgumentParser) -> None:
    """The flag that says which cluster, of every command that speaks to a dashboard."""
    parser.add_argument("--address", metavar="URL", help="http://HEAD:8265 (default: $RAY_API_SERVER_ADDRESS)")


def run(args: argparse.Namespace) -> CommandResult:
    from hashlib import sha256

    from cluster.jobs import Jobs, Submission, dashboard, require_shared, taken_from_environment
    from ppodd.libraries import require
    from tune.sweep_file import find_sweep_file, load_sweep

    address, archive = dashboard(args.address), require_shared(args.archive)
    environment = taken_from_environment(args.env) | _tracking(args.tracking_uri)
    sweep = load_sweep(args.file, overrides(args))
    require("ray", "aiohttp", "requests", extra="cluster")
    submission = Submission(
        sweep=sweep.name,
        file=find_sweep_file(args.file),
        digest=sha256(sweep.file.model_dump_json().encode()).hexdigest()[:16],
        archive=archive,
        overrides=overrides(args),
        environment=environment,
        working_dir=Path(args.working_dir) if args.working_dir else None,
        exclude=args.exclude,
        resume=args.resume,
        autoscaling=args.autoscaling,
        any_version=args.any_version,
    )
    jobs = Jobs(address)
    try:
        job_id = jobs.submit(submission)
    except KeyboardInterrupt:
        raise PpoddError("interrupted while submitting: nothing runs of it") from None
    print(f"job {job_id}: sweep {sweep.name}, {counted(sweep.wanted, 'trial')} → {archive}/{sweep.name}", flush=True)
    code = follow(jobs, job_id) if args.follow else _see_off(jobs, job_id, archive)
    return CommandResult(code, {"job": job_id, "sweep": sweep.name, "archive": archive})


def follow(jobs: Jobs, job_id: str) -> int:
    """Show a job's log until it ends. Returns its fate as an exit code."""
    try:
        job = jobs.follow(job_id, lambda text: print(text, end="", flush=True))
    except KeyboardInterrupt:
        print(f"\njob {job_id} goes on without you: ppodd jobs logs {job_id} --follow, ppodd jobs stop {job_id}")
        return 1
    print(f"job {job_id}: {job.status}")
    return 0 if job.status == "SUCCEEDED" else 2 if job.did_nothing else 1


def _see_off(jobs: Jobs, job_id: str, archive: str) -> int:
    """Wait until the sweep is under way: what the cluster finds wrong is said here, not in a log there."""
    try:
        under_way = jobs.wait_until_under_way(job_id)
    except KeyboardInterrupt:
        under_way = False
    print("it is under way; this machine may leave" if under_way else _NOT_SEEN)
    print(f"follow: ppodd jobs logs {job_id} --follow; also ppodd jobs status, ppodd jobs stop {job_id}")
    print(f"results: ppodd results table --archive {shlex.quote(archive)}")
    return 0


def _tracking(uri: str | None) -> dict[str, str]:
    """MLflow's address, as a variable: it may hold a password."""
    uri = uri or os.environ.get("MLFLOW_TRACKING_URI")
    if not uri:
        return {}
    if uri.startswith("sqlite:///") and not uri.startswith("sqlite:////"):
        raise BadInput(f"--tracking-uri {uri!r} is relative: the cluster has other folders; four slashes begin a path")
    return {"MLFLOW_TRACKING_URI": uri}
