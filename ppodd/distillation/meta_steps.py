"""Distillations as generators that ask for their meta-steps, so that whoever drives them may take several at once."""

from __future__ import annotations

import contextlib
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
    """A meta-step that is asked for: it changes `state`, and the answer is the meta-loss, both as if by `take`."""

    config: DistillConfig
    state: TrainingState
    prepare: Callable[[], Prepared]
    take: Callable[[], float]


class StageTrained(NamedTuple):
    """Says that a stage's last meta-step is taken and its checkpoint written: now it takes its time to measure it.

    Whoever drives several distillations has all of them come so far first, so that an interrupted group goes on from
    checkpoints of one meta-step, and comes to the same numbers bit for bit.
    """


R = TypeVar("R")
S = TypeVar("S")
Asked = MetaStep | StageTrained
Answer = float | Exception | KeyboardInterrupt | None  # to a meta-step that was asked for; `None` to anything else
# Yields what comes of a distillation, and between it what it asks for.
Work = Generator[Asked | R, float | None, None]


def advance(work: Work[R], answer: Answer) -> Asked | R:
    """What the work yields next, an error being raised where it asked. Raises `StopIteration` at its end."""
    return work.throw(answer) if isinstance(answer, BaseException) else work.send(answer)


def one_by_one(work: Work[R]) -> Iterator[R]:
    """What comes of the work, its meta-steps taken by themselves."""
    answer: Answer = None
    with contextlib.closing(work):
        while True:
            try:
                came = advance(work, answer)
            except StopIteration:
                return
            answer = None
            if isinstance(came, MetaStep):
                answer = answered(came.take)
            elif not isinstance(came, StageTrained):
                yield came


def mapped(work: Work[R], change: Callable[[R], S]) -> Work[S]:
    """The same work, what comes of it changed."""
    answer: Answer = None
    with contextlib.closing(work):
        while True:
            try:
                came = advance(work, answer)
            except StopIteration:
                return
            out = came if isinstance(came, Asked) else change(came)
            try:
                answer = yield out
            except (Exception, KeyboardInterrupt) as error:
                answer = error


def answered(take: Callable[[], float]) -> Answer:
    """The loss, or the error or interrupt that came instead."""
    try:
        return take()
    except (Exception, KeyboardInterrupt) as error:
        return error
