"""A file made by one of several that try at once, whole, where the file system offers that.

Local disks do by a hard link, which fails where its name is taken, on NFS too, and brings the whole content with it;
remote ones by fsspec's mode `create`, which is `If-None-Match` on S3.
"""

from __future__ import annotations

import errno
import inspect
import os
from pathlib import Path

import fsspec
from fsspec.asyn import AsyncFileSystem

from ppodd.files.retries import s3_code
from ppodd.files.temporaries import beside

_NOT_OFFERED = {errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK}  # by disks without hard links, by servers


def link_new(path: str, data: bytes) -> bool | None:
    """Whether the local file was made; `None` where its disk cannot tell. Raises `OSError` where it may not be."""
    with beside(path) as temporary:
        Path(temporary).write_bytes(data)
        try:
            os.link(temporary, path)
        except FileExistsError:
            return False
        except OSError as error:
            if error.errno in _NOT_OFFERED:
                return None
            raise
    return True


def upload_new(fs: fsspec.AbstractFileSystem, path: str, data: bytes) -> bool | None:
    """Whether the remote file was made; `None` where its file system cannot tell. Raises what that raises."""
    if not _offers_creation(fs):
        return None
    try:
        fs.pipe_file(path, data, mode="create")
    except FileExistsError:
        return False
    except OSError as error:
        if s3_code(error) == "PreconditionFailed":  # of servers that do not name the condition, as Amazon's does
            return False
        if error.errno in _NOT_OFFERED and not isinstance(error, PermissionError):
            return None
        raise
    return True


def _offers_creation(fs: fsspec.AbstractFileSystem) -> bool:
    """Whether it knows the mode `create` by itself: what fsspec's base classes do is to look, then to write."""
    upload = getattr(type(fs), "_pipe_file", type(fs).pipe_file)
    bases = (fsspec.AbstractFileSystem.pipe_file, AsyncFileSystem._pipe_file)
    return upload not in bases and "mode" in inspect.signature(upload).parameters
