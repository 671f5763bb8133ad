"""Train fresh networks on archived posters and report their test accuracy at every training budget."""

from __future__ import annotations

import argparse
import functools
import shlex
from typing import TYPE_CHECKING, Any

from ppodd.cli.options import add_config_flags, given
from ppodd.cli.output import CommandResult
from ppodd.config import EvaluationConfig, build
from ppodd.files import address
from ppodd.words import counted, together

_CLASSES = 12  # whose accuracy is printed

if TYPE_CHECKING:
    from ppodd.archive import EvaluationRecord, TrialArchive
    from ppodd.evaluation import Work

USAGE = "%(prog)s STAGE|TRIAL … [--FLAG VALUE …]"
EXAMPLES = """\
  ppodd evaluate ppodd-archive/runs/NAME --mode latest,blend --arch convnet,convnetw
  ppodd evaluate ppodd-archive/runs/NAME/stage-03 --budgets 300,1000 --nets 4
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "paths", nargs="+", metavar="STAGE|TRIAL", help="folders of an archive: …/<trial> or …/stage-03"
    )
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:N")
    parser.add_argument("--dataset", default="", help="where the data lies now (its content is checked)")
    parser.add_argument("--root", default="", help="folder that holds the data now")
    parser.add_argument(
        "--out",
        metavar="ARCHIVE",
        type=address,
        help="copy the trials into this archive and evaluate them there: where theirs may only be read",
    )
    add_config_flags(parser, EvaluationConfig, "the evaluation's protocol (default: that of the distillation)")


def run(args: argparse.Namespace) -> CommandResult:
    evaluation = build(EvaluationConfig, given(args, EvaluationConfig))

    from ppodd.archive import copied, stages_at
    from ppodd.cli.console import console

    targets = [stages_at(path) for path in args.paths]
    if args.out:
        targets = [(copied(trial, args.out), stages) for trial, stages in targets]
    out = console()
    found = evaluate_trials(out, targets, evaluation, args.device, args.dataset, args.root)
    say_tables(out, [trial for trial, _ in targets])
    return CommandResult(0, {"evaluations": found})


def evaluate_trials(
    out: Any,
    targets: list[tuple[TrialArchive, list[int]]],
    evaluation: EvaluationConfig,
    device: str,
    dataset: str = "",
    root: str = "",
) -> list[dict[str, Any]]:
    """Evaluate what is not evaluated yet, as `ppodd.evaluation.evaluate_trials`; print and return every result."""
    from ppodd.cli.console import say
    from ppodd.evaluation import evaluate_trials as evaluated
    from ppodd.machine import limit_threads

    limit_threads()
    found = []
    for one in evaluated(targets, evaluation, device, dataset, root, functools.partial(say, out)):
        say(out, _line(*one))
        found.append({"trial": one.trial.url, **one.record.to_json()})
    return found


def _line(trial: TrialArchive, work: Work, record: EvaluationRecord) -> str:
    """An evaluation's result."""
    from ppodd.cli.console import duration, percent

    budgets, protocol = record.budgets, work.protocol
    hard = ", hard labels" if protocol.labels == "hard" else ""
    leak = ", LEAKS THE TEST SET" if record.leaks_test_set else ""
    accuracies = "   ".join(together(f"{steps}: {percent(a)}") for steps, a in record.accuracy.items())
    balanced = "   ".join(together(f"{steps}: {percent(a)}") for steps, a in record.balanced.items())
    unequal = (
        f"   balanced over classes of unequal size   {balanced}{_by_class(trial, work, record)}" if balanced else ""
    )
    over = "mean ± std over" if protocol.nets > 1 else "of"
    return (
        f"{trial.trial} stage {work.stage}, {protocol.mode}, {protocol.arch}{hard}: test accuracy in % by training "
        f"steps, {over} {counted(protocol.nets, 'network')}   {accuracies}{unequal}   (poster IPC "
        f"{budgets.poster_ipc:.3f}, cumulative IPC {budgets.cumulative_ipc:.3f}{leak}, "
        f"{duration(record.seconds)})"
    )


def _by_class(trial: TrialArchive, work: Work, record: EvaluationRecord) -> str:
    """The accuracy of each class at the last budget, the worst first; nothing where classes are of equal size."""
    if not record.balanced:
        return ""
    last = max(record.per_class)
    found = zip(trial.stage(work.stage).data.classes, record.per_class[last], strict=True)
    told = sorted(((accuracy, name) for name, accuracy in found if accuracy is not None))
    more = f", … ({len(told)} in all)" if len(told) > _CLASSES else ""
    shown = ", ".join(together(f"{name} {accuracy:.1f}") for accuracy, name in told[:_CLASSES])
    return f"   by class after {last}: {shown}{more}"


def say_tables(out: Any, trials: list[TrialArchive]) -> None:
    """How to see these trials in tables: MLflow does not know of them yet."""
    for archive in dict.fromkeys(trial.url.rsplit("/", 2)[0] for trial in trials):
        there = f"--archive {shlex.quote(archive)}"
        out.print(f"in tables: ppodd results sync {there} && ppodd results table {there}")
