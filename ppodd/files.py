"""Files of the archive on a local disk or any fsspec URL: whole or absent, never half-written."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec

from ppodd.errors import BadInput, CorruptArchive

_CANNOT_WRITE = {errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EPERM, errno.EDQUOT, errno.ENOTDIR}


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@contextlib.contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[str]:
    """A temporary path beside `path` to write to: flushed to disk and renamed over it when the block succeeds.

    Raises:
        BadInput: the disk is full or may not be written; what was there stays intact.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        os.close(descriptor)
        try:
            yield temporary
            with open(temporary, "rb+") as file:
                os.fsync(file.fileno())
            os.chmod(temporary, 0o644)
            os.replace(temporary, path)
        except BaseException:
            os.unlink(temporary)
            raise
    except OSError as error:
        if error.errno in _CANNOT_WRITE:
            raise BadInput(f"cannot write {path}: {error.strerror}; free space or name another folder") from error
        raise


def atomic_write(path: str | os.PathLike[str], data: bytes) -> None:
    """Write a local file whole, or not at all. Raises `BadInput` as `atomic_path`."""
    with atomic_path(path) as temporary:
        Path(temporary).write_bytes(data)


def _walk(path: str) -> Iterator[str]:
    """All files below a local folder; hidden folders, such as Tune's, are not entered."""
    for folder, folders, files in os.walk(path):
        folders[:] = [name for name in folders if not name.startswith(".")]
        yield from (f"{folder}/{name}" for name in files)


class Folder:
    """A folder at a local path or fsspec URL; names inside it are relative, with `/`."""

    def __init__(self, url: str | os.PathLike[str]):
        """Raise `BadInput` where the URL's protocol is unknown or its package is missing."""
        self.url = os.fspath(url).rstrip("/")
        try:
            # listings are never cached: other processes write here too
            self._fs, self._path = fsspec.core.url_to_fs(self.url, use_listings_cache=False)
        except (ValueError, ImportError) as error:
            raise BadInput(f"cannot open archive {self.url!r}: {error}") from None
        self._local = isinstance(self._fs, fsspec.implementations.local.LocalFileSystem)
        if self._local:
            self.url = self._path = os.path.abspath(self._path)

    def __truediv__(self, name: str) -> Folder:
        return Folder(f"{self.url}/{name}")

    def __repr__(self) -> str:
        return f"Folder({self.url!r})"

    def at(self, name: str) -> str:
        """Where `name` is, for messages."""
        return f"{self.url}/{name}"

    def exists(self, name: str) -> bool:
        return self._fs.exists(f"{self._path}/{name}")

    def names(self) -> list[str]:
        """Sorted names of the files and folders here; none where the folder does not exist."""
        try:
            entries = self._fs.ls(self._path, detail=False)
        except (FileNotFoundError, NotADirectoryError):
            return []
        return sorted(n for n in (entry.rstrip("/").rsplit("/", 1)[-1] for entry in entries) if not n.startswith("."))

    def find(self) -> list[str]:
        """Sorted names of all files below, such as `a/b.json`, but for hidden ones: a request a thousand on S3."""
        found = list(_walk(self._path)) if self._local else self._fs.find(self._path)
        names = [path.removeprefix(self._path).lstrip("/") for path in found]
        return sorted(name for name in names if name and not any(part.startswith(".") for part in name.split("/")))

    def read(self, name: str) -> bytes:
        """Raise `CorruptArchive` where the file is missing."""
        try:
            return self._fs.cat_file(f"{self._path}/{name}")
        except FileNotFoundError:
            raise CorruptArchive(f"{self.at(name)} is missing") from None

    def write(self, name: str, data: bytes) -> None:
        if self._local:
            atomic_write(f"{self._path}/{name}", data)
        else:
            self._fs.pipe_file(f"{self._path}/{name}", data)

    def remove(self, name: str) -> None:
        """Remove a file, if it is there."""
        with contextlib.suppress(FileNotFoundError):
            self._fs.rm_file(f"{self._path}/{name}")

    def read_json(self, name: str) -> Any:
        """Raise `CorruptArchive` where the file is missing or no JSON."""
        try:
            return json.loads(self.read(name))
        except ValueError as error:
            raise CorruptArchive(f"{self.at(name)} is damaged: {error}") from None

    def write_json(self, name: str, value: Any) -> None:
        self.write(name, json.dumps(value, indent=1, allow_nan=False).encode() + b"\n")
