"""Distillations as generators that request their meta-steps, so that a driver may take several at once."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Generator, Iterator
from typing import NamedTuple, TypeVar

import torch

from ppodd.config import DistillConfig
from ppodd.distillation.training_state import TrainingState
from ppodd.training import Draw, Problem


class Prepared(NamedTuple):
    """A meta-step's problem and all that is random in it: draws of plain steps and window, and real images."""

    problem: Problem
    plain: list[Draw]
    window: list[Draw]
    real: tuple[torch.Tensor, torch.Tensor]


class MetaStep(NamedTuple):
    """A requested meta-step: it changes `state`, and the answer is the meta-loss, both as if by `take`.

    `rate` is the factor of the outer learning rate.
    """

    config: DistillConfig
    state: TrainingState
    rate: float
    prepare: Callable[[], Prepared]
    take: Callable[[], float]

    def taken(self) -> StepResult:
        """Take it by itself: its loss, or the error or interrupt that was raised instead."""
        with self.counted():
            try:
                return self.take()
            except (Exception, KeyboardInterrupt) as error:
                return error

    @contextlib.contextmanager
    def counted(self, among: int = 1) -> Iterator[None]:
        """Count its share of the block's seconds, which so many share."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self.state.seconds += (time.perf_counter() - started) / among


class StageTrained(NamedTuple):
    """A stage's last meta-step is taken and its checkpoint written; measuring its accuracy, which is slow, comes next.

    A driver of several distillations waits until every member has reached this point, so that an interrupted group
    resumes from checkpoints of one meta-step, and gives bit-identical numbers.
    """


R = TypeVar("R")
S = TypeVar("S")
Asked = MetaStep | StageTrained
StepResult = float | Exception | KeyboardInterrupt | None  # to a requested meta-step; `None` to anything else
# Yields results, and requests in between.
DistillationSteps = Generator[Asked | R, float | None, None]


def advance(steps: DistillationSteps[R], answer: StepResult) -> Asked | R:
    """What it yields next; an error is raised inside it, at its request. Raises `StopIteration` at its end."""
    return steps.throw(answer) if isinstance(answer, BaseException) else steps.send(answer)


def one_by_one(steps: DistillationSteps[R]) -> Iterator[R]:
    """The results, each meta-step taken by itself."""
    answer: StepResult = None
    with contextlib.closing(steps):
        while True:
            try:
                came = advance(steps, answer)
            except StopIteration:
                return
            answer = None
            if isinstance(came, MetaStep):
                answer = came.taken()
            elif not isinstance(came, StageTrained):
                yield came


def mapped(steps: DistillationSteps[R], change: Callable[[R], S]) -> DistillationSteps[S]:
    """The same distillation with `change` applied to each result."""
    answer: StepResult = None
    with contextlib.closing(steps):
        while True:
            try:
                came = advance(steps, answer)
            except StopIteration:
                return
            out = came if isinstance(came, Asked) else change(came)
            try:
                answer = yield out
            except (Exception, KeyboardInterrupt) as error:
                answer = error
