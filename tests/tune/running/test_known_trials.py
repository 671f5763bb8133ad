"""Trials that Tune is given one after another."""

import os

import pytest
from ray.tune.execution.tune_controller import _get_max_pending_trials
from ray.tune.search import Searcher, SearchGenerator

from tune.running.known_trials import KnownTrials
from tune.running.tune_defaults import many_pending


def test_each_job_is_made_when_tune_asks_for_it_in_order_and_once():
    made = []

    def job(*names):
        made.append(names)
        return {"trials": names}

    known = KnownTrials((["a", "b"], ["c"]), job)
    assert not made and not known.done
    assert known.suggest("1") == {"trial": {"trials": ("a", "b")}} and made == [("a", "b")]
    assert known.suggest("2") == {"trial": {"trials": ("c",)}} and known.done
    assert known.suggest("3") == Searcher.FINISHED and len(made) == 2


def test_without_trials_there_is_nothing_to_run():
    assert KnownTrials([], dict).done


@pytest.mark.parametrize(("cpus", "pending"), [(0, 200), (2, 200), (1000, 1100)])
def test_as_many_wait_as_a_large_cluster_has_room_for_and_only_meanwhile(monkeypatch, cpus, pending):
    monkeypatch.delenv("TUNE_MAX_PENDING_TRIALS_PG", raising=False)
    known = SearchGenerator(KnownTrials([], dict))
    with many_pending(cpus):
        assert _get_max_pending_trials(known) == pending
    assert _get_max_pending_trials(known) == 1


def test_who_runs_the_sweep_may_choose_how_many_wait(monkeypatch):
    monkeypatch.setenv("TUNE_MAX_PENDING_TRIALS_PG", "7")
    with many_pending(2):
        assert _get_max_pending_trials(SearchGenerator(KnownTrials([], dict))) == 7
    assert os.environ["TUNE_MAX_PENDING_TRIALS_PG"] == "7"
