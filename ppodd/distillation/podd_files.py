"""The files that PoDD's code saves: `<run>_poster.pt` and, where labels were learned, `<run>_label.pt`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ppodd.errors import BadInput

_LABEL = "_label.pt"


def label_file(poster: Path) -> Path:
    """Where the learned labels of the poster that was saved as `poster` lie."""
    return poster.with_name(poster.name.removesuffix(".pt").removesuffix("_poster") + _LABEL)


def paired(files: Sequence[str]) -> list[tuple[Path, Path | None]]:
    """Posters with the files of their labels: what follows a poster as a `…_label.pt`, else what lies beside it.

    Raises:
        BadInput: a file is not there, or is one of labels without a poster of its own before it.
    """
    pairs: list[tuple[Path, Path | None]] = []
    for file in map(Path, files):
        wanted = f"name what torch.save wrote, …_poster.pt and …{_LABEL}"
        if not file.is_file():
            raise BadInput(f"no file {str(file)!r}: {wanted}")
        if file.suffix != ".pt":
            raise BadInput(f"{str(file)!r} is no .pt file: {wanted}")
        if not file.name.endswith(_LABEL):
            pairs.append((file, None))
        elif pairs and pairs[-1][1] is None:
            pairs[-1] = (pairs[-1][0], file)
        else:
            raise BadInput(f"{str(file)!r} has no poster before it: name each poster, then its labels")
    posters = [poster.resolve() for poster, _ in pairs]
    for poster, _ in pairs:
        if posters.count(poster.resolve()) > 1:
            raise BadInput(f"{str(poster)!r} is named twice: name the poster of each stage once, in order")
    return [(poster, named or _beside(poster)) for poster, named in pairs]


def _beside(poster: Path) -> Path | None:
    return label_file(poster) if label_file(poster).exists() else None
