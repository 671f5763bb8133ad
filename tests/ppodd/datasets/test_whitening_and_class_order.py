"""ZCA (METHOD.md §4) and the order of the classes (METHOD.md §2)."""

import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from plugins import user_module

from ppodd.config import DistillConfig, build
from ppodd.config.presets import preset
from ppodd.datasets.loading import load_once
from ppodd.datasets.whitening import Whitening, fit_zca, unit_images, zca_cost
from ppodd.errors import BadInput
from ppodd.posters.class_distances import clip_distances
from ppodd.posters.poco import arrange_classes, order_from_distances

CPU = torch.device("cpu")


def byte_images(count=500):
    base = torch.randn(count, 12, generator=torch.Generator().manual_seed(0)) @ torch.randn(
        12, 27, generator=torch.Generator().manual_seed(1)
    )
    return ((base - base.min()) / (base.max() - base.min()) * 255).byte().reshape(count, 3, 3, 3)


def test_units_have_mean_zero_and_norm_one():
    units = unit_images(byte_images())
    assert units.dtype == torch.float64
    torch.testing.assert_close(units.mean(1), torch.zeros(500, dtype=torch.float64), atol=1e-12, rtol=0)
    torch.testing.assert_close(units.norm(dim=1), torch.ones(500, dtype=torch.float64))
    assert not unit_images(torch.full((1, 3, 3, 3), 7, dtype=torch.uint8)).any()  # a constant image


def test_zca_scales_each_eigenvector_by_its_regularised_eigenvalue():
    images = byte_images()
    forward, inverse = (m.double() for m in fit_zca(images))
    units = unit_images(images)
    values, vectors = torch.linalg.eigh(units.T @ units / 500)
    scale = (values + 0.1 * values.mean()) ** -0.5
    torch.testing.assert_close(forward, vectors @ torch.diag(scale) @ vectors.T, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(forward @ inverse, torch.eye(27, dtype=torch.float64), atol=1e-4, rtol=0)


def test_unwhitening_inverts_whitening():
    images = byte_images()
    zca = Whitening(None, None, *fit_zca(images))
    torch.testing.assert_close(
        zca.unwhiten(zca.whiten(images)).flatten(1).double(), unit_images(images), atol=1e-4, rtol=0
    )
    plain = Whitening(torch.tensor([0.1, 0.2, 0.3]), torch.tensor([0.5, 0.6, 0.7]))
    torch.testing.assert_close(plain.unwhiten(plain.whiten(images)), images.float() / 255)


def test_the_cost_of_large_images_is_said():
    assert zca_cost(12288, 100_000).startswith("about 3.4 GiB and 1") and "cached" in zca_cost(12288, 100_000)


def table_for(order):
    """Distances under which the anti-diagonal walk yields `order`: each class is nearest to those it is put beside."""
    rows, columns = order.shape
    walk = sorted(((r, c) for r in range(rows) for c in range(columns)), key=lambda cell: (sum(cell), cell[0]))
    distances = np.ones((order.size, order.size)) - np.eye(order.size)
    for step, (row, column) in enumerate(walk):
        for r, c in ((row - 1, column), (row, column - 1)):
            if r >= 0 and c >= 0:
                a, b = order[row, column], order[r, c]
                distances[a, b] = distances[b, a] = 0.01 * (step + 1)
    return distances


def test_the_walk_yields_podds_cifar10_order_from_a_distance_table():
    order = np.array([[0, 8, 5, 7, 4], [1, 9, 3, 2, 6]])
    assert order_from_distances(table_for(order), 2, 5).tolist() == order.tolist()


def test_the_walk_by_hand():
    # 0 first; its right and lower neighbours in turn take the nearest class left; the last cell takes what remains
    distances = np.array([[0, 3, 1, 2], [3, 0, 1, 1], [1, 1, 0, 9], [2, 1, 9, 0]], float)
    assert order_from_distances(distances, 2, 2).tolist() == [[0, 2], [3, 1]]


def test_ties_take_the_lowest_class():
    assert order_from_distances(np.zeros((4, 4)), 2, 2).tolist() == [[0, 1], [2, 3]]


@pytest.fixture
def digits():
    return load_once(build(DistillConfig, preset("digits")).data, CPU)


def test_methods(digits, tmp_path):
    assert arrange_classes("sequential", digits, 2, 5).tolist() == [[0, 1, 2, 3, 4], [5, 6, 7, 8, 9]]
    assert arrange_classes("9,8,7,6,5,4,3,2,1,0", digits, 2, 5).tolist() == [[9, 8, 7, 6, 5], [4, 3, 2, 1, 0]]
    means = arrange_classes("means", digits, 2, 5)
    assert sorted(means.flatten()) == list(range(10)) and means[0, 0] == 0
    assert arrange_classes("auto", digits, 2, 5).tolist() == means.tolist()
    table = table_for(means)
    np.savetxt(tmp_path / "d.csv", table, delimiter=",")
    np.save(tmp_path / "d.npy", table)
    for name in ("d.csv", "d.npy"):
        assert arrange_classes(str(tmp_path / name), digits, 2, 5).tolist() == means.tolist()


@pytest.mark.parametrize(
    ("method", "message"),
    [
        ("0,1,2", "must name each label from 0 to 9 once"),
        ("0,1,x", "is no list of labels"),
        ("mean", "unknown class_order 'mean'; did you mean 'means'"),
        ("gone.csv", "is no readable distance table"),
    ],
)
def test_bad_orders_are_refused(digits, method, message):
    with pytest.raises(BadInput, match=message):
        arrange_classes(method, digits, 2, 5)


def test_a_distance_table_of_the_wrong_shape_is_refused(digits, tmp_path):
    np.save(tmp_path / "d.npy", np.zeros((3, 3)))
    with pytest.raises(BadInput, match=r"shape \(3, 3\): needed is a symmetric, finite one of 10 × 10"):
        arrange_classes(str(tmp_path / "d.npy"), digits, 2, 5)


def test_orders_and_distances_of_a_users_own_are_one_function_each(digits, tmp_path, monkeypatch):
    code = """
import numpy as np

def backwards(dataset, rows, columns):
    return np.arange(rows * columns)[::-1].reshape(rows, columns)

def apart(dataset):
    labels = np.arange(len(dataset.classes))
    return abs(labels[:, None] - labels)
"""
    module = user_module(tmp_path, monkeypatch, code)
    assert arrange_classes(f"{module}:backwards", digits, 2, 5).tolist() == [[9, 8, 7, 6, 5], [4, 3, 2, 1, 0]]
    labels = np.arange(10)
    apart = order_from_distances(abs(labels[:, None] - labels), 2, 5)
    assert arrange_classes(f"{module}:apart", digits, 2, 5).tolist() == apart.tolist()


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("f(dataset, rows, columns): return [0, 1]", r"returned \[0, 1\] for 2 rows and 5 columns"),
        ("f(dataset, rows, columns): return None", "returned None for 2 rows and 5 columns"),
        ("f(dataset): return [[0, 1], [1, 0]]", r"returned \[\[0, 1\], \[1, 0\]\] for 10 classes"),
        ("f(dataset): return None", "returned None for 10 classes"),
    ],
)
def test_what_is_neither_order_nor_distances_is_refused_with_the_signature(
    digits, tmp_path, monkeypatch, function, message
):
    path = f"{user_module(tmp_path, monkeypatch, f'def {function}')}:f"
    accepted = r"accepted is a function \(dataset, rows, columns\) -> labels .*, or \(dataset\) -> distances"
    with pytest.raises(BadInput, match=f"class_order '{path}' {message}; {accepted}"):
        arrange_classes(path, digits, 2, 5)


def test_clip_is_asked_for_when_missing(monkeypatch, tmp_path):
    pytest.importorskip("transformers", reason="the clip extra is not installed")
    monkeypatch.setenv("PPODD_CLIP", str(tmp_path))
    with pytest.raises(BadInput, match="set PPODD_CLIP to a local copy, or use --class_order means"):
        clip_distances(("cat", "dog"))


def test_clip_without_a_network_is_refused_at_once(tmp_path):
    """Nobody listens at port 9; the download itself would try for more than the time given here."""
    pytest.importorskip("transformers", reason="the clip extra is not installed")
    call = "from ppodd.posters.class_distances import clip_distances; clip_distances(('cat', 'dog'))"
    away = {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", call], capture_output=True, text=True, timeout=150, env={**os.environ, **away}
    )
    assert "BadInput: class_order 'clip': cannot load openai/clip-vit-base-patch32" in done.stderr


def test_clip_distances_of_a_small_local_model(monkeypatch, tmp_path):
    transformers = pytest.importorskip("transformers", reason="the clip extra is not installed")
    letters = [*"abcdefghijklmnopqrstuvwxyz"]
    vocabulary = ["<|startoftext|>", "<|endoftext|>", *letters, *(f"{letter}</w>" for letter in letters)]
    import json

    (tmp_path / "vocab.json").write_text(json.dumps({token: i for i, token in enumerate(vocabulary)}))
    (tmp_path / "merges.txt").write_text("#version: 0.2\n")
    tokenizer = transformers.CLIPTokenizer(str(tmp_path / "vocab.json"), str(tmp_path / "merges.txt"))
    tokenizer.save_pretrained(tmp_path)
    torch.manual_seed(0)
    config = transformers.CLIPTextConfig(
        vocab_size=len(vocabulary), hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2,
        bos_token_id=0, eos_token_id=1,
    )  # fmt: skip
    transformers.CLIPTextModel(config).save_pretrained(tmp_path)
    monkeypatch.setenv("PPODD_CLIP", str(tmp_path))
    distances = clip_distances(("cat", "dog", "cat"))
    assert distances.shape == (3, 3) and distances[0, 2] == pytest.approx(0, abs=1e-9) and distances[0, 1] > 1e-6


def test_without_transformers_clip_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(BadInput, match=r"needs transformers: pip install 'ppodd\[clip\]'"):
        clip_distances(("cat", "dog"))
