"""Posters to start from or to import: an archived stage, a safetensors file, or another implementation's `.pt`."""

from __future__ import annotations

from pathlib import Path

from ppodd.archive import PosterFile, TrialArchive
from ppodd.errors import BadInput


def load_poster(path: str) -> PosterFile:
    """The poster at `path`: a stage folder of an archive, its `poster.safetensors`, or a `.pt` with labels beside it.

    A `…_poster.pt` (tensor `[C, H, W]` or `[1, C, H, W]`) needs `…_label.pt` beside it.

    Raises:
        BadInput: nothing readable is there.
    """
    place = Path(path)
    if place.is_dir() and (place / "stage.json").exists():
        return TrialArchive(place.parent).poster(int(place.name.removeprefix("stage-")))
    if place.suffix == ".safetensors" and place.is_file():
        return PosterFile.from_bytes(place.read_bytes(), path)
    raise BadInput(f"no poster at {path!r}: name a stage folder (…/stage-03) or a poster.safetensors of an archive")
