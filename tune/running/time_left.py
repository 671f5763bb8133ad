"""How long a sweep still takes, by what it got done since its first meta-step: starting up counts for nothing."""

from __future__ import annotations


class TimeLeft:
    """An estimate that is asked again and again.

    Trials and evaluations go on beside each other, so the rest takes as long as the longer of the two.
    """

    def __init__(self) -> None:
        self._first: dict[str, tuple[float, float]] = {}  # by kind of work: when it was first under way, and how far

    def __call__(self, now: float, **shares: float) -> float | None:
        """Seconds left at the moment `now`, by the share that is done of each kind of work; `None`: not known yet."""
        known = [left for kind, share in shares.items() if (left := self._left(now, kind, share)) is not None]
        return max(known, default=None)

    def _left(self, now: float, kind: str, share: float) -> float | None:
        if not 0 < share < 1:
            return None
        since, had = self._first.setdefault(kind, (now, share))
        return (1 - share) * (now - since) / (share - had) if share > had else None
