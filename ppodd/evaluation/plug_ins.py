"""What an evaluation is asked to use of a user's own, called once on little before anything is computed."""

from __future__ import annotations

from collections.abc import Sequence

from ppodd.archive import TrialArchive
from ppodd.config import EvaluationProtocol
from ppodd.datasets import Spec
from ppodd.evaluation.work_items import Work
from ppodd.training import check_augmentation, check_network, check_optimiser


def try_works(works: Sequence[Work]) -> None:
    """Try all that these evaluations use of a user's own.

    Raises:
        BadInput: a network, optimiser or augmentation cannot be imported or called, fails, or returns something else.
    """
    asked: list[tuple[EvaluationProtocol, Spec]] = []
    for work in works:
        data = TrialArchive(work.trial_url).stage(work.stage).data
        if (each := (work.protocol, Spec(len(data.classes), *data.shape))) not in asked:
            asked.append(each)
    for protocol, spec in asked:
        try_protocol(protocol, spec)


def try_protocol(protocol: EvaluationProtocol, spec: Spec) -> None:
    """Try what a protocol names; raises as `try_works` does."""
    check_network(protocol.arch, spec, protocol.width, twice=False)
    check_optimiser(protocol.optim, twice=False)
    check_augmentation(protocol.strategy, spec)
