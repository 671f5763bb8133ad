"""Posters to start from: a stage of an archive, a poster file, or what another implementation saved."""

from __future__ import annotations

import pickle
import stat
import zipfile
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from ppodd.archive import PosterFile, TrialArchive
from ppodd.config import SAVED_POSTERS, DistillConfig
from ppodd.datasets import Spec
from ppodd.distillation.podd_files import label_file
from ppodd.errors import BadInput
from ppodd.files import Folder


class InitialPoster(NamedTuple):
    """A poster to start from.

    Attributes:
        poster: `[C, H, W]`.
        label_array: `[K, h', w']` where its labels were learned, else `None`.
        class_order: `[rows, columns]` where it is known, else `None`.
    """

    poster: np.ndarray
    label_array: np.ndarray | None = None
    class_order: np.ndarray | None = None

    @classmethod
    def of(cls, file: PosterFile) -> InitialPoster:
        """An archived poster as one to start from: fixed labels are not taken over."""
        return cls(file.poster, file.labels if file.learned_labels else None, file.class_order)

    def check(self, config: DistillConfig, spec: Spec, name: str = "the poster to start from") -> None:
        """Raise `BadInput` unless this poster, its labels and class layout are of the config's shapes."""
        grid = (config.poster_class_num_y, config.poster_class_num_x)
        if self.class_order is not None and self.class_order.shape != grid:
            raise BadInput(
                f"{name} lays its classes out as {self.class_order.shape} (rows, columns), the "
                f"config as {grid}: change poster_class_num_x and poster_class_num_y"
            )
        expected = (spec.channels, config.poster_height, config.poster_width)
        if self.poster.shape != expected:
            change = "poster_height and poster_width" if len(self.poster) == spec.channels else "dataset"
            raise BadInput(f"{name} is {self.poster.shape} (C, H, W), the config's is {expected}: change {change}")
        if (self.label_array is not None) != config.train_y:
            kind = "fixed" if self.label_array is None else "learned"
            raise BadInput(f"{name} has {kind} labels: change train_y={config.train_y}")
        if self.label_array is not None and len(self.label_array) != spec.classes:
            raise BadInput(f"{name} has labels of {len(self.label_array)} classes, the data set has {spec.classes}")


def load_poster(name: str) -> InitialPoster:
    """The poster called `name`.

    Args:
        name: a stage folder of an archive (`…/stage-03`, a path or URL), a `poster.safetensors`, a `…_poster.pt` (with
            `…_label.pt` beside it where labels were learned), or the name of a run whose files lie in `checkpoints/`.

    Raises:
        BadInput: nothing readable is there.
        CorruptArchive: the archive's file is damaged.
    """
    place, folder = Path(name), Folder(name)
    if folder.exists("stage.json"):
        trial, _, stage = folder.url.rpartition("/")
        return InitialPoster.of(TrialArchive(trial).poster(int(stage.removeprefix("stage-"))))
    if place.suffix == ".safetensors" and place.is_file():
        return InitialPoster.of(PosterFile.from_bytes(place.read_bytes(), name))
    for poster in (place, Path(SAVED_POSTERS, f"{name}_poster.pt")):
        if poster.suffix == ".pt" and poster.is_file():
            labels = label_file(poster)
            return InitialPoster(load_tensor(poster), load_tensor(labels) if labels.is_file() else None)
    raise BadInput(
        f"no poster at {name!r}: name a stage folder (…/stage-03) or poster.safetensors of an archive, a "
        f"…_poster.pt, or a run whose files are in {SAVED_POSTERS}/"
    )


def load_tensor(path: Path) -> np.ndarray:
    """The one tensor `[A, B, C]` or `[1, A, B, C]` that a `.pt` file holds, as float32 `[A, B, C]`; never unpickles.

    Raises:
        BadInput: it holds anything else.
    """
    try:
        _check_file(path)
        held = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises pickle's, zipfile's and its own
        raise BadInput(f"{path} holds no tensor that can be loaded safely: {_reason(path, error)}") from None
    if isinstance(held, torch.Tensor) and not _holds_each_number(held):
        raise BadInput(f"{path} holds no plain array of real numbers: save the tensor itself, dense and contiguous")
    if not isinstance(held, torch.Tensor) or held.ndim not in (3, 4) or (held.ndim == 4 and len(held) != 1):
        shape = tuple(held.shape) if isinstance(held, torch.Tensor) else type(held).__name__
        raise BadInput(f"{path} holds {shape}: needed is one tensor of three axes, or of four with the first of size 1")
    if not held.numel():
        raise BadInput(f"{path} holds {tuple(held.shape)}, which is nothing: name another file")
    if not torch.isfinite(held).all():
        raise BadInput(f"{path} holds NaN or infinite values: the run that made it had failed; name another file")
    return held.detach().float().reshape(held.shape[-3:]).numpy()


def _reason(path: Path, error: Exception) -> str:
    """Why torch does not load a file, in words."""
    if isinstance(error, pickle.UnpicklingError) and zipfile.is_zipfile(path):
        return "it holds Python objects, which are never unpickled; save the tensor itself"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) if isinstance(error, ValueError) else "it is damaged, or not what torch.save wrote"


def _check_file(path: Path) -> None:
    """Raise `ValueError` where reading a file could wait for ever, or take far more memory than its size.

    Torch saves uncompressed.
    """
    if not stat.S_ISREG(path.stat().st_mode):
        raise ValueError("it is no regular file")
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as parts:
            if sum(part.file_size for part in parts.infolist()) > path.stat().st_size:
                raise ValueError("its parts are compressed, or claim to be larger than the file")


def _holds_each_number(held: torch.Tensor) -> bool:
    """Whether each of its numbers is real, and in memory by itself: a view may claim any size."""
    if held.layout != torch.strided or held.is_meta or held.is_complex() or held.is_quantized:
        return False
    return held.numel() * held.element_size() <= held.untyped_storage().nbytes()
