"""Archives that data sets come in, unpacked once into the cache."""

from __future__ import annotations

import contextlib
import os
import tarfile
import tempfile
import zipfile
from pathlib import Path, PurePath

from ppodd.datasets.cache import digest_of, stamps
from ppodd.datasets.listing import PICTURES
from ppodd.errors import BadInput
from ppodd.files import cached

_NAMES = (".zip", ".tgz", ".tar.gz")
_LABELS = frozenset({".cls", ".json", ".txt"})  # of a sample in a webdataset
_LOOKED_AT = 20  # files of a tar


def is_archive(path: Path) -> bool:
    """Whether a file is to be unpacked: a zip, or a tar that is no webdataset.

    Raises:
        BadInput: it is named as a tar and is none.
    """
    name = path.name.lower()
    return name.endswith(_NAMES) or (name.endswith(".tar") and not _is_webdataset(path))


def unpacked(path: Path) -> Path:
    """The folder that holds what is in an archive. Raises `BadInput` where it is damaged."""
    folder = cached(f"unpacked-{digest_of(stamps([path]))[:24]}")
    if folder.is_dir():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="unpacking-", dir=folder.parent) as near:
        os.mkdir(f"{near}/files")  # of an empty archive, too
        try:
            _unpack(path, f"{near}/files")
        except (zipfile.BadZipFile, tarfile.TarError, OSError, EOFError, RuntimeError) as error:
            raise BadInput(f"{path} cannot be unpacked ({' '.join(str(error).split())}): fetch it again") from None
        with contextlib.suppress(FileExistsError):  # another process was faster
            os.rename(f"{near}/files", folder)
    return folder


def _unpack(path: Path, folder: str) -> None:
    if path.suffix.lower() == ".zip":
        with zipfile.ZipFile(path) as packed:
            packed.extractall(folder)
    else:
        with tarfile.open(path) as tar:
            tar.extractall(folder, filter="data")


def _is_webdataset(path: Path) -> bool:
    """Whether a tar's files come in samples: a picture and its label under one name."""
    try:
        with tarfile.open(path) as tar:
            names = [PurePath(member.name) for _, member in zip(range(_LOOKED_AT), tar, strict=False)]
    except (tarfile.TarError, OSError, EOFError) as error:
        raise BadInput(f"{path} is no readable tar file ({' '.join(str(error).split())}): fetch it again") from None
    samples: dict[tuple[PurePath, str], set[str]] = {}
    for name in names:
        samples.setdefault((name.parent, name.name.partition(".")[0]), set()).add(name.suffix.lower())
    return any(suffixes & _LABELS and suffixes & PICTURES for suffixes in samples.values())
