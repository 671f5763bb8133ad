"""Which trials are stopped before their last stage: Ray's ASHA or median rule, at equal progress, from the archive.

A trial is judged by its archived stages, so a resumed sweep first goes through what earlier drivers saw, and decides
as they would have. Progress is counted, in epochs or in arithmetic, never timed: the machine's load decides nothing.
"""

from __future__ import annotations

import contextlib
import math
import time
from typing import Any, NamedTuple, cast

from ray.tune.schedulers import ASHAScheduler, FIFOScheduler, MedianStoppingRule, TrialScheduler

from ppodd.archive import Archive, StageRecord, StopRecord
from ppodd.config import DistillConfig
from ppodd.datasets import Spec
from ppodd.errors import CorruptArchive
from tune.running.job import names_in
from tune.sweep_file import Scheduler, Sweep

_RUNGS = 20  # more than any trial reaches


class _Named(NamedTuple):
    """All that Ray's rules ask of a trial: the name its reports go by."""

    trial_id: str


class Rule:
    """When to stop a trial, from reports `(trial, progress, value)` in the order they come.

    Args:
        grace: progress before which nothing is compared.
        mode: `max` or `min`, the better end of the values.
    """

    def __init__(self, settings: Scheduler, grace: float, mode: str):
        common: dict[str, Any] = {"time_attr": "progress", "metric": "value", "mode": mode, "grace_period": grace}
        self._ray: TrialScheduler
        if settings.kind == "asha":
            factor = settings.reduction_factor
            common |= {"reduction_factor": factor, "max_t": grace * factor**_RUNGS}
            self._ray = ASHAScheduler(**common)
        else:
            # a trial never yields its place to others: it would lose what it holds in memory
            common |= {"min_samples_required": settings.min_trials, "min_time_slice": math.inf}
            # replayed, a trial may have gone on after the rule's stop: it is left alone then, not a failed assertion
            self._ray = MedianStoppingRule(**common, hard_stop=False)
        self._known: set[str] = set()

    def stops(self, trial: str, progress: float, value: float) -> bool:
        """Whether the trial is to be stopped at this report."""
        named = _Named(trial)
        if trial not in self._known:
            self._known.add(trial)
            self._ray.on_trial_add(cast("Any", None), cast("Any", named))
        report = {"progress": progress, "value": value}
        decision = self._ray.on_trial_result(cast("Any", None), cast("Any", named), report)
        return decision != TrialScheduler.CONTINUE  # the median rule's stop is a pause to Ray


class StageScheduler(FIFOScheduler):
    """Tune's scheduler: applies the rule of the sweep's file to each new stage and archives what it stops."""

    def __init__(self, sweep: Sweep, archive: Archive):
        super().__init__()
        assert sweep.file.scheduler
        self._sweep, self._archive, self._settings = sweep, archive, sweep.file.scheduler
        self._rule: Rule | None = None
        self._seen: dict[str, int] = {}  # last stage of each trial that was judged
        self._replay()

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """Judge the stage that a trial reports."""
        if "stage" not in result:  # it has failed
            return TrialScheduler.CONTINUE
        name = result["trial"]
        stopped = self._judge(name, self._archive.trial(self._sweep.name, name).stage(result["stage"]))
        alone = len(names_in(trial.config)) == 1  # others in lockstep go on, in a process that drops this one
        return TrialScheduler.STOP if stopped and alone else TrialScheduler.CONTINUE

    def _replay(self) -> None:
        """Judge every archived stage that can be read, in the order they were finished."""
        records = []
        for trial in (self._archive.trial(self._sweep.name, name) for name in self._sweep.trials):
            for stage in trial.stages():
                with contextlib.suppress(CorruptArchive):  # the evaluators say so
                    records.append((trial.trial, trial.stage(stage)))
        for name, record in sorted(records, key=lambda found: found[1].finished_at):
            self._judge(name, record)

    def _judge(self, name: str, record: StageRecord) -> bool:
        """Whether the trial is stopped after this stage; if so, its archive says why. A stage is judged once."""
        stage, config = record.stage, self._sweep.trials[name]
        if stage <= self._seen.get(name, 0):
            return False
        self._seen[name] = stage
        if self._rule is None:
            self._rule = Rule(self._settings, self._grace(record), self._sweep.file.mode)
        now, value = self._progress(config, record, stage), objective(record, self._sweep.file.objective)
        trial = self._archive.trial(self._sweep.name, name)
        stop = self._rule.stops(name, now, value) and stage < config.num_stages
        # replayed, a trial may have gone on: it was judged in another order then
        if not stop or stage < trial.stages()[-1]:
            return False
        if trial.stopped() is None:
            why = f"{self._sweep.file.objective} {value:.4g} after {self._told(now)}, {self._worse()}"
            kind = self._settings.kind
            trial.write_stopped(StopRecord(scheduler=kind, stage=stage, why=why, stopped_at=time.time()))
        return True

    def _grace(self, record: StageRecord) -> float:
        """Progress of the trial that gets furthest in its grace stages: before that, not all can be compared."""
        grace = self._settings.grace_stages
        return max(self._progress(c, record, min(grace, c.num_stages)) for c in self._sweep.examples)

    def _progress(self, config: DistillConfig, record: StageRecord, stage: int) -> float:
        """Epochs or arithmetic (in 10⁹) of the first stages of a trial; `record` is any stage's of the sweep."""
        epochs = stage * config.stage_epochs
        if self._settings.compare_at == "epochs":
            return epochs
        from ppodd.distillation import distillation_flops  # needs torch, which else no driver does

        steps = config.epoch_steps(record.data.images["train"])
        spec = Spec(len(record.data.classes), *record.data.shape)
        return 1e-9 * distillation_flops(config, spec, epochs * steps, stage)

    def _told(self, progress: float) -> str:
        return f"{progress:g} epochs" if self._settings.compare_at == "epochs" else f"{progress:.3g} GFLOP"

    def _worse(self) -> str:
        if self._settings.kind == "median":
            return "worse than the median of the others up to there"
        return f"not among the best 1 in {self._settings.reduction_factor:g} there"


def objective(record: StageRecord, name: str) -> float:
    """What a sweep chooses by, out of a stage's record; never anything of the test set."""
    if name == "stage_accuracy":
        return record.stage_accuracy.mean
    assert record.meta_loss.last is not None, "a stage that was trained here has one"
    return record.meta_loss.last
