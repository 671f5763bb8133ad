"""What a restarted dispatcher takes up: the sweeps it served and the evaluators it began. The archives say the rest."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import NamedTuple

from cluster.dispatch.pool_request import Pool, ResourceShare
from cluster.dispatch.ports import KeyValueStore
from cluster.dispatch.served_sweep import SweepKey

_KEY = "served"


class ServedRequest(NamedTuple):
    """How a sweep is served: the store that shows it, and its pool."""

    sweep: SweepKey
    tracking_uri: str
    pool: Pool


@dataclass(frozen=True)
class SavedState:
    """Written whenever it changes, before evaluators are started, so that each is known after a restart."""

    served: Iterable[ServedRequest]
    shares: Mapping[str, ResourceShare]  # of the evaluators, by their names

    def write(self, store: KeyValueStore) -> None:
        """Put it in place of what was there."""
        served = [(*one.sweep, one.tracking_uri, asdict(one.pool)) for one in self.served]
        store.put(_KEY, json.dumps({"served": served, "shares": dict(self.shares)}).encode())

    @classmethod
    def read(cls, store: KeyValueStore) -> SavedState | None:
        """What a dispatcher before this one wrote, if there was one."""
        held = store.get(_KEY)
        if held is None:
            return None
        values = json.loads(held)
        served = [ServedRequest(SweepKey(url, sweep), uri, Pool(**pool)) for url, sweep, uri, pool in values["served"]]
        return cls(served, {name: ResourceShare(*share) for name, share in values["shares"].items()})

    @staticmethod
    def forget(store: KeyValueStore) -> None:
        """Take away what was there."""
        store.delete(_KEY)
