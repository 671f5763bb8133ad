"""Commands in namespaces, where the kernel lets a test make them: as a user no machine knows, on a read-only disk."""

import os
import subprocess

import pytest
from sweeps import PATH, command

NOBODY = 12345
_AS_NOBODY = ["unshare", "--user", f"--map-user={NOBODY}", f"--map-group={NOBODY}"]


def ppodd_as_nobody(*arguments, cwd, before=(), **environment):
    """`ppodd` of a user without a passwd entry or any privilege; an environment variable that is `None` is unset."""
    return as_nobody(*command(*arguments), cwd=cwd, before=before, **environment)


def as_nobody(*line, cwd, before=(), **environment):
    """The same of any command."""
    try:
        made = subprocess.run([*_AS_NOBODY, "true"], capture_output=True, text=True)
    except FileNotFoundError:
        pytest.skip("there is no unshare here")
    if made.returncode:
        pytest.skip(f"no namespace of users can be made here: {made.stderr.strip()}")
    given = {**os.environ, **PATH, **environment}
    given = {name: str(value) for name, value in given.items() if value is not None}
    return subprocess.run([*before, *_AS_NOBODY, *line], capture_output=True, text=True, cwd=cwd, env=given)


# in a mount namespace: the disk of `/` is read-only, but for the working folder; what is mounted elsewhere stays
_READ_ONLY = 'mount --bind . . && mount -o remount,ro,bind / && cd "$PWD" && mount -o remount,rw,bind . && exec "$@"'


def ppodd_on_a_read_only_disk(*arguments, cwd, **environment):
    """`ppodd` where only the working folder can be written; an environment variable that is `None` is unset."""
    if os.geteuid() != 0:
        pytest.skip("only root may mount file systems")
    given = {name: str(v) for name, v in {**os.environ, **PATH, **environment}.items() if v is not None}
    line = ["unshare", "--mount", "sh", "-c", _READ_ONLY, "sh", *command(*arguments)]
    done = subprocess.run(line, capture_output=True, text=True, cwd=cwd, env=given)
    if done.stderr.startswith(("mount:", "unshare:")):
        pytest.skip(f"no namespace of mounts can be made here: {done.stderr.strip()}")
    return done
