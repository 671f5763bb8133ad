"""What lies in a folder and is data: hidden and foreign things are not, and linked folders and files are."""

from __future__ import annotations

import re
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path

from ppodd.datasets.parts import Notes
from ppodd.errors import BadInput


def _suffixes(names: str) -> frozenset[str]:
    return frozenset(f".{name}" for name in names.split())


# What Pillow opens and people keep photographs and scans in.
PICTURES = _suffixes("png apng jpg jpeg jpe jfif bmp dib webp gif tif tiff ppm pgm pbm pnm avif jp2 j2k jpx tga")
# Pictures that it does not: leaving them out is worth a warning.
_OTHER_PICTURES = _suffixes("heic heif svg dng cr2 cr3 nef arw raw orf rw2 psd xcf eps dcm nii exr hdr jxl mp4 mov avi")
_FOREIGN = frozenset(
    ("__MACOSX", "@eaDir", "$RECYCLE.BIN", "lost+found", "__pycache__", "Thumbs.db", "desktop.ini", "ehthumbs.db")
)
_ARCHIVE = "ppodd-archive"
# Forms of data that are not read, by what their files are called, and what to do with them.
_OTHER_FORMS = (
    (r"\.(gz|bz2|xz|zst|7z|rar|z01|001)$", "unpack it"),
    (r"-ubyte$|^data_batch_|_32x32\.mat$", "name the data set it is of (--dataset mnist) and its folder (--root)"),
    (
        r"\.(json|xml|xlsx?|ods|db|mat)$|(label|list|attr|annot|train|test|val)\w*\.txt$",
        "write labels as a .csv file of the pictures' names and their labels",
    ),
    (r"\.(npy|pt|pth|pkl|pickle|h5|hdf5|mdb)$|\.tfrecord", "write it as an .npz file of x and y, or as .parquet"),
)


def files_below(place: Path, notes: Notes) -> list[Path]:
    """The files below a folder, in the order of their paths; what is hidden or foreign is counted in the notes.

    Folders without a file are noted, too.

    Raises:
        BadInput: a folder has the name of a picture, or the place cannot be read.
    """
    return sorted(_walk(place, (), notes))


def is_picture(path: Path) -> bool:
    """Whether a file is a picture, by its suffix."""
    return path.suffix.lower() in PICTURES


def is_other_picture(path: Path) -> bool:
    """Whether a file is a picture of a kind that is not read."""
    return path.suffix.lower() in _OTHER_PICTURES


def is_lfs_pointer(path: Path) -> bool:
    """Whether a file only says which one Git LFS keeps for it."""
    with path.open("rb") as file:
        return file.read(24) == b"version https://git-lfs."


def other_forms(files: Iterable[Path]) -> str:
    """What to do with files that may hold pictures or labels, but are of forms that are not read; to be added."""
    names, said = [file.name for file in files], ""
    for form, what in (*_OTHER_FORMS, (f"({'|'.join(map(re.escape, _OTHER_PICTURES))})$", "convert it to .png")):
        if found := sorted({name for name in names if re.search(form, name, re.IGNORECASE)}):
            said += f"; {found[0]}{f' and {len(found) - 1:,} more are' if found[1:] else ' is'} not read: {what}"
    return said


def note_others(files: list[Path], used: set[Path], notes: Notes) -> None:
    """Count the files that are not used, by their kind; pictures that cannot be read are a warning."""
    for path in files:
        if path in used:
            continue
        notes.skip(f"{path.suffix.lower()} files" if path.suffix else "files without a suffix")
    unread = sorted({path.suffix.lower() for path in filter(is_other_picture, files)})
    if unread:
        notes.warnings.append(f"{', '.join(unread)} files are pictures that are not read: convert them to .png")


def what_lies_in(place: Path) -> str:
    """The files below a folder by their kind, in words."""
    notes = Notes()
    note_others(list(files_below(place, notes)) if place.is_dir() else [], set(), notes)
    return ", ".join(f"{count:,} {what}" for what, count in notes.skipped.items()) or "it is empty"


def _walk(folder: Path, above: tuple[Path, ...], notes: Notes) -> Iterator[Path]:
    here = (*above, folder.resolve())
    try:
        entries = list(folder.iterdir())
    except OSError as error:
        raise BadInput(f"{folder} cannot be read ({error.strerror}): give this user access to it") from None
    for path in entries:
        if path.name.startswith(".") or path.name in _FOREIGN:
            notes.skip(f"hidden or foreign: {path.name if not path.name.startswith('._') else '._*'}")
        elif stat.S_ISREG(mode := _mode(path)):
            yield path
        elif not stat.S_ISDIR(mode):  # to open one may wait for ever
            notes.skip("pipes, sockets and devices")
        elif path.resolve() in here:
            notes.skip(f"link back to {path.resolve()}")
        elif path.name == _ARCHIVE or ((path / "runs").is_dir() and any(path.glob("runs/*/config.json"))):
            notes.skip(f"archives of ppodd: {path.name}")
        elif is_picture(path):
            raise BadInput(f"{path} is a folder with the name of a picture: rename or remove it")
        else:
            below = list(_walk(path, here, notes))
            if not below:
                notes.empty.append(path)
            yield from below


def _mode(path: Path) -> int:
    """What it is; of a link that leads nowhere, a file, which is said where it is read."""
    try:
        return path.stat().st_mode
    except OSError:
        return stat.S_IFREG
