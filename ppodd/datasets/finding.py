"""Which data set is meant, and where it lies: by name below a root, by path, on the hub, or by a user's function."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from ppodd.datasets.arrays import returned_parts
from ppodd.datasets.by_path import DataLocation, find_at
from ppodd.datasets.hub import fetch, hub_parts
from ppodd.datasets.listing import files_below, other_forms, what_lies_in
from ppodd.datasets.parts import Notes, Part
from ppodd.datasets.sources import DEFAULT_ROOT, FILES, HUB, SOURCES, DataSource, Request, function, is_path
from ppodd.errors import BadInput

_READ = f"a file of {', '.join(FILES)}"


def find(request: Request) -> DataLocation:
    """The source of a known data set below the root, or of what `dataset` names otherwise.

    Raises:
        BadInput: nothing readable is there; the message says what was looked for and where.
    """
    dataset = request.dataset
    if is_path(dataset):
        path = Path(request.root).expanduser() / Path(dataset).expanduser()
        if not path.exists():
            raise BadInput(f"dataset {dataset!r}: {path} does not exist; name a folder of class folders, or {_READ}")
        if found := find_at(path, request.columns):
            return found
        raise BadInput(
            f"{path} holds no data set ({what_lies_in(path)}): read are class folders of pictures, or {_READ}"
            f"{other_forms(files_below(path, Notes()) if path.is_dir() else [])}"
        )
    if dataset.startswith(HUB):
        splits, files = fetch(dataset)
        notes = Notes()
        return DataLocation(dataset, files or None, partial(hub_parts, dataset, splits, request.columns, notes), notes)
    source = SOURCES.get(dataset)
    if source.find is None:
        root = Path(request.root or DEFAULT_ROOT).expanduser()
        return DataLocation(dataset, None, partial(_read, dataset, source, root))
    return _known(dataset, source, request)


def _known(dataset: str, source: DataSource, request: Request) -> DataLocation:
    """A data set of the registry, at the root or in a folder of its name below; fetched where that is possible."""
    assert source.find
    look: Callable[[Path], list[Path] | None] = function(source.find)
    base = Path(request.root or DEFAULT_ROOT).expanduser()
    places = [base, base / dataset]
    for place in places:
        files = look(place)
        if files is not None:
            lies_there = all(file.is_relative_to(place) for file in files)
            return DataLocation(str(place) if lies_there else dataset, files, partial(_read, dataset, source, files))
        by_path = find_at(place, request.columns) if place.name == dataset and place.is_dir() else None
        if by_path:
            return by_path
    how = ""
    if source.download:
        try:
            function(source.download)(places[1])
        except BadInput as error:
            how = f"; {error}"
        else:
            files = look(places[1])
            if files is not None:
                return DataLocation(str(places[1]), files, partial(_read, dataset, source, files))
    return _nothing(dataset, places, source.hint, how)


def _nothing(dataset: str, places: list[Path], hint: str, how: str = "") -> DataLocation:
    looked = " and ".join(str(place) for place in places)
    raise BadInput(f"no {dataset} in {looked} (looked for {hint}): point --root to the folder that holds it{how}")


def _read(dataset: str, source: DataSource, given: list[Path] | Path) -> list[Part]:
    """What a reader returns of the files that were found, or of the root folder."""
    with SOURCES.tried(dataset):
        value = source(given)
    try:
        return returned_parts(dataset, value)
    except ValueError as error:
        raise SOURCES.wrong(dataset, str(error)) from None
