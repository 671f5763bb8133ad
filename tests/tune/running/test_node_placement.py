"""Where trials and evaluators find place; hand-made clusters."""

import re

import pytest

from cluster.dispatch.pool_request import Pool
from ppodd.errors import BadInput
from tune.running.node_placement import Node, Placement, placement
from tune.sweep_file import SweepFile


def file(trial=(1, 0), evaluator=(1, 0), count=1):
    return SweepFile(
        name="s",
        resources={"cpus": trial[0], "gpus": trial[1]},
        evaluators={"cpus": evaluator[0], "gpus": evaluator[1], "count": count},
    )


@pytest.mark.parametrize(
    ("nodes", "wanted", "at_once"),
    [
        ([Node(8)], file(), 7),
        ([Node(2)], file(evaluator=(0, 0), count=2), 2),  # evaluators that reserve nothing
        ([Node(64, [1, 1])], file((4, 0.5), (1, 0.5)), 3),
        ([Node(64, [1, 1])], file((4, 1), (1, 0.5)), 1),  # half a GPU is the evaluators' own
        ([Node(64, [1, 1])], file((4, 0.3), (1, 0.2)), 5),  # 2 beside the evaluator, 3 on the other GPU
        ([Node(4, [1]), Node(4, [1])], file((4, 1), (0, 0)), 2),
        ([Node(64, [1] * 8)], file((4, 1), (1, 0.25), 4), 7),  # 4 evaluators on one GPU
        ([Node(8, [])], file((0, 0), (1, 0)), None),
    ],
)
def test_trials_leave_the_evaluators_their_share(nodes, wanted, at_once):
    place = placement(wanted, nodes)
    pool = wanted.evaluators
    assert (place.at_once, place.beside, place.notice) == (at_once, True, "")
    assert place.pool == Pool(pool.count, pool.cpus, pool.gpus, 120)


def test_on_a_machine_too_small_for_both_evaluators_take_what_trials_leave_and_that_is_said():
    place = placement(file((2, 0), (1, 0), 2), [Node(2)])
    assert (place.pool.cpus, place.at_once, place.beside) == (0, 1, True)
    assert place.notice == (
        "evaluators: 2 × 1 CPU do not fit beside a trial's 2: they reserve none and take what trials leave"
    )


def test_on_one_gpu_that_a_trial_takes_whole_evaluators_wait_for_it_and_that_is_said():
    place = placement(file((1, 1), (1, 0.5)), [Node(8, [1])])
    assert not place.beside and place.at_once is None and "they wait until trials leave some" in place.notice


def test_what_an_autoscaling_cluster_has_now_limits_nothing():
    place = placement(file((4, 1), (1, 0.25), 2), [Node(0)], autoscaling=True)
    assert place == (Placement(Pool(2, 1, 0.25, 120), True, None))


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        (
            file(trial=(64, 0)),
            "resources: a trial asks for 64 CPU and 0 GPU, which no node of the cluster has (2 nodes",
        ),
        (file(trial=(1, 0.5)), "of 8 CPU and 0 GPU): ask for less, or"),
        (file(evaluator=(1, 1)), "evaluators: one asks for 1 CPU and 1 GPU"),
    ],
)
def test_what_no_node_ever_has_is_refused(wanted, message):
    with pytest.raises(BadInput, match=re.escape(message)):
        placement(wanted, [Node(8), Node(8)])
