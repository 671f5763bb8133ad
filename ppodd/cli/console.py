"""What long work shows: a progress bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from ppodd.words import counted

if TYPE_CHECKING:
    from ppodd.archive import Accuracy, StageRecord
    from ppodd.distillation import MetaStepProgress as Now


def console() -> Console:
    """Standard output as every command writes it: plain lines, broken nowhere."""
    return Console(highlight=False, soft_wrap=True, markup=False)


@contextlib.contextmanager
def bar(out: Console) -> Iterator[Callable[[Now], None] | None]:
    """A callback for a distillation's progress; `None` (quiet) when not on a terminal."""
    if not out.is_terminal:
        yield None
        return
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[rate]}"))
    with Progress(*columns, TimeElapsedColumn(), console=out, transient=True) as progress:
        task = progress.add_task("starting", total=None, rate="")

        def show(now: Now) -> None:
            progress.update(
                task,
                description=f"stage {now.stage}/{now.num_stages}  meta-loss {now.meta_loss:.3f}",
                total=now.meta_steps,
                completed=now.meta_step,
                rate=f"{now.meta_step}/{now.meta_steps}  {now.seconds_per_meta_step:.2f} s/meta-step  "
                f"{duration(now.seconds_left)} left",
            )

        yield show


def duration(seconds: float) -> str:
    """Seconds as `h:mm:ss`, or `m:ss` below an hour."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"


def percent(values: Accuracy) -> str:
    """`mean ± std` of a set of networks, in percent."""
    spread = "" if values.std is None else f" ± {values.std:.1f}"
    return f"{values.mean:.1f}{spread}"


def stage_line(record: StageRecord) -> str:
    """One line of a finished stage: accuracy, course of the loss, blend, what it took."""
    accuracy, budgets = record.stage_accuracy, record.budgets
    blend = ", ".join(f"{weight:.2f}" for weight in record.blend)
    loss = record.meta_loss
    course = f" meta-loss {loss.first:.3f} → {loss.last:.3f}," if loss.last is not None else ""
    spent = f", {duration(budgets.seconds)}" if budgets.seconds is not None else ""
    leak = " LEAKS THE TEST SET," if record.leaks_test_set else ""
    return (
        f"stage {record.stage}/{record.num_stages}: {accuracy.split} accuracy {percent(accuracy)} %"
        f" ({counted(accuracy.nets, 'net')}, {counted(accuracy.steps, 'step')}),{leak} π = [{blend}],"
        f"{course} {counted(budgets.meta_steps, 'meta-step')}{spent}"
    )
