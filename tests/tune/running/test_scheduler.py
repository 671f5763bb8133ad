"""Early stopping: decisions worked out by hand for recorded reports, and read back from an archive."""

import pytest
from archives import stage_accuracy, write_stage

from ppodd.archive import Archive
from ppodd.config import DistillConfig, build
from ppodd.datasets.sources import SPECS
from ppodd.distillation.cost import distillation_flops
from tune.running.scheduler import Rule, StageScheduler
from tune.sweep_file import Scheduler, load_sweep


def decisions(rule, reports):
    return [(trial, progress) for trial, progress, value in reports if rule.stops(trial, progress, value)]


def test_asha_compares_stages_of_different_length_at_equal_epochs():
    # 8 epochs in 2 stages (a, b) and in 4 (c, d, e): the first rung is where 2 stages are first heard of, at 4 epochs
    rule = Rule(Scheduler(), grace=4, mode="max")
    reports = [
        ("c", 2, 1),  # before the rung: not compared, however bad
        ("a", 4, 50),  # first at the rung: the median of nothing
        ("c", 4, 60),
        ("d", 2, 90),
        ("b", 4, 54),  # the median of 50 and 60 is 55
        ("d", 4, 54.5),  # … and of 50, 60, 54 it is 54
        ("e", 4, 53),  # … and of 50, 60, 54, 54.5 it is 54.25
        ("c", 6, 0),  # between two rungs
        ("c", 8, 70),  # first at the second rung, at 8 epochs
        ("a", 8, 69),
    ]
    assert decisions(rule, reports) == [("b", 4), ("e", 4), ("a", 8)]


def test_asha_keeps_one_in_reduction_factor_and_the_lower_loss_may_be_the_better():
    rule = Rule(Scheduler(reduction_factor=4), grace=1, mode="min")
    values = [2.0, 1.9, 1.8, 1.7, 1.75]
    # the best quarter of [2, 1.9, 1.8, 1.7] is below 1.775
    assert decisions(rule, [(str(i), 1, value) for i, value in enumerate(values)]) == []
    assert rule.stops("late", 1, 1.78) and not rule.stops("good", 1, 1.6)


def test_median_stops_what_is_worse_than_the_median_of_enough_others():
    rule = Rule(Scheduler(kind="median", min_trials=2), grace=2, mode="max")
    reports = [
        ("a", 2, 50), ("a", 4, 70),  # averages 50 up to 2, 60 up to 4
        ("b", 2, 10),  # one other is not enough
        ("c", 1, 0),  # in its grace
        ("c", 2, 29),  # the median of 50 and 10 is 30: best so far 29
        ("d", 2, 31), ("d", 4, 40),  # at 4 only a and b have come as far, and b has not
    ]  # fmt: skip
    assert decisions(rule, reports) == [("c", 2)]


FILE = """\
name: mine
preset: digits-small
config: {epochs: 8, steps_per_epoch: 2}
grid:
  num_stages: [2, 4]
  lr: [0.1, 0.2]
scheduler: {compare_at: epochs}
"""


@pytest.fixture
def sweep(tmp_path):
    (tmp_path / "sweep.yaml").write_text(FILE)
    return load_sweep(str(tmp_path / "sweep.yaml"))


def archived(archive, sweep, name, stage, accuracy, order):
    """A stage as a trial would have written it."""
    trial, config = archive.trial("mine", name), sweep.trials[name]
    trial.create(config, resume=True)
    write_stage(trial, config, stage, stage_accuracy=stage_accuracy(accuracy), finished_at=float(order))


def test_what_an_earlier_driver_saw_is_judged_again_in_its_order(sweep, tmp_path):
    archive = Archive(tmp_path / "archive")
    two, other, four, last = sweep.trials  # 2 stages of 4 epochs twice, 4 stages of 2 epochs twice
    archived(archive, sweep, two, 1, 60, order=1)
    archived(archive, sweep, four, 1, 10, order=2)
    archived(archive, sweep, four, 2, 55, order=3)  # worse than 60 at 4 epochs
    archived(archive, sweep, other, 1, 70, order=4)
    archived(archive, sweep, last, 1, 5, order=5)
    StageScheduler(sweep, archive)
    assert [name for name in sweep.trials if archive.trial("mine", name).stopped()] == [four]
    stopped = archive.trial("mine", four).stopped()
    assert stopped.stage == 2 and stopped.scheduler == "asha"
    assert stopped.why == "stage_accuracy 55 after 4 epochs, not among the best 1 in 2 there"
    # another look changes nothing
    StageScheduler(sweep, archive)
    assert archive.trial("mine", four).stopped() == stopped


@pytest.mark.parametrize("kind", ["asha", "median"])
def test_a_trial_that_went_on_is_not_stopped_in_hindsight(sweep, tmp_path, kind):
    sweep = load_sweep(str(tmp_path / "sweep.yaml"), [f"scheduler={{kind: {kind}, min_trials: 1}}"])
    archive = Archive(tmp_path / "archive")
    two, _, four, _ = sweep.trials
    archived(archive, sweep, two, 1, 60, order=1)
    archived(archive, sweep, four, 2, 55, order=2)
    archived(archive, sweep, four, 3, 56, order=3)
    StageScheduler(sweep, archive)
    assert archive.trial("mine", four).stopped() is None


def test_compute_counts_the_images_that_pass_through_the_network(tiny):
    config = build(DistillConfig, {**tiny, "cctype": 0, "totwindow": 5})
    spec = SPECS["digits"]
    # a meta-step: 6 patches in 3 plain steps and 2 differentiated ones, worth 3 each; 64 real images
    meta_step, accuracy = 6 * (3 + 3 * 2) + 64, 2 * 3 * 6
    base = distillation_flops(config, spec, 1, 0) / meta_step
    assert distillation_flops(config, spec, 10, 2) == pytest.approx(base * (10 * meta_step + 2 * accuracy))
    # by hand: 3×3 convolutions of 12×12, 6×6 and 3×3 positions (padding 3, then 1), 4 channels; a 4-pixel linear layer
    forward = 2 * (9 * 4 * 12**2 + 9 * 4 * 4 * 6**2 + 9 * 4 * 4 * 3**2 + 4 * 10)
    assert base == 3 * forward
    wider = config.model_copy(update={"width": 8})
    assert distillation_flops(wider, spec, 1, 0) > 2 * distillation_flops(config, spec, 1, 0)
