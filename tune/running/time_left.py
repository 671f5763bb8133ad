"""How long a sweep still takes, by what it got done since its first meta-step: starting up counts for nothing."""

from __future__ import annotations


class TimeLeft:
    """An estimate that is asked again and again.

    Trials and evaluations go on beside each other, so the rest takes as long as the longer of the two. The time in
    which no evaluation waited counts for nothing: evaluators that keep up are not slow.
    """

    def __init__(self) -> None:
        self._first: dict[str, tuple[float, float]] = {}  # by kind of work: when it was first under way, and how far
        self._asked, self._idle_s = 0.0, 0.0

    def __call__(self, now: float, trials: float, evaluations: float, waiting: bool = True) -> float | None:
        """Seconds left at the moment `now`, by the share that is done of each; `None`: not known yet.

        Args:
            waiting: whether there is something to evaluate.
        """
        self._idle_s += now - self._asked if self._asked and not waiting else 0.0
        self._asked = now
        found = self._left(now, "trials", trials), self._left(now - self._idle_s, "evaluations", evaluations)
        return max((left for left in found if left is not None), default=None)

    def _left(self, now: float, kind: str, share: float) -> float | None:
        if not 0 < share < 1:
            return None
        since, had = self._first.setdefault(kind, (now, share))
        return (1 - share) * (now - since) / (share - had) if share > had else None
