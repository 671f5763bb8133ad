"""Commands run as a user that no machine knows, in a namespace of users, where the kernel lets a test make one."""

import os
import subprocess

import pytest
from sweeps import PATH, command

_NOBODY = 12345
_AS_NOBODY = ["unshare", "--user", f"--map-user={_NOBODY}", f"--map-group={_NOBODY}"]


def ppodd_as_nobody(*arguments, cwd, before=(), **environment):
    """`ppodd` of a user without a passwd entry or any privilege; an environment variable that is `None` is unset."""
    try:
        made = subprocess.run([*_AS_NOBODY, "true"], capture_output=True, text=True)
    except FileNotFoundError:
        pytest.skip("there is no unshare here")
    if made.returncode:
        pytest.skip(f"no namespace of users can be made here: {made.stderr.strip()}")
    given = {**os.environ, **PATH, **environment}
    given = {name: str(value) for name, value in given.items() if value is not None}
    return subprocess.run(
        [*before, *_AS_NOBODY, *command(*arguments)], capture_output=True, text=True, cwd=cwd, env=given
    )
