"""The smallest image sets of every kind, whose pixels tell which split they were written for.

Training pictures are darker than 100, validation pictures lie between 100 and 150, test pictures above 150, so that a
picture that is read into another split shows.
"""

import io
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

LEVELS = {"train": (0, 99), "validation": (101, 149), "test": (151, 250)}
RANDOM = np.random.default_rng(0)


def pixels(split="train", shape=(8, 8, 3)):
    low, high = LEVELS[split]
    return RANDOM.integers(low, high + 1, shape, dtype=np.uint8)


def encoded(array, kind="PNG", **options):
    buffer = io.BytesIO()
    image = array if isinstance(array, Image.Image) else Image.fromarray(array)
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def picture(split="train", shape=(8, 8, 3), kind="PNG", **options):
    return encoded(pixels(split, shape), kind, **options)


def tree(folder, classes=("ant", "bee"), count=5, split="train", shape=(8, 8, 3), name="{}.png"):
    """Class folders of some pictures each."""
    for label in classes:
        (Path(folder) / label).mkdir(parents=True, exist_ok=True)
        for i in range(count):
            (Path(folder) / label / name.format(i)).write_bytes(picture(split, shape))


def flat(folder, count=3, split="test"):
    """Pictures in no class folder."""
    Path(folder).mkdir(parents=True, exist_ok=True)
    for i in range(count):
        (Path(folder) / f"{i}.png").write_bytes(picture(split))


def table(
    path,
    labels=(0, 1) * 5,
    split="train",
    names=None,
    images=None,
    label="label",
    image="image",
    shape=(8, 8, 3),
    **metadata,
):
    """A parquet file in Hugging Face's style; with `names`, labels are numbers of these; other metadata as told."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    labels = labels if isinstance(labels, pa.Array) else pa.array(list(labels))
    images = images or [{"bytes": picture(split, shape), "path": None} for _ in range(len(labels))]
    features = {image: {"_type": "Image"}, label: {"_type": "ClassLabel", "names": names}}
    metadata |= {"huggingface": json.dumps({"info": {"features": features}})} if names else {}
    pq.write_table(pa.table({image: images, label: labels}).replace_schema_metadata(metadata), path)
