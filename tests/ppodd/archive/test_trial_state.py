"""How a trial stands, told from the names of its files alone."""

import pytest

from ppodd.archive import Status, TrialState

TWO = {"config.json", "stage-01/stage.json", "stage-02/stage.json", "stage-03/poster.safetensors"}


def state(*names):
    return TrialState(frozenset(names))


@pytest.mark.parametrize(
    ("names", "num_stages", "status"),
    [
        (TWO, 2, Status.COMPLETE),
        (TWO, 3, Status.GOING),  # a stage is there when its record is
        ({*TWO, "failure.json"}, 3, Status.FAILED),
        ({*TWO, "stopped.json"}, 3, Status.STOPPED),
        ({*TWO, "stopped.json", "failure.json"}, 3, Status.STOPPED),  # it is not resumed
        ({*TWO, "stopped.json", "failure.json"}, 2, Status.COMPLETE),
        ({"config.json", "stage-01/failure.json", "old/stopped.json"}, 1, Status.GOING),
        ((), 1, Status.GOING),
    ],
)
def test_a_trial_is_complete_stopped_failed_or_going(names, num_stages, status):
    assert state(*names).status(num_stages) is status


def test_stages_are_numbers_in_order_and_nothing_else():
    assert state(*(f"stage-{n:02d}/stage.json" for n in (100, 2, 10, 1))).stages == [1, 2, 10, 100]
    for name in ("stage-1/stage.json", "stage-01/stage.json.tmp", "a/stage-01/stage.json", "stage-01/x/stage.json"):
        assert state(name).stages == []


def test_an_evaluation_that_was_given_up_and_done_since_is_done():
    found = state("stage-01/evaluations/a.json", "stage-01/failures/a.json", "stage-01/failures/b.json", "stage-02/x")
    assert (found.evaluations(1), found.given_up(1)) == ({"a"}, {"b"})
    assert (found.evaluations(2), found.given_up(2)) == (set(), set())
