"""Trials that are all known before the sweep begins, given to Tune one after another."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from ray.tune.search import Searcher


class KnownTrials(Searcher):
    """Tune's searcher of what need not be searched.

    As a grid of Tune's, all of it would be copied for each of its trials: for 5,000 of them that is minutes of
    processor time before the first begins.

    Args:
        groups: names of trials, those together that share a process.
        job: what Tune's trainable is given, by the names.
    """

    def __init__(self, groups: Iterable[Sequence[str]], job: Callable[..., Mapping[str, object]]):
        super().__init__()
        self._waiting = deque(groups)
        self._job = job

    @property
    def done(self) -> bool:
        """Whether nothing is left to suggest."""
        return not self._waiting

    def suggest(self, trial_id: str) -> Any:
        """The next job (`{"trial": job}`), or that there is none."""
        return {"trial": self._job(*self._waiting.popleft())} if self._waiting else Searcher.FINISHED

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Nothing: no trial depends on another's results."""

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the archive holds it all."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing: the archive holds it all."""
