"""Distillations in lockstep: several trials of one shape in one process, their meta-steps taken together.

Small networks keep a processor busy for less time than it takes to start their operations. So the members' networks are
trained and differentiated as one: see `ppodd.distillation.joined_meta_steps`. Draws, outer steps, stages, checkpoints
and failures stay each member's own, and its results are those of the trial alone: to rounding, or to the bit, where
only such meta-steps are taken together.

Members that are behind, as after an interruption, go on first until they have caught up.
"""

from __future__ import annotations

import contextlib
import contextvars
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Generic, NamedTuple, cast

import torch

from ppodd.distillation.joined_meta_steps import can_be_joined, meta_gradients, same_in_company
from ppodd.distillation.meta_steps import (
    Asked,
    DistillationSteps,
    MetaStep,
    Prepared,
    R,
    StageTrained,
    StepResult,
    advance,
)
from ppodd.distillation.outer_step import outer_step
from ppodd.training import Learned

_log = logging.getLogger(__name__)


@dataclass
class _Member(Generic[R]):
    """A distillation, what it waits for, and the context (of its log lines) that it runs in."""

    steps: DistillationSteps[R]
    asked: Asked | None = None
    answer: StepResult = None
    context: contextvars.Context = field(default_factory=contextvars.copy_context)

    def go_on(self) -> Asked | R:
        """To what it yields next. Raises `StopIteration` at its end."""
        return self.context.run(self._advance)

    def interrupt(self) -> None:
        """Have it end with a checkpoint, of the meta-step that it has been answered, if it has."""
        with contextlib.suppress(KeyboardInterrupt, StopIteration):
            if self.answer is not None:
                self.asked = cast("Asked", self.go_on())
            if self.asked is not None:
                self.answer = KeyboardInterrupt()
                self.go_on()

    def _advance(self) -> Asked | R:
        answer, self.answer = self.answer, None
        return advance(self.steps, answer)


class MemberEvent(NamedTuple, Generic[R]):
    """Something that came of a member, by its number."""

    member: int
    what: R


class Lockstep(Generic[R]):
    """Yields the results of several distillations. An error that one of them raises ends them all.

    So does an interrupt, of which each is told, to leave its checkpoint.

    With `exact`, meta-steps are taken together only where each comes to the bits that it comes to alone.
    """

    def __init__(self, distillations: Sequence[DistillationSteps[R]], exact: bool = False):
        self._exact, self._apart = exact, False
        self._members = {number: _Member(steps) for number, steps in enumerate(distillations)}

    def drop(self, member: int) -> None:
        """End a member here; the others go on."""
        gone = self._members.pop(member)
        gone.context.run(gone.steps.close)

    def __iter__(self) -> Iterator[MemberEvent[R]]:
        try:
            while self._members:
                yield from self._until_they_wait()
                self._answer()
        except KeyboardInterrupt:
            for member in self._members.values():
                member.interrupt()
            raise
        finally:
            for number in list(self._members):
                self.drop(number)

    def _until_they_wait(self) -> Iterator[MemberEvent[R]]:
        """Have every member go on to what it asks for next, or to its end."""
        for number, member in list(self._members.items()):
            while number in self._members and member.asked is None:
                try:
                    came = member.go_on()
                except StopIteration:
                    del self._members[number]
                    continue
                if isinstance(came, Asked):
                    member.asked = came
                else:
                    yield MemberEvent(number, came)

    def _answer(self) -> None:
        """Let those go on whose stage is trained; if none is, take the meta-steps of those furthest behind."""
        trained = [member for member in self._members.values() if isinstance(member.asked, StageTrained)]
        for member in trained:
            member.asked = None
        waiting = [(m, m.asked) for m in self._members.values() if isinstance(m.asked, MetaStep)]
        if trained or not waiting:
            return
        least = min(_turn(step) for _, step in waiting)
        behind = [(member, step) for member, step in waiting if _turn(step) == least]
        for (member, _), answer in zip(behind, self._answers([step for _, step in behind]), strict=True):
            member.asked, member.answer = None, answer

    def _answers(self, steps: Sequence[MetaStep]) -> list[StepResult]:
        """Each meta-step's loss or error; together where they fit each other."""
        if len(steps) == 1 or self._apart:
            return _one_by_one(steps)
        with contextlib.ExitStack() as counted:
            for step in steps:
                counted.enter_context(step.counted(among=len(steps)))
            together = self._if_joined(steps)
        return together or _one_by_one(steps)

    def _if_joined(self, steps: Sequence[MetaStep]) -> list[StepResult] | None:
        """Their answers, if they are taken together."""
        try:
            prepared = [step.prepare() for step in steps]
        except Exception:  # of one of them, which raises it again by itself
            return None
        if self._exact and not same_in_company(prepared[0]):
            self._apart = True
            _log.info("meta-steps are taken one by one: together they would round otherwise on this machine")
        if self._apart or not can_be_joined(steps[0].config, prepared):
            return None
        try:
            found = _together(steps, prepared)
        except Exception:  # of none of them in particular, such as want of memory, of which one takes less than all
            self._apart = True
            _log.warning("meta-steps failed together, and are taken one by one from here on", exc_info=True)
            return None
        return [_outer(step, loss, gradients) for step, (loss, gradients) in zip(steps, found, strict=True)]


def _turn(step: MetaStep) -> tuple[int, int, int]:
    """What those have in common that may be taken together, the furthest behind first."""
    return step.state.stage, step.state.step, step.config.real_chunk  # which one that ran out of memory has halved


def _one_by_one(steps: Sequence[MetaStep]) -> list[StepResult]:
    return [step.taken() for step in steps]


def _together(steps: Sequence[MetaStep], prepared: Sequence[Prepared]) -> list[tuple[torch.Tensor, Learned]]:
    return meta_gradients(steps[0].config, prepared, [step.state.learned for step in steps])


def _outer(step: MetaStep, loss: torch.Tensor, gradients: Learned) -> StepResult:
    """A member's own outer step, or why there is none."""
    try:
        outer_step(step.config, step.state, loss, gradients, step.rate)
    except Exception as error:
        return error
    return step.state.loss.last
