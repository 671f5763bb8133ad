"""Sweeps as Ray jobs: submit, look, follow, stop, from a machine that need not be part of the cluster."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import secrets
import shlex
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

from cluster.environment import SHIPPED, prepare
from cluster.jobs import package, versions
from ppodd.archive import Archive
from ppodd.errors import BadInput, PpoddError, one_line, unknown
from ppodd.files import address as archive_address
from ppodd.files import is_remote
from ppodd.proxies import bypass_for_loopback, proxy_of, through_proxy

if TYPE_CHECKING:
    from ray.dashboard.modules.job.pydantic_models import JobDetails

_log = logging.getLogger(__name__)
_ANSWER_S, _POLL_S, _STOP_S = 10.0, 0.5, 60.0
_KILLED_AFTER_S = 30  # where a job that is told to stop has not ended by itself; Ray's own 3 s are too few
_START_S = 90.0  # how long `submit` waits for a job's checks before it continues without them
_LOST_AFTER = 8  # attempts to reach a dashboard again, at growing intervals: about two minutes
_REFUSED = (401, 403)  # what HTTP answers where a token is missing or another is asked for
_ENDED_BY_BAD_INPUT, _NO_PPODD = 2, 126  # exit codes
JOB = "PPODD_JOB"  # the variable by which a driver knows which submission it is


@dataclass(frozen=True)
class Submission:
    """A sweep to be run: its name and file, what tells its contents from another's, and what `ppodd sweep` is told.

    `environment` holds values: they travel in the package, not in what Ray shows or logs.
    """

    sweep: str
    file: Path
    digest: str
    archive: str
    overrides: Sequence[str] = ()
    environment: Mapping[str, str] | None = None
    working_dir: Path | None = None
    exclude: Sequence[str] = ()
    resume: bool = False
    autoscaling: bool = False
    any_version: bool = False

    def entrypoint(self) -> str:
        """What the cluster runs: ppodd, where its Python has it."""
        words = ["python", "-P", "-m", "ppodd", "sweep", package.SWEEP_FILE]
        words += ["--archive", self.archive, "--ray-address=auto"]
        words += [f"--set={override}" for override in self.overrides]
        words += [] if self.any_version else [f"--require={versions.text(versions.here())}"]
        words += ["--autoscaling"] if self.autoscaling else []
        words += ["--resume"] if self.resume else []
        return f"python -P -c 'import ppodd' || exit {_NO_PPODD}; exec {shlex.join(words)}"


def dashboard(address: str | None) -> str:
    """The dashboard's address: given, or `$RAY_API_SERVER_ADDRESS`, or `$RAY_ADDRESS` where that is one.

    Raises:
        BadInput: none is given, or it is no `http://HOST:PORT`.
    """
    ray_address = os.environ.get("RAY_ADDRESS", "")
    found = address or os.environ.get("RAY_API_SERVER_ADDRESS") or (ray_address if "http" in ray_address else "")
    if not found:
        raise BadInput("no --address: name the cluster's dashboard, such as --address http://HEAD:8265")
    try:
        parts = urlsplit(found)
        if parts.scheme in ("http", "https") and parts.hostname and parts.port != 0:
            return found.rstrip("/")
    except ValueError:
        pass
    raise BadInput(f"--address {found!r} is no dashboard: write http://HOST:PORT (Ray's own port is 8265)")


def require_shared(archive: str | None) -> str:
    """The archive, if it is one that another machine can mean too. Raises `BadInput` where it is not."""
    accepted = "a URL such as s3://… or an absolute path on a folder that every node mounts"
    if not archive:
        raise BadInput(f"no --archive: name {accepted}")
    archive = archive_address(archive)
    if not is_remote(archive) and not os.path.isabs(archive):
        raise BadInput(
            f"--archive {archive!r} is relative to this machine's folder, the cluster has others: {accepted}"
        )
    return archive


def taken_from_environment(names: Sequence[str]) -> dict[str, str]:
    """The values of variables by name. Raises `BadInput` for one that is not set, or is given with a value."""
    for name in names:
        if "=" in name:
            raise BadInput(f"--env takes names only, export {name.split('=')[0]} first: values would be in the history")
        if name not in os.environ:
            raise BadInput(f"--env {name}: it is not set here; export it first")
    return {name: os.environ[name] for name in names}


class Job(NamedTuple):
    """A submitted sweep, as Ray knows it; times in seconds since the epoch."""

    id: str
    status: str
    sweep: str
    archive: str
    digest: str
    mark: str
    message: str
    exit_code: int | None
    started: float
    ended: float | None

    @property
    def over(self) -> bool:
        """Whether it has ended, however it did."""
        return self.status in ("SUCCEEDED", "FAILED", "STOPPED")

    @property
    def did_nothing(self) -> bool:
        """It ended by bad input, before it wrote anything."""
        return self.exit_code in (_ENDED_BY_BAD_INPUT, _NO_PPODD)

    def has_begun(self) -> bool:
        """Whether its archive says that it is past its checks."""
        with contextlib.suppress(PpoddError, OSError):
            start = Archive(self.archive, patience_s=0).last_start(self.sweep)
            return start is not None and start.job == self.mark
        return False


class Jobs:
    """The jobs of one cluster that are sweeps of ppodd. Every method raises `PpoddError` where the cluster is lost."""

    def __init__(self, address: str):
        """Raise `BadInput` where no dashboard answers, or it refuses the token."""
        prepare()
        bypass_for_loopback(address)
        self.address, self._ray_version = address, _ray_version(address)
        os.environ["RAY_API_SERVER_ADDRESS"] = address  # an address in the environment would win over the argument
        from ray.job_submission import JobSubmissionClient

        for name in ("dashboard_sdk", "job.sdk"):
            logging.getLogger(f"ray.dashboard.modules.{name}").setLevel(logging.ERROR)
        with self._talking():
            self._client = JobSubmissionClient(address)

    def submit(self, submission: Submission) -> str:
        """Upload and start a sweep; its job's id. Nothing is left running where this raises.

        Raises:
            BadInput: it is there already, another one of its name is running, or Ray's version differs.
        """
        if not submission.any_version:
            versions.require_equal({"ray": self._ray_version}, {"ray": versions.here()["ray"]})
        job_id = self._next_id(submission)
        mark = secrets.token_hex(8)
        metadata = {
            "ppodd_sweep": submission.sweep,
            "ppodd_digest": submission.digest,
            "ppodd_archive": submission.archive,
            "ppodd_mark": mark,
        }
        with tempfile.TemporaryDirectory() as folder:
            target = Path(folder, "job.zip")
            where = (submission.working_dir, submission.exclude)
            package.write(target, submission.file, submission.environment or {}, *where)
            runtime_env = {
                "working_dir": str(target),
                "env_vars": {
                    SHIPPED: package.ENVIRONMENT_FILE,
                    JOB: mark,
                    "RAY_JOB_STOP_WAIT_TIME_S": str(_KILLED_AFTER_S),
                },
            }
            try:
                with self._talking():
                    self._client.submit_job(
                        entrypoint=submission.entrypoint(),
                        submission_id=job_id,
                        runtime_env=runtime_env,
                        metadata=metadata,
                    )
            except BaseException:
                self._take_back(job_id, mark)
                raise
        _log.info("job %s submitted: %s", job_id, submission.entrypoint(), extra={"sweep": submission.sweep})
        return job_id

    def attempts(self, sweep: str | None = None) -> list[Job]:
        """Jobs of this sweep (default: of every one), oldest first."""
        with self._talking():
            jobs = [_job(details) for details in self._client.list_jobs()]
        return sorted((job for job in jobs if job.sweep and sweep in (None, job.sweep)), key=lambda job: job.started)

    def find(self, name: str) -> Job:
        """The job of this id, or the latest of the sweep of this name. Raises `BadInput` where there is none."""
        jobs = self.attempts()
        found = [job for job in jobs if job.id == name] or [job for job in jobs if job.sweep == name]
        if found:
            return found[-1]
        if not jobs:
            raise BadInput(f"no job {name!r}: no sweep was submitted to {self.address}")
        raise unknown("job", name, {job.id for job in jobs})

    def info(self, job_id: str) -> Job:
        """A job as it is now."""
        with self._talking():
            return _job(self._client.get_job_info(job_id))

    def logs(self, job_id: str) -> str:
        """All that a job has logged until now."""
        with self._talking():
            return self._client.get_job_logs(job_id)

    def wait_until_under_way(self, job_id: str) -> bool:
        """Wait until the job is past its checks, which its archive says; whether that is known by now.

        It is not where this machine does not see the archive.

        Raises:
            PpoddError, BadInput: it ended in them; the message is the job's own.
        """
        end = time.monotonic() + _START_S
        while time.monotonic() < end:
            job = self.info(job_id)
            if job.over:
                if job.status != "SUCCEEDED":
                    raise self._failure(job)
                return True
            if job.has_begun():
                return True
            time.sleep(_POLL_S)
        return False

    def follow(self, job_id: str, write: Callable[[str], object]) -> Job:
        """Pass on the job's log as it grows, until the job has ended; its last state.

        A lost connection is made again, and the log continues where it broke off.
        """
        import asyncio

        passed, lost = _Passed(), 0
        while True:
            try:
                asyncio.run(self._tail(job_id, passed, write))
            except BrokenPipeError:  # who reads this has gone
                raise
            except _connection_errors():
                pass  # the connection is made again
            try:
                job = self.info(job_id)
                lost = 0
                if job.over:
                    write(self.logs(job_id)[passed.characters :])
                    return job
            except BadInput:
                raise
            except PpoddError:
                lost += 1
                if lost == _LOST_AFTER:
                    raise
            time.sleep(_POLL_S * 2**lost)

    def stop(self, job_id: str) -> Job:
        """End a job; its last state. Evaluators, which are no part of it, go on."""
        with self._talking():
            self._client.stop_job(job_id)
        end = time.monotonic() + _STOP_S
        while not (job := self.info(job_id)).over:
            if time.monotonic() > end:
                raise PpoddError(f"job {job_id} does not end: see its log with `ppodd jobs logs {job_id}`")
            time.sleep(_POLL_S)
        return job

    def _next_id(self, submission: Submission) -> str:
        """`name`, or `name-2` and so on for another attempt. Raises `BadInput` where one is not to be made."""
        with self._talking():
            taken = {job.submission_id for job in self._client.list_jobs()}
        attempts = [job for job in self.attempts(submission.sweep) if not job.did_nothing]
        if attempts:
            self._check_latest(submission, attempts[-1])
        number = 1
        while (job_id := submission.sweep + (f"-{number}" if number > 1 else "")) in taken:
            number += 1
        return job_id

    def _check_latest(self, submission: Submission, job: Job) -> None:
        same = (job.digest, job.archive) == (submission.digest, submission.archive)
        there = f"sweep {submission.sweep!r} is there already, job {job.id} ({job.status})"
        if not job.over:
            other = "" if same else " with other contents or another archive: give this one another name, or"
            raise BadInput(
                f"{there}{other or ':'} follow it with `ppodd jobs logs {job.id} --follow`, "
                f"end it with `ppodd jobs stop {job.id}`"
            )
        if same and not submission.resume:
            raise BadInput(f"{there}: see `ppodd jobs logs {job.id}`; --resume finishes what is unfinished of it")

    def _take_back(self, job_id: str, mark: str) -> None:
        """End the job if it is the one just being submitted, whose answer never came."""
        with contextlib.suppress(Exception):
            if self.info(job_id).mark == mark:
                self._client.stop_job(job_id)

    def _failure(self, job: Job) -> PpoddError:
        """Why a job ended, in one line: what its log says last, or what Ray says where it has none."""
        lines = [line.strip() for line in self.logs(job.id).splitlines() if line.strip()]
        ours = [line for line in lines if line.startswith("ppodd: ")]  # Ray's own words may come after them
        said = (ours or lines or [" ".join(job.message.split())])[-1]
        if job.exit_code == _NO_PPODD:
            return BadInput(
                f"the cluster's Python has no ppodd ({said}): use an image with ppodd {versions.here()['ppodd']}, "
                f"or ship the code with --working-dir"
            )
        kind = BadInput if job.did_nothing else PpoddError
        return kind(f"job {job.id} {job.status}: {said.removeprefix('ppodd: ')}")

    async def _tail(self, job_id: str, passed: _Passed, write: Callable[[str], object]) -> None:
        """Pass on what is not yet passed on of the log, until the stream ends or breaks off."""
        position = 0
        async for chunk in self._client.tail_job_logs(job_id):
            write(chunk[max(0, passed.characters - position) :])
            position += len(chunk)
            passed.characters = max(passed.characters, position)

    @contextlib.contextmanager
    def _talking(self) -> Iterator[None]:
        """Turns what the job API raises into one line."""
        from ray.exceptions import AuthenticationError

        try:
            yield
        except AuthenticationError:
            raise BadInput(_token_refused(self.address)) from None
        except _connection_errors() as error:
            raise PpoddError(f"the dashboard at {self.address} {_reason(error)}") from None


@dataclass
class _Passed:
    """How much of a log has been passed on."""

    characters: int = 0


def _job(details: JobDetails) -> Job:
    metadata = details.metadata or {}
    sweep, archive, digest, mark = (metadata.get(f"ppodd_{k}", "") for k in ("sweep", "archive", "digest", "mark"))
    return Job(
        id=details.submission_id or "",
        status=str(details.status),
        sweep=sweep,
        archive=archive,
        digest=digest,
        mark=mark,
        message=details.message or "",
        exit_code=details.driver_exit_code,
        started=(details.start_time or 0) / 1000,
        ended=details.end_time / 1000 if details.end_time else None,
    )


def _connection_errors() -> tuple[type[BaseException], ...]:
    import aiohttp
    import requests

    return (requests.RequestException, aiohttp.ClientError, OSError, RuntimeError)


def _reason(error: BaseException) -> str:
    """What went wrong with a request; the last line of the traceback that the server answers with."""
    if not isinstance(error, RuntimeError):
        return f"was lost ({type(error).__name__}); nothing more was done there, try again"
    lines = [line for line in str(error).splitlines() if len(line) > 2]
    return f"refuses: {lines[-1].strip() if lines else one_line(error)}"


def _ray_version(address: str) -> str:
    """The version of Ray whose dashboard answers; asked first, since Ray's client would wait for one for minutes.

    Raises:
        BadInput: none answers soon, or it refuses the token.
    """
    answer: Any = None
    try:
        answer = _answer(f"{address}/api/version")
    except urllib.error.HTTPError as error:
        if error.code in _REFUSED:
            raise BadInput(_token_refused(address)) from None
        reason = f"HTTP {error.code}"
    except urllib.error.URLError as error:
        reason = getattr(error.reason, "strerror", None) or str(error.reason)
    except (OSError, ValueError) as error:
        reason = type(error).__name__
    else:
        if isinstance(answer, dict) and "ray_version" in answer:
            return str(answer["ray_version"])
        reason = "something else answers there"
    raise BadInput(
        f"no Ray dashboard at {address!r}: {reason}{through_proxy(address)}; it is on the head node (port 8265 unless "
        f"set otherwise), reach it through `kubectl port-forward`, `ray dashboard` or `ssh -L`"
    )


def _answer(url: str) -> Any:
    """What a GET is answered with; the token is shown only to who asks for one."""
    request = urllib.request.Request(url)
    try:
        return _read(request)
    except urllib.error.HTTPError as error:
        if error.code not in _REFUSED:
            raise
    request.add_unredirected_header("Authorization", f"Bearer {_token()}")
    return _read(request)


def _read(request: urllib.request.Request) -> Any:
    proxy = proxy_of(request.full_url)  # the one that Ray's client takes; urllib by itself does not know of $ALL_PROXY
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({request.type: proxy} if proxy else {}))
    with opener.open(request, timeout=_ANSWER_S) as response:
        return json.loads(response.read())


def _token() -> str:
    """The token that Ray's own client sends, from where Ray's documentation has it looked for."""
    if token := os.environ.get("RAY_AUTH_TOKEN"):
        return token
    file = Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or "~/.ray/auth_token").expanduser()
    return file.read_text().strip() if file.is_file() else ""


def _token_refused(address: str) -> str:
    given = next((name for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH") if os.environ.get(name)), "")
    return (
        f"the cluster at {address} refuses this machine's token ({given or '~/.ray/auth_token'}): "
        f"put the cluster's token into ~/.ray/auth_token or a file that RAY_AUTH_TOKEN_PATH names"
    )
