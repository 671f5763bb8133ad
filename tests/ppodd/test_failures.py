"""What is kept of an exception: the trace, the user's line, the process and its log; passwords are not."""

import os
import socket

import numpy as np

from ppodd.errors import BadInput
from ppodd.failures import failure_of, user_place


def caught(call, *arguments):
    try:
        call(*arguments)
    except Exception as error:
        return error
    raise AssertionError("nothing was raised")


def users_own(value):
    return np.linalg.inv(np.full((2, 2), value))  # raises in numpy


def test_the_record_holds_the_exception_whole_and_where_it_was_caught():
    error = caught(users_own, 1.0)
    record = failure_of(error)
    assert record["type"] == "numpy.linalg.LinAlgError" and record["message"] == "Singular matrix"
    assert "Traceback (most recent call last)" in record["traceback"] and "users_own" in record["traceback"]
    assert (record["node"], record["pid"]) == (socket.gethostname(), os.getpid())


def test_the_line_names_the_innermost_line_that_is_the_users():
    error = caught(users_own, 1.0)
    line = users_own.__code__.co_firstlineno + 1
    assert user_place(error.__traceback__).endswith(f"test_failures.py:{line}, in users_own")
    assert failure_of(error)["error"].startswith("LinAlgError: Singular matrix (")


def test_what_is_ours_to_say_names_no_line():
    def refuse():
        raise BadInput("lr=-1: at least 0")

    assert failure_of(caught(refuse))["error"] == "lr=-1: at least 0"


def test_no_password_is_kept():
    def connect():
        raise OSError("cannot reach postgresql://me:secret@host/db")

    assert "secret" not in str(failure_of(caught(connect)))
