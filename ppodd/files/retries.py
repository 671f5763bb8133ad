"""Requests to remote file systems: what may pass by itself is tried again for a while, what cannot is said at once.

The clients retry on their own first: botocore repeats a throttled, failed or broken request four times, in some ten
seconds. What is added here is an outage of minutes, and one line that says what to check.
"""

from __future__ import annotations

import errno
import logging
import random
import time
from collections.abc import Callable
from typing import TypeVar

from ppodd.errors import BadInput, StorageError

_log = logging.getLogger(__name__)
PATIENCE_S = 180.0
FIRST_CONTACT_S = 5.0  # with what never answered: more likely a wrong address than an outage
FIRST_WAIT_S, LONGEST_WAIT_S = 0.2, 20.0

# s3fs: EBUSY is 503 and SlowDown, EREMOTEIO 500, EIO what it has no name for (502, 504, …)
_PASSING = {errno.EBUSY, errno.EREMOTEIO, errno.EIO, errno.EAGAIN, errno.ENETUNREACH, errno.EHOSTUNREACH}
_PASSING_KINDS = {
    "HTTPClientError",
    "ConnectionError",
    "ClientConnectionError",
    "ClientPayloadError",
    "IncompleteRead",
    "ResponseParserError",
}

_Answer = TypeVar("_Answer")
_answered: set[str] = set()


def persist(request: Callable[[], _Answer], root: str, patience_s: float = PATIENCE_S) -> _Answer:
    """The answer to a request that may be repeated.

    Args:
        request: raises `FileNotFoundError` where the file is not there, which is an answer too.
        root: what of the address must be right for any request, such as `s3://bucket`.
        patience_s: how long to go on trying; what never answered is given up sooner.

    Raises:
        BadInput: the address is wrong: no such bucket, or nothing that we know to use.
        StorageError: no credentials, access denied, or it did not work for so long.
    """
    began, wait_s = time.monotonic(), FIRST_WAIT_S
    while True:
        try:
            answer = request()
            _answered.add(root)
            return answer
        except FileNotFoundError as error:
            if s3_code(error) == "NoSuchBucket":
                raise BadInput(f"{root} does not exist: create the bucket, or check its name and endpoint") from error
            _answered.add(root)
            raise
        except Exception as error:
            if not may_pass(error):
                raise _refusal(error, root) from error
            waited_s = time.monotonic() - began
            if waited_s + wait_s > min(patience_s, PATIENCE_S if root in _answered else FIRST_CONTACT_S):
                raise StorageError(
                    f"{root} gave no answer for {waited_s:.0f} s ({_text(error)}): check the network, the endpoint "
                    f"(AWS_ENDPOINT_URL for S3) and the service, then try again: what is archived stays"
                ) from error
            level = logging.INFO if wait_s == FIRST_WAIT_S else logging.DEBUG  # an outage is one line
            _log.log(level, "%s: %s; it is tried again", root, _text(error))
        time.sleep(wait_s * random.uniform(0.5, 1))
        wait_s = min(2 * wait_s, LONGEST_WAIT_S)


def may_pass(error: BaseException) -> bool:
    """Whether an error may pass by itself: throttling, a failure of the server, a broken connection, a timeout."""
    if isinstance(error, OSError) and not isinstance(error, PermissionError) and error.errno in _PASSING:
        return True
    kinds = {kind.__name__ for kind in type(error).__mro__}  # of botocore and aiohttp, which are not imported here
    return isinstance(error, (ConnectionError, TimeoutError)) or bool(kinds & _PASSING_KINDS)


def _refusal(error: Exception, root: str) -> StorageError | BadInput:
    """An error that cannot pass: access errors are reported at once, and an address that never worked is bad input."""
    if isinstance(error, PermissionError):
        return StorageError(
            f"access to {root} is denied ({_text(error)}): check the credentials, and that they may list, read, write "
            f"and delete there"
        )
    if "Credentials" in type(error).__name__:
        return StorageError(
            f"no credentials for {root} ({_text(error)}): for S3 set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or "
            f"AWS_PROFILE, here and on every node"
        )
    kind = StorageError if root in _answered else BadInput
    return kind(f"cannot use {root}: {_text(error)}; check the URL, and the endpoint where it is not Amazon's")


def s3_code(error: BaseException) -> str:
    """S3's code of an error that s3fs raised; empty where it has none."""
    return getattr(error.__cause__, "response", {}).get("Error", {}).get("Code", "")


def _text(error: BaseException) -> str:
    said = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    text = " ".join(said.split()) or type(error).__name__
    code = s3_code(error)
    return f"{code}: {text}" if code and code not in text else text
