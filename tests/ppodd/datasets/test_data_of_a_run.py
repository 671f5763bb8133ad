"""A run and its data, through the commands: said before anything is computed, known by its content wherever it lies."""

import io
import json
import re
import shlex
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import safetensors.numpy
import torch
import yaml
from image_sets import flat, picture, table, tree
from PIL import Image
from sklearn.datasets import load_digits

from ppodd.archive import Archive, TrialArchive
from ppodd.cli.main import main
from ppodd.config import DistillConfig, build, preset
from ppodd.datasets import Request, loading, read_images
from ppodd.datasets.arrays import npz_parts
from ppodd.datasets.reading import chosen_classes
from ppodd.errors import BadInput
from results.tracking import schema
from tune.running.data import check_data
from tune.sweep_file import load_sweep

TWO = {
    "poster_class_num_x": 2,
    "poster_class_num_y": 1,
    "poster_height": 8,
    "class_area_width": 12,
    "class_area_height": 8,
    "patch_num_y": 1,
    "zca": False,
}


@pytest.fixture
def command(tiny, tmp_path, monkeypatch, capsys):
    """Runs `ppodd` in a folder of its own: its exit code, and what it printed."""
    monkeypatch.chdir(tmp_path)

    def run(name, /, *args, **flags):
        values = {**tiny, **TWO, **flags} if name in ("distill", "import") else flags
        given = [
            f"--{k}={','.join(map(str, v)) if isinstance(v, tuple) else v}" if not isinstance(v, bool) else
            f"--{'' if v else 'no-'}{k}" for k, v in values.items()
        ]  # fmt: skip
        loading._last.clear()  # a command is a process of its own
        code = main([name, *args, *given])
        streams = capsys.readouterr()
        return code, streams.out + streams.err

    return run


def only_trial(folder):
    (trial,) = (folder / "ppodd-archive/runs").iterdir()
    return TrialArchive(trial)


def splits(folder):
    tree(folder / "train")
    tree(folder / "test", count=3, split="test")
    return folder


def test_what_was_read_is_said_first_and_archived(command, tmp_path):
    tree(tmp_path / "photos", ("ant", "bee"), 6)
    code, said = command("distill", dataset="./photos")
    assert code == 0 and said.index("data: ") < said.index("stage 1/2")
    assert "warning: there is no test split: every fifth image of each class is cut off to test" in said
    assert "2 classes: ant, bee; each 5 training and 1 test image" in said
    record = only_trial(tmp_path).data()
    assert record.report.splits["train"].counts == (5, 5) and record.digest == only_trial(tmp_path).stage(1).data.digest


def test_equal_data_elsewhere_is_the_same_and_other_data_is_refused(command, tmp_path):
    splits(tmp_path / "photos")
    assert command("distill", "--no-evaluate", dataset="./photos", num_stages=2, name="mine")[0] == 0
    (tmp_path / "far").mkdir()
    (tmp_path / "photos").rename(tmp_path / "far/moved")
    trial = only_trial(tmp_path)
    code, said = command("evaluate", trial.url)
    assert code == 2 and "photos does not exist" in said
    assert command("evaluate", trial.url, dataset="far/moved")[0] == 0
    assert command("distill", "--resume", dataset="moved", root="far", name="mine")[0] == 2  # no path: hinted at
    assert command("distill", "--resume", dataset="./moved", root="far", name="mine")[0] == 0
    assert command("evaluate", trial.url, nets=3)[0] == 0  # where it lay when it went on
    for path in (tmp_path / "far/moved/train/ant").iterdir():
        path.write_bytes(picture("validation"))
    here = {"dataset": "far/moved", "name": "mine"}
    for args, flags in ((("distill", "--resume"), here), (("evaluate", trial.url), {"nets": 4})):
        code, said = command(*args, **flags)
        assert code == 2 and "was distilled from other data than" in said, said
    assert trial.data().root == str(tmp_path / "far")


def test_a_run_that_is_there_is_refused_before_its_data_is_read(command, tmp_path):
    splits(tmp_path / "photos")
    assert command("distill", "--no-evaluate", dataset="./photos", num_stages=1, name="mine")[0] == 0
    shutil.rmtree(tmp_path / "photos")
    for flags, words in (
        ({}, "already holds this run: continue it with --resume"),
        ({"lr": 0.2}, "holds another run: lr="),
    ):
        code, said = command("distill", dataset="./photos", num_stages=1, name="mine", **flags)
        assert code == 2 and words in said and len(said.splitlines()) == 2, said


@pytest.mark.parametrize("zca", [False, True])
def test_an_export_needs_no_data_and_says_how_to_undo_the_whitening(command, tmp_path, zca):
    splits(tmp_path / "photos")
    assert command("distill", "--no-evaluate", dataset="./photos", zca=zca)[0] == 0
    images, _ = read_images(Request(str(tmp_path / "photos")))
    shutil.rmtree(tmp_path / "photos")
    trial = only_trial(tmp_path)
    assert command("render", trial.url, output="x.png")[0] == 0
    for suffix in ("safetensors", "npz", "parquet"):
        assert command("export", f"{trial.url}/stage-02", output=f"x.{suffix}")[0] == 0
    arrays = np.load("x.npz")
    with safetensors.safe_open("x.safetensors", "numpy") as file:
        about = file.metadata()
        assert (file.get_tensor("images") == arrays["images"]).all()
    assert json.loads(about["classes"]) == arrays["classes"].tolist() == ["ant", "bee"]
    assert command("export", "--unwhitened", f"{trial.url}/stage-02", output="plain.npz")[0] == 0
    plain = np.load("plain.npz")
    train = images.x["train"] / 255
    if zca:
        rows = plain["images"].reshape(len(plain["images"]), -1).astype(float)
        np.testing.assert_allclose(rows @ plain["zca"], arrays["images"].reshape(rows.shape), atol=1e-4)
        assert "images are as (x - x.mean())" in str(plain["unwhiten"])
        flat_ = train.reshape(len(train), -1) - train.reshape(len(train), -1).mean(1, keepdims=True)
        white = (flat_ / np.linalg.norm(flat_, axis=1, keepdims=True)) @ arrays["zca"].astype(float)
        covariance = white.T @ white / len(white)
        assert "inverse(zca)" in about["unwhiten"] and np.linalg.eigvalsh(covariance).max() < 1
    else:
        np.testing.assert_allclose(arrays["mean"], train.mean((0, 2, 3)), rtol=1e-5)
        np.testing.assert_allclose(arrays["std"], train.std((0, 2, 3)), rtol=1e-4)
        assert "images * std + mean" in about["unwhiten"] and "images are as x / 255" in str(plain["unwhiten"])


NAMES = {
    "./My Photos (2024)": "My-Photos--2024-",
    "./My-Photos (2024)": "My-Photos--2024-",
    "./digits": "digits",
    ".": "",
}


def test_a_runs_name_is_made_from_a_path_and_can_be_read(tmp_path, monkeypatch):
    from ppodd.cli import distill
    from ppodd.cli.main import Parser

    monkeypatch.chdir(tmp_path)
    parser = Parser()
    distill.add_arguments(parser)
    layout = [f"--{name}={value}" for name, value in build(DistillConfig, preset("digits")).geometry._asdict().items()]
    given = [[f"--dataset={path}", *layout] for path in (*NAMES, "digits")]
    names = [distill.configure(parser.parse(flags)).name for flags in given]
    assert len(set(names)) == len(names)
    for name, begins in zip(names, NAMES.values(), strict=False):
        assert name.startswith(begins or tmp_path.name)
    assert not names[2].startswith("digits-stages")  # as the preset's is


def test_runs_on_folders_of_one_name_at_two_places_have_names_of_their_own(command, tmp_path):
    for place, split in (("a", "train"), ("b", "test")):
        tree(tmp_path / place / "photos", split=split)
        code, said = command("distill", "--no-evaluate", dataset=f"./{place}/photos", num_stages=1)
        assert code == 0, said
    runs = tmp_path / "ppodd-archive/runs"
    plain, apart = sorted((run.name for run in runs.iterdir()), key=len)
    assert plain.startswith("photos-stages1") and re.match(r"photos-[0-9a-f]{6}-stages1", apart)
    for place, name in (("a", plain), ("b", apart)):  # each goes on under its own
        code, said = command("distill", "--resume", "--no-evaluate", dataset=f"./{place}/photos", num_stages=1)
        assert code == 0 and f"/runs/{name};" in said
        code, said = command("distill", dataset=f"./{place}/photos", num_stages=1)
        assert code == 2 and f"{name} already holds this run" in said
    code, said = command("distill", dataset="./nowhere/photos", num_stages=1)
    assert code == 2 and "nowhere/photos" in said
    (tmp_path / "a/photos").rename(tmp_path / "moved")  # and keeps it where its data moves
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "moved").rename(tmp_path / "elsewhere/photos")
    code, said = command("distill", dataset="./elsewhere/photos", num_stages=1)
    assert code == 2 and f"{plain} already holds this run" in said
    shutil.rmtree(tmp_path / "elsewhere/photos")
    tree(tmp_path / "c/photos", split="validation")  # other data is another run, though the first's is gone
    code, said = command("distill", "--no-evaluate", dataset="./c/photos", num_stages=1)
    assert code == 0 and len(list(runs.iterdir())) == 3, said


def test_the_command_that_shows_a_run_can_be_pasted(command, tmp_path):
    splits(tmp_path / "photos")
    code, said = command("distill", "--no-evaluate", dataset="./photos", num_stages=1, name="mine", archive="my runs")
    shown = re.search(r"pictures: ppodd (render .*)", said)[1]
    assert code == 0 and command(*shlex.split(shown))[0] == 0 and (tmp_path / "posters.png").exists()


def test_classes_and_images_of_each_are_chosen_and_archived(command, tmp_path):
    tree(tmp_path / "photos", ("ant", "bee", "cow"), 10)
    code, said = command("distill", "--no-evaluate", dataset="./photos", classes="ant,2", per_class=4)
    assert code == 0 and "2 of 3 classes are kept" in said
    trial = only_trial(tmp_path)
    assert trial.stage(1).data.classes == ("ant", "cow") and trial.data().report.splits["train"].counts == (4, 4)
    assert trial.config().classes == ("ant", "2") and trial.config().per_class == 4


def test_images_that_cannot_be_read_are_skipped_by_choice(command, tmp_path):
    tree(tmp_path / "photos", count=8)
    (tmp_path / "photos/ant/3.png").write_bytes(b"\x89PNG no")
    code, said = command("distill", "--no-evaluate", dataset="./photos")
    assert code == 2 and "ant/3.png is no readable image" in said and not (tmp_path / "ppodd-archive").exists()
    code, said = command("distill", "--no-evaluate", dataset="./photos", on_bad_image="skip")
    assert code == 0 and "warning: 1 unreadable image left out" in said


BAD = {
    "no class folders": (lambda p: flat(p / "photos"), {}, "holds 3 pictures, but no class folders"),
    "a layout of other classes": (
        lambda p: tree(p / "photos", ("ant", "bee", "cow")),
        {},
        "the data set has 3 classes: choose a layout whose product is 3",
    ),
    "a class that is none": (lambda p: tree(p / "photos"), {"classes": "cow"}, "'cow' is no class"),
    "a column that is none": (
        lambda p: table(p / "photos/x.parquet"),
        {"label_column": "kind"},
        "--label_column kind: ",
    ),
    "a folder without its dots": (
        lambda p: tree(p / "photos"),
        {"dataset": "photos"},
        "unknown dataset 'photos', but it is in this folder: a path is written ./photos",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_data_is_one_line_and_nothing_is_written(command, tmp_path, case):
    make, flags, words = BAD[case]
    make(tmp_path)
    code, said = command("distill", **{"dataset": "./photos", **flags})
    assert code == 2 and words in said.splitlines()[-1] and not (tmp_path / "ppodd-archive").exists()


def test_doctor_shows_what_would_be_read(command, tmp_path):
    splits(tmp_path / "photos")
    code, said = command("doctor", dataset="./photos", output="sheet.png")
    assert code == 0 and "test: 6 images" in said and "images: RGB, 8 × 8 px" in said
    sheet = np.asarray(Image.open("sheet.png"))
    left, right = sheet[:48, : sheet.shape[1] // 2], sheet[:48, sheet.shape[1] // 2 + 8 :]
    assert left[left != 255].max() < 100 and right[right != 255].min() > 150
    assert "name the data set by --dataset" in command("doctor", classes="1")[1]


def test_doctor_leaves_nothing_in_the_data_that_it_looks_at(command, tmp_path, monkeypatch):
    splits(tmp_path / "photos")
    monkeypatch.chdir(tmp_path / "photos")
    code, said = command("doctor", dataset=".")
    (line,) = [line for line in said.splitlines() if ": pictures of each class" in line]
    sheet = Path(line.partition(": pictures")[0])
    assert code == 0 and sheet.read_bytes().startswith(b"\x89PNG") and not sheet.is_relative_to(tmp_path / "photos")
    sheet.unlink()
    assert sorted(path.name for path in (tmp_path / "photos").iterdir()) == ["test", "train"]
    code, said = command("doctor", dataset=".", output="here.png")
    assert code == 2 and "--output 'here.png' lies in the data set" in said


@pytest.mark.parametrize("name", ["data.json", "whitening.safetensors"])
def test_a_damaged_record_of_the_data_is_found_and_made_anew(command, tmp_path, name):
    splits(tmp_path / "photos")
    assert command("distill", "--no-evaluate", dataset="./photos", name="mine")[0] == 0
    trial = only_trial(tmp_path)
    whole = (tmp_path / "ppodd-archive/runs/mine" / name).read_bytes()
    (tmp_path / "ppodd-archive/runs/mine" / name).write_bytes(whole[:-9])
    assert name in command("archive", "verify")[1]
    assert command("archive", "repair")[0] == 0
    assert command("distill", "--resume", dataset="./photos", name="mine", num_stages=2)[0] == 0
    assert (tmp_path / "ppodd-archive/runs/mine" / name).read_bytes() == whole and trial.whitening(trial.data())


def test_accuracies_of_imbalanced_classes_are_balanced_and_told_by_class(command, tmp_path):
    for split, bees in (("train", 5), ("test", 2)):
        tree(tmp_path / "photos" / split, ("ant",), 12, split)
        tree(tmp_path / "photos" / split, ("bee",), bees, split)
    code, said = command("distill", dataset="./photos", num_stages=1)
    assert code == 0 and re.search(r"balanced over classes of unequal size   2: \d+\.\d", said)
    assert re.search(r"by class after 4: (ant|bee) \d+\.\d, (ant|bee) \d", said)
    trial = only_trial(tmp_path)
    (record,) = trial.evaluations(1)
    for steps, accuracy in record.accuracy.items():
        ant, bee = record.per_class[steps]
        assert accuracy.mean == pytest.approx((12 * ant + 2 * bee) / 14, abs=0.01)
        assert record.balanced[steps].mean == pytest.approx((ant + bee) / 2, abs=0.01)
    named = dict(schema.evaluation_metrics(record, schema.protocol_hash(record.protocol), record.protocol))
    assert named["balanced_accuracy/blend/convnet/steps_4"] == record.balanced[4].mean


def test_balanced_classes_are_told_by_class_and_need_no_second_number(command, tmp_path):
    splits(tmp_path / "photos")
    code, said = command("distill", dataset="./photos", num_stages=1)
    (record,) = only_trial(tmp_path).evaluations(1)
    assert code == 0 and "balanced over" not in said and not record.balanced and len(record.per_class[4]) == 2


def hub_layout(folder):
    for split, rows in (("train", 40), ("test", 20)):
        labels = list(range(10)) * (rows // 10)
        table(folder / split / "0000.parquet", labels, split, shape=(32, 32, 3), image="img")


def photographs(folder):
    """Class folders of pictures of unequal sizes, one of them grey."""
    for split in ("train", "val"):
        for size, label in ((9, "n01"), (14, "n02")):
            tree(folder / split / label, ("",), 6, {"train": "train", "val": "test"}[split], (size, size + 3, 3))
    (folder / "train/n01/grey.png").write_bytes(picture(shape=(20, 30)))


def grey_digits(folder):
    for split in ("train", "test"):
        tree(folder / split, ("0", "1"), 6, split, (28, 28))


DISTILLED = {
    "the hub's layout of CIFAR-10": (hub_layout, {"ipc": 0.5}, (3, 32, 32), (113, 45, 5, 2, 32, 32, 15, 6)),
    "photographs of unequal sizes": (photographs, {"image_size": 8, "ipc": 0.9}, (3, 8, 8), (14, 8, 2, 1, 8, 8, 6, 1)),
    "grey digits of 28 px": (grey_digits, {"ipc": 0.7}, (1, 28, 28), (39, 28, 2, 1, 28, 28, 6, 1)),
    "a layout that was not asked for": (grey_digits, {}, (1, 28, 28), (50, 28, 2, 1, 28, 28, 6, 1)),
}
_QUICK = {"width": 4, "window": 2, "totwindow": 4, "epochs": 1, "batch_size": 8, "steps_per_epoch": 1, "budgets": 3}


@pytest.mark.parametrize("case", DISTILLED)
def test_data_of_ones_own_is_distilled_and_evaluated_by_one_command(tmp_path, monkeypatch, capsys, case):
    make, flags, shape, layout = DISTILLED[case]
    make(tmp_path / "mine")
    monkeypatch.chdir(tmp_path)
    quick = {**_QUICK, "stage_nets": 2, "stage_steps": 2, "num_train_eval": 2, "num_stages": 1, **flags}
    assert main(["distill", "--dataset=./mine", *(f"--{k}={v}" for k, v in quick.items())]) == 0
    said, trial = capsys.readouterr().out, only_trial(tmp_path)
    record, size = trial.stage(1), f"poster {layout[0]} × {layout[1]} px"
    assert size in said.splitlines()[0] and "test accuracy in %" in said and trial.config().geometry == layout
    assert record.data.shape == shape and record.budgets.poster_ipc <= flags.get("ipc", 0.9)
    assert record.data.images["test"] == trial.data().report.splits["test"].images


def hubs_cifar10(folder, real):
    for split in ("train", "test"):
        (folder / split).mkdir(parents=True)
        (folder / split / "0000.parquet").symlink_to(real / f"cifar10-{split}.parquet")


def enlarged_cifar10(folder, real):
    """Some of its pictures as photographs of unequal sizes, laid out as Imagenette is."""
    sizes, counts = np.random.default_rng(0), Counter()
    for split, place, most in (("train", "train", 100), ("test", "val", 40)):
        rows = pq.read_table(real / f"cifar10-{split}.parquet").slice(0, 4000).to_pylist()
        for row in rows:
            number = counts[split, row["label"]]
            if number < most:
                counts[split, row["label"]] += 1
                (folder / f"{place}/n{row['label']:02}").mkdir(parents=True, exist_ok=True)
                image = Image.open(io.BytesIO(row["img"]["bytes"])).resize(sizes.integers(90, 200, 2).tolist())
                image.save(folder / f"{place}/n{row['label']:02}/{number}.JPEG", quality=90)


def enlarged_digits(folder, real):
    """scikit-learn's digits, grey and of 28 px as MNIST's are."""
    digits = load_digits()
    for i, (image, label) in enumerate(zip(digits.images, digits.target, strict=True)):
        place = folder / ("test" if i % 5 == 4 else "train") / str(label)
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray((image * 255 / 16).astype(np.uint8)).resize((28, 28)).save(place / f"{i}.png")


REAL = {
    "the hub's layout of CIFAR-10": (hubs_cifar10, {}, (50_000, 10_000), (3, 32, 32), 15),
    "photographs of unequal sizes": (enlarged_cifar10, {"image_size": 32}, (1_000, 400), (3, 32, 32), 15),
    "grey digits of 28 px": (enlarged_digits, {}, (1_438, 359), (1, 28, 28), 40),
}
_SCALED_DOWN = {
    "epochs": 4,
    "steps_per_epoch": 6,
    "num_stages": 1,
    "num_train_eval": 2,
    "stage_nets": 2,
    "budgets": 100,
}


@pytest.mark.slow  # a minute each: 24 meta-steps by the settings for data of one's own, at scale but for their number
@pytest.mark.parametrize("case", REAL)
def test_real_data_of_ones_own_is_learned_from_by_one_command(tmp_path, monkeypatch, capsys, cifar10_root, case):
    make, flags, images, shape, least = REAL[case]
    make(tmp_path / "mine", cifar10_root)
    monkeypatch.chdir(tmp_path)
    given = {"dataset": "./mine", "ipc": 0.9, **flags, **_SCALED_DOWN}
    assert main(["distill", *(f"--{name}={value}" for name, value in given.items())]) == 0
    trial = only_trial(tmp_path)
    splits, (record,) = trial.data().report.splits, trial.evaluations(1)
    assert (splits["train"].images, splits["test"].images) == images and trial.stage(1).data.shape == shape
    assert trial.stage(1).budgets.poster_ipc <= 0.9 and record.accuracy[100].mean > least, capsys.readouterr().out


IPCS = {
    "of which no layout is": (0.05, {}, "ipc=0.05: .* the nearest that a layout can meet is 0.5556"),
    "that is no number": ("much", {}, "ipc='much': input should be a valid number"),
    "of nothing": (0, {}, "ipc='0': input should be greater than 0"),
    "beside a side that is none": (0.5, {"poster_width": "wide"}, "poster_width='wide': input should be a valid int"),
    "beside the poster's size": (0.5, {"poster_width": 40, "poster_height": 40}, "ipc=0.5 beside poster_width=40"),
}


@pytest.mark.parametrize("case", IPCS)
def test_a_pixel_budget_that_cannot_be_met_is_refused(tmp_path, monkeypatch, capsys, case):
    ipc, flags, words = IPCS[case]
    tree(tmp_path / "mine", shape=(8, 9))
    monkeypatch.chdir(tmp_path)
    assert main(["distill", "--dataset=./mine", f"--ipc={ipc}", *(f"--{k}={v}" for k, v in flags.items())]) == 2
    assert re.search(words, capsys.readouterr().err) and not (tmp_path / "ppodd-archive").exists()


def with_a_damaged_picture(folder):
    tree(folder, count=6)
    (folder / "ant/3.png").write_bytes(picture()[:-40])


ALIKE = {
    "the hub's layout": (
        lambda p: (table(p / "train/0000.parquet"), table(p / "test/0000.parquet", (0, 1) * 3, "test")),
        {},
        "",
    ),
    "labels from 1, with gaps": (lambda p: table(p / "x.parquet", [1, 7] * 5), {}, ""),
    "a damaged picture, left out by choice": (with_a_damaged_picture, {"on_bad_image": "skip"}, ""),
    "some of the classes": (lambda p: tree(p, ("ant", "bee", "cow"), 10), {"classes": ("ant", "cow")}, ""),
    "a damaged picture": (with_a_damaged_picture, {}, "ant/3.png is no readable image"),
    "several labels of a picture": (
        lambda p: table(p / "x.parquet", [[0, 1], [1]] * 5),
        {},
        "may name several classes (multi-label)",
    ),
    "one class": (lambda p: tree(p, ("ant",)), {}, "no class folders (all are in ant)"),
}


@pytest.mark.parametrize("case", ALIKE)
def test_every_command_reads_and_refuses_as_the_library_does(command, tmp_path, tiny, case):
    make, flags, refused = ALIKE[case]
    make(tmp_path / "mine")
    torch.save(torch.rand(1, 3, TWO["poster_height"], tiny["poster_width"]), tmp_path / "mine_poster.pt")
    imported = ("import", "mine_poster.pt", "--no-evaluate")
    one_stage = {"dataset": "./mine", "num_stages": 1, "class_order": "0,1", **flags}
    fields = {**tiny, **TWO, **one_stage, "dataset": f"{tmp_path}/mine"}
    plain = {name: list(value) if isinstance(value, tuple) else value for name, value in fields.items()}
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump({"name": "mine", "config": plain}))
    sweep, said = load_sweep(str(tmp_path / "mine.yaml")), []
    if refused:
        for args in (("distill",), imported, ("doctor",)):
            code, told = command(*args, **(one_stage if args[0] != "doctor" else {"dataset": "./mine", **flags}))
            assert code == 2 and refused in told.splitlines()[-1]
        with pytest.raises(BadInput, match=re.escape(refused)):
            check_data(sweep, Archive(tmp_path / "ppodd-archive"))
        assert not (tmp_path / "ppodd-archive").exists()
        return
    block = read_images(Request(str(tmp_path / "mine"), **flags))[0].report.lines()
    check_data(sweep, Archive(tmp_path / "ppodd-archive"), said.append)
    assert said == ["\n".join(block)]
    for args in (("distill", "--no-evaluate"), imported):
        code, told = command(*args, **one_stage, name=args[0])
        assert code == 0 and "\n".join(block) in told
        assert TrialArchive(tmp_path / f"ppodd-archive/runs/{args[0]}").data().report.lines() == block


@pytest.mark.parametrize(
    ("wanted", "classes", "chosen"),
    [
        (["1-2"], ["1", "2", "3", "4", "5"], [0, 1]),  # names that are numbers are meant by them
        (["1-2"], ["1", "10", "2"], [0, 2]),
        (["10", "1"], ["1", "10", "2"], [0, 1]),
        (["0-1", "dog"], ["ape", "cat", "dog"], [0, 1, 2]),  # else the classes are counted from 0
        ([], ["a", "b"], [0, 1]),
    ],
)
def test_classes_are_chosen_by_name_number_or_range(wanted, classes, chosen):
    assert chosen_classes(wanted, classes) == chosen


@pytest.mark.parametrize("wanted", ["0", "0-2", "4-6", "six", "-1"])
def test_a_class_that_is_not_there_is_refused(wanted):
    with pytest.raises(BadInput, match=f"{wanted!r} is no class.*numbers from 1 to 5"):
        chosen_classes([wanted], ["1", "2", "3", "4", "5"])


def test_arrays_of_one_split_that_stand_twice_are_refused(tmp_path):
    x, y = np.zeros((4, 8, 8), np.uint8), np.arange(4)
    np.savez(tmp_path / "x.npz", x_train_1=x, x_train_2=x, y_train=y)
    with pytest.raises(BadInput, match="arrays x_train_1 and x_train_2 are both train: keep one of them"):
        npz_parts(tmp_path / "x.npz", "")
