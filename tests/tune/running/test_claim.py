"""What of a sweep may differ from the one that the archive holds: more trials, unless they are judged in company."""

import pytest
import yaml

from ppodd.archive import Archive
from ppodd.errors import BadInput
from tune.running.claim import check_claim, is_news, write_claim
from tune.sweep_file import load_sweep

VALUES = {"name": "mine", "preset": "digits-small", "grid": {"num_stages": [2, 3]}, "seeds": [0, 1]}
LR = {"lr": {"uniform": [0.01, 0.1]}}


@pytest.fixture
def claim(tmp_path):
    """Resumes VALUES with overrides over an archive that holds VALUES with other changes."""

    def claim(overrides, resume=True, **changes):
        path, archive = tmp_path / "sweep.yaml", Archive(tmp_path / "archive")
        path.write_text(yaml.safe_dump({**VALUES, **changes}))
        archive.write_sweep(load_sweep(str(path)).record())
        check_claim(load_sweep(str(path), overrides), archive, resume)

    return claim


@pytest.mark.parametrize(
    ("overrides", "changes"),
    [
        ([], {}),
        (["seeds=[0,1,2]"], {}),
        (["seeds=[5,1,0]", "grid.num_stages=[4,3,2]"], {}),
        (["seeds=[0,1]"], {"seeds": [0]}),
        (["description=mended"], {"description": "a typo"}),
        (["description=mended"], {"search": {}, "sample": LR, "grid": {}, "num_samples": 2}),
        (["num_samples=5"], {"grid": {}, "sample": LR, "num_samples": 2}),
    ],
)
def test_a_resumed_sweep_may_have_more_trials(claim, overrides, changes):
    claim(overrides, **changes)


def test_what_is_said_of_a_sweep_is_mended_in_the_archive(tmp_path):
    path, archive = tmp_path / "sweep.yaml", Archive(tmp_path / "archive")
    path.write_text(yaml.safe_dump(VALUES))
    write_claim(load_sweep(str(path)), archive)
    held = archive.sweep("mine")
    assert not is_news(load_sweep(str(path)), held)
    mended = load_sweep(str(path), ["description=mended"])
    assert is_news(mended, held)
    write_claim(mended, archive)
    assert archive.sweep("mine") == held.model_copy(update={"description": "mended"})


def test_trials_are_added_only_when_resuming(claim):
    with pytest.raises(BadInput, match="already holds sweep 'mine': add the new trials with --resume"):
        claim(["seeds=[0,1,2]"], resume=False)
    with pytest.raises(BadInput, match="already holds sweep 'mine': finish it with --resume"):
        claim([], resume=False)


POOLS = "or give this one another name: `ppodd results table --sweep mine --sweep NAME` pools both$"


@pytest.mark.parametrize(
    ("overrides", "changes", "message"),
    [
        (["seeds=[2,3]"], {}, f"trial num_stages=2,seed=0 is only there; keep all that are there to add .*, {POOLS}"),
        (["seeds=[0]"], {}, "trial num_stages=2,seed=1 is only there; keep all"),
        (["seeds=[0,1,2]", "lr=0.5"], {}, "seed=0: lr is .* there, 0.5 here; give this one another name, or another"),
        (
            ["seeds=[0,1,2]"],
            {"scheduler": {"kind": "asha"}},
            f"trial num_stages=2,seed=2 is only here; none can be added where a scheduler compares them, {POOLS}",
        ),
        (["seeds=[0,1,2]"], {"sample": LR}, f"is only there; what `sample` draws changes with the seeds .*, {POOLS}"),
    ],
)
def test_what_is_another_sweep_is_refused_with_its_first_difference_and_a_way_out(claim, overrides, changes, message):
    with pytest.raises(BadInput, match=f"holds another sweep 'mine': .*{message}"):
        claim(overrides, **changes)
