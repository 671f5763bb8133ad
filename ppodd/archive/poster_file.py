"""`poster.safetensors`: a poster with its labels and class order. Tensors are numpy arrays: this needs no torch."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import safetensors
import safetensors.numpy

from ppodd.archive.records import StorageBytes
from ppodd.errors import CorruptArchive
from ppodd.files import sha256


@dataclass(frozen=True)
class PosterFile:
    """What `poster.safetensors` holds.

    Attributes:
        poster: `[C, H, W]` pixels in the whitened space of the data set.
        labels: fixed labels `[P, K]` of the patches, or the learned label array `[K, h', w']`.
        class_order: `[rows, columns]` labels of the class layout.
        inner_lr: learned inner learning rate (`--train_lr`), or `None`.
    """

    poster: np.ndarray
    labels: np.ndarray
    class_order: np.ndarray
    inner_lr: float | None = None

    @property
    def learned_labels(self) -> bool:
        """Whether its labels were learned, and so belong to places of the poster, not to patches."""
        return self.labels.ndim == 3

    @property
    def digest(self) -> str:
        """SHA-256 of the file."""
        return sha256(self.to_bytes())

    def to_bytes(self) -> bytes:
        """The file's contents; equal posters are equal bytes."""
        name = "label_array" if self.learned_labels else "labels"
        tensors = {"poster": self.poster, name: self.labels, "class_order": self.class_order}
        if self.inner_lr is not None:
            tensors["inner_lr"] = np.array([self.inner_lr])
        return safetensors.numpy.save({k: np.asarray(v, order="C") for k, v in tensors.items()})

    @classmethod
    def from_bytes(cls, data: bytes, where: str) -> PosterFile:
        """The poster of a file's contents. Raises `CorruptArchive`, naming `where` it lies, if they are none."""
        tensors = tensors_of(data, where)
        try:
            labels = tensors["label_array"] if "label_array" in tensors else tensors["labels"]
            inner_lr = float(tensors["inner_lr"].item()) if "inner_lr" in tensors else None
            held = cls(tensors["poster"], labels, tensors["class_order"], inner_lr)
        except KeyError as error:
            raise CorruptArchive(f"{where} holds no tensor {error}") from None
        except ValueError as error:  # more than one number
            raise CorruptArchive(f"{where} is damaged: inner_lr: {error}") from None
        axes = (held.poster.ndim, held.labels.ndim, held.class_order.ndim)
        if axes not in ((3, 2, 2), (3, 3, 2)):
            raise CorruptArchive(f"{where} is damaged: poster, labels and class order have {axes} axes")
        return held


def tensors_of(data: bytes, where: str) -> dict[str, np.ndarray]:
    """The arrays of a safetensors file. Raises `CorruptArchive` naming it."""
    try:
        return safetensors.numpy.load(data)
    except (safetensors.SafetensorError, ValueError, KeyError) as error:
        raise CorruptArchive(f"{where} is damaged: {error}") from None


def storage_bytes(poster: PosterFile, posters: int) -> StorageBytes:
    """Bytes of `posters` posters with their labels by number format; fixed labels follow from the layout."""
    floats = posters * (poster.poster.size + (poster.labels.size if poster.learned_labels else 0))
    return StorageBytes(fp32=4 * floats, fp16=2 * floats, int8=floats)
