"""A stage as a ready training set, in every format, through the command."""

import io
import re
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import safetensors.numpy
import torch

import ppodd
from ppodd import libraries
from ppodd.archive import TrialArchive
from ppodd.cli.main import main
from ppodd.config import DistillConfig, build
from ppodd.datasets import Request, read_images
from ppodd.distillation.archived_run import run
from ppodd.errors import BadInput
from ppodd.evaluation.export import FORMATS, TrainingSet


@pytest.fixture
def trial(tiny, tmp_path):
    trial = TrialArchive(tmp_path / "archive" / "sweep" / "trial")
    list(run(build(DistillConfig, {**tiny, "blend": "recency"}), trial))
    return trial


def exported(trial, tmp_path, suffix, *flags):
    output = tmp_path / f"set{suffix}"
    assert main(["export", f"{trial.url}/stage-02", "-o", str(output), *flags]) == 0
    return output


def test_the_patches_labels_and_weights_are_those_that_evaluation_draws(trial, tmp_path):
    arrays = safetensors.numpy.load_file(exported(trial, tmp_path, ".safetensors"))
    assert arrays["images"].shape == (2 * 12, 1, 8, 8) and arrays["labels"].shape == (2 * 12, 10)
    poster = trial.poster(2).poster
    np.testing.assert_array_equal(arrays["images"][12], poster[:, :8, :8])  # x-major: the first patch of stage 2
    np.testing.assert_array_equal(arrays["images"][13], poster[:, 4:12, :8])
    np.testing.assert_allclose(arrays["labels"][:12], arrays["labels"][12:])
    older, newer = trial.stage(2).evaluation_blend
    np.testing.assert_allclose(arrays["weights"], np.repeat([older / 12, newer / 12], 12), rtol=1e-6)
    assert arrays["stage"].tolist() == [1] * 12 + [2] * 12


def test_the_latest_poster_alone(trial, tmp_path):
    arrays = np.load(exported(trial, tmp_path, ".npz", "--mode=latest"))
    assert set(arrays["stage"]) == {2} and arrays["weights"].sum() == pytest.approx(1)


def test_parquet_has_a_row_a_patch_and_says_the_images_shape(trial, tmp_path):
    table = pq.read_table(exported(trial, tmp_path, ".parquet"))
    assert table.num_rows == 24 and table.schema.metadata[b"image_shape"] == b"1,8,8"
    image = np.array(table["images"][12].as_py(), np.float32).reshape(1, 8, 8)
    np.testing.assert_array_equal(image, trial.poster(2).poster[:, :8, :8])


LOADER = next(
    block
    for block in re.findall(
        r"```python\n(.*?)```", (Path(__file__).parents[3] / "docs/python.md").read_text(), re.DOTALL
    )
    if "torchvision" in block
)


@pytest.mark.slow  # half a minute: a ResNet-18
def test_a_network_of_torchvision_trains_on_an_export_as_the_docs_say(tiny, tmp_path, monkeypatch):
    """On real images in their own colours, so that what it has learned shows on test images as they are."""
    held = {"method": "random-images", "num_stages": 2, "poster_width": 40, "poster_height": 16}
    run = ppodd.distill(archive=tmp_path / "archive", progress=False, **{**tiny, **held})
    assert main(["export", f"{run.path}/stage-02", "-o", str(tmp_path / "patches.safetensors"), "--unwhitened"]) == 0
    assert len(LOADER.strip().splitlines()) - LOADER.count("import ") <= 11  # ten lines, and an empty one
    libraries.torchvision()
    torch.manual_seed(0)
    monkeypatch.chdir(tmp_path)
    names = {}
    exec(compile(LOADER.replace("range(300)", "range(40)"), "docs/python.md", "exec"), names)
    data, _ = read_images(Request("digits", ""))
    said = names["model"].eval()(torch.from_numpy(data.x["test"]) / 255).argmax(1)
    assert (said.numpy() == data.y["test"]).mean() > 0.2  # of ten classes


def test_unwhitened_images_are_what_was_whitened(trial, tmp_path):
    white = safetensors.numpy.load_file(exported(trial, tmp_path, ".safetensors"))
    plain = safetensors.numpy.load_file(exported(trial, tmp_path, ".safetensors", "--unwhitened"))
    np.testing.assert_allclose((plain["images"] - plain["mean"]) / plain["std"], white["images"], atol=1e-5)
    assert (plain["labels"] == white["labels"]).all()


def test_images_whose_whitening_is_not_archived_cannot_be_unwhitened():
    with pytest.raises(BadInput, match="this archive does not hold how the images were whitened"):
        training_set([0.1, 0.9]).as_pixels()


def training_set(*labels):
    labels = np.array(labels, np.float32)
    images = np.arange(len(labels), dtype=np.float32)[:, None, None, None]
    return TrainingSet({"images": images, "labels": labels}, ("cat", "dog"), {})


def test_dd_ranking_is_given_as_many_patches_of_each_class_in_order():
    held = torch.load(
        io.BytesIO(FORMATS[".pt"](training_set([0.1, 0.9], [0.6, 0.4], [0.9, 0.1], [0.4, 0.6], [0.8, 0.2]))),
        weights_only=True,
    )
    assert held["images"].flatten().tolist() == [2, 4, 0, 3] and held["ipc"] == 2
    assert held["hard_labels"].tolist() == [0, 0, 1, 1] and held["soft_labels"].shape == (4, 2)


def test_dd_ranking_cannot_take_a_class_without_a_patch():
    with pytest.raises(BadInput, match="as many images of every class, and no patch here is dog most of all"):
        FORMATS[".pt"](training_set([0.9, 0.1], [0.6, 0.4]))


@pytest.mark.parametrize(
    ("path", "output", "message"),
    [
        ("{trial}/stage-02", "x.csv", "accepted are files that end in .safetensors, .npz, .parquet"),
        ("{trial}", "x.npz", "has 2 stages: name one, such as"),
        ("{trial}/stage-03", "x.npz", "is no finished stage (stages there: [1, 2])"),
    ],
)
def test_what_cannot_be_exported_is_said(trial, tmp_path, capsys, path, output, message):
    assert main(["export", path.format(trial=trial.url), "-o", str(tmp_path / output)]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1 and not (tmp_path / output).exists()
