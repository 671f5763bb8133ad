"""A sweep's archive is seen from every node, or what keeps it from that is told by its kind."""

import os

import pytest
import ray

from cluster.service import archive_check
from ppodd.errors import BadInput, StorageError


@pytest.fixture(scope="module", autouse=True)
def this_ray():
    ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


@ray.remote(num_cpus=0, max_retries=0)
def answers(archive_url, name):
    if "away" in archive_url:
        raise StorageError("nobody answers")
    if "packages" in archive_url:
        raise ModuleNotFoundError("No module named 'ppodd'")
    return b"other"


def test_a_folder_that_every_node_sees_is_accepted_and_left_as_it_was(tmp_path):
    archive_check.check_archive(str(tmp_path))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("archive", "kind", "said"),
    [
        ("away", StorageError, "cannot read archive '{}': nobody answers"),
        (
            "packages",
            BadInput,
            "lacks a package: ModuleNotFoundError: No module named 'ppodd'; install ppodd there, or ship it with",
        ),
        ("elsewhere", BadInput, "archive '{}' is not seen from node"),
    ],
)
def test_what_keeps_a_node_from_it_is_told_by_its_kind(archive, kind, said, tmp_path, monkeypatch):
    monkeypatch.setattr(archive_check, "_read", answers)
    with pytest.raises(kind) as error:
        archive_check.check_archive(f"{tmp_path}/{archive}")
    assert said.format(f"{tmp_path}/{archive}") in str(error.value) and type(error.value) is kind


def test_a_node_that_does_not_answer_is_no_bad_input(tmp_path, monkeypatch):
    dies = ray.remote(num_cpus=0, max_retries=0)(lambda *_: os._exit(1))
    monkeypatch.setattr(archive_check, "_read", dies)
    with pytest.raises(StorageError, match="does not say whether it sees archive"):
        archive_check.check_archive(str(tmp_path))
