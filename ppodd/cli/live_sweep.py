"""What a sweep shows while it runs: a live view on a terminal; elsewhere a line for each stage."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from ppodd.cli.console import duration

if TYPE_CHECKING:
    from cluster.dispatch import EvaluatorStatus
    from ppodd.archive import ProgressRecord
    from tune.running import FinishedStage, SweepProgress

_SAY_EVERY_S = 60.0  # without a terminal, where no stage is finished
_ROWS, _EVALUATORS = 12, 4  # running trials and evaluators that are shown
_NARROW = 70  # columns below which only stage, loss and time left of a trial are shown
_GAP = 2  # columns between those of the table


class LiveSweep:
    """Shows a sweep's progress as it is told."""

    def __init__(self, out: Console):
        self._out, self._said, self.seconds = out, 0.0, 0.0
        self._live = (
            Live(console=out, transient=True, refresh_per_second=4) if out.is_terminal or out.is_jupyter else None
        )

    def __enter__(self) -> LiveSweep:
        if self._live:
            self._live.start()
            self._live.update("starting Ray")
        else:
            self._out.print("starting Ray")
        return self

    def __exit__(self, *exception: object) -> None:
        if self._live:
            self._live.stop()

    def __call__(self, now: SweepProgress) -> None:
        """Show how far it is."""
        self.seconds = now.seconds
        if self._live:
            self._live.update(view(now, self._out.width))
            return
        for line in lines(now, silent=now.seconds - self._said > _SAY_EVERY_S):
            self._said = now.seconds
            self._out.print(line)


def lines(now: SweepProgress, silent: bool) -> Iterator[str]:
    """A line for each stage that was finished; how far it is where it was `silent` for long."""
    for stage in now.finished:
        yield f"{duration(now.seconds)}: {_finished(stage)}; {_counts(now)}{_left(now)}"
    if silent and not now.finished:
        yield f"{duration(now.seconds)}: {_counts(now)}{_left(now)}"


def view(now: SweepProgress, width: int) -> Group:
    """The whole, the trials that run, the evaluators, and what is best so far."""
    whole = Table.grid(padding=(0, 1))
    bar = ProgressBar(total=1.0, completed=_whole(now), width=max(10, width - 34))
    whole.add_row(bar, f"{100 * _whole(now):3.0f} %", f"{duration(now.seconds)}{_left(now)}")
    parts: list[Any] = [whole, _counts(now)]
    if now.running:
        parts.append(_running(now, width))
    if evaluators := now.evaluators():
        parts.append(_at_work(evaluators, width))
    if now.best:
        best = f"best so far, on {now.best.accuracy.split} images: {_accuracy(now.best)}"
        parts += [best, elided(now.best.trial, width)]
    # broken at the edge, which the console's own lines are not
    return Group(*(Text(part, no_wrap=False, overflow="fold") if isinstance(part, str) else part for part in parts))


def elided(trial: str, columns: int) -> str:
    """A trial's name in so many columns: its end, the seed, tells it from its like, so it stays."""
    if len(trial) <= columns:
        return trial
    end = trial[trial.rfind(",") + 1 :][-(columns // 2) :]
    return f"{trial[: max(0, columns - len(end) - 1)]}…{end}"


def _whole(now: SweepProgress) -> float:
    """The share of all that is done, trials and evaluations counting alike."""
    evaluated = now.evaluations_done / now.evaluations if now.evaluations else 0.0
    trained = now.share or (now.stages_done / now.stages if now.stages else 0.0)
    return (trained + evaluated) / 2


def _running(now: SweepProgress, width: int) -> Table:
    """Numbers are shown whole; the trials' names take the columns that are left."""
    wide = width >= _NARROW
    heads = ("stage", *(("meta-step",) if wide else ()), "loss", *(("s/step",) if wide else ()), "left")
    rows = {name: _numbers(at, wide) for name, at in list(now.running.items())[:_ROWS]}
    taken = sum(_GAP + max(map(len, column)) for column in zip(heads, *rows.values(), strict=True))
    table = _plain_table()
    table.add_column("running trial", no_wrap=True, width=width - taken)
    for head in heads:
        table.add_column(head, justify="right", no_wrap=True)
    for name, numbers in rows.items():
        table.add_row(elided(name, width - taken), *numbers)
    return _with_rest(table, len(now.running) - _ROWS)


def _at_work(evaluators: Sequence[EvaluatorStatus], width: int) -> Table:
    """Those that are at something first; of what they are at, the columns that are left show the stage."""
    busy = sorted(evaluators, key=lambda one: one["at"] == "idle")
    rows = [(one["name"], one["at"], duration(one["seconds"])) for one in busy[:_EVALUATORS]]
    names, _, times = ([len(text) for text in column] for column in zip(("evaluator", "", "for"), *rows, strict=True))
    left = max(1, width - max(names) - max(times) - 2 * _GAP)
    table = _plain_table()
    table.add_column("evaluator", no_wrap=True)
    table.add_column("at", no_wrap=True, width=left)
    table.add_column("for", justify="right", no_wrap=True)
    for name, at, time in rows:
        table.add_row(name, at if len(at) <= left else f"…{at[1 - left :]}", time)
    return _with_rest(table, len(busy) - _EVALUATORS)


def _plain_table() -> Table:
    return Table(box=None, pad_edge=False, padding=(0, _GAP, 0, 0), header_style="bold")


def _with_rest(table: Table, more: int) -> Table:
    """The table, with a row that says how many it has no room for."""
    if more > 0:
        table.add_row(f"… and {more} more")
    return table


def _numbers(at: ProgressRecord, wide: bool) -> tuple[str, ...]:
    steps = (f"{at.meta_step}/{at.meta_steps}",) if wide else ()
    rate = (f"{at.seconds_per_meta_step:.2g}",) if wide else ()
    return f"{at.stage}/{at.num_stages}", *steps, f"{at.meta_loss:.3f}", *rate, duration(at.seconds_left)


def _counts(now: SweepProgress) -> str:
    ended = f" ({now.stopped} stopped early)" if now.stopped else ""
    wait = f" ({now.waiting} waiting)" if now.waiting else ""
    return (
        f"{now.trials_done}/{now.trials} trials{ended}, {now.stages_done}/{now.stages} stages, "
        f"{now.evaluations_done}/{now.evaluations} evaluations{wait}"
    )


def _left(now: SweepProgress) -> str:
    return "" if now.seconds_left is None else f", about {duration(now.seconds_left)} left"


def _finished(stage: FinishedStage) -> str:
    return f"{stage.trial} stage {stage.stage}/{stage.num_stages}: {stage.accuracy.split} {_accuracy(stage)}"


def _accuracy(stage: FinishedStage) -> str:
    return f"{stage.accuracy.mean:.1f} %"
