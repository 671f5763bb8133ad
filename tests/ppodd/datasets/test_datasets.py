"""Readers, cache and splits; formats are small real files, CIFAR-10 the real one."""

import hashlib
import io
import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import scipy.io
import torch
from PIL import Image

from ppodd.config import DistillConfig, build
from ppodd.config.presets import preset
from ppodd.datasets.images import read_images
from ppodd.datasets.loading import load, load_once
from ppodd.datasets.sources import SPECS, DataSource, Request, Spec
from ppodd.errors import BadInput
from ppodd.evaluation.data import data_of
from ppodd.files import cache_folder
from ppodd.libraries import torchvision

CPU = torch.device("cpu")
ROOT = Path(__file__).parents[3]
RANDOM = np.random.default_rng(0)


def config_of(dataset, root="", **values):
    """A config that fits 2 classes of images of at least 8 px."""
    shape = {
        "poster_width": 24, "poster_height": 12, "poster_class_num_x": 2, "poster_class_num_y": 1,
        "class_area_width": 12, "class_area_height": 12, "patch_num_x": 4, "patch_num_y": 2, "distill_batch_size": 8,
    }  # fmt: skip
    return build(DistillConfig, {"dataset": str(dataset), "root": str(root), **shape, **values})


def png(shape=(8, 8, 3), kind="PNG"):
    buffer = io.BytesIO()
    pixels = RANDOM.integers(0, 256, shape, dtype=np.uint8)
    Image.fromarray(pixels).save(buffer, kind)
    return buffer.getvalue()


def write_parquet(path, rows=20, column="img", struct=True, label="label", labels=None, images=None, metadata=None):
    images = images or [png() for _ in range(rows)]
    cells = [{"bytes": image, "path": None} for image in images] if struct else images
    labels = labels or [i % 2 for i in range(len(images))]
    table = pa.table({column: cells, label: pa.array(labels, pa.int64())})
    pq.write_table(table.replace_schema_metadata(metadata or {}), path)


def write_tree(folder, per_class=10, classes=("ant", "bee"), shape=(8, 8, 3)):
    for name in classes:
        (folder / name).mkdir(parents=True)
        for i in range(per_class):
            (folder / name / f"{i}.png").write_bytes(png(shape))


def sizes(dataset):
    return len(dataset.train.y), len(dataset.validation.y), len(dataset.test.y)


def test_digits_are_embedded_and_split_evenly_by_class():
    dataset = load(build(DistillConfig, preset("digits")).data, CPU)
    assert sum(sizes(dataset)) == 1797 and dataset.spec == (10, 1, 8, 8)
    assert dataset.test.y.bincount().min() >= 30 and dataset.validation.y.bincount().min() >= 13
    assert abs(float(dataset.train.x.mean())) < 0.05 and float(dataset.train.x.std()) == pytest.approx(1, abs=0.05)


def test_the_held_out_images_are_the_same_for_every_seed():
    first, second = (load(build(DistillConfig, {**preset("digits"), "seed": seed}).data, CPU) for seed in (0, 1))
    assert first.digest == second.digest and torch.equal(first.validation.x, second.validation.x)


@pytest.mark.parametrize("column", ["img", "image"])
@pytest.mark.parametrize("struct", [True, False])
@pytest.mark.parametrize("label", ["label", "fine_label", "coarse_label"])
def test_parquet_in_hugging_face_style(tmp_path, column, struct, label):
    write_parquet(tmp_path / "train.parquet", column=column, struct=struct, label=label)
    write_parquet(tmp_path / "test.parquet", rows=6, column=column, struct=struct, label=label)
    dataset = load(config_of(tmp_path).data, CPU)
    assert sizes(dataset) == (18, 2, 6) and dataset.classes == ("0", "1")


@pytest.mark.parametrize(
    "metadata",
    [
        {"class_names": json.dumps(["ant", "bee"])},
        {"class_names": "ant, bee"},
        {
            "huggingface": json.dumps(
                {"info": {"features": {"label": {"names": ["ant", "bee"], "_type": "ClassLabel"}}}}
            )
        },
    ],
)
def test_class_names_come_from_the_schema(tmp_path, metadata):
    write_parquet(tmp_path / "one.parquet", metadata=metadata)
    dataset = load(config_of(tmp_path / "one.parquet").data, CPU)
    assert dataset.classes == ("ant", "bee") and sizes(dataset) == (14, 2, 4)


def test_class_folders_with_and_without_a_test_split(tmp_path):
    write_tree(tmp_path / "split/train")
    write_tree(tmp_path / "split/test", per_class=3)
    write_tree(tmp_path / "single", shape=(8, 10))
    split, single = load(config_of(tmp_path / "split").data, CPU), load(config_of(tmp_path / "single").data, CPU)
    assert sizes(split) == (18, 2, 6) and split.classes == ("ant", "bee")
    assert sizes(single) == (14, 2, 4) and single.spec == (2, 1, 8, 10)


def test_images_are_resized_on_request_and_only_then(tmp_path):
    write_tree(tmp_path / "tree")
    (tmp_path / "tree/ant/odd.png").write_bytes(png((9, 9, 3)))
    with pytest.raises(BadInput, match=r"odd.png is 9 × 9 px, the first image is 8 × 8: set --image_size"):
        load(config_of(tmp_path / "tree").data, CPU)
    assert load(config_of(tmp_path / "tree", image_size=10).data, CPU).spec == (2, 3, 10, 10)


@pytest.fixture
def write_cifar(monkeypatch):
    """Writes small sets in CIFAR's own format, for whose digests torchvision takes them."""

    def write(folder, fine=False):
        kind = torchvision().datasets.CIFAR100 if fine else torchvision().datasets.CIFAR10
        rows, classes = (100, 100) if fine else (10, 10)
        folder.mkdir(parents=True)

        def kept(name, content):
            (folder / name).write_bytes(pickle.dumps(content, protocol=2))
            return [name, hashlib.md5((folder / name).read_bytes()).hexdigest()]

        def batch(name, level):
            pixels = RANDOM.integers(level, level + 50, (rows, 3072), dtype=np.uint8)
            return kept(name, {"data": pixels, "fine_labels" if fine else "labels": [i % classes for i in range(rows)]})

        monkeypatch.setattr(kind, "train_list", [batch(name, 0) for name, _ in kind.train_list])
        monkeypatch.setattr(kind, "test_list", [batch(name, 150) for name, _ in kind.test_list])
        _, digest = kept(kind.meta["filename"], {kind.meta["key"]: [f"c{i}" for i in range(classes)]})
        monkeypatch.setitem(kind.meta, "md5", digest)

    return write


@pytest.mark.parametrize(
    ("name", "folder", "train"), [("cifar10", "cifar-10-batches-py", 50), ("cifar100", "cifar-100-python", 100)]
)
def test_cifars_own_files_are_read_by_torchvision(tmp_path, write_cifar, name, folder, train):
    write_cifar(tmp_path / name / folder, fine=name == "cifar100")
    images, _ = read_images(Request(name, str(tmp_path)))
    assert images.spec == SPECS[name] and images.classes[3] == "c3" and len(images.y["train"]) == train
    assert images.x["train"].max() < 50 and images.x["test"].min() >= 150
    assert images.y["test"].tolist() == list(range(len(images.classes)))


def test_cifar_is_downloaded_by_torchvision(tmp_path, monkeypatch, write_cifar):
    """A stand-in for the network: what torchvision puts in the folder is then read like any download of its own."""
    asked, config = [], build(DistillConfig, {**preset("cifar10"), "root": str(tmp_path), "zca": False})

    def fetched(self):
        asked.append(str(self.root))
        if len(asked) == 1:
            write_cifar(Path(self.root, "cifar-10-batches-py"))

    monkeypatch.setattr(torchvision().datasets.CIFAR10, "download", fetched)
    assert sizes(load(config.data, CPU)) == (40, 10, 10) and set(asked) == {str(tmp_path / "cifar10")}
    times = len(asked)
    load(config.data, CPU)
    assert len(asked) == times

    def offline(self):
        raise OSError("no route to host")

    monkeypatch.setattr(torchvision().datasets.CIFAR100, "download", offline)
    with pytest.raises(BadInput, match=r"torchvision could not download CIFAR100 to .*no route to host; fetch it by"):
        load(build(DistillConfig, {**preset("cifar100"), "root": str(tmp_path)}).data, CPU)


class Evil:
    def __reduce__(self):
        return os.system, ("touch /tmp/ppodd-was-here",)


def test_a_pickle_that_is_not_the_published_one_is_refused_unread(tmp_path, write_cifar):
    folder = tmp_path / "cifar-10-batches-py"
    write_cifar(folder)
    (folder / "data_batch_3").write_bytes(pickle.dumps({"data": Evil()}))
    with pytest.raises(BadInput, match=r"data_batch_3 is missing, or not the published file: fetch the data set again"):
        load(build(DistillConfig, {**preset("cifar10"), "root": str(tmp_path)}).data, CPU)
    assert not Path("/tmp/ppodd-was-here").exists()


def test_what_an_old_torchvision_kept_of_mnist_is_never_unpickled(tmp_path):
    write_mnist(tmp_path / "MNIST/raw")
    (tmp_path / "MNIST/processed").mkdir()
    for name in ("training.pt", "test.pt"):
        torch.save(Evil(), tmp_path / "MNIST/processed" / name)
    images, _ = read_images(Request("mnist", str(tmp_path)))
    assert len(images.y["train"]) == 20 and not Path("/tmp/ppodd-was-here").exists()


def test_tiny_imagenets_own_layout(tmp_path):
    root = tmp_path / "tiny-imagenet-200"
    for wnid in ("n01", "n02"):
        (root / "train" / wnid / "images").mkdir(parents=True)
        for i in range(5):
            (root / "train" / wnid / "images" / f"{i}.JPEG").write_bytes(png(kind="JPEG"))
    (root / "val/images").mkdir(parents=True)
    for i in range(4):
        (root / "val/images" / f"v{i}.JPEG").write_bytes(png(kind="JPEG"))
    rows = [f"v{i}.JPEG\tn0{1 + i % 2}\t0\t0\t1\t1" for i in range(4)]
    (root / "val/val_annotations.txt").write_text("\n".join(rows))
    (root / "words.txt").write_text("n01\tgoldfish, carp\nn02\tnewt\n")
    images, _ = read_images(Request(str(root)))
    assert images.classes == ("goldfish", "newt") and images.x["train"].shape == (10, 3, 8, 8)
    assert images.y["test"].tolist() == [0, 1, 0, 1]
    with pytest.raises(BadInput, match=r"is another data set: 2 classes, 3 × 8 × 8 .*tiny-imagenet-200 has 200"):
        read_images(Request("tiny-imagenet-200", str(tmp_path)))


def test_cub_200s_own_layout(tmp_path):
    root = tmp_path / "CUB_200_2011"
    (root / "images/001.Albatross").mkdir(parents=True)
    (root / "images/002.Sparrow").mkdir()
    names = [f"00{1 + i % 2}.{('Albatross', 'Sparrow')[i % 2]}/{i}.jpg" for i in range(8)]
    for i, name in enumerate(names):
        (root / "images" / name).write_bytes(png((20 + i, 30, 3), "JPEG"))
    (root / "images.txt").write_text("".join(f"{i + 1} {name}\n" for i, name in enumerate(names)))
    (root / "image_class_labels.txt").write_text("".join(f"{i + 1} {1 + i % 2}\n" for i in range(8)))
    (root / "train_test_split.txt").write_text("".join(f"{i + 1} {int(i < 6)}\n" for i in range(8)))
    (root / "classes.txt").write_text("1 001.Albatross\n2 002.Sparrow\n")
    images, _ = read_images(Request(str(root), image_size=32))
    assert images.x["train"].shape == (6, 3, 32, 32) and images.classes == ("Albatross", "Sparrow")
    assert images.y["test"].tolist() == [0, 1]
    with pytest.raises(BadInput, match=r"is another data set: 2 classes, 3 × 32 × 32 .*cub-200 has 200 classes"):
        read_images(Request("cub-200", str(tmp_path)))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda p: None, "does not exist; name a folder of class folders, or a file of .parquet"),
        (lambda p: p.write_bytes(b"PAR1 no"), "is no readable parquet file"),
        (lambda p: write_parquet(p, column="pixels"), "has columns .*'pixels'.*needed are img or image"),
        (lambda p: write_parquet(p, images=[png()] * 9 + [png()[:60]]), "row 9 is no readable image"),
        (lambda p: write_parquet(p, labels=[0, 1] * 9 + [0, -1]), r"row 19 has no label \(-1\), others have"),
        (
            lambda p: write_parquet(p, labels=[0, 1] * 9 + [0, 2], metadata={"class_names": "a,b"}),
            "label 2 of .* out of range",
        ),
        (lambda p: write_parquet(p, labels=[0] * 20), "has 1 class .*: at least 2 are needed"),
        (lambda p: write_parquet(p, images=[png()] * 19 + [b""]), "row 19 holds no image bytes"),
    ],
)
def test_bad_files_are_named_in_one_line(tmp_path, make, message):
    path = tmp_path / "bad.parquet"
    make(path)
    with pytest.raises(BadInput, match=message) as caught:
        load(config_of(path).data, CPU)
    assert "\n" not in str(caught.value)


def test_a_truncated_parquet_file_is_named(tmp_path):
    path = tmp_path / "cut.parquet"
    write_parquet(path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(BadInput, match=r"cut.parquet is no readable parquet file"):
        load(config_of(path).data, CPU)


def test_missing_data_says_what_was_looked_for_and_where(tmp_path):
    with pytest.raises(BadInput, match=r"no cifar10 in .*looked for .*cifar-10-batches-py.*--root"):
        load(build(DistillConfig, {**preset("cifar10"), "root": str(tmp_path)}).data, CPU)


def test_a_config_that_does_not_fit_a_file_is_refused_when_the_file_is_known(tmp_path):
    write_parquet(tmp_path / "d.parquet", images=[png((8, 20, 3)) for _ in range(20)])
    with pytest.raises(BadInput, match="patch_num_x=8 patches of 20 px cannot be placed"):
        data_of(config_of(tmp_path / "d.parquet", patch_num_x=8), CPU)


def test_the_cache_is_used_checked_and_made_again(tmp_path):
    write_tree(tmp_path / "tree")
    config = config_of(tmp_path / "tree", zca=True)
    first = load(config.data, CPU)
    cached = set(cache_folder().glob("*.safetensors"))
    for path in cached:
        path.write_bytes(path.read_bytes()[:-50])
    again = load(config.data, CPU)
    assert torch.equal(first.train.x, again.train.x) and first.digest == again.digest
    (tmp_path / "tree/ant/new.png").write_bytes(png())
    assert sum(sizes(load(config.data, CPU))) == 21


def test_the_last_data_set_is_kept_for_the_next_call():
    config = build(DistillConfig, preset("digits"))
    assert load_once(config.data, CPU) is load_once(config.model_copy(update={"seed": 4}).data, CPU)
    assert load_once(config.data, CPU) is not load_once(config.model_copy(update={"validation": 0.3}).data, CPU)


@pytest.mark.slow
def test_real_cifar10_is_read_whole(cifar10_root):
    dataset = load(build(DistillConfig, {**preset("cifar10"), "root": str(cifar10_root), "zca": False}).data, CPU)
    assert sizes(dataset) == (45_000, 5_000, 10_000) and dataset.classes[8] == "ship"
    assert torch.allclose(dataset.whitening.mean, torch.tensor([0.4914, 0.4822, 0.4465]), atol=1e-4)
    assert torch.allclose(dataset.whitening.std, torch.tensor([0.2470, 0.2435, 0.2616]), atol=1e-4)


@pytest.mark.parametrize("rows", [[], [0, 1, 0, 1], [0, 0, 0, 0, 0, None, 1]], ids=["no rows", "too few", "no label"])
def test_parquet_that_makes_no_data_set_is_refused(tmp_path, rows):
    cells = [{"bytes": png(), "path": ""} for _ in rows]
    image = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    table = pa.table({"img": pa.array(cells, image), "label": pa.array(rows, pa.int64())})
    pq.write_table(table, tmp_path / "x.parquet")
    with pytest.raises(BadInput, match=r"has no (labelled training split|test images|label)"):
        load(config_of(tmp_path / "x.parquet").data, CPU)


def write_idx(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(
        bytes([0, 0, 8, array.ndim]) + b"".join(n.to_bytes(4, "big") for n in array.shape) + array.tobytes()
    )


def write_mnist(folder):
    for part, count, level in (("train", 20, 50), ("t10k", 10, 200)):
        write_idx(folder / f"{part}-images-idx3-ubyte", RANDOM.integers(level - 50, level, (count, 28, 28), np.uint8))
        write_idx(folder / f"{part}-labels-idx1-ubyte", (np.arange(count) % 10).astype(np.uint8))


@pytest.mark.parametrize(
    ("name", "folder"), [("mnist", "MNIST"), ("fashion-mnist", "FashionMNIST"), ("kmnist", "KMNIST")]
)
def test_mnist_and_its_like_are_read_by_torchvision(tmp_path, name, folder):
    write_mnist(tmp_path / name / folder / "raw")
    images, _ = read_images(Request(name, str(tmp_path)))
    assert images.spec == SPECS[name] and len(images.classes) == 10
    assert len(images.y["train"]) == 20 and images.x["train"].max() < 50 and images.x["test"].min() >= 150
    assert images.y["test"].tolist() == list(range(10))


def test_svhn_is_read_by_torchvision(tmp_path, monkeypatch):
    for split, count, level in (("train", 20, 50), ("test", 10, 200)):
        pixels = RANDOM.integers(level - 50, level, (32, 32, 3, count), np.uint8)
        labels = np.arange(count)[:, None] % 10 + 1  # which count from 1: 10 is the digit 0
        scipy.io.savemat(tmp_path / f"{split}_32x32.mat", {"X": pixels, "y": labels.astype(np.uint8)})
        digest = hashlib.md5((tmp_path / f"{split}_32x32.mat").read_bytes()).hexdigest()
        monkeypatch.setitem(torchvision().datasets.SVHN.split_list, split, ["", f"{split}_32x32.mat", digest])
    images, _ = read_images(Request("svhn", str(tmp_path)))
    assert images.spec == SPECS["svhn"] and images.y["test"].tolist() == [*range(1, 10), 0]
    assert images.x["train"].max() < 50 and images.x["test"].min() >= 150


def test_stl10_is_read_by_torchvision(tmp_path, monkeypatch):
    folder, names = (
        tmp_path / "stl10_binary",
        ["airplane", "bird", "car", "cat", "deer", "dog", "horse", "monkey", "ship", "truck"],
    )
    folder.mkdir()
    (folder / "class_names.txt").write_text("\n".join(names))
    lists = {"train": ["unlabeled_X.bin"], "test": []}
    for split, count, level in (("train", 20, 50), ("test", 10, 200)):
        pixels = RANDOM.integers(level - 50, level, (count, 3, 96, 96), np.uint8)
        pixels[:, :, 90, 3] = 255  # row 90, column 3: in the files columns stand one after another
        (folder / f"{split}_X.bin").write_bytes(pixels.transpose(0, 1, 3, 2).tobytes())
        (folder / f"{split}_y.bin").write_bytes(bytes(i % 10 + 1 for i in range(count)))  # which count from 1
        (folder / "unlabeled_X.bin").write_bytes(b"")
        kept = [f"{split}_X.bin", f"{split}_y.bin", *lists[split]]
        digests = [[name, hashlib.md5((folder / name).read_bytes()).hexdigest()] for name in kept]
        monkeypatch.setattr(torchvision().datasets.STL10, f"{split}_list", digests)
    images, _ = read_images(Request("stl10", str(tmp_path)))
    assert images.spec == SPECS["stl10"] and images.classes == tuple(names)
    assert images.y["train"].tolist() == [*range(10)] * 2 and images.y["test"].tolist() == [*range(10)]
    for split, low, high in (("train", 0, 50), ("test", 150, 200)):
        assert (images.x[split][:, :, 90, 3] == 255).all() and images.x[split][:, :, 3, 90].max() < high
        assert images.x[split].min() >= low


def test_a_torchvision_that_cannot_be_imported_is_said(monkeypatch):
    monkeypatch.setitem(sys.modules, "torchvision", None)
    with pytest.raises(BadInput, match=r"torchvision cannot be imported .*: install the one made for this torch"):
        torchvision()


def test_torchvision_is_read_with_beside_a_torch_that_its_operators_do_not_fit(tmp_path):
    """A stand-in for its package, which describes operators that are not there, as its builds for CUDA do."""
    folder = tmp_path / "torchvision"
    folder.mkdir()
    described = "\n".join(f"@torch.library.register_fake('torchvision::{n}')\ndef {n}(x): ..." for n in ("far", "near"))
    (folder / "__init__.py").write_text(f"import torch\n{described}\n")
    script = "from ppodd.libraries import torchvision; print(torchvision().__file__)"
    run = subprocess.run([sys.executable, "-c", script], env={**os.environ, "PYTHONPATH": f"{tmp_path}:{ROOT}"},
                         capture_output=True, text=True, check=True)  # fmt: skip
    assert run.stdout.strip() == str(folder / "__init__.py")


def shapes(root):
    """A data set of 2 classes of 12 px."""
    train, test = (RANDOM.integers(0, 256, (count, 12, 12), np.uint8) for count in (20, 10))
    return {"train": (train, [0, 1] * 10), "test": (test, [0, 1] * 5), "classes": ["ant", "bee"]}


FITTING = DataSource(shapes, spec=Spec(2, 1, 12, 12))
RESIZED = DataSource(shapes, spec=Spec(2, 1, 8, 8), resized=True)
OTHER = DataSource(shapes, spec=Spec(2, 1, 8, 8))


def test_a_data_source_of_ones_own_is_obeyed():
    assert read_images(Request(f"{__name__}:FITTING"))[0].spec == (2, 1, 12, 12)
    assert read_images(Request(f"{__name__}:RESIZED"))[0].spec == (2, 1, 8, 8)
    assert read_images(Request(f"{__name__}:RESIZED", image_size=10))[0].spec == (2, 1, 10, 10)
    with pytest.raises(BadInput, match=r"is another data set: 2 classes, 1 × 12 × 12 .* has 2 classes, 1 × 8 × 8"):
        read_images(Request(f"{__name__}:OTHER"))


def test_what_a_function_of_ones_own_may_return_is_said(monkeypatch):
    monkeypatch.setattr(sys.modules[__name__], "shapes", lambda root: [1, 2])
    with pytest.raises(
        BadInput, match=r'returned list.*\{"train": .*also "validation" and "classes", or a list of Part'
    ):
        read_images(Request(f"{__name__}:shapes"))


def test_digits_are_resized_on_request_too():
    assert read_images(Request("digits", image_size=16))[0].spec == (10, 1, 16, 16)
