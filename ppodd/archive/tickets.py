"""Names of evaluations: a digest of all that one depends on, so none is done twice or attached to another poster."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence

from ppodd.config import EvaluationProtocol

_FORMAT = 1  # of tickets: evaluations keep their names when the schema of records changes


def ticket(
    protocol: EvaluationProtocol, poster_digests: Sequence[str], blend: Sequence[float], data_digest: str
) -> str:
    """The name of an evaluation: a digest of the posters it trains on, their weights, the data and the protocol."""
    drawn = [(digest, weight) for digest, weight in zip(poster_digests, blend, strict=True) if weight > 0]
    key = json.dumps([_FORMAT, protocol.canonical(), drawn, data_digest], sort_keys=True)
    return hashlib.sha256(key.encode()).hexdigest()[:20]


def drawn_posters(blend: Sequence[float]) -> int:
    """How many posters a blend draws on."""
    return sum(weight > 0 for weight in blend)
