"""What long work shows: a progress bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import contextlib
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from ppodd.words import apart, counted, wrapped

if TYPE_CHECKING:
    from ppodd.archive import Accuracy, StageRecord
    from ppodd.distillation import MetaStepProgress as Now

_SAY_EVERY_S = 30.0  # without a terminal
_WIDE = 80  # columns from which a bar says everything


def console() -> Console:
    """Standard output as every command writes it: plain lines, broken nowhere."""
    return Console(highlight=False, soft_wrap=True, markup=False)


def width() -> int | None:
    """Columns of the terminal; `None` where the output goes elsewhere, which breaks no lines."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def fitted(lines: Iterable[str]) -> str:
    """The lines, broken between words where the terminal is narrower, each a little further in than it began."""
    columns = width()
    every = [one for line in lines for one in line.split("\n")]
    return "\n".join(apart(one) if columns is None else wrapped(one, columns, f"{_indent(one)}  ") for one in every)


def say(out: Console, text: str) -> None:
    """Print a line for people, broken between words; what is to be copied, such as a command, is printed as it is."""
    out.print(fitted([text]))


def _indent(line: str) -> str:
    return line[: len(line) - len(line.lstrip())]


@contextlib.contextmanager
def bar(out: Console) -> Iterator[Callable[[Now], None]]:
    """A callback for a distillation's progress: a bar on a terminal, elsewhere a line every half minute."""
    if not (out.is_terminal or out.is_jupyter):
        yield _Lines(out)
        return
    wide = out.width >= _WIDE
    columns = (TextColumn("{task.description}"), BarColumn(None), TextColumn("{task.fields[rate]}"))
    ends = (TimeElapsedColumn(),) if wide else ()
    with Progress(*columns, *ends, console=out, transient=True, expand=True) as progress:
        task = progress.add_task("starting", total=None, rate="")

        def show(now: Now) -> None:
            rate = f"{now.seconds_per_meta_step:.2f} s/meta-step  " if wide else ""
            progress.update(
                task,
                description=f"stage {now.stage}/{now.num_stages}" + f"  meta-loss {now.meta_loss:.3f}" * wide,
                total=now.meta_steps,
                completed=now.meta_step,
                rate=f"{now.meta_step}/{now.meta_steps}  {rate}{duration(now.seconds_left)} left",
            )

        yield show


class _Lines:
    """Says now and then how far a distillation is."""

    def __init__(self, out: Console):
        self._out, self._said = out, time.monotonic()

    def __call__(self, now: Now) -> None:
        if time.monotonic() - self._said > _SAY_EVERY_S:
            self._said = time.monotonic()
            self._out.print(
                f"stage {now.stage}/{now.num_stages}, meta-step {now.meta_step}/{now.meta_steps}: meta-loss "
                f"{now.meta_loss:.3f}, {now.seconds_per_meta_step:.2g} s/meta-step, {duration(now.seconds_left)} left"
            )


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
