"""Files of the archive on a local disk or any fsspec URL: whole or absent, never half-written, never stale."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import logging
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import fsspec

from ppodd.errors import BadInput, CorruptArchive, StorageError
from ppodd.files import temporaries
from ppodd.files.addresses import address, is_remote
from ppodd.files.exclusive_creation import link_new, upload_new
from ppodd.files.places import nearest_existing, no_place, obstacle
from ppodd.files.retries import PATIENCE_S, persist

_log = logging.getLogger(__name__)
_ADVICE = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT), "free space"),
    errno.ELOOP: "see where its symbolic links lead",
    errno.ENAMETOOLONG: "write a shorter name",
    errno.EFBIG: "raise the limit of a file's size (ulimit -f)",
    **dict.fromkeys((errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO), "check who may write there"),
}
_SETTLE_S = 0.5  # in which others that write the same file at once have done so too

_Answer = TypeVar("_Answer")
T = TypeVar("T")


def sha256(data: bytes) -> str:
    """The digest of some bytes, in hexadecimal."""
    return hashlib.sha256(data).hexdigest()


@contextlib.contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[str]:
    """A temporary path beside `path` to write to: flushed to disk and renamed over it when the block succeeds.

    Raises:
        StorageError: the disk is full or may not be written; what was there stays intact.
        BadInput: a file is where a folder is to be.
    """
    path = Path(path)
    with storage_errors("write", path):
        _make_parent(path)
        with temporaries.beside(path) as temporary:
            yield temporary
            with open(temporary, "rb+") as file:
                os.fsync(file.fileno())
            os.replace(temporary, path)


def _make_parent(path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise BadInput(f"cannot write {path}: {obstacle(path.parent)}; name another folder") from error
    except FileNotFoundError as error:
        there = nearest_existing(path.parent)
        raise StorageError(f"cannot write {path}: {there} takes no folders; name another one") from error


@contextlib.contextmanager
def storage_errors(what: str, path: str | os.PathLike[str]) -> Iterator[None]:
    """Turn what the operating system says of a full or forbidden place, in the block, into one line of ours.

    Args:
        what: the block does, such as `write`.
        path: the local path that it does this to.
    """
    try:
        yield
    except OSError as error:
        advice = _ADVICE.get(error.errno or 0)
        if advice is None:
            raise
        raise StorageError(f"cannot {what} {path}: {error.strerror}; {advice} or name another folder") from error


def atomic_write(path: str | os.PathLike[str], data: bytes) -> None:
    """Write a local file whole, or not at all. Raises as `atomic_path`."""
    with atomic_path(path) as temporary:
        Path(temporary).write_bytes(data)


def _contents(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()


def _walk(path: str) -> Iterator[str]:
    """All files below a local folder; hidden folders, such as Tune's, are not entered."""
    for folder, folders, files in os.walk(path, onerror=_unless_gone):
        folders[:] = [name for name in folders if not name.startswith(".")]
        yield from (f"{folder}/{name}" for name in files)


def _stamp(path: str) -> str:
    try:
        found = os.stat(path)
    except FileNotFoundError:  # meanwhile
        return ""
    return f"{found.st_size} {found.st_ctime_ns} {found.st_ino}"


def _unless_gone(error: OSError) -> None:
    """A folder that cannot be read is not empty; one that is not there is."""
    if not isinstance(error, (FileNotFoundError, NotADirectoryError)):
        raise error


class Folder:
    """A folder at a local path or fsspec URL; names inside it are relative, with `/`.

    Remote files are written by one upload, which is there whole or not at all; nothing is ever renamed. Every method
    raises `StorageError` where the disk or the access to it fails, and as `persist` where a remote folder does.
    """

    def __init__(self, url: str | os.PathLike[str], patience_s: float = PATIENCE_S):
        """For `patience_s` a remote folder that does not answer is asked again.

        Raises:
            BadInput: the URL's protocol is unknown or its package is missing, or as `address`.
        """
        self.url, self._patience_s = address(os.fspath(url)), patience_s
        self._local = not is_remote(self.url)
        if self._local:  # without reading the path as a URL, which `::` or `~` in it would change
            self.url = self._path = os.path.abspath(self.url)
            self._fs = fsspec.filesystem("file", use_listings_cache=False)
        else:
            self._fs, self._path = self._remote()
        self._root = "/".join(self.url.split("/")[:3])

    def _remote(self) -> tuple[fsspec.AbstractFileSystem, str]:
        try:
            fs, path = fsspec.core.url_to_fs(self.url, **_options(self.url))
        except (ValueError, ImportError) as error:
            raise BadInput(f"cannot open archive {self.url!r}: {error}") from None
        if "s3" in fs.protocol:
            fs.retries = 1  # by s3fs: it would multiply botocore's
        return fs, path

    def __truediv__(self, name: str) -> Folder:
        return Folder(self.at(name), self._patience_s)

    def __repr__(self) -> str:
        return f"Folder({self.url!r})"

    def at(self, name: str) -> str:
        """Where `name` is."""
        return f"{self.url.rstrip('/')}/{name}"

    def _do(self, method: Callable[..., _Answer], *args: Any) -> _Answer:
        """What a method of the file system answers, in the end. Raises `FileNotFoundError`."""
        if not self._local:
            return persist(lambda: method(*args), self._root, self._patience_s)
        with storage_errors("use", args[0] if args else self._path):
            return method(*args)

    def require_writable(self) -> None:
        """Raise `BadInput` where files could not be written here, or the folder not be made; no remote one is asked."""
        if self._local and (why := no_place(Path(self._path))):
            raise BadInput(f"cannot write {self.url}: {why}; name another --archive")

    def exists(self, name: str) -> bool:
        """Whether there is a file or folder of this name."""
        try:
            self._do(self._fs.info, f"{self._path}/{name}")
        except (FileNotFoundError, NotADirectoryError):
            return False
        return True

    def names(self) -> list[str]:
        """Sorted names of the files and folders here; none where the folder does not exist."""
        try:
            entries = self._do(lambda: self._fs.ls(self._path, detail=False))
        except (FileNotFoundError, NotADirectoryError):
            return []
        return sorted(n for n in (entry.rstrip("/").rsplit("/", 1)[-1] for entry in entries) if not n.startswith("."))

    def find(self) -> list[str]:
        """Sorted names of all files below, such as `a/b.json`, but for hidden ones: a request a thousand on S3."""
        paths = _walk if self._local else self._fs.find
        return sorted(self._found(lambda: dict.fromkeys(paths(self._path))))

    def stamps(self) -> dict[str, str]:
        """The same names, each with what is another once the file is written again; empty where nothing tells that.

        On a local disk these are size, time and inode; on S3 its ETag.
        """

        def stamped() -> dict[str, str]:
            if self._local:
                return {path: _stamp(path) for path in _walk(self._path)}
            found = self._fs.find(self._path, detail=True)
            return {path: str(info.get("ETag") or "") for path, info in found.items()}

        return self._found(stamped)

    def _found(self, listing: Callable[[], dict[str, T]]) -> dict[str, T]:
        """What a listing tells of each file below, by the names in this folder; nothing of hidden ones."""
        try:
            found = self._do(listing)
        except FileNotFoundError:
            return {}
        names = {path.removeprefix(self._path).lstrip("/"): told for path, told in found.items()}
        return {name: told for name, told in names.items() if name and not (name[0] == "." or "/." in name)}

    def get(self, name: str) -> bytes | None:
        """What a file holds; `None` where it is missing."""
        try:
            if self._local:  # a sync reads tens of thousands: fsspec would take a third of its time
                return self._do(_contents, f"{self._path}/{name}")
            return self._do(self._fs.cat_file, f"{self._path}/{name}")
        except FileNotFoundError:
            return None
        except NotADirectoryError:
            raise BadInput(f"{self.at(name)} is below a file; name a folder") from None

    def read(self, name: str) -> bytes:
        """Raise `CorruptArchive` where the file is missing."""
        data = self.get(name)
        if data is None:
            raise CorruptArchive(f"{self.at(name)} is missing")
        return data

    def write(self, name: str, data: bytes) -> None:
        """Write a file whole, in place of one that is there."""
        if self._local:
            atomic_write(f"{self._path}/{name}", data)
        else:
            self._do(self._fs.pipe_file, f"{self._path}/{name}", data)

    def create(self, name: str, data: bytes) -> bool:
        """Write a file unless it is there; whether it is now this call's: of several at once that is so of one.

        What different callers write must differ: where an answer was lost, the file is known again by it. A file system
        that cannot create exclusively is asked, written, and after a moment read: of several the last one has it.
        """
        path = f"{self._path}/{name}"
        if self._local:
            with storage_errors("write", path):
                _make_parent(Path(path))
                made = link_new(path, data)
        else:
            made = self._do(upload_new, self._fs, path, data)
        if made is None and not self.exists(name):
            self.write(name, data)
            time.sleep(_SETTLE_S)
        return made or self.get(name) == data

    def stale_temporaries(self) -> list[str]:
        """Paths of what killed processes left half-written; a remote file is never half-written."""
        return temporaries.stale(self._path) if self._local else []

    def remove_temporaries(self) -> list[str]:
        """Remove what killed processes left half-written. Returns their paths."""
        found = self.stale_temporaries()
        for path in found:
            with contextlib.suppress(OSError):
                os.unlink(path)
        if found:
            _log.info("removed what killed processes left half-written: %s", ", ".join(found))
        return found

    def remove(self, name: str) -> None:
        """Remove a file, if it is there."""
        with contextlib.suppress(FileNotFoundError):
            self._do(self._fs.rm_file, f"{self._path}/{name}")

    def read_json(self, name: str) -> Any:
        """Raise `CorruptArchive` where the file is missing or no JSON."""
        try:
            return json.loads(self.read(name))
        except ValueError as error:
            raise CorruptArchive(f"{self.at(name)} is damaged: {error}") from None

    def write_json(self, name: str, value: Any) -> None:
        """Write a value as a JSON file, whole. Raises `ValueError` for NaN, which JSON has no word for."""
        self.write(name, json.dumps(value, indent=1, allow_nan=False).encode() + b"\n")


def _options(url: str) -> dict[str, Any]:
    """Listings are never cached: other processes write here too. A file of S3 is read by one request, not two."""
    protocol = fsspec.utils.get_protocol(url)
    return {"use_listings_cache": False, **({"max_concurrency": 1} if protocol in ("s3", "s3a") else {})}
