"""Trials that Tune is given one after another."""

from ray.tune.search import Searcher

from tune.running.known_trials import KnownTrials, pending


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


def test_as_many_wait_as_a_large_cluster_has_room_for():
    assert [pending(cpus) for cpus in (0, 2, 1000)] == [200, 200, 1100]
