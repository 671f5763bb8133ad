"""Whether what a distillation takes is said before it begins."""

import pytest
import torch

from ppodd.config import DistillConfig, build, preset
from ppodd.datasets import SPECS
from ppodd.distillation import cost
from ppodd.distillation.archived_run import run


@pytest.mark.parametrize(
    ("name", "images", "said"),
    [
        ("digits", 1294, ""),
        ("cifar10-small", 45_000, ""),
        ("cifar10", 45_000, "days on the CPU of this machine: they want a GPU; --preset cifar10-small is scaled down"),
    ],
)
def test_what_takes_days_on_a_cpu_says_so(name, images, said, monkeypatch):
    monkeypatch.setattr(cost, "cores", lambda: 2)
    config = build(DistillConfig, preset(name))
    text = cost.warning(config, SPECS[config.dataset], images, torch.device("cpu"))
    assert (said in text) if said else text == ""
    assert cost.warning(config, SPECS[config.dataset], images, torch.device("cuda")) == ""


def test_it_is_said_before_anything_is_computed(tiny, archived, monkeypatch):
    monkeypatch.setattr(cost, "_META_STEP_S", 1e6)
    said = []
    with pytest.raises(StopAsyncIteration):
        for _ in run(build(DistillConfig, tiny), archived, say=said.append, progress=_fails):
            pass
    assert any("meta-steps take about" in line for line in said)


def _fails(now):
    raise StopAsyncIteration


@pytest.fixture
def archived(tmp_path):
    from ppodd.archive import TrialArchive

    return TrialArchive(str(tmp_path / "archive" / "runs" / "t"))
