"""Distillations in lockstep: several trials of one shape in one process, their meta-steps taken together.

Small networks keep a processor busy for less time than it takes to start their operations. So the members' networks are
trained and differentiated as one, with an axis `E` before all that is a trial's own: posters `[E, T, C, H, W]`,
parameters and moments `[E, D]`, learning rates `[E, 1]`. Draws, outer steps, stages, checkpoints and failures stay each
member's own, and its results are those of the trial alone, to rounding.

Plain steps differ in number: members are lined up by their last one, and those that begin later join then. Members that
are behind, as after an interruption, go on first until they have caught up.
"""

from __future__ import annotations

import contextlib
import contextvars
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Generic, NamedTuple, cast

import torch

from ppodd.distillation.meta_steps import (
    Asked,
    DistillationSteps,
    MetaStep,
    Prepared,
    R,
    StageTrained,
    StepResult,
    advance,
    answered,
)
from ppodd.distillation.outer_step import outer_step
from ppodd.errors import NonFinite
from ppodd.training import ConvNetDerivatives, Learned, Network, Posters, Problem, State, meta_gradient


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
    """

    def __init__(self, distillations: Sequence[DistillationSteps[R]]):
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
        least = min(_position(step) for _, step in waiting)
        behind = [(member, step) for member, step in waiting if _position(step) == least]
        for (member, _), answer in zip(behind, _answers([step for _, step in behind]), strict=True):
            member.asked, member.answer = None, answer


def _position(step: MetaStep) -> tuple[int, int]:
    return step.state.stage, step.state.step


def _answers(steps: Sequence[MetaStep]) -> list[StepResult]:
    """Each meta-step's loss or error; together where they fit each other."""
    if len(steps) == 1:
        return [answered(steps[0].take)]
    prepared = [step.prepare() for step in steps]
    if not _fit(prepared):
        return [answered(step.take) for step in steps]
    try:
        return _together(steps, prepared)
    except Exception as error:  # of none of them in particular, such as want of memory
        return [error] * len(steps)


def _fit(prepared: Sequence[Prepared]) -> bool:
    """Whether the members' networks can be differentiated as one; what a sweep puts together can."""
    windows = {len(each.window) for each in prepared}
    return len(windows) == 1 and all(ConvNetDerivatives.fits(each.problem.network) for each in prepared)


def _together(steps: Sequence[MetaStep], prepared: Sequence[Prepared]) -> list[StepResult]:
    # the longest training first: those that train at any step are the first so many
    order = sorted(range(len(steps)), key=lambda number: -len(prepared[number].plain))
    members = [prepared[number] for number in order]
    problem = _joined([each.problem for each in members])
    learned = {
        f"{place}.{name}": t for place, number in enumerate(order) for name, t in steps[number].state.learned.items()
    }
    with torch.no_grad():
        posters, lr = problem.posters(learned), problem.lr(learned)
    assert isinstance(lr, torch.Tensor)
    state = _plain_steps(problem, members, posters, lr)
    windows = zip(*(each.window for each in members), strict=True)
    window = [problem.inner.joined(draws, posters.images.shape[1], posters.images) for draws in windows]
    images, labels = zip(*(each.real for each in members), strict=True)
    config = steps[0].config
    losses, gradients = meta_gradient(
        problem, learned, state, window, (torch.stack(images), torch.stack(labels)), config.real_chunk, "recomputed",
        config.offload,
    )  # fmt: skip
    answers: list[StepResult] = [None] * len(steps)
    for place, number in enumerate(order):
        own = {name: gradients[f"{place}.{name}"] for name in steps[number].state.learned}
        answers[number] = _outer(steps[number], losses[place], own)
    return answers


def _outer(step: MetaStep, loss: torch.Tensor, gradients: Learned) -> StepResult:
    """A member's own outer step, or why there is none."""
    try:
        outer_step(step.config, step.state, loss, gradients, step.rate)
    except NonFinite as error:
        return error
    return step.state.loss.last


def _joined(problems: Sequence[Problem]) -> Problem:
    """The problem of all members; what the member at place `e` learns is named `e.name`."""

    def own(learned: Learned, place: int) -> Learned:
        return {name.partition(".")[2]: t for name, t in learned.items() if name.startswith(f"{place}.")}

    def posters(learned: Learned) -> Posters:
        each = [problem.posters(own(learned, place)) for place, problem in enumerate(problems)]
        return Posters(*(torch.stack(tensors) for tensors in zip(*each, strict=True)))

    def lr(learned: Learned) -> torch.Tensor:
        rates = [problem.lr(own(learned, place)) for place, problem in enumerate(problems)]
        tensors = [rate for rate in rates if isinstance(rate, torch.Tensor)]
        if tensors:  # learned, by all
            return torch.stack(tensors)[:, None]
        like = problems[0].network.theta
        return torch.tensor(rates, dtype=like.dtype)[:, None].to(like.device, non_blocking=True)

    return replace(problems[0], posters=posters, lr=lr, networks=len(problems))


def _plain_steps(problem: Problem, members: Sequence[Prepared], posters: Posters, lr: torch.Tensor) -> State:
    """Every member's network after its plain steps, all of which end together; the longest are first."""
    networks = [each.problem.network for each in members]
    lengths = [len(each.plain) for each in members]
    state = _started(networks[:0], networks[0].theta)
    for left, ahead in itertools.pairwise([*sorted(set(lengths), reverse=True), 0]):
        training = sum(length >= left for length in lengths)
        state = _beside(state, _started(networks[len(state.theta) : training], networks[0].theta))
        now = Posters(*(tensor[:training] for tensor in posters))
        steps = zip(*(each.plain[len(each.plain) - left :][: left - ahead] for each in members[:training]), strict=True)
        draws = [problem.inner.joined(each, posters.images.shape[1], posters.images) for each in steps]
        state = problem.inner.train(
            problem.network, state, now, draws, lr[:training], training, problem.precision.plain
        )
    return state


def _beside(some: State, others: State) -> State:
    assert isinstance(some.steps, torch.Tensor) and isinstance(others.steps, torch.Tensor)
    theta, first, second = (torch.cat(pair) for pair in zip(some[:3], others[:3], strict=True))
    return State(theta, first, second, torch.cat([some.steps, others.steps]))


def _started(networks: Sequence[Network], like: torch.Tensor) -> State:
    """So many networks before their first step."""
    theta = torch.stack([network.theta for network in networks]) if networks else like.new_empty(0, len(like))
    steps = torch.zeros(len(networks), 1, dtype=torch.float64, device=like.device)
    return State(theta, torch.zeros_like(theta), torch.zeros_like(theta), steps)
