"""Posters as a ready training set: patches, soft labels and weights, for code that knows nothing of posters."""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
import safetensors.numpy
import torch

from ppodd.archive import TrialArchive, drawn_posters
from ppodd.errors import BadInput
from ppodd.evaluation.accuracy import stack
from ppodd.evaluation.data import data_of
from ppodd.posters import Layout, Patches

Arrays = dict[str, np.ndarray]


def training_set(trial: TrialArchive, stage: int, mode: str = "blend") -> Arrays:
    """The patches that an evaluation of `stage` trains on.

    Returns:
        `images` `[N, C, h, w]` in the whitened space of the data set, soft `labels` `[N, K]`, `weights` `[N]` (the
        share of training draws that falls on each, from π; they sum to 1) and `stage` `[N]` it was cut from.
    """
    config, record = trial.config(), trial.stage(stage)
    blend = record.weights(mode)
    stages = [number for number, weight in enumerate(blend, 1) if weight > 0]
    files = [trial.poster(number) for number in stages]
    cpu = torch.device("cpu")
    layout = Layout.of(config.geometry, data_of(config, cpu).spec, files[-1].class_order)
    posters = stack(files, layout, cpu, torch.float32)
    patches = Patches(layout, cpu)
    count, drawn = patches.count, drawn_posters(blend)
    return {
        "images": patches.crop(posters.images, torch.arange(drawn * count)).contiguous().numpy(),
        "labels": posters.labels.flatten(0, 1).contiguous().numpy(),
        "weights": np.repeat([blend[number - 1] / count for number in stages], count).astype(np.float32),
        "stage": np.repeat(stages, count).astype(np.int64),
    }


def _npz(arrays: Arrays) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)  # type: ignore[arg-type]
    return buffer.getvalue()


def _parquet(arrays: Arrays) -> bytes:
    """A row a patch; arrays flattened, the images' shape in the schema's metadata."""
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        raise BadInput("writing parquet needs pyarrow: pip install 'ppodd[parquet]'") from None
    columns = {
        name: pa.FixedSizeListArray.from_arrays(pa.array(array.ravel()), array[0].size) if array.ndim > 1 else array
        for name, array in arrays.items()
    }
    shape = ",".join(map(str, arrays["images"].shape[1:]))
    buffer = io.BytesIO()
    pq.write_table(pa.table(columns).replace_schema_metadata({"image_shape": shape}), buffer)
    return buffer.getvalue()


FORMATS: dict[str, Callable[[Arrays], bytes]] = {
    ".safetensors": safetensors.numpy.save,
    ".npz": _npz,
    ".parquet": _parquet,
}
