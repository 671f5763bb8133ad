"""What travels with a job, as one zip: the sweep file, values of the environment and, by choice, a folder of code."""

from __future__ import annotations

import fnmatch
import json
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from ppodd.errors import BadInput
from ppodd.files import sha256

SWEEP_FILE, ENVIRONMENT_FILE = ".ppodd/sweep.yaml", ".ppodd/environment.json"
LIMIT_BYTES = 512 * 2**20  # Ray's
# beside names that begin with a dot and virtual environments, which are left out too
EXCLUDED = ("__pycache__", "*.pyc", "*.egg-info", "node_modules", "ppodd-archive", "mlruns", "ray_results")
_TIME = (1980, 1, 1, 0, 0, 0)  # the same content is the same zip, which Ray uploads once


class Shipped(NamedTuple):
    """How much of a working directory a package holds."""

    files: int
    bytes: int


def write(
    target: Path,
    sweep_file: Path,
    environment: Mapping[str, str],
    working_dir: Path | None = None,
    exclude: Sequence[str] = (),
) -> Shipped:
    """Write the package of a job. What `.gitignore` names travels too: what is generated may be needed.

    Among the values goes a digest of the code, `$PPODD_CODE`: evaluators know by it that they have another's.

    Raises:
        BadInput: there is no such folder, a file cannot be read, or it is more than Ray takes.
    """
    files = _files(working_dir, (*EXCLUDED, *exclude)) if working_dir else {}
    sizes = {name: path.stat().st_size for name, path in files.items()}
    if (size := sum(sizes.values())) > LIMIT_BYTES:
        raise BadInput(f"--working-dir {str(working_dir)!r} {_too_large(sizes)}")
    try:
        with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as package:
            digests = []
            for name, path in files.items():
                data = path.read_bytes()
                digests.append(f"{sha256(data)} {name}")
                _add(package, name, data, path.stat().st_mode & 0o777)
            code = sha256("\n".join(digests).encode()) if digests else ""
            _add(package, SWEEP_FILE, sweep_file.read_bytes(), 0o644)
            values = json.dumps({**environment, "PPODD_CODE": code}, sort_keys=True)
            _add(package, ENVIRONMENT_FILE, values.encode(), 0o600)
    except OSError as error:
        raise BadInput(f"cannot ship {error.filename}: {error.strerror}") from None
    return Shipped(len(files), size)


def _add(package: zipfile.ZipFile, name: str, data: bytes, mode: int) -> None:
    info = zipfile.ZipInfo(name, _TIME)
    info.external_attr = mode << 16
    package.writestr(info, data, zipfile.ZIP_DEFLATED)


def _files(folder: Path, exclude: Sequence[str]) -> dict[str, Path]:
    """Files by their name in the package."""
    if not folder.is_dir():
        raise BadInput(f"--working-dir {str(folder)!r} is no folder")
    return {path.relative_to(folder).as_posix(): path for path in _walk(folder, folder, exclude, {folder.resolve()})}


def _walk(top: Path, folder: Path, exclude: Sequence[str], seen: set[Path]) -> Iterator[Path]:
    for path in sorted(folder.iterdir()):
        inside = path.relative_to(top).as_posix()
        if path.name.startswith(".") or any(fnmatch.fnmatch(n, p) for n in (path.name, inside) for p in exclude):
            continue
        if path.is_dir():
            if path.resolve() in seen or (path / "pyvenv.cfg").exists():
                continue
            seen.add(path.resolve())
            yield from _walk(top, path, exclude, seen)
        elif path.is_file():
            yield path


def _too_large(sizes: Mapping[str, int]) -> str:
    by_entry: dict[str, int] = {}
    for name, size in sizes.items():
        entry = name.split("/")[0]
        by_entry[entry] = by_entry.get(entry, 0) + size
    largest = max(by_entry, key=lambda entry: by_entry[entry])
    return (
        f"holds {_mib(sum(sizes.values()))} (of that {_mib(by_entry[largest])} in {largest!r}), Ray takes "
        f"{_mib(LIMIT_BYTES)}: leave data out with --exclude {largest!r}"
    )


def _mib(size: int) -> str:
    return f"{size / 2**20:.0f} MiB"
