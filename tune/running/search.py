"""Searched sweeps: settings suggested one after another from the results of earlier ones, each archived when made.

A suggestion is one setting, tried with every seed of the file; what the searcher learns of it is the mean over the
seeds, read from the archive. So a resumed search learns all that the archive holds, and continues.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import logging
import statistics
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ray.tune.search import Searcher

from ppodd.archive import Archive
from ppodd.errors import BadInput, CorruptArchive
from tune.running.claim import write_claim
from tune.running.domains import category
from tune.running.scheduler import objective
from tune.sweep_file import Sweep

_ATTEMPTS = 200  # suggestions in a row that bring nothing new: the space is used up


@dataclass
class _Setting:
    """A suggested setting: the searcher's values, its trials (one a seed), the searcher's key for it."""

    values: dict[str, Any]
    trials: list[str]
    key: str


class ArchivedSearch(Searcher):
    """Tune's searcher: first the unfinished trials of earlier drivers, then new ones up to `num_samples` settings.

    Args:
        job: what Tune's trainable is given, by the trial's name.
        unfinished: trials of the archive to go on with.
    """

    def __init__(
        self, sweep: Sweep, archive: Archive, job: Callable[[str], Mapping[str, object]], unfinished: list[str]
    ):
        super().__init__(metric=sweep.file.objective, mode=sweep.file.mode)
        assert sweep.file.search
        self._sweep, self._archive, self._job = sweep, archive, job
        self._waiting = deque(unfinished)
        self.done = False  # nothing is left to suggest
        self._running: dict[str, str] = {}  # Tune's trials by their names here
        self._settings = _grouped(sweep)
        self._repeats: list[_Setting] = []  # suggested again, but for values that play no part
        self._distributions = sweep.space
        # restarted, a searcher of the same seed would suggest the same again
        seed = sweep.file.search.seed + len(self._settings)
        self._algorithm = _searcher(sweep, seed, [setting.values for setting in self._settings])
        for setting in self._settings:
            self._algorithm.suggest(setting.key)
        for setting in self._settings:
            if not self._goes_on(setting):
                self._tell(setting)

    def suggest(self, trial_id: str) -> Any:
        """The next trial (`{"trial": job}`), or that there is none."""
        if not self._waiting and len(self._settings) < self._sweep.file.num_samples:
            self._waiting.extend(self._new_trials())
        if not self._waiting:
            self.done = True
            return Searcher.FINISHED
        self._running[trial_id] = self._waiting.popleft()
        return {"trial": self._job(self._running[trial_id])}

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Nothing: a setting is judged by its last stage."""

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Tell the searcher of a setting once the last of its trials has ended."""
        name = self._running.pop(trial_id)
        for setting in (*self._settings, *self._repeats):
            if name in setting.trials and not self._goes_on(setting):
                self._tell(setting)

    def _goes_on(self, setting: _Setting) -> bool:
        """Whether trials of a setting wait or run."""
        return bool(set(setting.trials) & {*self._waiting, *self._running.values()})

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the archive holds it all."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing: the archive holds it all."""

    def _new_trials(self) -> list[str]:
        """The trials of a new setting, listed in `sweep.json`; none where the searcher brings nothing new and valid."""
        for attempt in range(_ATTEMPTS):
            key = f"{len(self._settings)}.{attempt}"
            suggested: dict[str, Any] = self._algorithm.suggest(key) or {}
            values = {name: self._value(name, suggested[name]) for name in self._distributions}
            try:
                trials = self._sweep.suggestion(values)
            except BadInput:
                self._algorithm.on_trial_complete(key, error=True)
                continue
            setting = _Setting(suggested, list(trials), key)
            if trials.keys() <= self._sweep.trials.keys():
                if self._goes_on(setting):
                    self._repeats.append(setting)
                else:
                    self._tell(setting)
                continue
            self._settings.append(setting)
            self._sweep.trials.update(trials)
            self._sweep.suggested.update(dict.fromkeys(trials, suggested))
            write_claim(self._sweep, self._archive)
            return list(trials)
        write_claim(self._sweep, self._archive, wanted=len(self._sweep.trials))  # no more are to come
        return []

    def _tell(self, setting: _Setting) -> None:
        """Tell the searcher the mean over the seeds of a setting's last stages; of a failed one, that it failed."""
        found = [self._result(name) for name in setting.trials]
        values = [value for value in found if value is not None]
        failed = len(values) < len(found)
        result = None if failed else {self._sweep.file.objective: statistics.fmean(values)}
        self._algorithm.on_trial_complete(setting.key, result, error=failed)

    def _result(self, name: str) -> float | None:
        """The objective at a trial's last stage; `None` while it is unfinished, or where it failed or is damaged."""
        trial = self._archive.trial(self._sweep.name, name)
        state = trial.state()
        over = state.status(self._sweep.trials[name].num_stages).is_over
        if not state.stages or not over:
            return None
        try:
            return objective(trial.stage(state.stages[-1]), self._sweep.file.objective)
        except CorruptArchive:
            return None

    def _value(self, name: str, suggested: Any) -> Any:
        distribution = self._distributions[name]
        if not distribution.family.listed:
            return suggested
        return next(value for value in distribution.values if category(value) == suggested)


def _grouped(sweep: Sweep) -> list[_Setting]:
    """The settings that an archived search has suggested, in that order."""
    settings: dict[str, _Setting] = {}
    for name in sweep.trials:
        values = sweep.suggested[name]
        new = _Setting(values, [], f"archived.{len(settings)}")
        settings.setdefault(json.dumps(values, sort_keys=True), new).trials.append(name)
    return list(settings.values())


def check_installed(algorithm: str) -> None:
    """Raise `BadInput` where the package that a searched sweep's suggestions come from is missing."""
    if importlib.util.find_spec(algorithm) is None:
        package = "'ppodd[optuna]'" if algorithm == "optuna" else algorithm
        raise BadInput(f"search: {algorithm} is not installed: pip install {package}")


# Ray's integration of each: its class, and what that calls the seed.
_ALGORITHMS = {"optuna": ("OptunaSearch", "seed"), "hyperopt": ("HyperOptSearch", "random_state_seed")}


def _searcher(sweep: Sweep, seed: int, first: list[dict[str, Any]]) -> Any:
    """The searcher that the file asks for, which suggests the `first` settings in their order and then its own."""
    assert sweep.file.search
    algorithm = sweep.file.search.algorithm
    name, seed_argument = _ALGORITHMS[algorithm]
    kind = getattr(importlib.import_module(f"ray.tune.search.{algorithm}"), name)
    logging.getLogger(algorithm).setLevel(logging.WARNING)
    space = kind.convert_search_space({key: d.domain() for key, d in sweep.space.items()})
    # HyperOpt takes no empty list
    how = {"points_to_evaluate": first or None, seed_argument: seed}
    return kind(space, metric=sweep.file.objective, mode=sweep.file.mode, **how)
