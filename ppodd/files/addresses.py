"""Where an archive is, as a user writes it: a local path, or the URL of a remote folder in its one form.

`s3://lab//x/` and `s3://lab/x` would be two places to S3; of `s3:/x` a folder of that name would be made here. What can
be meant in one way only is written in that way, what cannot is refused.
"""

from __future__ import annotations

import os
import re

from ppodd.errors import BadInput, check_utf8

_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://(.*)", re.DOTALL)
_ALMOST = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):(/?[^/].*)", re.DOTALL)
_BUCKETS = {"s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "oss", "oci"}  # protocols whose URLs begin with a bucket
_FILES = {"file", "local"}
# protocols of single files, of what may only be read, of what a process has to itself, and of copies of another's files
_NO_FOLDERS = {
    "http", "https", "data", "zip", "tar", "libarchive", "memory", "github", "gist", "git", "reference",
    "simplecache", "filecache", "blockcache", "cached", "dir",
}  # fmt: skip
_LONGEST_NAME, _LONGEST_PATH = 255, 3500  # bytes; below an archive's folder lie paths of some hundreds


def address(text: str) -> str:
    """A local path as it was written, without `file://` and with the home folder for `~`; or the URL in its one form.

    Raises:
        BadInput: it names no folder, or what one program would read otherwise than another.
    """
    if not text.strip():
        raise BadInput(f"archive {text!r} names no folder: write a folder's path or a URL such as s3://bucket/folder")
    if text != text.strip():
        raise BadInput(f"archive {text!r} begins or ends with a blank: leave it out")
    check_utf8(text)
    if url := _URL.fullmatch(text):
        protocol, rest = url[1].lower(), url[2]
        return _local(text, rest) if protocol in _FILES else _remote(text, protocol, rest)
    if (almost := _ALMOST.fullmatch(text)) and _is_protocol(almost[1]):
        meant = _meant(text, almost[1].lower())
        raise BadInput(f"archive {text!r}: write {meant}, or ./{text} for a folder of that name here")
    return _of_some_length(_at_home(text).rstrip("/") or "/")


def _at_home(text: str) -> str:
    path = os.path.expanduser(text)
    if path.startswith("~"):
        raise BadInput(
            f"archive {text!r}: there is no user of this name; write ./{text} for a folder of that name here"
        )
    return path


def is_remote(url: str) -> bool:
    """Whether an `address`, or the absolute path of one, is a URL."""
    return "://" in url


def _meant(text: str, protocol: str) -> str:
    """What a text stands for that is almost a URL; of a chain, `simplecache::s3://lab`, it is the last."""
    if "::" in text:
        return text.rpartition("::")[2]
    if protocol in _FILES:
        return f"the folder's path itself, without {protocol}:"
    return "a path or s3://…" if protocol in _NO_FOLDERS else f"{protocol}://{text.partition(':')[2].lstrip('/')}"


def _of_some_length(path: str) -> str:
    whole = os.fsencode(os.path.abspath(path))
    if len(whole) > _LONGEST_PATH or any(len(name) > _LONGEST_NAME for name in whole.split(b"/")):
        raise BadInput(f"archive '{path[:40]}…' is longer than disks take: choose a folder with a shorter path")
    return path


def _local(text: str, path: str) -> str:
    if not path.startswith("/") or re.search("[%?#]", path):
        raise BadInput(f"archive {text!r}: write the folder's path itself, without file://")
    return _of_some_length(path)


def _remote(text: str, protocol: str, rest: str) -> str:
    if protocol in _NO_FOLDERS:
        raise BadInput(f"archive {text!r}: {protocol} has no folders to write to: write a folder's path or s3://…")
    if not rest.strip("/") or (protocol in _BUCKETS and rest.startswith("/")):
        raise BadInput(f"archive {text!r} names no bucket: write {protocol}://bucket/folder")
    if wrong := re.search(r"\?|#|::", rest):
        raise BadInput(f"archive {text!r}: {wrong[0]} has a meaning in URLs, choose a folder without it")
    parts = [part for part in rest.split("/") if part]
    if relative := {".", ".."} & set(parts):
        raise BadInput(f"archive {text!r}: remote folders know no {min(relative)}, write the URL without it")
    return f"{protocol}://{'/' * rest.startswith('/')}{'/'.join(parts)}"


def _is_protocol(name: str) -> bool:
    from fsspec.registry import known_implementations

    return name.lower() in known_implementations
