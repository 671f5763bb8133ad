"""Posters as a ready training set: patches, soft labels and weights, for code that knows nothing of posters."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import safetensors.numpy
import torch

from ppodd.archive import TrialArchive, drawn_posters
from ppodd.datasets import Spec
from ppodd.errors import BadInput
from ppodd.evaluation.accuracy import stack
from ppodd.methods import layout_of
from ppodd.posters import Patches

Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class TrainingSet:
    """What an evaluation trains on.

    Attributes:
        patches: a row a patch: `images` `[N, C, h, w]` in the whitened space of the data set unless `unwhitened`, soft
            `labels` `[N, K]`, `weights` `[N]` (the share of training draws that falls on each, from π; they sum to 1)
            and the `stage` `[N]` that it was cut from.
        classes: names of the `K` classes.
        whitening: `mean` and `std` `[C]`, or the matrix `zca` `[D, D]`; nothing where the archive does not hold it.
    """

    patches: Arrays
    classes: tuple[str, ...]
    whitening: Arrays
    unwhitened: bool = False

    def as_pixels(self) -> TrainingSet:
        """The same with un-whitened images: for code that trains on images as they are.

        Raises:
            BadInput: the archive does not hold the whitening.
        """
        if not self.whitening:
            raise BadInput("this archive does not hold how the images were whitened: export them as networks see them")
        images = self._unwhitened(self.patches["images"])
        return replace(self, patches={**self.patches, "images": images}, unwhitened=True)

    def _unwhitened(self, images: np.ndarray) -> np.ndarray:
        if "zca" in self.whitening:
            flat = images.reshape(len(images), -1).astype(np.float64)
            pixels = np.linalg.solve(self.whitening["zca"].T.astype(np.float64), flat.T).T.reshape(images.shape)
        else:
            mean, std = (self.whitening[name][:, None, None] for name in ("mean", "std"))
            pixels = images * std + mean
        return pixels.astype(np.float32)

    @property
    def about(self) -> dict[str, str]:
        """What a reader must know, as the formats' metadata hold it."""
        return {
            "classes": json.dumps(self.classes),
            "image_shape": ",".join(map(str, self.patches["images"].shape[1:])),
            "unwhiten": self._unwhiten,
        }

    @property
    def _unwhiten(self) -> str:
        if self.unwhitened:
            how = "(x - x.mean()) / norm(x - x.mean()), each for itself" if "zca" in self.whitening else "x / 255"
            return f"done: images are as {how}, of test images x from 0 to 255"
        if "zca" in self.whitening:
            return (
                "images.reshape(N, -1) @ inverse(zca) are images of mean 0 and norm 1; test images x from 0 to 255 are "
                "whitened as (x - x.mean()) / norm(x - x.mean()) @ zca, each for itself"
            )
        return "images * std + mean, channel by channel, are from 0 to 1" if self.whitening else "not archived"


def training_set(trial: TrialArchive, stage: int, mode: str = "blend") -> TrainingSet:
    """The patches that an evaluation of `stage` trains on; the data is not needed."""
    config, record = trial.config(), trial.stage(stage)
    blend = record.weights(mode)
    stages = [number for number, weight in enumerate(blend, 1) if weight > 0]
    files = [trial.poster(number) for number in stages]
    cpu = torch.device("cpu")
    spec = Spec(len(record.data.classes), *record.data.shape)
    layout = layout_of(config, spec, files[-1].class_order)
    posters = stack(files, layout, cpu, torch.float32)
    patches = Patches(layout, cpu)
    count, drawn = patches.count, drawn_posters(blend)
    data = trial.data()
    return TrainingSet(
        {
            "images": patches.crop(posters.images, torch.arange(drawn * count)).contiguous().numpy(),
            "labels": posters.labels.flatten(0, 1).contiguous().numpy(),
            "weights": np.repeat([blend[number - 1] / count for number in stages], count).astype(np.float32),
            "stage": np.repeat(stages, count).astype(np.int64),
        },
        record.data.classes,
        trial.whitening(data) if data else {},
    )


def _safetensors(content: TrainingSet) -> bytes:
    return safetensors.numpy.save({**content.patches, **content.whitening}, content.about)


def _npz(content: TrainingSet) -> bytes:
    buffer = io.BytesIO()
    about = {"classes": np.array(content.classes), "unwhiten": np.array(content.about["unwhiten"])}
    np.savez(buffer, **content.patches, **content.whitening, **about)  # type: ignore[arg-type]
    return buffer.getvalue()


def _parquet(content: TrainingSet) -> bytes:
    """A row a patch; arrays flattened; the images' shape, and mean and std, in the schema's metadata."""
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        raise BadInput("writing parquet needs pyarrow: pip install 'ppodd[parquet]'") from None
    columns = {
        name: pa.FixedSizeListArray.from_arrays(pa.array(array.ravel()), array[0].size) if array.ndim > 1 else array
        for name, array in content.patches.items()
    }
    small = {name: json.dumps(array.tolist()) for name, array in content.whitening.items() if array.ndim == 1}
    large = {} if small or not content.whitening else {"zca": "in the .safetensors and .npz of this stage"}
    buffer = io.BytesIO()
    pq.write_table(pa.table(columns).replace_schema_metadata({**content.about, **small, **large}), buffer)
    return buffer.getvalue()


def _torch(content: TrainingSet) -> bytes:
    """Tensors as DD-Ranking takes them: as many patches of every class, class by class, those that are most of it.

    Its code gives patches hard labels by their place alone, the first `ipc` class 0, and so on.
    """
    images, labels = content.patches["images"], content.patches["labels"]
    likeliest = labels.argmax(1)
    ipc = int(np.bincount(likeliest, minlength=len(content.classes)).min())
    if not ipc:
        missing = content.classes[int(np.bincount(likeliest, minlength=len(content.classes)).argmin())]
        raise BadInput(
            f"DD-Ranking wants as many images of every class, and no patch here is {missing} most of all: write "
            f".safetensors, .npz or .parquet"
        )
    chosen = np.concatenate(
        [
            of_class[np.argsort(-labels[of_class, k], kind="stable")][:ipc]
            for k in range(len(content.classes))
            for of_class in [np.flatnonzero(likeliest == k)]
        ]
    )
    held = {"images": torch.from_numpy(images[chosen]), "soft_labels": torch.from_numpy(labels[chosen])}
    buffer = io.BytesIO()
    torch.save({**held, "hard_labels": torch.from_numpy(likeliest[chosen]), "ipc": ipc, **content.about}, buffer)
    return buffer.getvalue()


FORMATS: dict[str, Callable[[TrainingSet], bytes]] = {
    ".safetensors": _safetensors,
    ".npz": _npz,
    ".parquet": _parquet,
    ".pt": _torch,
}
