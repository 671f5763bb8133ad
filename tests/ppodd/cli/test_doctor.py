"""Where `ppodd doctor` writes the contact sheet of a data set, and where it refuses to."""

import pytest
from image_sets import tree

from ppodd.cli.main import main


@pytest.fixture
def photos(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tree(tmp_path / "photos/train")
    tree(tmp_path / "photos/test", split="test")
    return tmp_path / "photos"


@pytest.mark.parametrize(
    ("output", "said"),
    [
        ("sheet.jpg", "--output 'sheet.jpg': name a .png file in a folder that is there"),
        ("photos", "name a .png file"),
        ("nowhere/sheet.png", "in a folder that is there"),
        ("photos/sheet.png", "lies in the data set ./photos: name a file elsewhere"),
        ("./photos/train/ant/sheet.png", "lies in the data set ./photos"),
    ],
)
def test_a_sheet_that_is_no_picture_or_would_become_part_of_the_data_is_refused(photos, capsys, output, said):
    before = sorted(photos.parent.rglob("*"))
    assert main(["doctor", "--dataset", "./photos", "-o", output]) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1 and sorted(photos.parent.rglob("*")) == before


def test_a_sheet_beside_the_data_is_written(photos):
    assert main(["doctor", "--dataset", "./photos", "-o", "photos.PNG"]) == 0
    assert (photos.parent / "photos.PNG").stat().st_size > 0
