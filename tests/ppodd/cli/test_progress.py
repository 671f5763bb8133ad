"""What long work shows: on terminals of several widths, and where there is none."""

import io

import pytest
from archives import progress, stage_accuracy
from rich.console import Console

from ppodd.cli import console as consoles
from ppodd.cli.live_sweep import LiveSweep, view
from ppodd.distillation.stages import MetaStepProgress
from ppodd.words import together
from tune.running.progress import FinishedStage, SweepProgress
from tune.running.time_left import TimeLeft

STAGE = FinishedStage("blend=dynamic,seed=0", 1, 2, stage_accuracy(61.25))
NOW = SweepProgress(
    trials=3, trials_done=1, stages=6, stages_done=3, evaluations=6, evaluations_done=2, waiting=34, share=0.5,
    seconds=100.0, running={"blend=dynamic,seed=0": progress()}, finished=(STAGE,), best=STAGE, seconds_left=90.0,
)  # fmt: skip


EVALUATORS = (
    {"name": "evaluator-1", "at": "idle", "seconds": 5.0, "done": 2, "failed": 0},
    {"name": "evaluator-12", "at": f"sweep/{'x' * 60},seed=0 stage 1 (blend, convnet)", "seconds": 70.0,
     "done": 0, "failed": 0},
)  # fmt: skip


def drawn(renderable, columns, **how):
    out = Console(file=io.StringIO(), width=columns, soft_wrap=True, **how)  # as that of commands is
    out.print(renderable)
    return out.file.getvalue()


@pytest.mark.parametrize("columns", [50, 80, 120])
def test_a_sweep_shows_its_bar_its_running_trials_and_the_best_so_far(columns):
    text = drawn(view(NOW, columns), columns)
    assert "━━━" in text.splitlines()[0] and "42 %" in text and "about 1:30 left" in text
    assert "2/4" in text and "1.500" in text and "3:00" in text
    assert ("3/40" in text) == (columns >= 80)
    assert "best so far, on validation images: 61.2 %" in " ".join(text.split())
    assert "1/3 trials, 3/6 stages, 2/6 evaluations (34 waiting)" in " ".join(text.split())
    assert max(map(len, text.splitlines())) <= columns


@pytest.mark.parametrize("columns", [50, 80])
def test_long_names_of_trials_leave_their_numbers_whole(columns):
    names = [f"num_stages=3,blend=dynamic,poster_width=28,poster_height=12,seed={seed}" for seed in (0, 1)]
    long = SweepProgress(
        **{**vars(NOW), "running": dict.fromkeys(names, progress()), "best": STAGE._replace(trial=names[1])}
    )
    text = drawn(view(long, columns), columns)
    assert max(map(len, text.splitlines())) <= columns and text.splitlines()[-1].endswith("seed=1")
    for seed in (0, 1):
        (line,) = [line for line in text.splitlines() if f"…seed={seed} " in line]
        assert line.startswith("num_stages=3,blend=") and line.split()[1:] == (
            ["2/4", "1.500", "3:00"] if columns == 50 else ["2/4", "3/40", "1.500", "0.25", "3:00"]
        )


@pytest.mark.parametrize("columns", [50, 80])
def test_evaluators_are_shown_those_at_work_first_with_the_stage_that_they_are_at(columns):
    text = drawn(view(SweepProgress(**{**vars(NOW), "evaluators": lambda: EVALUATORS}), columns), columns)
    at = next(n for n, line in enumerate(text.splitlines()) if line.startswith("evaluator "))
    busy, idle = text.splitlines()[at + 1 : at + 3]
    assert busy.startswith("evaluator-12  …") and busy.split("stage")[1].split() == ["1", "(blend,", "convnet)", "1:10"]
    assert idle.split() == ["evaluator-1", "idle", "0:05"]
    assert max(map(len, text.splitlines())) <= columns


def test_of_a_large_pool_four_evaluators_are_shown():
    many = tuple({**EVALUATORS[0], "name": f"evaluator-{number}"} for number in range(9))
    assert "… and 5 more" in drawn(view(SweepProgress(**{**vars(NOW), "evaluators": lambda: many}), 80), 80)


def test_lines_are_broken_between_words_and_keep_their_indent(monkeypatch):
    monkeypatch.setattr(consoles, "width", lambda: 24)
    text = "data: digits\n  train: 1,442 images from scikit-learn"
    assert consoles.fitted([text]) == "data: digits\n  train: 1,442 images\n    from scikit-learn"
    assert consoles.fitted([f"after steps   {together('50: 72.6 ± 2.8')}"]) == "after steps\n  50: 72.6 ± 2.8"


def test_the_coordinator_is_asked_only_where_a_live_view_shows_what_evaluators_are_at():
    asked = []
    now = SweepProgress(**{**vars(NOW), "evaluators": lambda: asked.append(1) or EVALUATORS})
    for out, times in ((Console(file=io.StringIO()), 0), (Console(file=io.StringIO(), force_terminal=True), 1)):
        with LiveSweep(out) as show:
            show(now)
        assert len(asked) == times


def test_a_sweep_without_a_terminal_says_a_line_for_each_stage_and_is_never_silent_for_long():
    out = Console(file=io.StringIO(), width=200)
    with LiveSweep(out) as show:
        show(NOW)
        quiet = {"finished": (), "running": {}}
        for seconds in (101.0, 130.0, 165.0, 170.0):
            show(SweepProgress(**{**vars(NOW), **quiet, "seconds": seconds}))
    assert out.file.getvalue().splitlines() == [
        "starting Ray",
        "1:40: blend=dynamic,seed=0 stage 1/2: validation 61.2 %; 1/3 trials, 3/6 stages, 2/6 evaluations "
        "(34 waiting), about 1:30 left",
        "2:45: 1/3 trials, 3/6 stages, 2/6 evaluations (34 waiting), about 1:30 left",
    ]


def test_no_colour_is_used_where_none_is_wanted(monkeypatch):
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b[3" not in drawn(view(NOW, 80), 80, force_terminal=True)


def test_a_distillation_without_a_terminal_says_a_line_every_half_minute(monkeypatch):
    moment = 0.0
    monkeypatch.setattr(consoles.time, "monotonic", lambda: moment)
    out = Console(file=io.StringIO(), width=200)
    with consoles.bar(out) as show:
        for step in range(1, 8):
            moment = 10.0 * step
            show(MetaStepProgress(1, 2, step, 8, 2.0, 10.0, 10.0 * (16 - step)))
    assert out.file.getvalue().splitlines() == ["stage 1/2, meta-step 4/8: meta-loss 2.000, 10 s/meta-step, 2:00 left"]


@pytest.mark.parametrize("columns", [50, 80])
def test_a_distillation_shows_a_bar_at_every_width(columns):
    out = Console(file=io.StringIO(), width=columns, force_terminal=True, color_system=None, legacy_windows=False)
    with consoles.bar(out) as show:
        show(MetaStepProgress(1, 2, 400, 800, 2.0, 1.0, 1200.0))
    text = out.file.getvalue()
    assert "━━" in text and "20:00 left" in text and "400/800" in text


def test_the_time_left_is_that_of_the_work_done_and_not_of_starting_up():
    left = TimeLeft()
    assert left(60.0, trials=0.0, evaluations=0.0) is None  # a minute in which nothing ran
    assert left(61.0, trials=0.02, evaluations=0.0) is None
    assert left(71.0, trials=0.07, evaluations=0.0) == pytest.approx(186.0)
    assert left(81.0, trials=0.12, evaluations=0.1) == pytest.approx(176.0)
    # evaluations are slower: they decide
    assert left(91.0, trials=0.9, evaluations=0.2) == pytest.approx(80.0)
    assert left(99.0, trials=1.0, evaluations=1.0) is None


def test_evaluators_that_keep_up_do_not_make_the_time_left_grow():
    left = TimeLeft()
    for now, evaluated, waiting in ((10.0, 0.1, True), (12.0, 0.2, True), (14.0, 0.3, False)):
        left(now, trials=now / 200, evaluations=evaluated, waiting=waiting)
    assert left(64.0, trials=0.32, evaluations=0.3, waiting=False) == pytest.approx(136.0)  # as the trials have it
    assert left(66.0, trials=0.33, evaluations=0.4, waiting=True) == pytest.approx(134.0)
